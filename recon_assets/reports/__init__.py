"""The state of the data in words, tables and JSON. Reports read; they change nothing."""
