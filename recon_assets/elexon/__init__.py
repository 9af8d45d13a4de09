"""Elexon's Insights API: the client, HTTP, recordings, archive, payloads, and a stand-in server."""
