"""What is true whatever is stored: calendar, mining, difficulty, curtailment, BM units. No I/O and no clock."""
