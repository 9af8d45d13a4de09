"""Finds rows that something other than recon has written since recon last worked on their month: an old script, say.

A row tells when it was written, and the work log when recon last worked on a month. Every worker of recon writes there
after its rows, so a later row is not recon's. What cannot be seen: rows that were changed but not stamped, rows that
were deleted, rows of the two minutes after recon's own work, and months that recon works on now, or did when it was
killed.
Whether rows are right does not depend on this: the state compares their values.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, DateTime, Text, cast, func, literal, not_, or_, select, type_coerce

from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.database.work_log import MonthProgress, Status, read_progress
from recon_assets.domain.settlement import Days
from recon_assets.domain.words import plural

WRITTEN_AT = (
    historical_bitcoin_calculations.c.calculated_at,
    curtailment_records.c.created_at,
)
"""When a row was written: by the clock of the database, in the time zone of its sessions."""

GRACE = timedelta(minutes=2)
"""The clocks of a database and of a worker on another machine may differ by so much."""


@dataclass(frozen=True)
class ForeignRows:
    """Rows of a table that recon did not write, their settlement days, and when the newest was written.

    `since` is when recon last worked on the first of their months.
    """

    table: str
    rows: int
    since: datetime
    newest_at: datetime
    first_day: date
    last_day: date

    def __str__(self) -> str:
        days = str(self.first_day) if self.first_day == self.last_day else f"{self.first_day}..{self.last_day}"
        return (
            f"{plural(self.rows, 'row')} of {self.table} ({days}) written since {_minute(self.since)} "
            f"by something that is not recon, the newest at {_minute(self.newest_at)}"
        )


def foreign_rows(connection: Connection) -> tuple[ForeignRows, ...]:
    """What something other than recon has written; nothing is known before recon has worked."""
    ours = [row for row in read_progress(connection) if row.worker is not None and row.last_updated is not None]
    found = [_of_table(connection, stamp, ours) for stamp in WRITTEN_AT] if ours else []
    return tuple(rows for rows in found if rows is not None)


def _of_table(connection: Connection, stamp: Any, ours: list[MonthProgress]) -> ForeignRows | None:
    day, months = stamp.table.c.settlement_date, [Days.of_month(row.time_period) for row in ours]
    latest = max(row.last_updated for row in ours if row.last_updated is not None)
    # A month that recon never worked on holds none of its rows: what came after its last work at all counts.
    of_months = [day.between(month.first, month.last) for month in months]
    spans = [(not_(or_(*of_months)), latest)]
    for of_month, row in zip(of_months, ours, strict=True):
        if row.last_updated is not None and row.status not in (Status.IN_PROGRESS, Status.PENDING):
            spans.append((of_month, row.last_updated))
    parts = []
    for where, since in spans:
        later, newest = _later(connection, stamp, since + GRACE)
        query = select(func.count(), func.max(newest), func.min(day), func.max(day)).where(*later, where)
        count, newest_at, first_day, last_day = connection.execute(query).one()
        if count:
            parts.append(ForeignRows(stamp.table.name, count, since, _aware(newest_at), first_day, last_day))
    if not parts:
        return None
    return ForeignRows(
        table=stamp.table.name,
        rows=sum(part.rows for part in parts),
        since=min(part.since for part in parts),
        newest_at=max(part.newest_at for part in parts),
        first_day=min(part.first_day for part in parts),
        last_day=max(part.last_day for part in parts),
    )


def _later(connection: Connection, stamp: Any, since: datetime) -> tuple[Any, Any]:
    """When a row was written, as an instant, and whether that was later. A query for each month reads by the key."""
    if connection.dialect.name == "postgresql":
        # A column without a time zone holds the time of the session's zone, which this conversion assumes.
        written = cast(stamp, DateTime(timezone=True))
        return (written > literal(since, DateTime(timezone=True)),), written
    at = f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    utc: Any = func.datetime(stamp)
    # The first comparison spares most rows the conversion. With a T between day and time, a row of that day passes it.
    return (type_coerce(stamp, Text) > at, utc > literal(at, Text)), utc


def _aware(at: datetime | str) -> datetime:
    if isinstance(at, str):
        return datetime.fromisoformat(at).replace(tzinfo=UTC)
    return at.astimezone(UTC)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
