"""The examination of the database and the sources, which changes nothing.

No session is ended, nothing is written, and a missing file is not created. Every failure becomes a finding: only a bug
raises.
"""

import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine, inspect

from recon_assets.database.engine import display_url, sqlite_file, wal_bytes
from recon_assets.database.schema import SchemaState, check_first_day, schema_state
from recon_assets.database.tables import metadata
from recon_assets.domain.settlement import london_day
from recon_assets.health import postgres, sources, sqlite
from recon_assets.health.advice import advise
from recon_assets.health.archive import examine_archive
from recon_assets.health.dagster_home import examine_dagster_home
from recon_assets.health.facts import DEFAULT_LIMITS, Database, Disk, Health, Limits, ProbeStatus, Sessions
from recon_assets.health.file_locks import file_locks
from recon_assets.health.indexes import index_faults
from recon_assets.health.lock_facts import TableLock
from recon_assets.health.probes import ProbedDatabase, probe_all
from recon_assets.reconcile.foreign_rows import foreign_rows
from recon_assets.settings import Settings


def examine(engine: Engine, settings: Settings, now: datetime, limits: Limits = DEFAULT_LIMITS) -> Health:
    """Examines the engine's database and the settings' sources at the instant `now` (with time zone).

    The engine gives only its address: the examination opens its own connections.
    """
    file = sqlite_file(engine.url)
    logged_bytes = wal_bytes(file) if file else 0
    database = ProbedDatabase(engine.url, limits)
    connect = database.connect()
    asked = database.ask("schema", lambda connection: _schema(connection, settings))
    schema, existing = asked or (None, None)
    newest_day, probes = probe_all(database, existing)
    is_current = schema is SchemaState.CURRENT
    sessions = connections = file_facts = locks = None
    if file is None:
        driver = f"psycopg {psycopg.__version__}"
        connections = database.ask("connections", postgres.connections)
        timeouts = database.ask("timeouts", postgres.timeouts)
        tables = database.ask("tables", postgres.table_sizes)
        sessions = database.ask("sessions", lambda connection: postgres.sessions(connection, limits))
        sessions = _with_locks(sessions, database.table_locks)
    else:
        driver = f"sqlite3 of Python {platform.python_version()}"
        timeouts = sqlite.TIMEOUTS
        tables = database.ask("tables", sqlite.table_sizes)
        locks = file_locks(file, limits.lock_ms) if file.exists() else None
        file_facts = database.ask("sqlite", lambda connection: sqlite.file_facts(connection, file, logged_bytes))
    archive = examine_archive(settings)
    health = Health(
        database=Database(
            address=display_url(engine.url),
            engine=engine.dialect.name,
            driver=driver,
            server_version=database.ask("server_version", _server_version),
            schema=schema,
            missing_tables=tuple(sorted(set(metadata.tables) - existing)) if is_current and existing else (),
            newest_day=newest_day,
            connect_ms=connect.latency_ms,
            error=database.error,
            is_locked=file is not None and connect.verdict is ProbeStatus.TIMED_OUT,
        ),
        probes=(connect, *probes),
        connections=connections,
        timeouts=timeouts,
        sqlite=file_facts,
        tables=tuple(tables or ()),
        indexes=tuple(database.ask("indexes", index_faults) or ()) if is_current else (),
        foreign_rows=(database.ask("foreign_rows", foreign_rows) or ()) if is_current else (),
        sessions=sessions,
        file_locks=locks,
        disks=tuple(
            _disks(
                database=file.parent if file else None,
                dagster_home=settings.dagster_home,
                archive=settings.archive_folder if archive else None,
            )
        ),
        elexon=sources.elexon(settings, newest_day or london_day(now) - timedelta(days=1), limits),
        mempool=sources.mempool(settings, limits),
        archive=archive,
        dagster=examine_dagster_home(settings.dagster_home),
        unread=database.unread,
    )
    database.dispose()
    return replace(health, advice=tuple(advise(health)))


def _schema(connection: Connection, settings: Settings) -> tuple[SchemaState, frozenset[str]]:
    state = schema_state(connection)
    if state is SchemaState.CURRENT:
        check_first_day(connection, settings.first_day)
    return state, frozenset(inspect(connection).get_table_names())


def _server_version(connection: Connection) -> str:
    return ".".join(str(part) for part in connection.dialect.server_version_info or ())


def _with_locks(sessions: Sessions | None, seen: tuple[TableLock, ...] | None) -> Sessions | None:
    """The sessions, with the table locks that a query gave up on; the newest look at each counts."""
    if sessions is None or not seen:
        return sessions
    locks = {lock.pid: lock for lock in (*seen, *sessions.table_locks)}
    return replace(sessions, table_locks=tuple(locks.values()))


def _disks(**folders: Path | None) -> Iterator[Disk]:
    for what, folder in folders.items():
        if folder is not None and folder.is_dir():
            usage = shutil.disk_usage(folder)
            yield Disk(what, str(folder), free_bytes=usage.free, total_bytes=usage.total)
