"""The rows that each layer must hold: one SELECT per layer, from the rows of the layer below.

The scope must have its rewards (`scope.reading`) for the query for calculations.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Select,
    Table,
    Text,
    and_,
    case,
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

from recon_assets.database.amounts import CURTAILED_MWH, DUE_GBP
from recon_assets.database.tables import (
    curtailment_records,
    historical_bitcoin_calculations,
    proof_of_fetch,
    wind_bids,
    wind_bm_units,
    wind_generation_data,
)
from recon_assets.domain.curtailment import is_curtailment, payment_gbp
from recon_assets.domain.mining import bitcoin_mined
from recon_assets.domain.settlement import HOURS_A_PERIOD
from recon_assets.reconcile.layer import (
    DAY,
    Grain,
    in_days,
    in_scope,
    is_number,
)
from recon_assets.reconcile.scope import Scope


def models_of(scope: Scope) -> CTE:
    """The miner models as a table `models(miner_model, hashes_per_mwh)`."""
    rows = [(model.name, model.hashes_per_mwh) for model in scope.models.values()]
    columns = (column("miner_model", Text), column("hashes_per_mwh", Double))
    return values(*columns, name="model_values").data(rows).cte("models")


def rewards_of(scope: Scope) -> CTE:
    """The scope's mining rewards; ValueError if they were not loaded."""
    if scope.rewards is None:
        raise ValueError("the scope has no rewards: open the connection with scope.reading or scope.writing")
    return scope.rewards


def curtailed_energy(scope: Scope) -> Select[Any]:
    """MWh per (settlement_date, settlement_period, farm_id) with curtailed energy; the sign of a volume is ignored.

    NULL if a volume is NaN or infinite: how much was curtailed is then not known.
    """
    records = curtailment_records.c
    # The sum is converted, not each record: PostgreSQL converts numeric to double through text, which is slow.
    mwh = cast(func.sum(CURTAILED_MWH), Double)
    key = (records.settlement_date, records.settlement_period, records.farm_id)
    known = case((is_number(mwh), mwh)).label("curtailed_mwh")
    return select(*key, known).where(in_scope(records, scope)).group_by(*key).having(mwh > 0)


def expected_records(scope: Scope) -> Select[Any]:
    """The records that must exist for the bids of proven periods under the rule: one per accepted stack row."""
    bids, proofs, units = wind_bids.c, proof_of_fetch.c, wind_bm_units.c
    proven = and_(bids.settlement_date == proofs.settlement_date, bids.settlement_period == proofs.settlement_period)
    # A subquery, because a comparison that does not select the name then skips it; a join would always be executed.
    lead_party = select(units.lead_party_name).where(units.bm_unit_id == bids.bm_unit_id)
    return (
        select(
            bids.settlement_date,
            bids.settlement_period,
            bids.sequence_number,
            bids.bm_unit_id.label("farm_id"),
            lead_party.scalar_subquery().label("lead_party_name"),
            bids.volume,
            payment_gbp(bids.volume, bids.original_price).label("payment"),
            bids.original_price,
            bids.final_price,
            bids.so_flag,
            bids.cadl_flag,
            bids.acceptance_id,
            bids.bid_offer_pair_id,
        )
        .select_from(wind_bids)
        .join(proof_of_fetch, proven)
        .where(in_scope(bids, scope), is_curtailment(scope.rule, bids.volume, bids.so_flag, bids.cadl_flag))
    )


def owned_records(scope: Scope) -> ColumnElement[bool]:
    """Records of proven periods. Records of an old database without proof stay until their day is read again."""
    records, proofs = curtailment_records.c, proof_of_fetch.c
    proven = exists().where(
        proofs.settlement_date == records.settlement_date, proofs.settlement_period == records.settlement_period
    )
    return and_(in_scope(records, scope), proven)


def expected_calculations(scope: Scope) -> Select[Any]:
    """One calculation per (period, farm) with curtailed energy and miner model; NULL where the reward is not known."""
    energy, models, rewards = curtailed_energy(scope).cte("energy"), models_of(scope), rewards_of(scope)
    bitcoin = bitcoin_mined(energy.c.curtailed_mwh, models.c.hashes_per_mwh, rewards.c.bitcoin_per_hash)
    known = and_(
        energy.c.settlement_date == rewards.c.settlement_date, energy.c.settlement_period == rewards.c.settlement_period
    )
    return (
        select(
            energy.c.settlement_date,
            energy.c.settlement_period,
            energy.c.farm_id,
            models.c.miner_model,
            bitcoin.label("bitcoin_mined"),
            rewards.c.difficulty,
            rewards.c.difficulty_amount,
        )
        .select_from(energy)
        .join(models, true())
        .outerjoin(rewards, known)
    )


def removable_calculations(scope: Scope) -> ColumnElement[bool]:
    """Calculations of days with records or proof. Any other day may have lost its records, and these are all it has."""
    records, proofs = curtailment_records.c.settlement_date, proof_of_fetch.c.settlement_date
    known_days = union(select(records).where(in_days(records, scope)), select(proofs).where(in_days(proofs, scope)))
    return historical_bitcoin_calculations.c.settlement_date.in_(known_days)


