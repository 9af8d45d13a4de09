"""Reports of the state of the data as tables and JSON; they only read."""
