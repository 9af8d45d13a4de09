"""The user's database: engine, transactions, tables, schema, kinds of failure, work limits and the work log."""
