"""How fast work goes: how much at once, how long it may take, how often it is tried.

Belongs here: the numbers, each with the measurement that chose it. Does not: following them (reconcile/chunks.py).
"""

from dataclasses import dataclass

SHORTEST_TIMEOUT_SECONDS = 5.0
"""A day converges in 0.03 s: what has not ended after 150 times that waits for something."""


MOST_WRITERS = 8
"""Chunks at once at most: each holds a connection, and more of them only wait for each other."""


@dataclass(frozen=True)
class WorkLimits:
    """How fast to go. Each default names the measurement that chose it.

    Measured on two cores (benchmarks/limits.py): six months of the user's size, 250,000 calculations all missing,
    converge at most 5,000 / 20,000 / 50,000 / 200,000 rows at once in 11.0 / 4.7 / 3.5 / 2.6 s on SQLite and in
    21.3 / 8.3 / 4.5 / 2.8 s on PostgreSQL; with nothing missing in 2.3 s and 2.4 s.
    """

    batch_size: int = 200_000
    """Rows that one transaction may touch at most: a month, the largest chunk, twice over. Smaller ones are slower;
    larger ones would have more to do again after a failure."""
    target_seconds: float = 5.0
    """What a chunk should take: long against its start, short for whoever waits for its locks. A month takes 0.5 s."""
    pause_seconds: float = 0.0
    """Pause after each chunk; none, because a chunk that was slow is followed by a smaller one."""
    concurrency: int = 1
    """Chunks at once. Three took 2.0 s where one took 2.8 s on PostgreSQL; SQLite has one writer only, and one leaves
    the database to others."""
    statement_timeout_seconds: float = 30.0
    """For a month, which converges in 0.5 s. Less for less, down to SHORTEST_TIMEOUT_SECONDS."""
    attempts: int = 2
    """Tries before a chunk is split. A lock or a lost connection has passed by then; a month has ten more halvings."""
    backoff_seconds: float = 0.5
    """The first wait before trying again; it doubles, with as much again of jitter."""
    periods_at_first: int | None = None
    """Settlement periods that a chunk begins with, for days that are known to be difficult."""

    def timeout_for(self, days: int) -> float:
        """Seconds that a statement on some days may take: a piece of a month need not wait as long as a month."""
        share = self.statement_timeout_seconds * days / 31
        return min(self.statement_timeout_seconds, max(SHORTEST_TIMEOUT_SECONDS, share))


DEFAULT_WORK_LIMITS = WorkLimits()
