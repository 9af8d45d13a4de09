"""The work log: the progress of work on each month, in a table of the database.

It says nothing about whether the data is right; the reconciled state does (reconcile/state.py). The worker that started
last on a month owns its row, and an earlier worker no longer writes there.

A worker with more than one piece of work plans its months first. Until it comes to a planned month, that is `pending`;
a month stays in progress until the worker goes on to another one or ends, so that there is always a row of its work.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, case, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from recon_assets.database import transactions
from recon_assets.database.progress_table import put_row, stored_table
from recon_assets.errors import ConfigurationError

WORK_LOG_LOCK = date.max
"""No settlement day has this date. Its lock makes writers wait for each other: two that both find a month without a row
would both insert one."""
COUNTED = ("processed_records", "failed_records", "timeouts")
NOT_WHOLE_PCT = 99
"""The most that a month shows of which something failed."""


class Phase(StrEnum):
    """What is being done to a month, and therefore what its records are."""

    READING = "reading"
    """Settlement periods are read from Elexon."""
    CONVERGING = "converging"
    """Curtailment records and calculations are made right."""


class Status(StrEnum):
    """The status of the work on a month."""

    PENDING = "pending"
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
    """Writes the rows of the months that one worker works on.

    It remembers which days failed in which phase, until these are worked on again: what could not be read is not
    forgotten because the rest of the month was calculated.
    """

    engine: Engine
    worker: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _failed: dict[str, dict[tuple[Phase, date | None], tuple[int, str]]] = field(default_factory=dict)
    _phases: dict[str, Phase] = field(default_factory=dict)
    _planned: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """The planned months, and their rows as they were."""
    _waiting: dict[str, datetime] = field(default_factory=dict)
    """Planned months of which a phase has ended and another may follow, and when the work on them began."""

    def plan(self, months: Iterable[str]) -> None:
        """Notes the months that this worker will come to, and ends those that it planned before."""
        self.finish()
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = stored_table(connection)
            rows = {row["time_period"]: dict(row) for row in connection.execute(select(table)).mappings()}
            for month in dict.fromkeys(months):
                before = rows.get(month)
                # Another worker may be at work on it; a month that one was to come to is this worker's now.
                if before is None or before["status"] != Status.IN_PROGRESS:
                    is_kept = before is not None and before["status"] != Status.PENDING
                    self._planned[month] = before if is_kept else None
                    put_row(connection, table, month, before is not None, self._row(Status.PENDING, None, 0, 0, None))

    def finish(self) -> None:
        """Ends the planned months; those that were not begun are as they were."""
        self._close_waiting(self._waiting)
        planned, self._planned = self._planned, {}
        if not planned:
            return
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = stored_table(connection)
            for month, before in planned.items():
                row = (table.c.time_period == month, table.c.worker == self.worker, table.c.status == Status.PENDING)
                if before is None:
                    connection.execute(delete(table).where(*row))
                else:
                    connection.execute(update(table).values(before).where(*row))

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Ends the planned months afterwards, also if the work is broken off."""
        try:
            yield
        except BaseException as error:
            for month in self._waiting:
                self._failed.setdefault(month, {})[Phase.CONVERGING, None] = (0, str(error) or "interrupted")
            # Without a database, what broke the work off is the error to show.
            with suppress(DBAPIError, ConfigurationError):
                self.finish()
            raise
        self.finish()

    @contextmanager
    def working(self, phase: Phase, totals: Mapping[str, int], days: Iterable[date] | None = None) -> Iterator[None]:
        """Begins and ends the work on some months; an exception marks them as failed, with its message."""
        self.begin(phase, totals, days)
        try:
            yield
        except BaseException as error:
            self.abandon(totals, str(error) or "interrupted", days or ())
            raise
        self.end(totals)

    def begin(self, phase: Phase, totals: Mapping[str, int], days: Iterable[date] | None = None) -> None:
        """Starts a phase of the work on some months; `totals` has the number of records of each.

        What failed before on `days` no longer counts, nor what failed in the months if no days are named.
        """
        self._forget(phase, totals, days)
        for month in totals:
            if month in self._planned:
                self._waiting.setdefault(month, self.now())
        self._close_waiting(set(self._waiting).difference(totals))
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = stored_table(connection)
            known = set(connection.execute(select(table.c.time_period)).scalars())
            for month, total in totals.items():
                failures = self._failed.get(month, {}).values()
                failed, reason = sum(records for records, _ in failures), next((said for _, said in failures), None)
                values = self._row(Status.IN_PROGRESS, phase, total + failed, failed, reason)
                put_row(connection, table, month, month in known, values)

    def _row(self, status: Status, phase: Phase | None, total: int, failed: int, reason: str | None) -> dict[str, Any]:
        """The values of a row of which nothing is done yet."""
        return {
            "status": status,
            "phase": phase,
            "percentage_complete": 0,
            "total_records": total,
            "processed_records": 0,
            "failed_records": failed,
            "timeouts": 0,
            "error_details": reason,
            "worker": self.worker,
            "started_at": _utc(self.now()),
            "last_updated": _utc(self.now()),
        }

    def _forget(self, phase: Phase, months: Iterable[str], days: Iterable[date] | None) -> None:
        # Days that are read again are calculated again, too.
        phases = tuple(Phase) if phase is Phase.READING else (phase,)
        anew = None if days is None else {(one, day) for day in days for one in phases}
        for month in months:
            self._phases[month] = phase
            failed = self._failed.pop(month, {})
            kept = {key: why for key, why in failed.items() if anew is not None and key not in anew}
            if kept:
                self._failed[month] = kept

    def advance(self, month: str, processed: int) -> None:
        """Adds records of a month that are done."""
        self._note(month, {"processed_records": processed}, None)

    def trouble(self, month: str, reason: str, *, timed_out: bool) -> None:
        """Notes a failed attempt, which may be tried again or in halves."""
        self._note(month, {"timeouts": int(timed_out)}, reason)

    def fail(self, month: str, records: int, reason: str, days: Iterable[date] = ()) -> None:
        """Adds records of a month that failed in every attempt, on `days` if these are known."""
        self._remember(month, records, reason, days)
        self._note(month, {"failed_records": records}, reason)

    def _remember(self, month: str, records: int, reason: str, days: Iterable[date]) -> None:
        failed, phase = self._failed.setdefault(month, {}), self._phases.get(month, Phase.READING)
        for number, day in enumerate([*days] or [None]):
            before, _ = failed.get((phase, day), (0, ""))
            failed[phase, day] = (before + (0 if number else records), reason)

    def _note(self, month: str, more: Mapping[str, int], reason: str | None) -> None:
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = stored_table(connection)
            counted = {name: table.c[name] + more.get(name, 0) for name in COUNTED}
            handled = counted["processed_records"] + counted["failed_records"]
            # A month may have no records, and the user's column may forbid NULL.
            share = func.coalesce(func.round(100.0 * handled / func.nullif(table.c.total_records, 0)), 0)
            values: dict[str, object] = {**counted, "percentage_complete": share, "last_updated": _utc(self.now())}
            if reason:
                values["error_details"] = reason
            mine = (table.c.time_period == month, table.c.worker == self.worker)
            connection.execute(update(table).values(values).where(*mine))
            self._touch(connection, month)

    def end(self, months: Iterable[str]) -> None:
        """Ends a phase of some months. One that is not planned is completed then, or failed if any record failed."""
        for month in months:
            if month not in self._waiting:
                self._close(month)

    def abandon(self, months: Iterable[str], reason: str, days: Iterable[date] = ()) -> None:
        """Marks the work on some months as failed, because it was broken off, and with it that on `days`."""
        for month in months:
            self._waiting.pop(month, None)
            broken_off = [day for day in days if day.isoformat().startswith(month)]
            if broken_off:
                self._remember(month, 0, reason, broken_off)
            self._update(month, {"status": Status.FAILED, "error_details": reason})

    def _close_waiting(self, months: Iterable[str]) -> None:
        for month in sorted(months):
            self._close(month, {"started_at": _utc(self._waiting.pop(month))})

    def _close(self, month: str, more: Mapping[str, Any] | None = None) -> None:
        done: dict[str, Any] = {"status": Status.COMPLETED, "percentage_complete": 100}
        for _, reason in self._failed.get(month, {}).values():
            done = {"status": Status.FAILED, "error_details": reason}
        self._update(month, {**done, **(more or {})})

    def _update(self, month: str, values: Mapping[str, Any]) -> None:
        """Ends the work on a month that is in progress."""
        with transactions.writing(self.engine, [WORK_LOG_LOCK]) as connection:
            table = stored_table(connection)
            mine = (table.c.time_period == month, table.c.worker == self.worker)
            still = table.c.status == Status.IN_PROGRESS
            share = table.c.percentage_complete
            whole = {"percentage_complete": case((share > NOT_WHOLE_PCT, NOT_WHOLE_PCT), else_=share)}
            values = {**whole, **values, "last_updated": _utc(self.now())}
            connection.execute(update(table).values(values).where(*mine, still))
            self._touch(connection, month)

    def _touch(self, connection: Connection, month: str) -> None:
        """Notes the time in the row of another worker that has ended: rows of this month were written after it."""
        table = stored_table(connection)
        ended = table.c.status.in_((Status.COMPLETED, Status.FAILED))
        others = (table.c.time_period == month, table.c.worker != self.worker, ended)
        connection.execute(update(table).values(last_updated=_utc(self.now())).where(*others))


def worker_name(what: str) -> str:
    """The name of this process and its work, for example 'recon reconcile (host, process 4711)'."""
    return f"{what} ({socket.gethostname()}, process {os.getpid()})"


def read_progress(connection: Connection) -> list[MonthProgress]:
    """The rows of all months, newest first."""
    table = stored_table(connection)
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


def _utc(instant: datetime) -> datetime:
    """UTC without a time zone, as the columns store it."""
    return instant.astimezone(UTC).replace(tzinfo=None)


def _aware(instant: datetime | None) -> datetime | None:
    return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=UTC)
