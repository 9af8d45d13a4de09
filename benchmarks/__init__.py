"""Benchmarks: how fast the project is, compared with what, and with how much memory."""
