"""Ingests a settlement day: its wind bids as published, and the proof that the day was fetched whole.

The answers go to the archive first, then to `wind_bids`, `proof_of_fetch` and `settlement_revisions`, in one
transaction per day.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine

from recon_assets.database import transactions
from recon_assets.database.tables import STACK, proof_of_fetch, wind_bids
from recon_assets.domain.bm_units import is_bm_unit
from recon_assets.domain.curtailment import CurtailmentRule, fingerprint, payment_gbp
from recon_assets.domain.settlement import Days, due_periods, period_starts_at
from recon_assets.elexon.archive import Archive, Kept
from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.errors import ReconError
from recon_assets.ingest.plausibility import require_plausible, stored_rows
from recon_assets.ingest.recovery import keep_as_it_was, require_known_farms
from recon_assets.ingest.reference import known_bm_units
from recon_assets.ingest.revisions import Revision, note_revision, stored_proofs
from recon_assets.ingest.sync import sync_rows
from recon_assets.ingest.uncounted import counted_before, note_uncounted
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.scope import Scope

NUMBERS = ("volume", "original_price", "final_price", "transmission_loss_multiplier")
BID_COLUMNS = (
    "settlement_period",
    "sequence_number",
    "bm_unit_id",
    "acceptance_id",
    "bid_offer_pair_id",
    *NUMBERS,
    "so_flag",
    "cadl_flag",
)
"""The columns in a fingerprint: a bid's content, without the time of the settlement run that published it."""

HALF_HOUR = ("settlement_date", "settlement_period")
BID_KEY = (*HALF_HOUR, "sequence_number")


@dataclass(frozen=True)
class IngestedDay:
    """What was stored of a day. Volumes in MWh (negative), payments in GBP; `unlisted` are MWh per unknown BM unit;
    `revision` is what Elexon has changed since the last reading; `kept` is the recording in the archive. `source` is
    that of the proof (tables.py): if acceptance volumes prove the day empty, the stack was not read, and its rows are
    unknown. `is_recovered` says that the day was adopted, and that what it held was kept.
    """

    settlement_date: date
    changes: Changes
    periods: int
    pending: tuple[int, ...]
    stack_rows: int | None
    wind_rows: int
    wind_mwh: float
    wind_gbp: float
    tolerated: Mapping[str, int]
    unlisted_rows: int
    unlisted: Mapping[str, float] = field(default_factory=dict)
    revision: Revision | None = None
    kept: Kept | None = None
    source: str = STACK
    is_recovered: bool = False


def ingest_day(
    engine: Engine,
    elexon: Elexon,
    day: date,
    now: datetime,
    periods: Iterable[int] | None = None,
    archive: Archive | None = None,
    scope: Scope | None = None,
    *,
    only_same: bool = False,
) -> IngestedDay:
    """Fetches a day (or some of its periods) whole, archives the answers, then stores it in one transaction.

    ElexonError when a due period could not be read, or when the answers are not plausible (plausibility.py); the stored
    day then stays as it was. ReconError when the source has nothing of the day yet, or when an adopted day has records
    of a farm that is in no list of wind units; with `only_same` also when the source does not have what was stored of
    the day. `scope` is the day's; it names the first kept day and the Dagster run.
    """
    with transactions.reading(engine) as connection:
        wind, other = known_bm_units(connection)
        stored = stored_rows(connection, day)
    if not wind:
        raise ReconError("no wind unit is known: materialize wind_bm_units first")
    if not elexon.source.can_have(day):
        raise ReconError(f"{day}: {elexon.source.name} has no recording of this day")
    due = due_periods(day, now)
    if not due:
        raise ReconError(f"{day}: no settlement period of this day is due yet")
    if periods is not None:
        periods = _wanted(day, periods, due)
    read = elexon.settlement_stack(day, now, periods)
    if not read.published:
        what = "any settlement period of this day" if periods is None else "these settlement periods"
        raise ReconError(f"{day}: Elexon has not published {what} yet")
    stack = require_plausible(elexon, read, wind, stored, now)
    with transactions.writing(engine, [day]) as connection:
        require_known_farms(connection, day)
        present = stored_rows(connection, day)
        if present != stored:
            # Another process has stored the day meanwhile, so that the answers must be compared with the new rows.
            again = require_plausible(elexon, read, wind, present, now)
            stack = replace(again, received={**stack.received, **again.received})
        kept = archive.keep(day, stack.received, now) if archive and stack.received else None
        done = store_day(connection, stack, wind, other, now, kept, scope)
        if only_same and done.revision:
            raise ReconError(f"{day}: {elexon.source.name} does not have the bids that were stored")
        note_uncounted(connection, elexon, stack, kept, now)
        return done


