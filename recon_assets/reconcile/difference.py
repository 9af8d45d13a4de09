"""How a layer differs from what the layer below says it must hold, and bids from their proofs of fetch.

The stored rows are compared value by value at the moment of asking; nothing is remembered from an earlier comparison.
"""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_DOWN, Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, or_, select, true, union_all

from recon_assets.database.tables import historical_bitcoin_calculations, proof_of_fetch, wind_bids
from recon_assets.domain.curtailment import payment_gbp
from recon_assets.domain.mining import bitcoin_mined
from recon_assets.reconcile.expected import curtailed_energy, rewards_of
from recon_assets.reconcile.layer import Layer, in_days, is_first_of_key, is_key_unique
from recon_assets.reconcile.layers import CALCULATIONS
from recon_assets.reconcile.scope import Scope

LARGEST_ROUNDING = 1e-5
"""MWh or GBP by which a period's sum may differ because of the order of its summands (sums reach 1e6)."""


@dataclass(frozen=True)
class Tally:
    """Rows of one layer: how many are expected, how many of those exist (`actual`), and what is not right.

    `surplus` rows have no expected row (such a calculation is called an orphan); `duplicated` are further rows of one
    key.
    """

    expected: int = 0
    actual: int = 0
    surplus: int = 0
    duplicated: int = 0
    wrong: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.expected + other.expected,
            self.actual + other.actual,
            self.surplus + other.surplus,
            self.duplicated + other.duplicated,
            self.wrong + other.wrong,
        )

    @property
    def missing(self) -> int:
        """Expected rows that are not there."""
        return self.expected - self.actual

    @property
    def superfluous(self) -> int:
        """Rows that must not be there."""
        return self.surplus + self.duplicated

    @property
    def faults(self) -> int:
        """Everything that is not right."""
        return self.missing + self.superfluous + self.wrong

    @property
    def completion_pct(self) -> float:
        """Right rows in percent of the expected ones, rounded down: 100 only when nothing is missing or wrong."""
        if not self.expected:
            return 100.0
        share = Decimal(100) * (self.actual - self.wrong) / self.expected
        return float(share.quantize(Decimal("0.01"), ROUND_DOWN))


def compare_layer(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Tally]:
    """Compares a layer with what the layer below says, grouped by the columns `by`; one query for each side."""
    table = layer.table
    # If the database forbids duplicates, there are none to look for.
    first = true() if is_key_unique(connection, layer) else is_first_of_key(layer)
    expected = layer.expected(scope).cte("expected")
    matched = table.c[layer.key[0]].is_not(None)
    groups = [expected.c[name] for name in by]
    below = (
        select(*groups, func.count(), count_if(matched), count_if(and_(matched, layer.differs(connection, expected))))
        .select_from(layer.below(expected, scope, first))
        .group_by(*groups)
    )
    columns = [table.c[name] for name in by]
    stored = select(*columns, count_if(first), count_if(~first)).where(layer.owned_rows(scope)).group_by(*columns)
    tallies: dict[tuple[Any, ...], Tally] = {}
    for *key, count, actual, wrong in connection.execute(below):
        tallies[tuple(key)] = Tally(count, actual, -actual, 0, wrong)
    for *key, rows, duplicates in connection.execute(stored):
        tallies[tuple(key)] = tallies.get(tuple(key), Tally()) + Tally(0, 0, rows, duplicates, 0)
    return tallies


def compare_calculations(connection: Connection, scope: Scope) -> dict[tuple[date, str], Tally]:
    """Compares the calculations of the scope with the records, by day and model."""
    tallies = compare_expected_calculations(connection, scope)
    stored = historical_bitcoin_calculations.c
    key = (stored.settlement_date, stored.miner_model)
    for day, model, rows in connection.execute(
        select(*key, func.count()).where(CALCULATIONS.owned_rows(scope)).group_by(*key)
    ):
        tallies[day, model] = tallies.get((day, model), Tally()) + Tally(surplus=rows)
    return tallies