def owned_calculations(scope: Scope) -> ColumnElement[bool]:
    """Calculations of the scope's days and miner models."""
    calculations = historical_bitcoin_calculations.c
    return and_(in_scope(calculations, scope), calculations.miner_model.in_(scope.models))


def bitcoin_by_day(scope: Scope) -> Select[Any]:
    """Per (settlement_date, miner_model): the sum of the calculations, in BTC."""
    calculations = historical_bitcoin_calculations.c
    key = (calculations.settlement_date, calculations.miner_model)
    total = func.sum(calculations.bitcoin_mined).filter(is_number(calculations.bitcoin_mined)).label("bitcoin_mined")
    return select(*key, total).where(owned_calculations(scope)).group_by(*key)


def energy_by_day(scope: Scope) -> Select[Any]:
    """Per settlement_date: records, MWh as a positive amount, GBP with its sign (0 where no record has a price).

    A volume or price that is NaN or infinite is left out of the sums; `no_numbers` counts the records with one.
    """
    records = curtailment_records.c
    sums = (
        func.coalesce(func.sum(amount).filter(is_number(amount)), 0).label(name)
        for amount, name in ((CURTAILED_MWH, "curtailed_mwh"), (DUE_GBP, "payment_gbp"))
    )
    no_numbers = func.count().filter(has_no_number()).label("no_numbers")
    return (
        select(records.settlement_date, *sums, func.count().label("rows"), no_numbers)
        .where(in_scope(records, scope))
        .group_by(records.settlement_date)
    )


def has_no_number() -> ColumnElement[bool]:
    """Whether the volume or a price of a record is NaN or infinite."""
    records = curtailment_records.c
    return or_(*(~is_number(records[name]) for name in ("volume", "original_price", "final_price")))


def generation_by_day(scope: Scope) -> Select[Any]:
    """Per settlement_date: number of half-hours, and the MWh generated by wind in total, onshore and offshore.

    If an adopted table has several rows of a half-hour, the oldest counts; reading the day again keeps that row.
    """
    rows, twin = wind_generation_data.c, wind_generation_data.alias("twin").c
    same = and_(twin.settlement_date == rows.settlement_date, twin.settlement_period == rows.settlement_period)
    sums = (
        (cast(func.sum(power_mw).filter(is_number(power_mw)), Double) * HOURS_A_PERIOD).label(name)
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


def expected_bitcoin_sums(grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of calculations per period and model, and a 0 for every model of a period with an ingested day."""

    def expected(scope: Scope) -> Select[Any]:
        proofs, models = proof_of_fetch.c, models_of(scope)
        base = (scope.day_sums.bitcoin if scope.day_sums else bitcoin_by_day(scope).subquery("by_day")).c
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


def expected_energy_sums(table: Table, grain: Grain) -> Callable[[Scope], Select[Any]]:
    """Sums of records and of wind generation per period; NULL where there is neither a row nor a proof.

    A period with an ingested day and no curtailment has 0. A stored summary with a generation but without generation
    rows is expected too: it is all that an old database knows, and is kept.
    """

    def expected(scope: Scope) -> Select[Any]:
        proofs, stored = proof_of_fetch.c, table.c
        sums = scope.day_sums
        energy = (sums.energy if sums else energy_by_day(scope).subquery("energy_by_day")).c
        generation = (sums.generation if sums else generation_by_day(scope).subquery("generation_by_day")).c
        unknown: ColumnElement[Any] = cast(null(), Double)
        uncurtailed, ungenerated = [unknown] * len(CURTAILED), [unknown] * len(GENERATED)
        generated = (generation.total_mwh, generation.onshore_mwh, generation.offshore_mwh)

        def part(day: ColumnElement[Any], *amounts: ColumnElement[Any]) -> Select[Any]:
            labelled = (amount.label(name) for amount, name in zip(amounts, (*CURTAILED, *GENERATED), strict=True))
            return select(grain.of(day).label(grain.column), *labelled).where(in_days(day, scope))

        has_generation = or_(*(stored[name].is_not(None) for name in GENERATED))
        parts = union_all(
            part(energy.settlement_date, energy.curtailed_mwh, energy.payment_gbp, *ungenerated),
            part(proofs.settlement_date, literal(0), literal(0), *ungenerated).distinct(),
            part(generation.settlement_date, *uncurtailed, *generated),
            select(stored[grain.column], *uncurtailed, *ungenerated).where(
                in_periods(table, grain, scope), has_generation
            ),
        ).subquery("parts")
        period = parts.c[grain.column]
        totals = (cast(func.sum(parts.c[name]), Double).label(name) for name in (*CURTAILED, *GENERATED))
        return select(period, *totals).group_by(period)

    return expected


def in_periods(table: Table, grain: Grain, scope: Scope) -> ColumnElement[bool]:
    """Whether a summary is of one of the scope's periods."""
    period = table.c[grain.column]
    ends = (grain.label(scope.days.first), grain.label(scope.days.last))
    return in_days(period, scope) if grain is DAY else period.between(*ends)
