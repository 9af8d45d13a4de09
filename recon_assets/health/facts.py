"""The findings of `recon doctor` as values, and whether they are healthy."""

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from recon_assets.database.schema import SchemaState
from recon_assets.elexon.archive import RETENTION
from recon_assets.health.lock_facts import FileLocks, TableLock
from recon_assets.reconcile.foreign_rows import ForeignRows


@dataclass(frozen=True)
class Limits:
    """How long `recon doctor` waits for an answer, and from which age it names other sessions."""

    statement_ms: int = 30_000
    """Two hundred times what the heaviest probe takes on a local server."""
    lock_ms: int = 2_000
    """A reader waits for a lock only while the schema is changed. This tells a locked table from a slow query."""
    request_seconds: float = 10
    """Less than recon itself waits, because a person waits for the answer."""
    long_query_seconds: float = 30
    """Converging a month takes a few seconds in all."""
    idle_in_transaction_seconds: float = 60
    """A transaction of recon is never idle for long; one that does nothing for a minute was forgotten."""


DEFAULT_LIMITS = Limits()


class ProbeStatus(StrEnum):
    """How a probe ended."""

    OK = "ok"
    SLOW = "slow"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Database:
    """The database itself; `error` says why it could not be connected to, and then the other findings are None.

    `is_locked` if an SQLite file could not be read because somebody holds it locked.
    """

    address: str
    engine: str
    driver: str
    server_version: str | None = None
    schema: SchemaState | None = None
    missing_tables: tuple[str, ...] = ()
    newest_day: date | None = None
    connect_ms: float | None = None
    error: str | None = None
    is_locked: bool = False


@dataclass(frozen=True)
class Probe:
    """One query: `rows` that it read, `slow_ms` from which it counts as slow, `limit_ms` at which it is ended."""

    name: str
    what: str
    slow_ms: int
    limit_ms: int | None
    verdict: ProbeStatus
    latency_ms: float | None = None
    rows: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Connections:
    """The server's connections; `share_used` is of those that are not reserved for superusers."""

    max_connections: int
    reserved: int
    in_use: int
    of_this_database: int
    of_recon: int
    share_used: float


@dataclass(frozen=True)
class Timeouts:
    """Milliseconds, None for no limit: what the server gives a session, and what recon sets itself."""

    statement_ms: int | None = None
    lock_ms: int | None = None
    idle_in_transaction_ms: int | None = None
    recon_lock: str | None = None
    recon_busy_ms: int | None = None


@dataclass(frozen=True)
class SqliteFile:
    """The database file as found; `recon_journal_mode` and `recon_synchronous` are what recon sets when it connects."""

    path: str
    size_bytes: int
    wal_bytes: int
    journal_mode: str
    page_size_bytes: int
    page_count: int
    free_pages: int
    recon_journal_mode: str
    recon_synchronous: str


@dataclass(frozen=True)
class TableSize:
    """A table; rows are an estimate, and on SQLite built without dbstat the sizes are None."""

    table: str
    rows_estimate: int | None
    table_bytes: int | None
    index_bytes: int | None
    has_statistics: bool
    dead_rows: int | None = None
    last_analyzed: datetime | None = None


class Fault(StrEnum):
    """What is wrong with a declared index; NOT_UNIQUE reads as fast, and is left over from duplicated rows."""

    MISSING = "missing"
    INVALID = "invalid"
    NOT_UNIQUE = "not_unique"


@dataclass(frozen=True)
class IndexFault:
    """A declared index that is missing, not as declared or not usable, with the statement that fixes it."""

    table: str
    index: str
    columns: tuple[str, ...]
    fault: Fault
    statement: str


@dataclass(frozen=True)
class Session:
    """Another session; what the role may not see is None."""

    pid: int
    user: str | None
    application: str | None
    state: str | None
    age_seconds: float | None
    query: str | None
    blocked_by: tuple[int, ...] = ()
    waits_for: str | None = None


@dataclass(frozen=True)
class DayLocks:
    """The settlement days that a session of recon has locked or waits to lock."""

    pid: int
    user: str | None
    application: str | None
    is_granted: bool
    days: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class Sessions:
    """The sessions of this database that may block recon."""

    long_queries: tuple[Session, ...]
    idle_in_transaction: tuple[Session, ...]
    blocked: tuple[Session, ...]
    day_locks: tuple[DayLocks, ...]
    table_locks: tuple[TableLock, ...] = ()


@dataclass(frozen=True)
class Disk:
    """The file system of a folder that recon writes to."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Source:
    """A source of data: the answer of an API to one request, or what a folder of recordings holds."""

    address: str
    asked: str | None = None
    is_reachable: bool = False
    latency_ms: float | None = None
    http_status: int | None = None
    error: str | None = None
    recordings: int | None = None
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class ArchiveFolder:
    """The archive of Elexon's answers; `error` says why it cannot be written or read."""

    path: str
    error: str | None = None
    recordings: int = 0
    first_day: date | None = None
    last_day: date | None = None
    earlier: int = 0
    corrupt: int = 0
    size_bytes: int = 0
    retention: str = RETENTION


@dataclass(frozen=True)
class DagsterHome:
    """The configuration of Dagster, and whether its storage opens every file anew for every event."""

    configuration: str
    is_storage_slow: bool


@dataclass(frozen=True)
class Health:
    """All findings. None means that the engine does not have it, or that it could not be read; `unread` says why.

    The keys of `unread` are server_version, schema, connections, timeouts, sqlite, tables, indexes, sessions and
    foreign_rows.
    `archive` is None if recordings are read, and `dagster` if nothing ever ran through Dagster.
    """

    database: Database
    probes: tuple[Probe, ...]
    connections: Connections | None
    timeouts: Timeouts | None
    sqlite: SqliteFile | None
    tables: tuple[TableSize, ...]
    indexes: tuple[IndexFault, ...]
    sessions: Sessions | None
    disks: tuple[Disk, ...]
    elexon: Source
    mempool: Source | None
    archive: ArchiveFolder | None
    dagster: DagsterHome | None
    unread: dict[str, str]
    file_locks: FileLocks | None = None
    foreign_rows: tuple[ForeignRows, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether the database answers and is as declared, the sources answer, and their answers can be archived.

        A slow answer is healthy.
        """
        database = self.database
        return (
            database.error is None
            and database.schema is SchemaState.CURRENT
            and not (database.missing_tables or self.unread)
            and not any(probe.verdict in (ProbeStatus.TIMED_OUT, ProbeStatus.FAILED) for probe in self.probes)
            and not any(index.fault is not Fault.NOT_UNIQUE for index in self.indexes)
            and all(source.is_reachable for source in (self.elexon, self.mempool) if source)
            and (self.archive is None or self.archive.error is None)
        )

    def facts(self) -> dict[str, Any]:
        """The keys of `recon doctor --format json`, in plain JSON types; dates and instants are in ISO 8601."""
        facts = {"is_healthy": self.is_healthy, **asdict(self)}
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=lambda value: value.isoformat()))
        return plain
