"""The layers, and what each must be according to the layer below.

Wind bids -> curtailment records -> calculations -> summaries. A layer is a table, the key of its rows, the rows that it
is expected to hold (one SELECT), and how far a stored value may be from the expected one. audit.py compares the two;
converge.py makes them equal. Nothing else computes or repairs these tables.

The rewards of the periods (`period_rewards`) must be loaded before calculations are asked for; see scope.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Double,
    FromClause,
    Join,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    cast,
    column,
    exists,
    func,
    inspect,
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
from recon_assets.reconcile.scope import Scope, period_rewards
from recon_assets.settlement import Days
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

Differs = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]


def beyond(*, relative: float, absolute: float = 0.0) -> Differs:
    """Says that a stored number differs from the expected one by more than **both** tolerances, or is NULL alone."""

    def differs(stored: ColumnElement[Any], expected: ColumnElement[Any]) -> ColumnElement[bool]:
        number = cast(stored, Double)
        gap = func.abs(number - expected)
        return or_(and_(gap > relative * func.abs(expected), gap > absolute), stored.is_(None) != expected.is_(None))

    return differs


def distinct_from(stored: ColumnElement[Any], expected: ColumnElement[Any]) -> ColumnElement[bool]:
    """Says that a stored text or flag is not the expected one; NULL equals NULL."""
    return stored.is_distinct_from(expected)


@dataclass(frozen=True)
class Grain:
    """Days, months or years: the summary column that holds one, and how much of an ISO date names it."""

    column: str
    length: int

    def of(self, day: ColumnElement[Any]) -> ColumnElement[Any]:
        """The period that a date column falls in (dates are ISO text on SQLite)."""
        return day if self is DAY else func.substr(cast(day, Text), 1, self.length)

    def label(self, day: date) -> str:
        """The period that a date falls in, for example '2025-06'."""
        return day.isoformat()[: self.length]

    def whole(self, days: Days) -> Days:
        """The days widened to whole periods."""
        if self is MONTH:
            return Days(days.first.replace(day=1), Days.of_month(MONTH.label(days.last)).last)
        if self is YEAR:
            return Days(days.first.replace(month=1, day=1), days.last.replace(month=12, day=31))
        return days


DAY = Grain("summary_date", 10)
MONTH = Grain("year_month", 7)
YEAR = Grain("year", 4)


@dataclass(frozen=True, eq=False)
class Layer:
    """One table of the chain.

    `period` is the column that says which day, month or year (the grain) a row is of. `compared` columns make a row
    wrong; `carried` ones only follow a correction. `judged` are the stored rows that the layer speaks of; those with no
    expected row are removed where `removable`.
    """

    table: Table
    grain: Grain
    period: str
    key: tuple[str, ...]
    compared: Mapping[str, Differs]
    expected: Callable[[Scope], Select[Any]]
    judged: Callable[[Scope], ColumnElement[bool]]
    removable: Callable[[Scope], ColumnElement[bool]] = lambda scope: true()
    carried: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The table's name, which is the asset's name too."""
        return self.table.name

    def differs(self, expected: FromClause) -> ColumnElement[bool]:
        """Whether a stored row's values are wrong."""
        return or_(*(rule(self.table.c[name], expected.c[name]) for name, rule in self.compared.items()))

    def below(self, expected: FromClause, scope: Scope, *only: ColumnElement[bool]) -> Join:
        """Every expected row with its stored row, which is NULL when it is missing."""
        same_key = (self.table.c[name] == expected.c[name] for name in self.key)
        return expected.outerjoin(self.table, and_(*same_key, self.judged(scope), *only))


def models_of(scope: Scope) -> CTE:
    """The miner models as a table `models(miner_model, hashes_per_mwh)`."""
    rows = [(model.name, model.hashes_per_mwh) for model in scope.models.values()]
    columns = (column("miner_model", Text), column("hashes_per_mwh", Double))
    return values(*columns, name="model_values").data(rows).cte("models")


def in_days(day: ColumnElement[Any], scope: Scope) -> ColumnElement[bool]:
    """Whether a date lies in the scope's days."""
    within = day.between(scope.days.first, scope.days.last)
    return and_(within, day.not_in(sorted(scope.without))) if scope.without else within


def curtailed_energy(scope: Scope) -> Select[Any]:
    """MWh per (settlement_date, settlement_period, farm_id) with curtailed energy; volumes of either sign are read."""
    records = curtailment_records.c
    mwh = func.sum(func.abs(cast(records.volume, Double)))
    triple = (records.settlement_date, records.settlement_period, records.farm_id)
    return (
        select(*triple, mwh.label("curtailed_mwh"))
        .where(in_days(records.settlement_date, scope))
        .group_by(*triple)
        .having(mwh > 0)
    )


