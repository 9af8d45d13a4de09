"""Reads an SQLite file where nothing may be written: a read-only medium, a folder or a file of another user.

A file in WAL mode needs two more files beside it even to be read, which SQLite makes if it can. If only the folder may
be written, they stay behind, belong to the reader, and keep the owner from writing (measured). `immutable=1` reads the
file alone and takes no locks. That is right as long as nobody writes to the file, so it is only used if there is no
write-ahead log, and after each transaction the file must be as it was when it was opened.
"""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection

from recon_assets.errors import ReconError

WAL_MODE = b"\x02\x02"
"""Bytes 18 and 19 of a file in WAL mode."""


class UnlockedConnection(sqlite3.Connection):
    """A connection without locks, with the file as it was when it was opened."""

    file: Path
    opened: tuple[int, int, int]


def must_be_unlocked(file: Path) -> bool:
    """Whether a file can only be read without locks; OperationalError if that would miss what its log holds."""
    may_write = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    if may_write or not os.access(file, os.R_OK) or not _is_in_wal_mode(file):
        return False
    wal, index = (file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm"))
    if wal.exists() and index.exists():
        return False  # of a writer that is at work or was killed: SQLite reads both
    if wal.exists() and wal.stat().st_size:
        raise sqlite3.OperationalError(
            f"{wal.name} holds changes that cannot be read where nothing may be written: let who may write to "
            f"{file.parent} run 'recon status', or copy both files to a folder of yours and read them there"
        )
    return True


def connect_unlocked(file: Path) -> UnlockedConnection:
    """A connection to a file that nobody writes to."""
    opened = _identity(file)
    uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(
        uri, uri=True, check_same_thread=False, isolation_level=None, factory=UnlockedConnection
    )
    connection.file, connection.opened = file, opened
    return connection


def require_unchanged(connection: Connection) -> None:
    """ReconError if what a connection without locks has read may be partly old and partly new."""
    driver = connection.connection.driver_connection
    if isinstance(driver, UnlockedConnection) and _identity(driver.file) != driver.opened:
        raise ReconError(f"{driver.file} was written to while it was read: run the command again")


def _is_in_wal_mode(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(20)[18:] == WAL_MODE


def _identity(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
