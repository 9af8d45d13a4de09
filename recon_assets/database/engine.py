"""Opens the SQLAlchemy engine for SQLite or PostgreSQL with this project's connection settings."""

import os
import sqlite3
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from recon_assets.database.disk import name_disk_errors
from recon_assets.database.read_only import connect_unlocked, must_be_unlocked, require_unchanged
from recon_assets.folders import not_writable, require_writable, writing_to

BUSY_TIMEOUT_SECONDS = 30
LOST_AFTER = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""When a connection counts as lost, in s and ms. By default Linux waits a quarter of an hour to two hours for a network
that is gone in the middle of a statement; with these a command ended within a minute. DATABASE_URL may name others."""
MAPPED_BYTES = 2**31
DATABASE_URL = "DATABASE_URL"
"""The variable that names the database."""


def open_engine(url: URL | str, *, keep_journal: bool = False) -> Engine:
    """An engine for SQLite or PostgreSQL; it does not connect yet.

    With `keep_journal` an SQLite file keeps its journal mode, so that a file that is not adopted stays as it is.
    """
    url = make_url(url)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        event.listen(engine, "connect", _configure_sqlite_but_journal if keep_journal else _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        name_disk_errors(engine, DATABASE_URL)
        return engine
    # No prepared statements: a plan from the statistics of an empty table made a loop over days three times slower, and
    # a connection pooler gives each transaction another session.
    defaults = {"application_name": "recon", "connect_timeout": 10, **LOST_AFTER}
    arguments = {
        "prepare_threshold": None,
        **{name: value for name, value in defaults.items() if name not in url.query},
    }
    schemas = url.query.get("search_path")
    engine = create_engine(url.difference_update_query(["search_path"]), connect_args=arguments, pool_pre_ping=True)
    name_disk_errors(engine, DATABASE_URL)
    if schemas:
        # Not as an option of the connection, which a pooler refuses.
        names = (schemas if isinstance(schemas, str) else ",".join(schemas)).split(",")
        quoted = ", ".join(map(_quoted_schema, names))
        choose = f"SET LOCAL search_path = {quoted}"
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(choose))
    return engine


def open_engine_to_read(url: URL | str) -> Engine:
    """An engine for queries alone: it creates no file, and leaves an SQLite file and its journal mode as they are."""
    url = make_url(url)
    file = sqlite_file(url)
    if file is None:
        return open_engine(url)
    # No pool: a connection that takes no locks must see what the file has become since the last one.
    engine = create_engine(url, creator=lambda: connect_to_read(file, BUSY_TIMEOUT_SECONDS), poolclass=NullPool)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "rollback", require_unchanged)
    name_disk_errors(engine, DATABASE_URL)
    return engine


def connect_to_read(file: Path, timeout_seconds: float) -> sqlite3.Connection:
    """A connection that does not create the file, set its journal mode, or empty a write-ahead log that it found.

    With mode=ro, a -wal and a -shm file stay behind if there were none; with mode=rw, the last connection that closes
    writes a write-ahead log that a killed process left into the file (both measured). Where nothing may be written, see
    read_only.py.
    """
    if must_be_unlocked(file):
        connection: sqlite3.Connection = connect_unlocked(file)
    else:
        uri = f"{file.absolute().as_uri()}?mode={'ro' if wal_bytes(file) else 'rw'}"
        # Every connection may serve another thread than the one that opened it, one at a time.
        connection = sqlite3.connect(
            uri, uri=True, timeout=timeout_seconds, check_same_thread=False, isolation_level=None
        )
    try:
        connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        connection.execute("PRAGMA schema_version")  # reads the file for the first time
    except BaseException:
        connection.close()
        raise
    return connection


def wal_bytes(file: Path) -> int:
    """The size of the write-ahead log. Ask before connecting: the last connection that closes empties the log."""
    wal = file.with_name(f"{file.name}-wal")
    return wal.stat().st_size if wal.exists() else 0


def sqlite_file(url: URL) -> Path | None:
    """The file of an SQLite database; None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def prepare_to_write(file: Path) -> None:
    """Makes the folder of an SQLite file; ConfigurationError if the file or its folder cannot be written."""
    with writing_to(file.parent, DATABASE_URL):
        file.parent.mkdir(parents=True, exist_ok=True)
    require_writable(file.parent, DATABASE_URL)
    # SQLite would open it to read, and say so at the first row that is written.
    if file.exists() and not os.access(file, os.W_OK):
        raise not_writable(file, DATABASE_URL, "only its content may be read")


def display_url(url: URL) -> str:
    """A database's address to show: without its password, and without its options, which may hold one too."""
    hosts = url.query.get("host")
    if not isinstance(hosts, str):
        return url.set(query={}).render_as_string(hide_password=True)
    ports = str(url.query.get("port", "")).split(",")
    shown = url.set(query={}, host="several-hosts", port=None).render_as_string(hide_password=True)
    pairs = zip_longest(hosts.split(","), ports, fillvalue=ports[0])
    return shown.replace("several-hosts", ",".join(f"{host}:{port}".removesuffix(":") for host, port in pairs))


def _quoted_schema(name: str) -> str:
    """A schema's name as the server would read it: in lower case, unless it is quoted."""
    name = name.strip()
    plain = name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') else name.lower()
    return '"' + plain.replace('"', '""').replace("%", "%%") + '"'


def _configure_sqlite(connection: Any, _record: Any) -> None:
    _configure_sqlite_but_journal(connection, _record)
    cursor = connection.cursor()
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # If two processes create a database at once, SQLite does not wait for this switch, whatever the time-out.
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _configure_sqlite_but_journal(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA schema_version").close()  # reads the file, so that one that is no database is refused
    # The driver would begin a transaction only at the first write. Instead, SQLAlchemy's begin event does it.
    connection.isolation_level = None
    # Three years are 440 MB. Comparing them through a 2 MB cache took 1.6 times as long as through mapped memory.
    connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}").close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
