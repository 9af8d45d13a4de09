"""How fast work goes: how much at once, how long it may take, how often it is tried.

Belongs here: the numbers, each with the measurement that chose it. Does not: following them (reconcile/chunks.py).
"""

from dataclasses import dataclass

SHORTEST_TIMEOUT_SECONDS = 10.0
"""A day converges in 0.05 s: what has not ended after 200 times that waits for something."""


MOST_WRITERS = 8
"""Chunks at once at most: each holds a connection, and more of them only wait for each other."""


@dataclass(frozen=True)
class Pace:
    """How fast to go. Each default names the measurement that chose it.

    A month of the user's data is 42,000 calculations and 28,000 records. On two cores it converges in 2.1 s on
    PostgreSQL and 1.2 s on SQLite when all of it is missing, in 0.3 s and 0.2 s when nothing is.
    """

    batch_size: int = 200_000
    """Rows that one transaction may touch at most: the largest month of the user's data, twice over. Above it nothing
    got faster, and all of it is to be done again when the transaction fails."""
    target_seconds: float = 5.0
    """What a chunk should take: long against the 0.02 s that its start costs, short for whoever waits for its locks."""
    pause_seconds: float = 0.0
    """Pause after each chunk; none, because a chunk that was slow is followed by a smaller one."""
    concurrency: int = 1
    """Chunks at once: three writers took as long as one on PostgreSQL, and SQLite has only one."""
    statement_timeout_seconds: float = 60.0
    """For a month: thirty times what converging all of it takes. Less for less, down to SHORTEST_TIMEOUT_SECONDS."""
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


DEFAULT_PACE = Pace()
