"""Pools: how many runs at once may use what they share.

Dagster holds runs back in its queue, as long as their pools are full (`granularity: run` in dagster.yaml). Commands do
not queue: their rate limit and their locks hold across processes anyway.
"""

from collections.abc import Mapping

ELEXON = "elexon"
DATABASE = "database"

POOL_LIMITS: Mapping[str, int] = {
    # One run uses up the rate limit; a second would only make both slower, and keep a slot from work on the database.
    ELEXON: 1,
    # As many as run at once: on PostgreSQL they work side by side, on SQLite while one writes the others log events.
    DATABASE: 3,
}
"""The limits that a new instance gets. `dagster instance concurrency set POOL N`, or the UI, changes them."""
