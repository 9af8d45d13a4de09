"""The layers, and what each must be according to the layer below.

Wind bids -> curtailment records -> calculations -> summaries; and wind generation -> summaries. A layer (layering.py)
is a table, the key of its rows, the rows that it is expected to hold (one SELECT), and how far a stored value may be
from the expected one. audit.py compares the two; converge.py makes them equal. Nothing else computes or repairs these
tables.

The rewards of the periods (`period_rewards`) must be loaded before calculations are asked for; see scope.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Date,
    Double,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union,
    union_all,
    values,
)

from recon_assets.database.tables import (
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
    wind_generation_data,
    yearly_summaries,
)
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.mining import BITCOIN_DECIMALS
from recon_assets.domain.settlement import HOURS_A_PERIOD
from recon_assets.reconcile.layer import (
    DAY,
    MONTH,
    YEAR,
    Grain,
    Layer,
    beyond,
    distinct_from,
    in_days,
    in_decimals,
    in_scope,
    where_known,
)
from recon_assets.reconcile.scope import Scope, period_rewards

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


def _owned_records(scope: Scope) -> ColumnElement[bool]:
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
            rewards.difficulty_amount,
        )
        .select_from(energy)
        .join(models, true())
        .outerjoin(period_rewards, known)
    )


def _calculations_removable(scope: Scope) -> ColumnElement[bool]:
    """Orphans on days with records or proof; any other day may have lost its records, and they are contents."""
    records, proofs = curtailment_records.c.settlement_date, proof_of_fetch.c.settlement_date
    vouched = union(select(records).where(in_days(records, scope)), select(proofs).where(in_days(proofs, scope)))
    return historical_bitcoin_calculations.c.settlement_date.in_(vouched)


def _owned_calculations(scope: Scope) -> ColumnElement[bool]:
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
day_generation = Table(
    "day_generation",
    MetaData(),
    Column("settlement_date", Date, primary_key=True),
    Column("total_mwh", Double),
    Column("onshore_mwh", Double),
    Column("offshore_mwh", Double),
    prefixes=["TEMPORARY"],
)
"""The sums of base rows by day, for summaries of a long history: its rows are then read once, not once a grain."""


def bitcoin_by_day(scope: Scope) -> Select[Any]:
    """Per (settlement_date, miner_model): the bitcoin that the calculations add up to."""
    calculations = historical_bitcoin_calculations.c
    key = (calculations.settlement_date, calculations.miner_model)
    total = func.sum(calculations.bitcoin_mined).label("bitcoin_mined")
    return select(*key, total).where(_owned_calculations(scope)).group_by(*key)


def energy_by_day(scope: Scope) -> Select[Any]:
    """Per settlement_date: records, MWh as a positive amount, GBP with its sign (0 where no record has a price)."""
    records = curtailment_records.c
    mwh = func.abs(records.volume)
    gbp = func.coalesce(func.sum(-mwh * records.original_price), 0)
    sums = (func.sum(mwh).label("curtailed_mwh"), gbp.label("payment_gbp"))
    return (
        select(records.settlement_date, *sums, func.count().label("rows"))
        .where(in_scope(records, scope))
        .group_by(records.settlement_date)
    )


def generation_by_day(scope: Scope) -> Select[Any]:
    """Per settlement_date: half-hours, and the MWh that the wind generated in all, onshore and offshore.

    Where an adopted table has several rows of a half-hour the oldest counts, which is the one that a reading keeps.
    """
    rows, twin = wind_generation_data.c, wind_generation_data.alias("twin").c
    same = and_(twin.settlement_date == rows.settlement_date, twin.settlement_period == rows.settlement_period)
    sums = (
        (cast(func.sum(power_mw), Double) * HOURS_A_PERIOD).label(name)
        for power_mw, name in (
            (rows.total_wind, "total_mwh"),
            (rows.wind_onshore, "onshore_mwh"),
            (rows.wind_offshore, "offshore_mwh"),
        )
    )
    return (
        select(rows.settlement_date, *sums, func.count().label("half_hours"))
        .where(in_scope(rows, scope), ~exists().where(same, twin.id < rows.id))
        .group_by(rows.settlement_date)
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


CURTAILED = ("total_curtailed_energy", "total_payment")
GENERATED = ("total_wind_generation", "wind_onshore_generation", "wind_offshore_generation")
"""The sums in a summary of energy: MWh (positive) and GBP of the records; MWh of the wind generation."""


def _energy_expected(table: Table, grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of records and of wind generation per period; what no row and no proof speaks of is NULL.

    A period with an ingested day has 0 where nothing was curtailed. A stored row with a generation that no row can
    prove is expected too, so that what an old database knows of it is kept.
    """

    def expected(scope: Scope) -> Select[Any]:
        proofs, stored = proof_of_fetch.c, table.c
        energy = (day_energy if scope.summed else energy_by_day(scope).subquery("energy_by_day")).c
        generation = (day_generation if scope.summed else generation_by_day(scope).subquery("generation_by_day")).c
        unknown: ColumnElement[Any] = cast(null(), Double)
        uncurtailed, ungenerated = [unknown] * len(CURTAILED), [unknown] * len(GENERATED)
        generated = (generation.total_mwh, generation.onshore_mwh, generation.offshore_mwh)

        def part(day: ColumnElement[Any], *amounts: ColumnElement[Any]) -> Select[Any]:
            labelled = (amount.label(name) for amount, name in zip(amounts, (*CURTAILED, *GENERATED), strict=True))
            return select(grain.of(day).label(grain.column), *labelled).where(in_days(day, scope))

        tells = or_(*(stored[name].is_not(None) for name in GENERATED))
        parts = union_all(
            part(energy.settlement_date, energy.curtailed_mwh, energy.payment_gbp, *ungenerated),
            part(proofs.settlement_date, literal(0), literal(0), *ungenerated).distinct(),
            part(generation.settlement_date, *uncurtailed, *generated),
            select(stored[grain.column], *uncurtailed, *ungenerated).where(_within(table, grain, scope), tells),
        ).subquery("parts")
        period = parts.c[grain.column]
        sums = (cast(func.sum(parts.c[name]), Double).label(name) for name in (*CURTAILED, *GENERATED))
        return select(period, *sums).group_by(period)

    return expected


