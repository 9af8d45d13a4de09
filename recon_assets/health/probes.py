"""Queries a database under time-outs, and measures how long queries of growing weight take."""

import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Executable, Row, and_, exc, func, literal, select, union_all
from sqlalchemy.engine import URL

from recon_assets.database.engine import open_engine, sqlite_file
from recon_assets.database.schema import FIRST_STEP
from recon_assets.database.tables import curtailment_records as records
from recon_assets.database.tables import historical_bitcoin_calculations as calculations
from recon_assets.domain.settlement import FIRST_DAY
from recon_assets.errors import first_line
from recon_assets.health import postgres, sqlite
from recon_assets.health.facts import Limits, Probe, ProbeStatus
from recon_assets.health.lock_facts import TableLock

T = TypeVar("T")

CONNECTS = 3
"""Connections whose median is reported; one more before them, which loads the driver, is not counted."""

MONTH = timedelta(days=30)
"""The days before the newest one: a probe of a month is equally heavy on every date."""

LOCKED = "55P03"
TIMED_OUT = {"57014", LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY}
"""PostgreSQL: query canceled, lock not available."""

UNANSWERED = (exc.SQLAlchemyError, ValueError)
"""ValueError: SQLite keeps any text as a date."""

NO_CONNECTION = "there is no connection"


class _ProbeQuery(NamedTuple):
    """A query to measure: from `slow_ms` on it is slow; `reads` are its tables, and `statement` counts rows."""

    name: str
    what: str
    slow_ms: int
    reads: frozenset[str] = frozenset()
    statement: Executable | None = None


CONNECT = _ProbeQuery("connect", f"connecting (the median of {CONNECTS})", 500)
ROUND_TRIP = _ProbeQuery("select_1", "a round trip (SELECT 1)", 50, statement=select(literal(1)))
_DAY = calculations.c.settlement_date
_KEPT_AND_BEYOND = union_all(  # each by the index; what sorts after every date is no date
    select(func.max(_DAY).label("day")).where(func.current_date() >= _DAY),
    select(func.max(_DAY)).where(date.max < _DAY),
).subquery()
NEWEST = select(func.max(_KEPT_AND_BEYOND.c.day))
NEWEST_DAY = _ProbeQuery("newest_day", "finding the newest day", 200, frozenset({calculations.name}), NEWEST)


# The values of slow_ms: June 2025 (93,348 calculations) took 1, 1, 11, 72 and 143 ms on the slower of two local
# engines. About thirty times that allows for a network and for a server with other users.
def _weights(newest_day: date) -> list[_ProbeQuery]:
    """The queries about a day and about the month that ends with it."""
    day = calculations.c.settlement_date == newest_day
    month = calculations.c.settlement_date.between(newest_day - MONTH, newest_day)
    count = select(func.count())
    sums = select(func.count(), func.sum(calculations.c.bitcoin_mined))
    groups = (calculations.c.settlement_date, calculations.c.miner_model)
    farms = records.join(
        calculations,
        and_(
            *(records.c[name] == calculations.c[name] for name in ("settlement_date", "settlement_period", "farm_id"))
        ),
    )
    one, both = frozenset({calculations.name}), frozenset({calculations.name, records.name})
    return [
        _ProbeQuery("count_day", f"counting the calculations of {newest_day}", 200, one, count.where(day)),
        _ProbeQuery("count_month", "counting the calculations of 31 days", 1_000, one, count.where(month)),
        _ProbeQuery(
            "aggregate_month", "summing the calculations of 31 days", 2_000, one, sums.where(month).group_by(*groups)
        ),
        _ProbeQuery(
            "join_month",
            "joining the calculations of 31 days with their records",
            5_000,
            both,
            sums.select_from(farms).where(month),
        ),
    ]


