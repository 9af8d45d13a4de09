"""The user's database: engine, transactions, tables, schema, and the log of work."""
