"""Keeps what an old database holds of a day before a proof replaces it, and says afterwards what the proof recovered.

The rows go to the `superseded_*` tables, in the transaction of the first proof: records, calculations and totals of the
day, and the totals of its month and year if no earlier day of them was proven. A recovery is no revision by Elexon.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from math import fsum
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Connection,
    Table,
    Text,
    and_,
    bindparam,
    column,
    exists,
    func,
    insert,
    inspect,
    or_,
    select,
    table,
)

from recon_assets.database.kept_tables import recovered_days, superseded_tables
from recon_assets.database.tables import (
    UtcDateTime,
    bitcoin_daily_summaries,
    curtailment_records,
    daily_summaries,
    historical_bitcoin_calculations,
    proof_of_fetch,
    wind_bids,
)
from recon_assets.domain.curtailment import CurtailmentRule, is_curtailment
from recon_assets.domain.settlement import Days
from recon_assets.domain.words import plural
from recon_assets.errors import ReconError
from recon_assets.ingest.unit_facts import unknown_farms
from recon_assets.reconcile.layer import DAY, MONTH, Layer, in_days
from recon_assets.reconcile.layers import DAILY_LAYERS, MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import UNPROVEN, settlement_days_of
from recon_assets.reconcile.sums import sum_rows


@dataclass(frozen=True)
class Figures:
    """What some days hold: records, MWh (positive), GBP, and BTC by miner model."""

    records: int = 0
    curtailed_mwh: float = 0.0
    payment_gbp: float = 0.0
    bitcoin: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recovery:
    """A month in which days were proven: how many, how many of them changed, and their figures before and after."""

    month: str
    days: int
    changed_days: int
    before: Figures
    after: Figures


def keep_as_it_was(connection: Connection, scope: Scope, now: datetime) -> bool:
    """Copies what is stored of the only day of the scope, which has no proof yet; returns whether anything was kept.

    A day that has nothing to do with an old database is left out.
    """
    day = scope.days.first
    already = select(recovered_days.c.settlement_date).where(recovered_days.c.settlement_date == day)
    if connection.execute(already).first() is not None:
        return False
    for layer in (*MONTHLY_LAYERS, *YEARLY_LAYERS):
        # Whatever day is proven first: the totals of its month and year will be made anew.
        if not _has_proof(connection, layer.grain.whole(scope.days)):
            _copy(connection, layer, layer.grain.label(day), now, scope.run_id)
    state = settlement_days_of(connection, scope, now, frozenset()).days[day]
    if state not in UNPROVEN and not _has_old_rows(connection, day):
        return False
    was = _figures(connection, scope).get(day, Figures())
    connection.execute(
        insert(recovered_days),
        {
            "settlement_date": day,
            "proven_at": now,
            "proven_by": scope.run_id,
            **asdict(was),
            "bitcoin": json.dumps(was.bitcoin, sort_keys=True),
        },
    )
    for layer in DAILY_LAYERS:
        _copy(connection, layer, day.isoformat(), now, scope.run_id)
    return True


def _has_proof(connection: Connection, days: Days) -> bool:
    of_days = proof_of_fetch.c.settlement_date.between(days.first, days.last)
    return connection.execute(select(proof_of_fetch.c.settlement_date).where(of_days).limit(1)).first() is not None


def _figures(connection: Connection, scope: Scope) -> dict[date, Figures]:
    """What the scope's days hold now; of NaN and Infinity, which an old database may hold, nothing can be recovered."""
    sums = sum_rows(connection, scope)
    bitcoin: dict[date, dict[str, float]] = {}
    for (day, model), (total, _) in sums.bitcoin.items():
        bitcoin.setdefault(day, {})[model] = total
    nothing = (0.0, 0.0, 0)
    return {
        day: Figures(records, mwh, gbp, bitcoin.get(day, {}))
        for day in {*sums.energy, *bitcoin}
        for mwh, gbp, records in [sums.energy.get(day, nothing)]
    }


def _has_old_rows(connection: Connection, day: date) -> bool:
    """Whether calculations or totals of the day exist, though it has no record and no proof."""
    calculations, totals, bitcoin = historical_bitcoin_calculations.c, daily_summaries.c, bitcoin_daily_summaries.c
    held = or_(
        exists().where(calculations.settlement_date == day),
        exists().where(totals.summary_date == day, totals.total_curtailed_energy.is_not(None)),
        exists().where(bitcoin.summary_date == day),
    )
    return bool(connection.execute(select(held)).scalar_one())


