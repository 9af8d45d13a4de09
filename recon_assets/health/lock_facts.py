"""Who holds tables or an SQLite file locked, as values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class TableLock:
    """A session that has locked tables of recon; `age_seconds` is that of its transaction."""

    pid: int
    user: str | None
    application: str | None
    state: str | None
    since: datetime | None
    age_seconds: float | None
    query: str | None
    tables: tuple[str, ...]
    keeps_readers_out: bool


@dataclass(frozen=True)
class FileLock:
    """A process that holds an SQLite file locked; `process_seconds` is its age."""

    pid: int
    program: str | None
    user: str | None
    process_seconds: float | None
    keeps_readers_out: bool


@dataclass(frozen=True)
class FileLocks:
    """The processes that hold an SQLite file locked for `lock_ms` or longer; `is_known` if the system names them."""

    is_known: bool
    holders: tuple[FileLock, ...]
    lock_ms: int