def _wanted(day: date, periods: Iterable[int], due: range) -> list[int]:
    """The requested periods that are due; UsageError for a period that the day does not have."""
    asked = sorted(set(periods))
    for period in asked:
        period_starts_at(day, period)
    wanted = [period for period in asked if period in due]
    if not wanted:
        raise ReconError(f"{day}: none of these settlement periods is due yet")
    return wanted


def store_day(
    connection: Connection,
    stack: SettlementStack,
    wind: frozenset[str],
    other: frozenset[str],
    now: datetime,
    kept: Kept | None = None,
    scope: Scope | None = None,
) -> IngestedDay:
    """Makes `wind_bids` and `proof_of_fetch` equal to what was fetched, in the published periods."""
    day, rows = stack.settlement_date, stack.rows
    bids = _bids_of(day, rows[rows["bm_unit_id"].isin(wind)])
    named = rows["bm_unit_id"].map(is_bm_unit).astype(bool)
    unlisted = rows[named & ~rows["bm_unit_id"].isin(wind | other) & (rows["volume"] < 0)]
    wanted = _plain_rows(bids, ("settlement_date", *BID_COLUMNS))
    proofs = _proofs(stack, wanted, bids, unlisted, now)
    before = stored_proofs(connection, day)
    scope = scope or Scope(Days(day, day), CurtailmentRule.SO_FLAGGED)
    is_recovered = not before and keep_as_it_was(connection, scope, now)
    # A revision compares the bids of the same units: that another unit counts now is no change by Elexon.
    same = _bids_of(day, counted_before(connection, day, rows, wind))
    plain = _plain_rows(same, ("settlement_date", *BID_COLUMNS))
    comparable = proofs if same.equals(bids) else _proofs(stack, plain, same, unlisted, now)
    bid_changes = sync_rows(connection, wind_bids, wanted, day, stack.published, key=BID_KEY)
    proof_changes = sync_rows(
        connection, proof_of_fetch, proofs, day, stack.published, key=HALF_HOUR, carried=("fetched_at",)
    )
    by_unit = unlisted.groupby("bm_unit_id")["volume"].sum()
    return IngestedDay(
        settlement_date=day,
        changes=sum((*bid_changes.values(), *proof_changes.values()), Changes()),
        periods=len(stack.published),
        pending=tuple(stack.pending),
        stack_rows=len(rows),
        wind_rows=len(bids),
        wind_mwh=float(bids["volume"].sum()),
        wind_gbp=float(bids["gbp"].sum()),
        tolerated=stack.tolerated,
        unlisted_rows=len(unlisted),
        unlisted={str(unit): float(mwh) for unit, mwh in by_unit.items()},
        revision=note_revision(connection, day, before, comparable, bid_changes, now),
        kept=kept,
        is_recovered=is_recovered,
    )


def _bids_of(day: date, rows: pd.DataFrame) -> pd.DataFrame:
    """Stack rows with their day and GBP."""
    bids = rows.assign(settlement_date=day)
    bids["gbp"] = payment_gbp(bids["volume"], bids["original_price"]).fillna(0.0)
    return bids


def _proofs(
    stack: SettlementStack, wind: list[dict[str, Any]], bids: pd.DataFrame, unlisted: pd.DataFrame, now: datetime
) -> list[dict[str, Any]]:
    """The proofs of the periods that were fetched whole; `wind` has the rows of `bids` as plain values."""
    of_period: dict[int, list[dict[str, Any]]] = {period: [] for period in stack.published}
    for row in wind:
        of_period[row["settlement_period"]].append(row)
    stamped = stack.rows.dropna(subset="created_at")
    newest = stamped.groupby("settlement_period")["created_at"].max()
    counted, sums, unknown = (frame.groupby("settlement_period") for frame in (stack.rows, bids, unlisted))
    rows, mwh, gbp = counted.size(), sums["volume"].sum(), sums["gbp"].sum()
    unknown_rows, unknown_mwh = unknown.size(), unknown["volume"].sum()
    return [
        {
            "settlement_date": stack.settlement_date,
            "settlement_period": period,
            "fetched_at": now,
            "source": STACK,
            "stack_rows": int(rows.get(period, 0)),
            "wind_rows": len(held),
            "wind_mwh": float(mwh.get(period, 0.0)),
            "wind_gbp": float(gbp.get(period, 0.0)),
            "unlisted_rows": int(unknown_rows.get(period, 0)),
            "unlisted_mwh": float(unknown_mwh.get(period, 0.0)),
            "elexon_created_at": newest.get(period),
            "fingerprint": fingerprint([row[name] for name in BID_COLUMNS] for row in held),
        }
        for period, held in of_period.items()
    ]


def _plain_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows as plain Python values; None for missing values."""
    content = frame[list(columns)].astype(object)
    return [dict(zip(columns, row, strict=True)) for row in content.where(content.notna(), None).to_numpy().tolist()]
