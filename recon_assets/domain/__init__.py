"""The formulas and rules: calendar, mining, difficulty, curtailment, BM units. No database, no network, no clock."""