class ProbedDatabase:
    """A database that is queried under time-outs, with a new transaction each time.

    `error` says why it could not be connected to; then nothing more is queried. `unread` has the reason of each section
    that could not be read. `table_locks` are those that were held when the first query gave up waiting for a lock:
    whoever holds them may be gone when the other queries are through.
    """

    def __init__(self, url: URL, limits: Limits) -> None:
        self.error: str | None = None
        self.table_locks: tuple[TableLock, ...] | None = None
        self.unread: dict[str, str] = {}
        self._file = sqlite_file(url)
        self._limits = limits
        self._engine = sqlite.open_to_look(self._file, limits) if self._file else open_engine(url)
        self._limited = sqlite.limited if self._file else postgres.limited

    def connect(self) -> Probe:
        """Measures how long new connections take."""
        if self._file and not self._file.exists():
            self.error = f"there is no database at {self._file} yet: {FIRST_STEP}"
            return self._skipped(CONNECT, self.error)
        latencies_ms = []
        for _ in range(1 + CONNECTS):
            started = time.monotonic()
            try:
                connection = self._engine.connect()
            except exc.DBAPIError as error:
                self.error = first_line(error)
                return self._failed(CONNECT, error, started)
            latencies_ms.append(_ms_since(started))
            connection.detach()  # or the pool would reuse it
            connection.close()
        return self._measured(CONNECT, statistics.median(latencies_ms[1:]))

    def ask(self, section: str, question: Callable[[Connection], T]) -> T | None:
        """The answer; None if there is none, and then `unread` has the reason."""
        if self.error is not None:
            return None
        try:
            with self._limited(self._engine, self._limits) as connection:
                return question(connection)
        except UNANSWERED as error:
            self.unread[section] = first_line(error)
            self._look_for_locks(error)
            return None

    def _look_for_locks(self, error: Exception) -> None:
        if _code(error) == LOCKED and self.table_locks is None:
            self.table_locks = ()
            self.table_locks = self.ask("table_locks", postgres.table_locks) or ()

    def probe(self, question: _ProbeQuery, *, skip: str | None = None) -> tuple[Probe, Sequence[Row[Any]]]:
        """Measures a query up to its last row, and gives the rows; `skip` is a reason not to execute it."""
        if self.error is not None or skip is not None or question.statement is None:
            return self._skipped(question, skip if self.error is None else NO_CONNECTION), ()
        started = time.monotonic()
        try:
            with self._limited(self._engine, self._limits) as connection:
                started = time.monotonic()
                rows = connection.execute(question.statement).all()
                return self._measured(question, _ms_since(started)), rows
        except UNANSWERED as error:
            failed = self._failed(question, error, started)
            self._look_for_locks(error)
            return failed, ()

    def dispose(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _measured(self, question: _ProbeQuery, latency_ms: float) -> Probe:
        status = ProbeStatus.SLOW if latency_ms > question.slow_ms else ProbeStatus.OK
        return replace(self._skipped(question, None), verdict=status, latency_ms=latency_ms)

    def _failed(self, question: _ProbeQuery, error: Exception, started: float) -> Probe:
        status = ProbeStatus.TIMED_OUT if _code(error) in TIMED_OUT else ProbeStatus.FAILED
        return replace(self._skipped(question, first_line(error)), verdict=status, latency_ms=_ms_since(started))

    def _skipped(self, question: _ProbeQuery, reason: str | None) -> Probe:
        limit_ms = self._limits.statement_ms if question.statement is not None else None
        return Probe(question.name, question.what, question.slow_ms, limit_ms, ProbeStatus.SKIPPED, error=reason)


def probe_all(database: ProbedDatabase, existing: frozenset[str] | None) -> tuple[date | None, list[Probe]]:
    """The newest day with calculations, and all probes but the connection, lightest first.

    `existing` are the tables that the database has; None if that is not known.
    """

    def lacking(question: _ProbeQuery) -> str | None:
        missing = frozenset() if existing is None else question.reads - existing
        return f"there is no table {min(missing)}" if missing else None

    round_trip, _ = database.probe(ROUND_TRIP)
    newest, answer = database.probe(NEWEST_DAY, skip=lacking(NEWEST_DAY))
    newest_day: date | None = answer[0][0] if answer else None
    unknown = None if newest_day else "the newest day is not known" if newest.error else "there are no calculations yet"
    probes = [round_trip, newest]
    for question in _weights(newest_day or FIRST_DAY):
        probe, answer = database.probe(question, skip=lacking(question) or unknown)
        probes.append(replace(probe, rows=sum(row[0] for row in answer) if answer else None))
    return newest_day, probes


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _code(error: Exception) -> str | int:
    cause = getattr(error, "orig", None)
    # The lowest byte of SQLite's extended error codes is the basic code.
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", 0) & 0xFF
