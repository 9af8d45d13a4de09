"""Examines an SQLite file without changing it."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

from recon_assets.database.engine import BUSY_TIMEOUT_SECONDS, connect_to_read
from recon_assets.database.tables import metadata
from recon_assets.health.facts import Limits, SqliteFile, TableSize, Timeouts

RECON_JOURNAL_MODE, RECON_SYNCHRONOUS = "wal", "normal"
"""What database/engine.py sets on every connection."""

TIMEOUTS = Timeouts(recon_busy_ms=BUSY_TIMEOUT_SECONDS * 1000)
"""SQLite has no time-outs of its own: each connection says how long it waits for a lock."""

STAT = "sqlite_stat1"
"""The table in which ANALYZE stores its statistics; missing before the first ANALYZE."""

# The cells of a leaf page are rows.
PAGES = "SELECT name, sum(pgsize) AS bytes, sum(ncell * (pagetype = 'leaf')) AS cells FROM dbstat GROUP BY name"

STEPS_BETWEEN_LOOKS = 10_000
"""SQLite instructions between two looks at the clock: some tenths of a millisecond."""


def open_to_look(file: Path, limits: Limits) -> Engine:
    """An engine that does not create the file, set its journal mode or write."""

    def connect() -> sqlite3.Connection:
        connection = connect_to_read(file, limits.lock_ms / 1000)
        connection.execute("PRAGMA query_only = ON")
        return connection

    return create_engine("sqlite://", creator=connect)


@contextmanager
def limited(engine: Engine, limits: Limits) -> Iterator[Connection]:
    """A connection; its statements together are ended at the time limit."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        deadline = time.monotonic() + limits.statement_ms / 1000
        driver.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
        driver.execute("BEGIN")  # all queries read one snapshot
        try:
            yield connection
        finally:
            driver.set_progress_handler(None, 0)


def file_facts(connection: Connection, file: Path, wal_bytes: int) -> SqliteFile:
    """What is found about the file."""

    def pragma(name: str) -> int:
        return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    return SqliteFile(
        path=str(file),
        size_bytes=file.stat().st_size,
        wal_bytes=wal_bytes,
        journal_mode=str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()),
        page_size_bytes=pragma("page_size"),
        page_count=pragma("page_count"),
        free_pages=pragma("freelist_count"),
        recon_journal_mode=RECON_JOURNAL_MODE,
        recon_synchronous=RECON_SYNCHRONOUS,
    )


def table_sizes(connection: Connection) -> list[TableSize]:
    """The sizes of our tables that exist, from dbstat, a module that not every SQLite has."""
    entries = connection.execute(text("SELECT name, tbl_name, type FROM sqlite_master")).all()
    names = {entry.name for entry in entries}
    analyzed = set(connection.execute(text(f"SELECT tbl FROM {STAT}")).scalars()) if STAT in names else ()
    modules = connection.execute(text("SELECT name FROM pragma_module_list")).scalars().all()
    pages = {row.name: row for row in connection.execute(text(PAGES))} if "dbstat" in modules else {}
    sizes = []
    for table in sorted(names & set(metadata.tables)):
        indexes = [entry.name for entry in entries if entry.type == "index" and entry.tbl_name == table]
        size = TableSize(table, None, None, None, table in analyzed)
        if pages:
            index_bytes = sum(pages[index].bytes for index in indexes)
            size = replace(
                size, rows_estimate=pages[table].cells, table_bytes=pages[table].bytes, index_bytes=index_bytes
            )
        sizes.append(size)
    return sizes
