"""The layers, and what each must be according to the layer below.

Wind bids -> curtailment records -> calculations -> summaries. A layer (layering.py) is a table, the key of its rows,
the rows that it is expected to hold (one SELECT), and how far a stored value may be from the expected one. audit.py
compares the two; converge.py makes them equal. Nothing else computes or repairs these tables.

The rewards of the periods (`period_rewards`) must be loaded before calculations are asked for; see scope.py.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Date,
    Double,
    MetaData,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    cast,
    column,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    union,
    union_all,
    values,
)

from recon_assets.curtailment import CurtailmentRule
from recon_assets.mining import BITCOIN_DECIMALS
from recon_assets.reconcile.layering import (
    DAY,
    MONTH,
    YEAR,
    Grain,
    Layer,
    beyond,
    distinct_from,
    in_days,
    in_scope,
)
from recon_assets.reconcile.scope import Scope, period_rewards
from recon_assets.tables import (
    bitcoin_daily_summaries,
    bitcoin_monthly_summaries,
    bitcoin_yearly_summaries,
    curtailment_records,
    daily_summaries,
    historical_bitcoin_calculations,
    monthly_summaries,
    proof_of_fetch,
    wind_bids,
    wind_bm_units,
    yearly_summaries,
)

HALF_A_SATOSHI = 5e-9 * (1 + 1e-6)
"""BTC; the user's old system rounded to 8 decimals, and its right rows are not to be rewritten for that. The millionth
is for values half-way between two satoshis: in floating point, one in three is further off than half of one."""


def models_of(scope: Scope) -> CTE:
    """The miner models as a table `models(miner_model, hashes_per_mwh)`."""
    rows = [(model.name, model.hashes_per_mwh) for model in scope.models.values()]
    columns = (column("miner_model", Text), column("hashes_per_mwh", Double))
    return values(*columns, name="model_values").data(rows).cte("models")


def curtailed_energy(scope: Scope) -> Select[Any]:
    """MWh per (settlement_date, settlement_period, farm_id) with curtailed energy; volumes of either sign are read."""
    records = curtailment_records.c
    # Summed as it is stored: PostgreSQL turns a numeric into a double by way of text, and a triple has several records.
    mwh = cast(func.sum(func.abs(records.volume)), Double)
    triple = (records.settlement_date, records.settlement_period, records.farm_id)
    return select(*triple, mwh.label("curtailed_mwh")).where(in_scope(records, scope)).group_by(*triple).having(mwh > 0)


def _records_expected(scope: Scope) -> Select[Any]:
    bids, proofs, units = wind_bids.c, proof_of_fetch.c, wind_bm_units.c
    proven = and_(bids.settlement_date == proofs.settlement_date, bids.settlement_period == proofs.settlement_period)
    # A subquery, which a comparison that does not ask for it leaves out; a join would be made all the same.
    lead_party = select(units.lead_party_name).where(units.bm_unit_id == bids.bm_unit_id)
    flagged = true() if scope.rule is CurtailmentRule.ALL_BIDS else or_(bids.so_flag, bids.cadl_flag)
    return (
        select(
            bids.settlement_date,
            bids.settlement_period,
            bids.sequence_number,
            bids.bm_unit_id.label("farm_id"),
            lead_party.scalar_subquery().label("lead_party_name"),
            bids.volume,
            (bids.volume * bids.original_price).label("payment"),
            bids.original_price,
            bids.final_price,
            bids.so_flag,
            bids.cadl_flag,
            bids.acceptance_id,
            bids.bid_offer_pair_id,
        )
        .select_from(wind_bids)
        .join(proof_of_fetch, proven)
        .where(in_scope(bids, scope), bids.volume < 0, flagged)
    )


def _records_judged(scope: Scope) -> ColumnElement[bool]:
    """Records of proven periods. What an old database recorded without proof stays until its day is read again."""
    records, proofs = curtailment_records.c, proof_of_fetch.c
    proven = exists().where(
        proofs.settlement_date == records.settlement_date, proofs.settlement_period == records.settlement_period
    )
    return and_(in_scope(records, scope), proven)


def _calculations_expected(scope: Scope) -> Select[Any]:
    energy, models, rewards = curtailed_energy(scope).cte("energy"), models_of(scope), period_rewards.c
    bitcoin = energy.c.curtailed_mwh * models.c.hashes_per_mwh * rewards.bitcoin_per_hash
    known = and_(
        energy.c.settlement_date == rewards.settlement_date, energy.c.settlement_period == rewards.settlement_period
    )
    return (
        select(
            energy.c.settlement_date,
            energy.c.settlement_period,
            energy.c.farm_id,
            models.c.miner_model,
            bitcoin.label("bitcoin_mined"),
            rewards.difficulty,
        )
        .select_from(energy)
        .join(models, true())
        .outerjoin(period_rewards, known)
    )


def _calculations_removable(scope: Scope) -> ColumnElement[bool]:
    """Orphans on days with records or proof; any other day may have lost its records, and they are evidence."""
    records, proofs = curtailment_records.c.settlement_date, proof_of_fetch.c.settlement_date
    vouched = union(select(records).where(in_days(records, scope)), select(proofs).where(in_days(proofs, scope)))
    return historical_bitcoin_calculations.c.settlement_date.in_(vouched)


def _calculations_judged(scope: Scope) -> ColumnElement[bool]:
    calculations = historical_bitcoin_calculations.c
    return and_(in_scope(calculations, scope), calculations.miner_model.in_(scope.models))


day_bitcoin = Table(
    "day_bitcoin",
    MetaData(),
    Column("settlement_date", Date, primary_key=True),
    Column("miner_model", Text, primary_key=True),
    Column("bitcoin_mined", Double),
    prefixes=["TEMPORARY"],
)
day_energy = Table(
    "day_energy",
    MetaData(),
    Column("settlement_date", Date, primary_key=True),
    Column("curtailed_mwh", Double),
    Column("payment_gbp", Double),
    prefixes=["TEMPORARY"],
)
"""The sums of base rows by day, for summaries of a long history: its rows are then read once, not once a grain."""


def bitcoin_by_day(scope: Scope) -> Select[Any]:
    """Per (settlement_date, miner_model): calculations and the bitcoin that they add up to."""
    calculations = historical_bitcoin_calculations.c
    key = (calculations.settlement_date, calculations.miner_model)
    total = func.sum(calculations.bitcoin_mined).label("bitcoin_mined")
    return select(*key, total, func.count().label("rows")).where(_calculations_judged(scope)).group_by(*key)


def energy_by_day(scope: Scope) -> Select[Any]:
    """Per settlement_date: records, MWh as a positive amount, GBP with its sign."""
    records = curtailment_records.c
    mwh = func.abs(records.volume)
    sums = (func.sum(mwh).label("curtailed_mwh"), func.sum(-mwh * records.original_price).label("payment_gbp"))
    return (
        select(records.settlement_date, *sums, func.count().label("rows"))
        .where(in_scope(records, scope))
        .group_by(records.settlement_date)
    )


def _bitcoin_expected(grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of calculations per period and model, and a 0 for every model of a period with an ingested day."""

    def expected(scope: Scope) -> Select[Any]:
        proofs, models = proof_of_fetch.c, models_of(scope)
        base = (day_bitcoin if scope.summed else bitcoin_by_day(scope).subquery("by_day")).c
        days = select(grain.of(base.settlement_date).label(grain.column), base.miner_model, base.bitcoin_mined)
        ingested = (
            select(grain.of(proofs.settlement_date).label(grain.column))
            .where(in_days(proofs.settlement_date, scope))
            .distinct()
            .subquery("ingested")
        )
        zero = select(ingested.c[grain.column], models.c.miner_model, literal(0)).join_from(ingested, models, true())
        held = days.where(in_days(base.settlement_date, scope), base.miner_model.in_(scope.models))
        parts = union_all(held, zero).subquery("parts")
        key = (parts.c[grain.column], parts.c.miner_model)
        return select(*key, cast(func.sum(parts.c.bitcoin_mined), Double).label("bitcoin_mined")).group_by(*key)

    return expected


