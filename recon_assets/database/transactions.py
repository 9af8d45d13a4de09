"""Transactions: one snapshot for reading, or the locks of settlement days for writing.

SQLite writers use BEGIN IMMEDIATE. With deferred transactions that read, then write, three writers failed at once with
"database is locked" on 730 of 1,096 days, whatever the busy time-out; with IMMEDIATE and 30 s there was no error.
PostgreSQL writers hold an advisory lock per settlement date, so that two processes never converge the same day at once.
The locks belong to the transaction, because a connection pooler gives each transaction another session. Each statement
sees what was committed before it: a transaction of one snapshot would take it before it waits for the locks.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, exc, text

from recon_assets.database.engine import display_url
from recon_assets.errors import UnreachableError

INSTRUCTIONS_PER_CHECK = 1_000_000
"""SQLite's virtual machine instructions between two checks of the deadline: about 10 ms."""
LOCK_TIMEOUT = "10min"
LOCK_CLASS = 0x7265636F
"""The class of the advisory locks ("reco"); the lock of a date is its ordinal."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose queries all see one snapshot; UnreachableError when it cannot connect."""
    with _connected(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin() as transaction:
            yield connection
            transaction.rollback()


@contextmanager
def snapshots(engine: Engine, count: int) -> Iterator[list[Connection]]:
    """Connections that all see the same snapshot, for queries in parallel; each is for one thread at a time.

    Only one through a connection pooler: a reader that holds a connection while it waits for another may wait for ever
    for other readers that do the same.
    """
    with ExitStack() as opened:
        first = opened.enter_context(reading(engine))
        if count == 1 or _is_pooled(first):
            yield [first]
            return
        if engine.dialect.name == "postgresql":
            snapshot = first.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            others = [opened.enter_context(reading(engine)) for _ in range(count - 1)]
            for connection in others:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            yield [first, *others]
            return
    with _snapshots_of_file(engine, count) as connections:
        yield connections


def _is_pooled(connection: Connection) -> bool:
    """Whether a pooler stands before the server: it tells the client another process number than the server's."""
    if connection.dialect.name != "postgresql":
        return False
    driver: Any = connection.connection.driver_connection
    return bool(driver.info.backend_pid != connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


@contextmanager
def _snapshots_of_file(engine: Engine, count: int) -> Iterator[list[Connection]]:
    """SQLite cannot share a snapshot. Several are taken again until nobody has committed in the meantime."""
    with _connected(engine) as observer:
        while True:
            with ExitStack() as opened:
                version = _data_version(observer)
                connections = [opened.enter_context(reading(engine)) for _ in range(count)]
                for connection in connections:
                    connection.exec_driver_sql("SELECT 1 FROM sqlite_master")  # the first read takes the snapshot
                if _data_version(observer) == version:
                    yield connections
                    return


def _data_version(connection: Connection) -> int:
    with connection.begin():
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())


@contextmanager
def writing(engine: Engine, days: Iterable[date] = (), *, timeout_seconds: float | None = None) -> Iterator[Connection]:
    """A transaction under the locks of the days; committed at the end, rolled back by any error.

    `timeout_seconds` limits each statement on PostgreSQL, and the whole transaction on SQLite, from the moment that the
    file is locked.
    """
    with _connected(engine) as connection:
        if connection.dialect.name != "postgresql":
            with connection.execution_options(immediate=True).begin(), _deadline(connection, timeout_seconds):
                yield connection
            return
        connection.execution_options(isolation_level="READ COMMITTED")
        try:
            with connection.begin():
                _lock(connection, days)
                if timeout_seconds is not None:
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(timeout_seconds * 1000)}")
                yield connection
        except BaseException as error:
            if not isinstance(error, Exception):
                # An interrupt may leave the connection in any state. Closing it ends the transaction and the locks.
                connection.invalidate()
            raise


@contextmanager
def _deadline(connection: Connection, timeout_seconds: float | None) -> Iterator[None]:
    """A time-out for SQLite, which has none: it calls a handler as it works, and the handler stops it."""
    if timeout_seconds is None:
        yield
        return
    raw: Any = connection.connection.driver_connection
    end = time.monotonic() + timeout_seconds
    raw.set_progress_handler(lambda: time.monotonic() > end, INSTRUCTIONS_PER_CHECK)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise UnreachableError(f"DATABASE_URL: cannot connect to {display_url(engine.url)}: {reason}") from error
    with connection:
        yield connection


def _lock(connection: Connection, days: Iterable[date]) -> None:
    """Takes the days' advisory locks in date order, so that two writers never deadlock."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    ordinals = sorted({day.toordinal() for day in days})
    if not ordinals:
        return
    statement = text(
        "SELECT pg_advisory_xact_lock(:class, ordinal) FROM "
        "(SELECT ordinal FROM unnest(CAST(:ordinals AS int[])) AS ordinal ORDER BY ordinal) AS ordered"
    ).bindparams(bindparam("class", LOCK_CLASS), bindparam("ordinals", ordinals))
    connection.execute(statement)
