"""The work log: the progress of work on each month, in a table of the database.

It says nothing about whether the data is right; the reconciled state does (reconcile/state.py). The worker that started
last on a month owns its row, and an earlier worker no longer writes there.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

from sqlalchemy import Connection, Engine, Table, func, insert, inspect, select, update

from recon_assets.database import transactions
from recon_assets.database.progress_table import PROGRESS_TABLES, progress_table

WORK_LOG_LOCK = date.max
"""No settlement day has this date. Its lock, taken before the snapshot, makes writers wait for each other. Without it
PostgreSQL rejects the second of two threads that write to the row of a month ("could not serialize access")."""
COUNTED = ("processed_records", "failed_records", "timeouts")


class Phase(StrEnum):
    """What is being done to a month, and therefore what its records are."""

    READING = "reading"
    """Settlement periods are read from Elexon."""
    CONVERGING = "converging"
    """Curtailment records and calculations are made right."""


class Status(StrEnum):
    """The status of the work on a month."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class MonthProgress:
    """The row of one month; instants are aware, in UTC."""

    time_period: str
    status: str
    phase: str | None
    percentage_complete: float
    total_records: int
    processed_records: int
    failed_records: int
    timeouts: int
    error_details: str | None
    worker: str | None
    started_at: datetime | None
    last_updated: datetime | None


@dataclass
class WorkLog:
    """Writes the rows of the months that one worker works on."""

    engine: Engine
    worker: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _failed: set[str] = field(default_factory=set)

    @contextmanager
    def working(self, phase: Phase, totals: Mapping[str, int]) -> Iterator[None]:
        """Begins and ends the work on some months; an exception marks them as failed, with its message."""
        self.begin(phase, totals)
        try:
            yield
        except BaseException as error:
            self.abandon(totals, str(error) or "interrupted")
            raise
        self.end(totals)

    def begin(self, phase: Phase, totals: Mapping[str, int]) -> None:
        """Starts the work on some months; `totals` has the number of records of each."""
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = _table(connection)
            known = set(connection.execute(select(table.c.time_period)).scalars())
            for month, total in totals.items():
                values = {
                    "status": Status.IN_PROGRESS,
                    "phase": phase,
                    "percentage_complete": 0,
                    "total_records": total,
                    "processed_records": 0,
                    "failed_records": 0,
                    "timeouts": 0,
                    "error_details": None,
                    "worker": self.worker,
                    "started_at": _utc(self.now()),
                    "last_updated": _utc(self.now()),
                }
                if month in known:
                    connection.execute(update(table).values(values).where(table.c.time_period == month))
                else:
                    connection.execute(insert(table).values(time_period=month, **values))
        self._failed -= set(totals)

    def advance(self, month: str, processed: int) -> None:
        """Adds records of a month that are done."""
        self._note(month, {"processed_records": processed}, None)

    def trouble(self, month: str, reason: str, *, timed_out: bool) -> None:
        """Notes a failed attempt, which may be tried again or in halves."""
        self._note(month, {"timeouts": int(timed_out)}, reason)

    def fail(self, month: str, records: int, reason: str) -> None:
        """Adds records of a month that failed in every attempt."""
        self._failed.add(month)
        self._note(month, {"failed_records": records}, reason)

    def _note(self, month: str, more: Mapping[str, int], reason: str | None) -> None:
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = _table(connection)
            counted = {name: table.c[name] + more.get(name, 0) for name in COUNTED}
            handled = counted["processed_records"] + counted["failed_records"]
            # A month may have no records, and the user's column may forbid NULL.
            share = func.coalesce(func.round(100.0 * handled / func.nullif(table.c.total_records, 0)), 0)
            values: dict[str, object] = {**counted, "percentage_complete": share, "last_updated": _utc(self.now())}
            if reason:
                values["error_details"] = reason
            mine = (table.c.time_period == month, table.c.worker == self.worker)
            connection.execute(update(table).values(values).where(*mine))

    def end(self, months: Iterable[str]) -> None:
        """Ends the work on some months: completed, or failed if any record failed."""
        for month in months:
            done: dict[str, object] = {"status": Status.FAILED}
            if month not in self._failed:
                done = {"status": Status.COMPLETED, "percentage_complete": 100}
            self._close(month, done)

    def abandon(self, months: Iterable[str], reason: str) -> None:
        """Marks the work on some months as failed, because it was broken off."""
        for month in months:
            self._close(month, {"status": Status.FAILED, "error_details": reason})

    def _close(self, month: str, values: dict[str, object]) -> None:
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = _table(connection)
            mine = (table.c.time_period == month, table.c.worker == self.worker)
            still = table.c.status == Status.IN_PROGRESS
            values = {**values, "last_updated": _utc(self.now())}
            connection.execute(update(table).values(values).where(*mine, still))


def worker_name(what: str) -> str:
    """The name of this process and its work, for example 'recon reconcile (host, process 4711)'."""
    return f"{what} ({socket.gethostname()}, process {os.getpid()})"


def read_progress(connection: Connection) -> list[MonthProgress]:
    """The rows of all months, newest first."""
    table = _table(connection)
    rows = connection.execute(select(table).order_by(table.c.time_period.desc())).mappings()
    return [
        MonthProgress(
            time_period=row["time_period"],
            status=row["status"],
            phase=row["phase"],
            percentage_complete=float(row["percentage_complete"] or 0),
            total_records=row["total_records"] or 0,
            processed_records=row["processed_records"] or 0,
            failed_records=row["failed_records"] or 0,
            timeouts=row["timeouts"] or 0,
            error_details=row["error_details"],
            worker=row["worker"],
            started_at=_aware(row["started_at"]),
            last_updated=_aware(row["last_updated"]),
        )
        for row in rows
    ]


def _table(connection: Connection) -> Table:
    existing = inspect(connection).get_table_names()
    return progress_table(next(name for name in PROGRESS_TABLES if name in existing))


def _utc(instant: datetime) -> datetime:
    """UTC without a time zone, as the columns store it."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def _aware(instant: datetime | None) -> datetime | None:
    return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=UTC)
