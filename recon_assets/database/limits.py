"""The limits of work: how much at once, how long it may take, how often it is tried.

Each number has the measurement that chose it.
"""

from dataclasses import dataclass

SHORTEST_TIMEOUT_SECONDS = 5.0
"""A day converges in 0.03 s. A statement that runs 150 times as long is waiting for something."""


MOST_WRITERS = 8
"""The most chunks at once: each holds a connection, and more of them only wait for each other."""


@dataclass(frozen=True)
class WorkLimits:
    """How much work is done at once, and for how long.

    Measured on two cores (benchmarks/pace.py) with six months of the user's size, 250,000 calculations, all missing.
    With at most 5,000 / 20,000 / 50,000 / 200,000 rows at once they converge in 11.0 / 4.7 / 3.5 / 2.6 s on SQLite and
    in 21.3 / 8.3 / 4.5 / 2.8 s on PostgreSQL; with nothing missing in 2.3 s and 2.4 s.
    """

    batch_size: int = 200_000
    """The most rows that one transaction may touch: twice a month, which is the largest chunk. Smaller chunks are
    slower; larger ones would have more to repeat after a failure."""
    target_seconds: float = 5.0
    """What a chunk should take: long beside its start-up, short for others that wait for its locks. A month takes
    0.5 s."""
    pause_seconds: float = 0.0
    """Pause after each chunk. None by default, because a slow chunk is followed by a smaller one."""
    concurrency: int = 1
    """Chunks at once. On PostgreSQL three took 2.0 s where one took 2.8 s. SQLite allows one writer only, and one
    writer leaves room for others."""
    statement_timeout_seconds: float = 30.0
    """For a month, which converges in 0.5 s. Fewer days get less, down to SHORTEST_TIMEOUT_SECONDS."""
    attempts: int = 2
    """Attempts before a chunk is split. A lock or a lost connection has passed by then, and a month can be halved ten
    times."""
    backoff_seconds: float = 0.5
    """The first wait before another attempt. It doubles each time; up to this much jitter is added."""
    periods_at_first: int | None = None
    """Settlement periods per chunk from the start, for days that are known to be difficult; None: whole days."""

    def timeout_for(self, days: int) -> float:
        """Seconds that a statement on so many days may take: in proportion to a month, within both bounds."""
        share = self.statement_timeout_seconds * days / 31
        return min(self.statement_timeout_seconds, max(SHORTEST_TIMEOUT_SECONDS, share))


DEFAULT_WORK_LIMITS = WorkLimits()
