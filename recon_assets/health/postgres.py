"""Reads the catalogue and the statistics views of a PostgreSQL server, under time-outs; ends no session.

A role sees little of other roles' sessions: what it may not see is NULL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, text

from recon_assets.database.tables import metadata
from recon_assets.database.transactions import LOCK_CLASS, LOCK_TIMEOUT
from recon_assets.health.facts import (
    Connections,
    DayLocks,
    Fault,
    IndexFault,
    Limits,
    Session,
    Sessions,
    TableSize,
    Timeouts,
)
from recon_assets.health.lock_facts import TableLock

QUERY_CHARACTERS = 80

# backend_type is NULL for a session that the role may not see. Background processes have no database.
SESSION = "datid IS NOT NULL AND (backend_type = 'client backend' OR backend_type IS NULL)"

CONNECTIONS = f"""
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       count(*) AS in_use,
       count(*) FILTER (WHERE datname = current_database()) AS of_this_database,
       count(*) FILTER (WHERE application_name = 'recon') AS of_recon
FROM pg_stat_activity WHERE {SESSION}
"""

# reset_val is what a session starts with; the current value is the one that `limited` sets.
TIMEOUTS = """
SELECT name, nullif(reset_val::int, 0) AS ms FROM pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')
"""

# reltuples is -1 (0 before PostgreSQL 14) until the first VACUUM or ANALYZE. last_analyze is lost in a crash and in a
# copy, so it does not say whether there are statistics.
TABLES = """
SELECT c.relname AS table,
       CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE coalesce(s.n_live_tup, 0) END::bigint AS rows_estimate,
       pg_table_size(c.oid) AS table_bytes,
       pg_indexes_size(c.oid) AS index_bytes,
       EXISTS (SELECT FROM pg_stats p WHERE p.schemaname = n.nspname AND p.tablename = c.relname) AS has_statistics,
       s.n_dead_tup AS dead_rows,
       greatest(s.last_analyze, s.last_autoanalyze) AS last_analyzed
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relname = ANY (:tables)
ORDER BY c.relname
"""

INVALID_INDEXES = """
SELECT c.relname AS table, i.indexrelid::regclass::text AS index,
       (SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
        FROM unnest(i.indkey::int[]) WITH ORDINALITY k (number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE NOT i.indisvalid AND pg_table_is_visible(c.oid) AND c.relname = ANY (:tables)
"""

SESSIONS = f"""
SELECT pid, usename AS user, application_name AS application, state, query, pg_blocking_pids(pid) AS blocked_by,
       extract(epoch FROM clock_timestamp() - CASE state WHEN 'active' THEN query_start ELSE state_change END)::float
           AS age_seconds,
       (SELECT l.mode || ' on ' || coalesce(l.relation::regclass::text, l.locktype)
        FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1) AS waits_for
FROM pg_stat_activity a
WHERE {SESSION} AND datname = current_database() AND pid <> pg_backend_pid()
ORDER BY age_seconds DESC NULLS LAST
"""

# These modes keep writers out, and the last one readers, too. A query of recon takes weaker ones, and so does a VACUUM.
TABLE_LOCKS = """
SELECT l.pid, a.usename AS user, a.application_name AS application, a.state, a.query, a.xact_start AS since,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float AS age_seconds,
       array_agg(DISTINCT c.relname::text) AS tables,
       bool_or(l.mode = 'AccessExclusiveLock') AS keeps_readers_out
FROM pg_locks l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
JOIN pg_class c ON c.oid = l.relation AND c.relname = ANY (:tables)
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid()
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY age_seconds DESC NULLS LAST
"""

# objsubid 2 is a lock of two integers: here the class and the ordinal of the day.
DAY_LOCKS = """
SELECT l.pid, a.usename AS user, a.application_name AS application, l.granted AS is_granted, count(*) AS days,
       min(l.objid::bigint) AS first_day, max(l.objid::bigint) AS last_day
FROM pg_locks l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid::bigint = :lock_class
GROUP BY 1, 2, 3, 4 ORDER BY 1, 4 DESC
"""


@contextmanager
def limited(engine: Engine, limits: Limits) -> Iterator[Connection]:
    """A read-only transaction; each of its statements is ended at the time limit."""
    with engine.connect() as connection:
        connection.execution_options(postgresql_readonly=True)
        with connection.begin() as transaction:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limits.statement_ms:d}")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {limits.lock_ms:d}")
            yield connection
            transaction.rollback()


def connections(connection: Connection) -> Connections:
    """How many connections are open and how many are allowed."""
    row = connection.execute(text(CONNECTIONS)).one()._mapping
    return Connections(**row, share_used=round(row["in_use"] / (row["max_connections"] - row["reserved"]), 3))


def timeouts(connection: Connection) -> Timeouts:
    """The time-outs that the server gives a session."""
    ms = {row.name: row.ms for row in connection.execute(text(TIMEOUTS))}
    return Timeouts(
        statement_ms=ms["statement_timeout"],
        lock_ms=ms["lock_timeout"],
        idle_in_transaction_ms=ms["idle_in_transaction_session_timeout"],
        recon_lock=LOCK_TIMEOUT,
    )


def table_sizes(connection: Connection) -> list[TableSize]:
    """The sizes of our tables that exist."""
    return [TableSize(**row) for row in connection.execute(text(TABLES), {"tables": list(metadata.tables)}).mappings()]


def invalid_indexes(connection: Connection) -> list[IndexFault]:
    """The indexes of our tables that are not used, because building them failed or is still in progress."""
    rows = connection.execute(text(INVALID_INDEXES), {"tables": list(metadata.tables)})
    return [
        IndexFault(table, index, tuple(columns), Fault.INVALID, f"REINDEX INDEX CONCURRENTLY {index}")
        for table, index, columns in rows
    ]


def table_locks(connection: Connection, limits: Limits | None = None) -> tuple[TableLock, ...]:
    """The sessions that have locked our tables, with `limits` only those held longer than a query waits."""
    found = connection.execute(text(TABLE_LOCKS), {"tables": list(metadata.tables)}).mappings()
    locks = [TableLock(**dict(row) | _shortened(row) | {"tables": tuple(row["tables"])}) for row in found]
    least = 0 if limits is None else limits.lock_ms / 1000
    return tuple(lock for lock in locks if lock.age_seconds is None or lock.age_seconds >= least)


def sessions(connection: Connection, limits: Limits) -> Sessions:
    """The sessions that may block recon."""
    others = [_session(row) for row in connection.execute(text(SESSIONS)).mappings()]
    locks = connection.execute(text(DAY_LOCKS), {"lock_class": LOCK_CLASS}).mappings()
    return Sessions(
        long_queries=tuple(
            session
            for session in others
            if session.state == "active" and (session.age_seconds or 0) > limits.long_query_seconds
        ),
        idle_in_transaction=tuple(
            session
            for session in others
            if (session.state or "").startswith("idle in transaction")
            and (session.age_seconds or 0) > limits.idle_in_transaction_seconds
        ),
        blocked=tuple(session for session in others if session.blocked_by),
        day_locks=tuple(DayLocks(**dict(lock) | _days(lock)) for lock in locks),
        table_locks=table_locks(connection, limits),
    )


def _session(row: Any) -> Session:
    return Session(**dict(row) | _shortened(row) | {"blocked_by": tuple(row["blocked_by"])})


def _shortened(row: Any) -> dict[str, Any]:
    query = None if row["query"] is None else " ".join(row["query"].split())[:QUERY_CHARACTERS]
    return {"query": query, "age_seconds": None if row["age_seconds"] is None else round(row["age_seconds"], 1)}


def _days(lock: Any) -> dict[str, date]:
    return {name: date.fromordinal(lock[name]) for name in ("first_day", "last_day")}
