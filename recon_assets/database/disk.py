"""What is said of a database whose disk is full or fails."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.engine import URL

from recon_assets.errors import DiskError
from recon_assets.folders import disk_error, free_bytes

SERVER_DISK_FULL = "53100"
"""PostgreSQL: disk_full."""
DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""SQLite: "database or disk is full", and "disk I/O error", with which it fails to make a -shm file on a full disk."""
TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp")


def name_disk_errors(engine: Engine, variable: str) -> None:
    """Makes errors of a disk one line that names the file; the variable is the one that says where the file is.

    Such an error is a DiskError. Dagster and the work log keep the message of an error, and that of SQLAlchemy has the
    SQL and no file.
    """

    def name(context: ExceptionContext) -> DiskError | None:
        return named_error(context.engine.url, variable, context.original_exception) if context.engine else None

    event.listen(engine, "handle_error", name, retval=True)


def named_error(url: URL, variable: str, error: BaseException | None) -> DiskError | None:
    """The error that says what an error of the driver is about; None if it is not about a disk."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the lowest byte of an extended code is the basic one
    if code in DISK and url.database:
        file = Path(url.database)
        return disk_error(file, variable, str(error), *_fuller_temporary_folder(file))
    if getattr(error, "sqlstate", None) == SERVER_DISK_FULL:
        return DiskError(
            f"DATABASE_URL: the disk of the server {url.host} is full: {str(error).splitlines()[0]}; what was "
            "committed stays: make room there, and the same command does the rest"
        )
    return None


def _fuller_temporary_folder(file: Path) -> list[Path]:
    """The folder of SQLite's temporary files, for large sorts, if less is free there than beside the database."""
    chosen = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *TEMPORARY_FOLDERS)
    usable = [Path(name) for name in chosen if name and os.access(name, os.W_OK | os.X_OK)]
    return [folder for folder in usable[:1] if free_bytes(folder) < free_bytes(file)]
