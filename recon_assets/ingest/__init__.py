"""From Elexon into the database: bids, generation and reference data, and the comparison of both."""
