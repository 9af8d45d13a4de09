"""Keeps GB wind-curtailment data and its bitcoin-mining potential reconciled, on Dagster."""
