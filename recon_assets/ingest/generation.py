"""Reads the wind generation of a settlement day: average MW of each half-hour, onshore and offshore.

A half-hour is stored only when both kinds are published, because absent is not 0. The newest publication wins, even if
an older one is read later. A stored half-hour is never removed.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.tables import wind_generation_data
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days, due_periods, format_periods
from recon_assets.elexon.archive import Archive, Kept
from recon_assets.elexon.client import Elexon, WindGeneration
from recon_assets.errors import UnpublishedError
from recon_assets.ingest.sync import KEY, sync_rows
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.expected import generation_by_day
from recon_assets.reconcile.scope import Scope

DATA_SOURCE = "Elexon AGWS"


@dataclass(frozen=True)
class GenerationDay:
    """The generation of a day after a reading: stored half-hours and MWh, and why other half-hours are not stored.

    `pending` settlement periods are due but not published; `halves` are published with only one kind of wind; for
    `newer` a later publication was stored already. `kept` is the recording in the archive; `tolerated` counts rows that
    were left out, by kind (elexon/generation.py).
    """

    settlement_date: date
    changes: Changes
    half_hours: int
    total_mwh: float
    onshore_mwh: float
    offshore_mwh: float
    pending: tuple[int, ...] = ()
    halves: tuple[int, ...] = ()
    newer: tuple[int, ...] = ()
    kept: Kept | None = None
    tolerated: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every half-hour that is due was published with both kinds."""
        return not self.pending and not self.halves


def read_wind_generation(
    engine: Engine, elexon: Elexon, day: date, now: datetime, archive: Archive | None = None
) -> GenerationDay:
    """Reads a day with one request, archives the answer, then stores it in one transaction.

    UnpublishedError when the source has no whole half-hour of the day yet, ElexonError when it could not be read;
    nothing is changed then.
    """
    if not elexon.source.can_have(day):
        raise UnpublishedError(f"{day}: {elexon.source.name} has no recording of this day")
    if not due_periods(day, now):
        raise UnpublishedError(f"{day}: no settlement period of this day is due yet")
    answer = elexon.wind_generation(day)
    if answer is None or answer.rows.empty:
        halves = f" (only one kind of period {format_periods(answer.halves)})" if answer and answer.halves else ""
        raise UnpublishedError(f"{day}: Elexon has not published the wind generation of this day yet{halves}")
    kept = archive.keep(day, answer.received, now) if archive and answer.received else None
    with transactions.writing(engine, [day]) as connection:
        return store_generation(connection, answer, now, kept)


def store_generation(
    connection: Connection, answer: WindGeneration, now: datetime, kept: Kept | None = None
) -> GenerationDay:
    """Makes the published half-hours equal to what was read, except those with a later publication stored."""
    day = answer.settlement_date
    read = {int(row["settlement_period"]): row for row in answer.rows.to_dict("records")}
    stored = _published_at(connection, day)
    newer = [period for period, row in read.items() if period in stored and stored[period] > row["published_at"]]
    rows = [_row(day, row) for period, row in read.items() if period not in newer]
    periods = [row["settlement_period"] for row in rows]
    changes = sync_rows(connection, wind_generation_data, rows, day, periods, key=KEY)
    sums = connection.execute(generation_by_day(Scope(Days(day, day), CurtailmentRule.ALL_BIDS))).one()
    published = {*read, *answer.halves}
    return GenerationDay(
        settlement_date=day,
        changes=sum(changes.values(), Changes()),
        half_hours=sums.half_hours,
        total_mwh=sums.total_mwh,
        onshore_mwh=sums.onshore_mwh,
        offshore_mwh=sums.offshore_mwh,
        pending=tuple(period for period in due_periods(day, now) if period not in published),
        halves=tuple(answer.halves),
        newer=tuple(newer),
        kept=kept,
        tolerated=answer.tolerated,
    )


def _published_at(connection: Connection, day: date) -> dict[int, datetime]:
    """When the stored half-hours were published; rows of an old database have no such time and are left out."""
    rows = wind_generation_data.c
    newest = select(rows.settlement_period, func.max(rows.published_at)).where(
        rows.settlement_date == day, rows.published_at.is_not(None)
    )
    return {period: published for period, published in connection.execute(newest.group_by(rows.settlement_period))}


def _row(day: date, read: Mapping[Hashable, Any]) -> dict[str, Any]:
    onshore, offshore = float(read["wind_onshore"]), float(read["wind_offshore"])
    return {
        "settlement_date": day,
        "settlement_period": int(read["settlement_period"]),
        "wind_onshore": onshore,
        "wind_offshore": offshore,
        "total_wind": onshore + offshore,
        "data_source": DATA_SOURCE,
        "published_at": read["published_at"],
    }