def _records_expected(scope: Scope) -> Select[Any]:
    bids, proofs, units = wind_bids.c, proof_of_fetch.c, wind_bm_units.c
    proven = and_(bids.settlement_date == proofs.settlement_date, bids.settlement_period == proofs.settlement_period)
    flagged = true() if scope.rule is CurtailmentRule.ALL_BIDS else or_(bids.so_flag, bids.cadl_flag)
    return (
        select(
            bids.settlement_date,
            bids.settlement_period,
            bids.sequence_number,
            bids.bm_unit_id.label("farm_id"),
            units.lead_party_name,
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
        .outerjoin(wind_bm_units, bids.bm_unit_id == units.bm_unit_id)
        .where(in_days(bids.settlement_date, scope), bids.volume < 0, flagged)
    )


def _records_judged(scope: Scope) -> ColumnElement[bool]:
    """Records of proven periods. What an old database recorded without proof stays until its day is read again."""
    records, proofs = curtailment_records.c, proof_of_fetch.c
    proven = exists().where(
        proofs.settlement_date == records.settlement_date, proofs.settlement_period == records.settlement_period
    )
    return and_(in_days(records.settlement_date, scope), proven)


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
            cast(func.round(cast(bitcoin, Numeric), BITCOIN_DECIMALS), Double).label("bitcoin_mined"),
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
    return and_(in_days(calculations.settlement_date, scope), calculations.miner_model.in_(scope.models))


def _bitcoin_expected(grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of calculations per period and model, and a 0 for every model of a period with an ingested day."""

    def expected(scope: Scope) -> Select[Any]:
        calculations, proofs, models = historical_bitcoin_calculations.c, proof_of_fetch.c, models_of(scope)
        period = grain.of(calculations.settlement_date).label(grain.column)
        base = (
            select(period, calculations.miner_model, func.sum(calculations.bitcoin_mined).label("bitcoin"))
            .where(_calculations_judged(scope))
            .group_by(period, calculations.miner_model)
        )
        ingested = (
            select(grain.of(proofs.settlement_date).label(grain.column))
            .where(in_days(proofs.settlement_date, scope))
            .distinct()
            .subquery("ingested")
        )
        zero = select(ingested.c[grain.column], models.c.miner_model, literal(0)).join_from(ingested, models, true())
        parts = union_all(base, zero).subquery("parts")
        key = (parts.c[grain.column], parts.c.miner_model)
        return select(*key, cast(func.sum(parts.c.bitcoin), Double).label("bitcoin_mined")).group_by(*key)

    return expected


def _energy_expected(grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of records per period: MWh as a positive amount, GBP with its sign; 0 where nothing was curtailed."""

    def expected(scope: Scope) -> Select[Any]:
        records, proofs = curtailment_records.c, proof_of_fetch.c
        mwh = func.abs(records.volume)
        period = grain.of(records.settlement_date).label(grain.column)
        base = (
            select(period, func.sum(mwh).label("energy"), func.sum(-mwh * records.original_price).label("payment"))
            .where(in_days(records.settlement_date, scope))
            .group_by(period)
        )
        ingested = grain.of(proofs.settlement_date).label(grain.column)
        zero = select(ingested, literal(0), literal(0)).where(in_days(proofs.settlement_date, scope)).distinct()
        parts = union_all(base, zero).subquery("parts")
        return select(
            parts.c[grain.column],
            cast(func.sum(parts.c.energy), Double).label("total_curtailed_energy"),
            cast(func.coalesce(func.sum(parts.c.payment), 0), Double).label("total_payment"),
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


def is_key_unique(connection: Connection, layer: Layer) -> bool:
    """Whether the database itself forbids two rows of one key. An adopted table may lack the key."""
    inspector, name = inspect(connection), layer.name
    keys: list[Sequence[str | None]] = [inspector.get_pk_constraint(name)["constrained_columns"]]
    keys += [index["column_names"] for index in inspector.get_indexes(name) if index["unique"]]
    keys += [constraint["column_names"] for constraint in inspector.get_unique_constraints(name)]
    return any(set(key) == set(layer.key) for key in keys)


def is_first_of_key(layer: Layer) -> ColumnElement[bool]:
    """Whether a stored row is the oldest of its key; the others are duplicates."""
    (identity,) = layer.table.primary_key.columns
    twin = layer.table.alias("twin")
    same_key = (twin.c[name] == layer.table.c[name] for name in layer.key)
    return ~exists().where(*same_key, twin.c[identity.name] < identity)
