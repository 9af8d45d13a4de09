"""What a person should change, each line from a measured fact beyond a threshold; `recon doctor` changes nothing."""

from collections.abc import Iterator

from recon_assets.database.schema import FIRST_STEP, SchemaState
from recon_assets.domain.words import plural
from recon_assets.health.dagster_home import FAST_STORAGE
from recon_assets.health.facts import (
    Fault,
    Health,
    Probe,
    ProbeStatus,
    Session,
    Source,
    SqliteFile,
    TableSize,
)
from recon_assets.health.lock_facts import FileLock, FileLocks, TableLock

MB = 1_000_000

CONNECTIONS_SHARE = 0.8
"""The rest is for the few connections of a run and of the Dagster processes, which could otherwise be refused."""

STATEMENT_TIMEOUT_MS = 60_000
"""A writer waits in one statement for days that another has locked: seconds, or minutes over a slow network."""

STATISTICS_FROM_BYTES = 1 * MB
"""Smaller tables are read whole, whatever their statistics."""

DEAD_SHARE, DEAD_ROWS = 0.4, 10_000
"""Autovacuum starts when a fifth of the rows is dead; at twice that it does not keep up, or is off."""

WAL_BYTES = 256 * MB
"""SQLite empties its log every 4 MB unless a reader or a long transaction prevents it; a month has 28 MB in all."""

FREE_SHARE, FREE_BYTES = 0.25, 64 * MB
"""Free pages are used again, so a VACUUM pays only for a file that once was much larger."""

LOW_DISK_BYTES = 1_000 * MB
"""June 2025 takes 28 MB on SQLite, and a VACUUM or a migration needs a second copy of everything for a while."""

SCHEMA_ADVICE = {
    SchemaState.EMPTY: f"the database is empty: {FIRST_STEP}",
    SchemaState.OLDER: "the schema is of an older version: run 'recon migrate'",
    SchemaState.FOREIGN: "the database has tables that recon has not adopted yet: run 'recon migrate'",
    SchemaState.NEWER: "the schema was made by a newer version of recon: install that version",
}


def advise(health: Health) -> Iterator[str]:
    """What to change, the most serious first; nothing if everything is in order."""
    database = health.database
    if database.error is not None:
        reason = f"{database.error}{_who_locks(health.file_locks)}" if database.is_locked else database.error
        yield f"the database at {database.address} cannot be used: {reason}"
    elif health.file_locks is not None:
        yield from _of_file_locks(health.file_locks)
    if database.schema in SCHEMA_ADVICE:
        yield SCHEMA_ADVICE[database.schema]
    for table in database.missing_tables:
        yield f"the table {table} is gone though the schema is current: restore it from a backup"
    for source, variable in ((health.elexon, "ELEXON_API_URL"), (health.mempool, "MEMPOOL_API_URL")):
        if source is not None:
            yield from _of_source(source, variable)
    if health.archive is not None and health.archive.error is not None:
        yield (
            f"the archive at {health.archive.path} cannot be used ({health.archive.error}), so that no day can be "
            "read: let this user write there, or set RECON_ARCHIVE"
        )
    if health.sessions is not None:
        yield from _of_table_locks(health.sessions.table_locks)
        yield from _of_blocked(health.sessions.blocked)
    for probe in health.probes:
        if probe.error is None or probe.error != database.error:
            yield from _of_probe(probe)
    for section, reason in health.unread.items():
        yield f"{section} could not be read ({reason}): ask again when nobody changes the schema, or as another role"
    yield from _of_indexes(health)
    if health.sessions is not None:
        for session in health.sessions.long_queries:
            yield f"{_who(session)} has been running one query for {session.age_seconds:,.0f} s: {session.query}"
        for session in health.sessions.idle_in_transaction:
            yield f"{_who(session)} has left a transaction open for {session.age_seconds:,.0f} s: let it commit or end"
    for rows in health.foreign_rows:
        yield f"{rows}: end what still writes there; 'recon analyze' shows what is wrong"
    yield from _of_server(health)
    for size in health.tables:
        yield from _of_table(size)
    if health.sqlite is not None and database.schema is not SchemaState.EMPTY:
        yield from _of_file(health.sqlite)
    if health.dagster is not None and health.dagster.is_storage_slow:
        yield (
            f"Dagster's storage opens a file anew for every event, and a long reconciliation takes twice as long: end "
            f"what uses it, then write into {health.dagster.configuration}:\n{FAST_STORAGE}"
        )
    for disk in health.disks:
        if disk.free_bytes < LOW_DISK_BYTES:
            yield f"{disk.free_bytes / MB:,.0f} MB are free at {disk.path} ({disk.what}): make room"


def _of_source(source: Source, variable: str) -> Iterator[str]:
    if not source.is_reachable:
        yield f"{source.address} cannot be read ({source.error}): check the network and {variable}"
    elif source.http_status == 404:
        yield f"{source.address} does not know {source.asked} (HTTP 404): check that {variable} is the right address"


def _of_blocked(blocked: tuple[Session, ...]) -> Iterator[str]:
    for session in blocked:
        age = "" if session.age_seconds is None else f" for {session.age_seconds:,.0f} s"
        holders = " and ".join(f"pid {pid}" for pid in session.blocked_by)
        waits_for = session.waits_for or "a lock"
        yield f"{_who(session)} has waited{age} for {waits_for} that {holders} holds: finish what is done there"


