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

from sqlalchemy import Connection, DateTime, Text, cast, func, literal, select, union_all

from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.database.work_log import MonthProgress, Status, read_progress
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
    is_postgres = connection.dialect.name == "postgresql"
    day = stamp.table.c.settlement_date
    # A column without a time zone holds the time of the session's zone, which a conversion to an instant assumes.
    written = cast(stamp, DateTime(timezone=True)) if is_postgres else func.datetime(stamp)
    month = func.to_char(day, "YYYY-MM") if is_postgres else func.substr(cast(day, Text), 1, 7)
    ended = {
        row.time_period: row.last_updated + GRACE
        for row in ours
        if row.last_updated is not None and row.status not in (Status.IN_PROGRESS, Status.PENDING)
    }
    latest = max(row.last_updated for row in ours if row.last_updated is not None) + GRACE

    def instant(at: datetime) -> Any:
        if is_postgres:
            return literal(at, DateTime(timezone=True))
        return literal(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", Text)

    last_work = union_all(
        *(
            select(literal(name, Text).label("month"), instant(ended.get(name, NEVER)).label("at"))
            for name in {row.time_period for row in ours}
        )
    ).cte("last_work")
    # A month that recon never worked on holds none of its rows: what came after its last work at all counts.
    since = func.coalesce(last_work.c.at, instant(latest))
    found = connection.execute(
        select(func.count(), func.min(since), func.max(written), func.min(day), func.max(day))
        .select_from(stamp.table.outerjoin(last_work, last_work.c.month == month))
        .where(written > since)
    ).one()
    count, first, newest, first_day, last_day = found
    if not count:
        return None
    return ForeignRows(stamp.table.name, count, _aware(first) - GRACE, _aware(newest), first_day, last_day)


NEVER = datetime(9999, 1, 1, tzinfo=UTC)


def _aware(at: datetime | str) -> datetime:
    if isinstance(at, str):
        return datetime.fromisoformat(at).replace(tzinfo=UTC)
    return at.astimezone(UTC)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