def _energy_expected(grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of records per period: MWh as a positive amount, GBP with its sign; 0 where nothing was curtailed."""

    def expected(scope: Scope) -> Select[Any]:
        proofs = proof_of_fetch.c
        base = (day_energy if scope.summed else energy_by_day(scope).subquery("by_day")).c
        days = select(grain.of(base.settlement_date).label(grain.column), base.curtailed_mwh, base.payment_gbp)
        ingested = grain.of(proofs.settlement_date).label(grain.column)
        zero = select(ingested, literal(0), literal(0)).where(in_days(proofs.settlement_date, scope)).distinct()
        parts = union_all(days.where(in_days(base.settlement_date, scope)), zero).subquery("parts")
        return select(
            parts.c[grain.column],
            cast(func.sum(parts.c.curtailed_mwh), Double).label("total_curtailed_energy"),
            cast(func.coalesce(func.sum(parts.c.payment_gbp), 0), Double).label("total_payment"),
        ).group_by(parts.c[grain.column])

    return expected


def _summary(table: Table, grain: Grain, *, bitcoin: bool) -> Layer:
    sums = ("bitcoin_mined",) if bitcoin else ("total_curtailed_energy", "total_payment")

    def judged(scope: Scope) -> ColumnElement[bool]:
        period = table.c[grain.column]
        ends = (grain.label(scope.days.first), grain.label(scope.days.last))
        within = in_days(period, scope) if grain is DAY else period.between(*ends)
        return and_(within, table.c.miner_model.in_(scope.models)) if bitcoin else within

    return Layer(
        table=table,
        grain=grain,
        period=grain.column,
        key=(grain.column, "miner_model") if bitcoin else (grain.column,),
        compared=dict.fromkeys(sums, beyond(relative=1e-9)),
        expected=_bitcoin_expected(grain) if bitcoin else _energy_expected(grain),
        judged=judged,
        near=judged,
    )


CURTAILMENT = Layer(
    table=curtailment_records,
    grain=DAY,
    period="settlement_date",
    key=("settlement_date", "settlement_period", "sequence_number"),
    compared={
        "farm_id": distinct_from,
        **dict.fromkeys(("volume", "payment", "original_price", "final_price"), beyond(relative=1e-9, absolute=1e-9)),
        "so_flag": distinct_from,
        "cadl_flag": distinct_from,
    },
    expected=_records_expected,
    judged=_records_judged,
    near=lambda scope: in_scope(curtailment_records.c, scope),
    carried=("lead_party_name", "acceptance_id", "bid_offer_pair_id"),
)
CALCULATIONS = Layer(
    table=historical_bitcoin_calculations,
    grain=DAY,
    period="settlement_date",
    key=("settlement_date", "settlement_period", "farm_id", "miner_model"),
    compared={
        "bitcoin_mined": beyond(relative=1e-7, absolute=HALF_A_SATOSHI),
        "difficulty": beyond(relative=1e-9),
    },
    expected=_calculations_expected,
    judged=_calculations_judged,
    near=_calculations_judged,
    written={"bitcoin_mined": lambda bitcoin: func.round(cast(bitcoin, Numeric), BITCOIN_DECIMALS)},
    removable=_calculations_removable,
)
BITCOIN_DAILY = _summary(bitcoin_daily_summaries, DAY, bitcoin=True)
BITCOIN_MONTHLY = _summary(bitcoin_monthly_summaries, MONTH, bitcoin=True)
BITCOIN_YEARLY = _summary(bitcoin_yearly_summaries, YEAR, bitcoin=True)
ENERGY_DAILY = _summary(daily_summaries, DAY, bitcoin=False)
ENERGY_MONTHLY = _summary(monthly_summaries, MONTH, bitcoin=False)
ENERGY_YEARLY = _summary(yearly_summaries, YEAR, bitcoin=False)

DAILY_LAYERS = (CURTAILMENT, CALCULATIONS, BITCOIN_DAILY, ENERGY_DAILY)
MONTHLY_LAYERS = (BITCOIN_MONTHLY, ENERGY_MONTHLY)
YEARLY_LAYERS = (BITCOIN_YEARLY, ENERGY_YEARLY)
SUMMARIES = (BITCOIN_DAILY, ENERGY_DAILY, *MONTHLY_LAYERS, *YEARLY_LAYERS)
LAYERS = (*DAILY_LAYERS, *MONTHLY_LAYERS, *YEARLY_LAYERS)
"""Bottom up: a layer only depends on those before it."""