def compare_expected_calculations(connection: Connection, scope: Scope) -> dict[tuple[date, str], Tally]:
    """Compares each spot (date, period, farm) with curtailed energy with its row of each model, by day and model.

    The query starts from the spots and does not see other stored rows. Therefore surplus = -matched; the caller adds
    the stored count.
    """
    unique = is_key_unique(connection, CALCULATIONS)
    energy, rewards = curtailed_energy(scope).subquery("energy"), rewards_of(scope)
    known = and_(
        energy.c.settlement_date == rewards.c.settlement_date, energy.c.settlement_period == rewards.c.settlement_period
    )
    joined: FromClause = energy.outerjoin(rewards, known)
    counts = []
    for model in scope.models.values():
        stored = historical_bitcoin_calculations.alias(f"of_{model.name.lower()}")
        same_spot = (stored.c[name] == energy.c[name] for name in CALCULATIONS.key if name != "miner_model")
        of_model = [*same_spot, stored.c.miner_model == model.name, in_days(stored.c.settlement_date, scope)]
        # If the database forbids duplicates, there are none to look for.
        joined = joined.outerjoin(stored, and_(*of_model, *([] if unique else [is_first_of_key(CALCULATIONS, stored)])))
        matched = stored.c.miner_model.is_not(None)
        expected = {
            "bitcoin_mined": bitcoin_mined(energy.c.curtailed_mwh, model.hashes_per_mwh, rewards.c.bitcoin_per_hash),
            "difficulty": rewards.c.difficulty,
            "difficulty_amount": rewards.c.difficulty_amount,
        }
        counts += [count_if(matched), count_if(and_(matched, CALCULATIONS.differs_in(connection, stored.c, expected)))]
    by_day = select(energy.c.settlement_date, func.count(), *counts).select_from(joined)
    tallies: dict[tuple[date, str], Tally] = {}
    for day, spots, *found in connection.execute(by_day.group_by(energy.c.settlement_date)):
        for name, actual, wrong in zip(scope.models, found[::2], found[1::2], strict=True):
            tallies[day, name] = Tally(spots, actual, -actual, 0, wrong)
    if not unique:
        key = (historical_bitcoin_calculations.c.settlement_date, historical_bitcoin_calculations.c.miner_model)
        duplicates = select(*key, func.count()).where(CALCULATIONS.owned_rows(scope), ~is_first_of_key(CALCULATIONS))
        for *group, count in connection.execute(duplicates.group_by(*key)):
            tallies[group[0], group[1]] = tallies.get((group[0], group[1]), Tally()) + Tally(0, 0, -count, count, 0)
    return tallies


def count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """The number of rows of a group for which a condition holds."""
    return func.count().filter(condition)


def contradicted_days(connection: Connection, scope: Scope) -> frozenset[date]:
    """Days whose stored bids do not match their proof of fetch: they must be read again."""
    proofs, bids = proof_of_fetch.c, wind_bids.c
    claimed = select(
        proofs.settlement_date,
        proofs.settlement_period,
        proofs.wind_rows.label("rows"),
        proofs.wind_mwh.label("mwh"),
        proofs.wind_gbp.label("gbp"),
    ).where(in_days(proofs.settlement_date, scope))
    found = (
        select(
            bids.settlement_date,
            bids.settlement_period,
            -func.count(),
            -func.sum(bids.volume),
            -func.coalesce(func.sum(payment_gbp(bids.volume, bids.original_price)), 0.0),
        )
        .where(in_days(bids.settlement_date, scope))
        .group_by(bids.settlement_date, bids.settlement_period)
    )
    both = union_all(claimed, found).subquery("both_sides")
    contradiction = or_(
        func.sum(both.c.rows) != 0,
        func.abs(func.sum(both.c.mwh)) > LARGEST_ROUNDING,
        func.abs(func.sum(both.c.gbp)) > LARGEST_ROUNDING,
    )
    periods = (
        select(both.c.settlement_date).group_by(both.c.settlement_date, both.c.settlement_period).having(contradiction)
    )
    return frozenset(connection.execute(periods).scalars())