def _of_table_locks(locks: tuple[TableLock, ...]) -> Iterator[str]:
    for lock in locks:
        since = "" if lock.since is None else f" since {lock.since:%Y-%m-%d %H:%M:%S %Z}"
        who = "nobody can read or write there" if lock.keeps_readers_out else "nobody can write there"
        query = f" (its last query: {lock.query})" if lock.query else ""
        yield f"{_who(lock)} has locked {', '.join(lock.tables)}{since}, and {who}: let it commit or end{query}"


def _of_file_locks(locks: FileLocks) -> Iterator[str]:
    for lock in locks.holders:
        who = "nobody can read or write" if lock.keeps_readers_out else "nobody else can write"
        yield f"{_process(lock)} has locked the file for {locks.lock_ms / 1000:g} s or more, and {who}: let it finish"


def _who_locks(locks: FileLocks | None) -> str:
    if locks is not None and locks.holders:
        return f"; locked by {' and '.join(map(_process, locks.holders))}: let it finish"
    if locks is not None and locks.is_known:
        return "; no process of this machine holds it any more, or it is one in another container: try again"
    return "; this system does not say which process holds it: look for one that has the file open"


def _process(lock: FileLock) -> str:
    age = "" if lock.process_seconds is None else f", started {lock.process_seconds:,.0f} s ago"
    return f"pid {lock.pid} ({lock.program or 'no name'}, {lock.user or 'unknown user'}{age})"


def _who(session: Session | TableLock) -> str:
    return f"pid {session.pid} ({session.application or 'no name'}, {session.user or 'unknown user'})"


def _of_probe(probe: Probe) -> Iterator[str]:
    took = f"{probe.what} took {probe.latency_ms:,.0f} ms" if probe.latency_ms is not None else ""
    if probe.verdict is ProbeStatus.TIMED_OUT:
        yield f"{took} and was ended ({probe.error}): see what is blocked, running or missing"
    elif probe.verdict is ProbeStatus.FAILED:
        yield f"{probe.what} failed: {probe.error}"
    elif probe.verdict is ProbeStatus.SLOW and probe.name in ("connect", "select_1"):
        yield f"{took}, more than {probe.slow_ms:,} ms: run recon nearer to the database"
    elif probe.verdict is ProbeStatus.SLOW:
        yield f"{took}, more than {probe.slow_ms:,} ms: run ANALYZE, and see what else is running or missing"


def _of_indexes(health: Health) -> Iterator[str]:
    for index in health.indexes:
        columns = f"{index.table} ({', '.join(index.columns)})"
        if index.fault is Fault.MISSING:
            yield f"there is no index on {columns}: {index.statement}"
        elif index.fault is Fault.INVALID:
            yield f"the index {index.index} on {columns} is invalid and not used: {index.statement}"
        else:
            yield f"{columns} is not unique: run 'recon reconcile', which removes duplicates, then {index.statement}"


def _of_server(health: Health) -> Iterator[str]:
    used, timeouts = health.connections, health.timeouts
    if used is not None and used.share_used >= CONNECTIONS_SHARE:
        usable = used.max_connections - used.reserved
        yield f"{used.in_use} of {usable} connections are in use: raise max_connections, or put a pooler before it"
    if timeouts is not None and timeouts.statement_ms is not None and timeouts.statement_ms < STATEMENT_TIMEOUT_MS:
        yield (
            f"statement_timeout is {timeouts.statement_ms:,} ms: a writer that waits for another one is cut off; "
            f"ALTER ROLE ... SET statement_timeout = '{timeouts.recon_lock}'"
        )


def _of_table(size: TableSize) -> Iterator[str]:
    # Only PostgreSQL was seen to plan badly without statistics (reconcile/scope.py).
    is_postgres = size.dead_rows is not None
    if is_postgres and not size.has_statistics and (size.table_bytes or 0) > STATISTICS_FROM_BYTES:
        yield f"{size.table} has {(size.table_bytes or 0) / MB:,.1f} MB and no statistics: ANALYZE {size.table}"
    if size.dead_rows is not None and size.dead_rows > max(DEAD_ROWS, DEAD_SHARE * (size.rows_estimate or 0)):
        dead = plural(size.dead_rows, "dead row")
        yield f"{size.table} has {dead} beside {size.rows_estimate:,}: VACUUM {size.table}"


def _of_file(file: SqliteFile) -> Iterator[str]:
    if file.journal_mode != file.recon_journal_mode:
        yield (
            f"the journal mode is {file.journal_mode}, in which readers and writers wait for each other: "
            f"any other command of recon sets {file.recon_journal_mode}"
        )
    if file.wal_bytes > WAL_BYTES:
        yield f"the write-ahead log has {file.wal_bytes / MB:,.0f} MB: find the reader that never ends"
    free_bytes = file.free_pages * file.page_size_bytes
    if free_bytes > max(FREE_BYTES, FREE_SHARE * file.size_bytes):
        yield f"{free_bytes / MB:,.0f} MB of {file.size_bytes / MB:,.0f} MB of {file.path} are empty: VACUUM"