def _copy(connection: Connection, layer: Layer, period: str, now: datetime, run_id: str | None) -> None:
    """Copies a layer's rows of a period, with every column that the user's table has."""
    copies, inspector = superseded_tables[layer.name], inspect(connection)
    kept = {found["name"] for found in inspector.get_columns(copies.name)}
    names = [found["name"] for found in inspector.get_columns(layer.name) if found["name"] in kept]
    stored = table(layer.name, *(_column(layer.table, name) for name in names))
    of_period = stored.c[layer.period] == (date.fromisoformat(period) if layer.grain is DAY else period)
    # SQLite gives ids again, so that a copy of another period may have the same one.
    keys = {layer.period, *(key.name for key in layer.table.primary_key.columns)}
    known = exists().where(and_(*(copies.c[name] == stored.c[name] for name in keys)))
    stamps = {"superseded_at": bindparam(None, now, UtcDateTime()), "superseded_by": bindparam(None, run_id, Text())}
    target = table(copies.name, *map(column, (*names, *stamps)))
    rows = select(*stored.c, *stamps.values()).where(of_period, ~known)
    connection.execute(insert(target).from_select([*names, *stamps], rows))


def _column(known: Table, name: str) -> ColumnClause[Any]:
    """A column of the user's table; of those that only the user's table has, the type is not needed."""
    return column(name, known.c[name].type) if name in known.c else column(name)


def require_known_farms(connection: Connection, day: date) -> None:
    """ReconError if adopted records of the day are of farms that are in no list of wind units.

    Such a farm is retired or spelt differently. A proof would remove its records, so a person must say what it is.
    """
    unknown = unknown_farms(connection, day)
    if unknown:
        named = ", ".join(f"{farm} ({plural(rows, 'record')}, {-mwh:,.3f} MWh)" for farm, rows, mwh in sorted(unknown))
        raise ReconError(
            f"{day}: stays adopted, because it has records of farms that are in no list of wind units: {named}; say "
            f"what each is, for example with 'recon units declare {min(unknown)[0]} --wind' (or --not-wind)"
        )


def recoveries(connection: Connection, scope: Scope, since: datetime) -> list[Recovery]:
    """What was recovered by the proofs of the scope's days since a moment, by month, the newest first."""
    proven = recovered_days.c
    query = select(recovered_days).where(proven.proven_at >= since, in_days(proven.settlement_date, scope))
    rows = {row["settlement_date"]: row for row in connection.execute(query).mappings()}
    now = _figures(connection, scope.of(Days(min(rows), max(rows)))) if rows else {}
    months: dict[str, dict[date, tuple[Figures, Figures]]] = {}
    for day, row in rows.items():
        was = Figures(row["records"], row["curtailed_mwh"], row["payment_gbp"], json.loads(row["bitcoin"]))
        months.setdefault(MONTH.label(day), {})[day] = (was, now.get(day, Figures()))
    return [
        Recovery(
            month,
            days=len(of_days),
            changed_days=sum(_differ(before, after) for before, after in of_days.values()),
            before=_sum([before for before, _ in of_days.values()]),
            after=_sum([after for _, after in of_days.values()]),
        )
        for month, of_days in sorted(months.items(), reverse=True)
    ]


def _differ(before: Figures, after: Figures) -> bool:
    """Whether a day holds another energy or payment than before, by more than a kilowatt-hour or a penny."""
    return abs(before.curtailed_mwh - after.curtailed_mwh) > 0.001 or abs(before.payment_gbp - after.payment_gbp) > 0.01


def _sum(figures: Sequence[Figures]) -> Figures:
    models = sorted({model for of_day in figures for model in of_day.bitcoin})
    return Figures(
        records=sum(of_day.records for of_day in figures),
        curtailed_mwh=fsum(of_day.curtailed_mwh for of_day in figures),
        payment_gbp=fsum(of_day.payment_gbp for of_day in figures),
        bitcoin={model: fsum(of_day.bitcoin.get(model, 0.0) for of_day in figures) for model in models},
    )


def uncounted_records(connection: Connection, days: Days, rule: CurtailmentRule, since: datetime) -> tuple[int, int]:
    """Of the old records of days that were proven since a moment: their number, and that of bids the rule leaves out.

    If most are not counted, CURTAILMENT_RULE may be the other one.
    """
    old, bids = superseded_tables[curtailment_records.name].c, wind_bids.c
    counts = is_curtailment(rule, bids.volume, bids.so_flag, bids.cadl_flag)
    same = and_(
        bids.settlement_date == old.settlement_date,
        bids.settlement_period == old.settlement_period,
        bids.bm_unit_id == old.farm_id,
    )
    is_bid, is_counted = exists().where(same, bids.volume < 0), exists().where(same, counts)
    spots = (
        select(is_bid.label("is_bid"), is_counted.label("is_counted"))
        .select_from(superseded_tables[curtailment_records.name])
        .where(old.settlement_date.between(days.first, days.last), old.superseded_at >= since)
        .subquery("spots")
    )
    uncounted = func.count().filter(spots.c.is_bid, ~spots.c.is_counted)
    records, found = connection.execute(select(func.count(), uncounted).select_from(spots)).one()
    return int(records), int(found)