def _within(table: Table, grain: Grain, scope: Scope) -> ColumnElement[bool]:
    """Whether a summary is of one of the scope's periods."""
    period = table.c[grain.column]
    ends = (grain.label(scope.days.first), grain.label(scope.days.last))
    return in_days(period, scope) if grain is DAY else period.between(*ends)


def _bitcoin_summary(table: Table, grain: Grain) -> Layer:
    def owned(scope: Scope) -> ColumnElement[bool]:
        return and_(_within(table, grain, scope), table.c.miner_model.in_(scope.models))

    return Layer(
        table=table,
        grain=grain,
        period=grain.column,
        key=(grain.column, "miner_model"),
        compared={"bitcoin_mined": beyond(relative=1e-9)},
        expected=_bitcoin_expected(grain),
        owned_rows=owned,
        join_filter=owned,
    )


def _energy_summary(table: Table, grain: Grain) -> Layer:
    owned = partial(_within, table, grain)
    sum_differs = beyond(relative=1e-9)
    return Layer(
        table=table,
        grain=grain,
        period=grain.column,
        key=(grain.column,),
        compared=dict.fromkeys(CURTAILED, sum_differs) | dict.fromkeys(GENERATED, where_known(sum_differs)),
        expected=_energy_expected(table, grain),
        owned_rows=owned,
        join_filter=owned,
        preserved=frozenset(GENERATED),
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
    owned_rows=_owned_records,
    join_filter=lambda scope: in_scope(curtailment_records.c, scope),
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
    owned_rows=_owned_calculations,
    join_filter=_owned_calculations,
    written={
        "bitcoin_mined": lambda expected: in_decimals(expected["bitcoin_mined"], BITCOIN_DECIMALS),
        "difficulty": lambda expected: expected["difficulty_amount"],
    },
    removable=_calculations_removable,
)
BITCOIN_DAILY = _bitcoin_summary(bitcoin_daily_summaries, DAY)
BITCOIN_MONTHLY = _bitcoin_summary(bitcoin_monthly_summaries, MONTH)
BITCOIN_YEARLY = _bitcoin_summary(bitcoin_yearly_summaries, YEAR)
ENERGY_DAILY = _energy_summary(daily_summaries, DAY)
ENERGY_MONTHLY = _energy_summary(monthly_summaries, MONTH)
ENERGY_YEARLY = _energy_summary(yearly_summaries, YEAR)

DAILY_LAYERS = (CURTAILMENT, CALCULATIONS, BITCOIN_DAILY, ENERGY_DAILY)
MONTHLY_LAYERS = (BITCOIN_MONTHLY, ENERGY_MONTHLY)
YEARLY_LAYERS = (BITCOIN_YEARLY, ENERGY_YEARLY)
SUMMARIES = (BITCOIN_DAILY, ENERGY_DAILY, *MONTHLY_LAYERS, *YEARLY_LAYERS)
ENERGY = (ENERGY_DAILY, ENERGY_MONTHLY, ENERGY_YEARLY)
"""The summaries of energy: of the records, and of the wind generation."""
LAYERS = (*DAILY_LAYERS, *MONTHLY_LAYERS, *YEARLY_LAYERS)
"""Bottom up: a layer only depends on those before it."""
