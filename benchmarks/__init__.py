"""Measurements of the project: how fast, against what, and with how much memory."""
