"""Ingesting a settlement day: its wind bids as published, and the proof that the day was fetched whole.

Belongs here: from Elexon's stack to the tables `wind_bids` and `proof_of_fetch`, in one transaction per day. Does not:
what counts as curtailment; the layers above converge from these tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Column, ColumnElement, Connection, Engine, Float, Integer, MetaData, Table, insert, select

from recon_assets import database
from recon_assets.bm_units import is_bm_unit
from recon_assets.curtailment import CurtailmentRule, fingerprint
from recon_assets.elexon import Elexon, SettlementStack
from recon_assets.errors import ReconError
from recon_assets.reconcile.converge import Changes, converge
from recon_assets.reconcile.layering import DAY, Layer, beyond, distinct_from
from recon_assets.reconcile.scope import Scope
from recon_assets.reference import known_bm_units
from recon_assets.settlement import Days, due_periods
from recon_assets.tables import proof_of_fetch, wind_bids

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
"""What a fingerprint speaks of: a bid's content, without the time of the settlement run that published it."""


@dataclass(frozen=True)
class IngestedDay:
    """What was stored of a day. Volumes in MWh (negative), payments in GBP; `unlisted` are MWh per unknown BM unit."""

    settlement_date: date
    changes: Changes
    periods: int
    pending: tuple[int, ...]
    stack_rows: int
    wind_rows: int
    wind_mwh: float
    wind_gbp: float
    repeated_rows: int
    unlisted_rows: int
    unlisted: Mapping[str, float] = field(default_factory=dict)


def ingest_day(
    engine: Engine, elexon: Elexon, day: date, now: datetime, periods: Iterable[int] | None = None
) -> IngestedDay:
    """Fetches a day (or some of its periods) whole, then stores it in one transaction.

    ElexonError when a due period could not be read: nothing of the day is then written and what was there stays.
    ReconError when the source has nothing of the day yet.
    """
    with database.reading(engine) as connection:
        wind, other = known_bm_units(connection)
    if not wind:
        raise ReconError("no wind unit is known: materialize wind_bm_units first")
    if not elexon.source.can_have(day):
        raise ReconError(f"{day}: {elexon.source.name} has no recording of this day")
    if not due_periods(day, now):
        raise ReconError(f"{day}: no settlement period of this day is due yet")
    stack = elexon.settlement_stack(day, now, periods)
    if not stack.published:
        raise ReconError(f"{day}: Elexon has not published any settlement period of this day yet")
    with database.writing(engine, [day]) as connection:
        return store_day(connection, stack, wind, other, now)


def store_day(
    connection: Connection, stack: SettlementStack, wind: frozenset[str], other: frozenset[str], now: datetime
) -> IngestedDay:
    """Makes `wind_bids` and `proof_of_fetch` of the published periods equal to what was fetched."""
    day, rows = stack.settlement_date, stack.rows
    bids = rows[rows["bm_unit_id"].isin(wind)].assign(settlement_date=day)
    bids["gbp"] = (bids["volume"] * bids["original_price"]).fillna(0.0)
    named = rows["bm_unit_id"].map(is_bm_unit).astype(bool)
    unlisted = rows[named & ~rows["bm_unit_id"].isin(wind | other) & (rows["volume"] < 0)]
    proofs = [_proof(day, period, rows, bids, unlisted, now) for period in stack.published]
    changes = Changes()
    scope = Scope(Days(day, day), CurtailmentRule.ALL_BIDS)
    wanted = _plain_rows(bids, ("settlement_date", *BID_COLUMNS))
    changes += _store(connection, wind_bids, wanted, stack.published, scope)
    changes += _store(connection, proof_of_fetch, proofs, stack.published, scope)
    by_unit = unlisted.groupby("bm_unit_id")["volume"].sum()
    return IngestedDay(
        settlement_date=day,
        changes=changes,
        periods=len(stack.published),
        pending=tuple(stack.pending),
        stack_rows=len(rows),
        wind_rows=len(bids),
        wind_mwh=float(bids["volume"].sum()),
        wind_gbp=float(bids["gbp"].sum()),
        repeated_rows=stack.repeated,
        unlisted_rows=len(unlisted),
        unlisted={str(unit): float(mwh) for unit, mwh in by_unit.items()},
    )


def _proof(
    day: date, period: int, rows: pd.DataFrame, bids: pd.DataFrame, unlisted: pd.DataFrame, now: datetime
) -> dict[str, Any]:
    """The proof of one period that was fetched whole."""
    of_period = rows[rows["settlement_period"] == period]
    wind = bids[bids["settlement_period"] == period]
    unknown = unlisted[unlisted["settlement_period"] == period]
    return {
        "settlement_date": day,
        "settlement_period": period,
        "fetched_at": now,
        "stack_rows": len(of_period),
        "wind_rows": len(wind),
        "wind_mwh": float(wind["volume"].sum()),
        "wind_gbp": float(wind["gbp"].sum()),
        "unlisted_rows": len(unknown),
        "unlisted_mwh": float(unknown["volume"].sum()),
        "elexon_created_at": max(of_period["created_at"].dropna(), default=None),
        "fingerprint": fingerprint(row.values() for row in _plain_rows(wind, BID_COLUMNS)),
    }


def _plain_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows as plain Python values, None for what is absent."""
    content = frame[list(columns)].astype(object)
    return [dict(zip(columns, row, strict=True)) for row in content.where(content.notna(), None).to_numpy().tolist()]


def _store(
    connection: Connection, table: Table, rows: list[dict[str, Any]], periods: Iterable[int], scope: Scope
) -> Changes:
    """Converges a table to fetched rows by way of a temporary table, so that right rows stay untouched."""
    fetched = Table(
        f"fetched_{table.name}",
        MetaData(),
        *(Column(column.name, column.type) for column in table.columns),
        prefixes=["TEMPORARY"],
    )
    fetched.create(connection, checkfirst=False)
    if rows:
        connection.execute(insert(fetched), rows)
    changes = converge(connection, _layer(table, fetched, list(periods)), scope)
    fetched.drop(connection)
    return changes


def _layer(table: Table, fetched: Table, periods: list[int]) -> Layer:
    key = tuple(table.primary_key.columns.keys())
    content = [column for column in table.columns if column.name not in (*key, "fetched_at")]
    numeric = beyond(relative=1e-12)

    def judged(scope: Scope) -> ColumnElement[bool]:
        return (table.c.settlement_date == scope.days.first) & table.c.settlement_period.in_(periods)

    return Layer(
        table=table,
        grain=DAY,
        period="settlement_date",
        key=key,
        compared={
            column.name: numeric if isinstance(column.type, Float | Integer) else distinct_from for column in content
        },
        expected=lambda scope: select(fetched),
        judged=judged,
        near=judged,
        carried=("fetched_at",) if "fetched_at" in table.c else (),
    )
