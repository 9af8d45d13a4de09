"""Pools: how many runs at once may use Elexon and the database.

Dagster keeps a run in its queue while one of the run's pools is full (`granularity: run` in dagster.yaml). Commands do
not queue: their rate limit and their locks hold across processes anyway.
"""

from collections.abc import Mapping

ELEXON = "elexon"
DATABASE = "database"

POOL_LIMITS: Mapping[str, int] = {
    # One run uses up the rate limit. A second would slow both down, and take a slot from work on the database.
    ELEXON: 1,
    # All runs that Dagster starts at once: on PostgreSQL they work in parallel; on SQLite one writes while the
    # others log events.
    DATABASE: 3,
}
"""The limits that a new instance gets. `dagster instance concurrency set POOL N`, or the UI, changes them."""
