"""A writer who holds the lock of a day, and another who waits for it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event, text

from recon_assets.database.engine import open_engine
from recon_assets.database.transactions import writing
from recon_assets_tests.support.command import PATIENCE_SECONDS

T = TypeVar("T")
HELD_SECONDS = 0.1
"""How long the lock is held after somebody has asked for it."""
WAITERS = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")


def store_behind(engine: Engine, day: date, change: Callable[[Connection], object], store: Callable[[], T]) -> T:
    """Stores through the engine while another connection holds the day's lock and changes something under it.

    `store` runs in a thread and must wait. The change is committed and the lock released then; returns what `store`
    does.
    """
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: Any) -> None:
        statements.append(statement)

    other = open_engine(engine.url)
    event.listen(engine, "before_cursor_execute", note)
    try:
        # The pool waits for its thread, so the lock must be released first, however this ends.
        with ThreadPoolExecutor(1) as pool, writing(other, [day]) as holder:
            change(holder)
            storing = pool.submit(store)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not _is_waited_for(holder, statements):
                assert not storing.done(), f"nothing waited for the lock of {day}: {storing.exception() or 'stored'}"
                assert time.monotonic() < deadline, f"nothing waited for the lock of {day}"
                time.sleep(0.01)
            assert wait([storing], HELD_SECONDS).not_done, f"stored while the lock of {day} was held"
        return storing.result()
    finally:
        event.remove(engine, "before_cursor_execute", note)
        other.dispose()


def _is_waited_for(holder: Connection, statements: list[str]) -> bool:
    """Whether another session waits for the holder. SQLite does not tell: the lock of the file was asked for."""
    if holder.dialect.name == "sqlite":
        return "BEGIN IMMEDIATE" in statements
    return bool(holder.execute(WAITERS).scalar_one())
