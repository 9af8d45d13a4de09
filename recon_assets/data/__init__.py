"""Data that ships with the package: recordings, difficulty table, BM units."""
