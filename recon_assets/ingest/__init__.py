"""Reads bids, generation and reference data from Elexon into the database, and verifies the database with Elexon."""
