"""Elexon's Insights API: transport, recordings, archive, payloads, and a server that stands in for it."""
