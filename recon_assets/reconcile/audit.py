"""Audit: says exactly what is not right, by value, from the rows at the moment of asking.

Belongs here: one set-based comparison per layer, the state of the settlement days, and the reconciled state that
checks, sensors, commands and reports share. Does not: repairs, and words for people (report.py).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, true, union_all

from recon_assets.reconcile.layers import (
    BITCOIN_DAILY,
    CALCULATIONS,
    CURTAILMENT,
    ENERGY_DAILY,
    SUMMARIES,
    Layer,
    in_days,
    is_first_of_key,
    is_key_unique,
)
from recon_assets.reconcile.scope import Scope
from recon_assets.settlement import due_periods
from recon_assets.tables import (
    curtailment_records,
    historical_bitcoin_calculations,
    proof_of_fetch,
    wind_bids,
)

LARGEST_ROUNDING = 1e-5
"""MWh or GBP that a period's sum may differ by for the order of its summands alone (sums reach 1e6)."""


class DayState(StrEnum):
    """How a settlement day stands."""

    NOT_INGESTED = "not_ingested"
    INCOMPLETE = "incomplete"
    INGESTED = "ingested"
    ADOPTED = "adopted"
    ADOPTED_EMPTY = "adopted_empty"


@dataclass(frozen=True)
class Tally:
    """Rows of one layer: of those expected, how many are there (`actual`), and what is not right with the rest.

    `surplus` rows have no expected row (an orphan, of a calculation); `duplicated` are further rows of one key.
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
        """Right rows of those expected, in percent, rounded down: 100 only when nothing is missing or wrong."""
        if not self.expected:
            return 100.0
        share = Decimal(100) * (self.actual - self.wrong) / self.expected
        return float(share.quantize(Decimal("0.01"), ROUND_DOWN))


@dataclass(frozen=True)
class State:
    """The reconciled state of a span of days; see DayState and Tally for the words."""

    scope: Scope
    days: Mapping[date, DayState]
    curtailment: Mapping[date, Tally]
    calculations: Mapping[tuple[date, str], Tally]
    stale_summaries: Mapping[str, frozenset[str]]
    bitcoin: Mapping[str, float]
    curtailment_records: int
    latest_ingested: date | None
    days_behind: int
    contradicted: frozenset[date] = field(default_factory=frozenset)

    def days_in(self, state: DayState) -> list[date]:
        """The days in one state, oldest first."""
        return sorted(day for day, found in self.days.items() if found is state)

    @property
    def total(self) -> Tally:
        """All calculations."""
        return sum(self.calculations.values(), Tally())

    @property
    def records(self) -> Tally:
        """All curtailment records of ingested days."""
        return sum(self.curtailment.values(), Tally())

    def of_model(self, model: str) -> Tally:
        """The calculations of one miner model."""
        return sum((tally for (_, name), tally in self.calculations.items() if name == model), Tally())

    def of_day(self, day: date) -> Tally:
        """The calculations of one day, all models."""
        return sum((tally for (found, _), tally in self.calculations.items() if found == day), Tally())

    @property
    def summary_faults(self) -> int:
        """Summary rows that differ from their base rows, lack them or are lacking."""
        return sum(len(keys) for keys in self.stale_summaries.values())

    @property
    def unready_days(self) -> list[date]:
        """Days that the source still has to give: never ingested, or in part."""
        return sorted([*self.days_in(DayState.NOT_INGESTED), *self.days_in(DayState.INCOMPLETE)])

    @property
    def faulty_days(self) -> list[date]:
        """Days whose records, calculations or daily summaries are not right."""
        faulty = {day for day, tally in self.curtailment.items() if tally.faults}
        faulty |= {day for (day, _), tally in self.calculations.items() if tally.faults}
        daily = (self.stale_summaries.get(layer.name, ()) for layer in (BITCOIN_DAILY, ENERGY_DAILY))
        return sorted(faulty | {date.fromisoformat(key.split()[0]) for keys in daily for key in keys})

    def right_periods(self, layer: Layer, model: str | None = None) -> set[str]:
        """The periods of a layer (of one miner model) that hold what they must, above layers that do so too.

        A layer is only right above right layers: without records no calculation is missing.
        """
        present = {day for day, found in self.days.items() if found is not DayState.NOT_INGESTED}
        unfit = {day for day, tally in self.curtailment.items() if tally.faults} | self.contradicted
        if "miner_model" in layer.key:
            faulty = {key for key, tally in self.calculations.items() if tally.faults}
            unfit |= {day for day, of_model in faulty if model in (None, of_model)}
        stale = {key.split()[0] for key in self.stale_summaries.get(layer.name, ())}
        return {layer.grain.label(day) for day in present} - {layer.grain.label(day) for day in unfit} - stale

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, wrong, stale or behind."""
        faults = self.total.faults + self.records.faults + self.summary_faults
        return not faults and not self.unready_days and not self.days_behind


def audit(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Tally]:
    """Compares a layer with what the layer below says, grouped by the columns `by`; one query for each side."""
    table = layer.table
    # Where the database forbids duplicates nobody needs to look for them.
    first = true() if is_key_unique(connection, layer) else is_first_of_key(layer)
    expected = layer.expected(scope).cte("expected")
    matched = table.c[layer.key[0]].is_not(None)
    groups = [expected.c[name] for name in by]
    below = (
        select(*groups, func.count(), _count(matched), _count(and_(matched, layer.differs(expected))))
        .select_from(layer.below(expected, scope, first))
        .group_by(*groups)
    )
    columns = [table.c[name] for name in by]
    stored = select(*columns, _count(first), _count(~first)).where(layer.judged(scope)).group_by(*columns)
    tallies: dict[tuple[Any, ...], Tally] = {}
    for *key, count, actual, wrong in connection.execute(below):
        tallies[tuple(key)] = Tally(count, actual, -actual, 0, wrong)
    for *key, rows, duplicates in connection.execute(stored):
        tallies[tuple(key)] = tallies.get(tuple(key), Tally()) + Tally(0, 0, rows, duplicates, 0)
    return tallies


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def contradicted_days(connection: Connection, scope: Scope) -> frozenset[date]:
    """Days whose stored bids are not those that their proof of fetch speaks of: they must be read again."""
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
            -func.coalesce(func.sum(bids.volume * bids.original_price), 0.0),
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


def day_states(
    connection: Connection, scope: Scope, now: datetime, contradicted: frozenset[date]
) -> dict[date, DayState]:
    """The state of every day of the scope, by the proofs and the records that it has."""
    proofs, records = proof_of_fetch.c, curtailment_records.c
    proven: dict[date, set[int]] = {}
    for day, period in connection.execute(
        select(proofs.settlement_date, proofs.settlement_period).where(in_days(proofs.settlement_date, scope))
    ):
        proven.setdefault(day, set()).add(period)
    recorded = set(
        connection.execute(
            select(records.settlement_date).where(in_days(records.settlement_date, scope)).distinct()
        ).scalars()
    )
    adopted = _adopted_span(connection)
    return {
        day: _day_state(day, proven.get(day, set()), day in recorded, day in contradicted, adopted, now)
        for day in scope.days
    }


def first_day(connection: Connection) -> date | None:
    """The first day with a proof, a record or a calculation; None when there is none."""
    tables = (proof_of_fetch, curtailment_records, historical_bitcoin_calculations)
    firsts = [connection.execute(select(func.min(table.c.settlement_date))).scalar() for table in tables]
    return min((first for first in firsts if first is not None), default=None)


def _adopted_span(connection: Connection) -> tuple[date, date] | None:
    """The first and the last day with records that no proof speaks for."""
    records, proofs = curtailment_records.c, proof_of_fetch.c
    without_proof = records.settlement_date.not_in(select(proofs.settlement_date).distinct())
    first, last = connection.execute(
        select(func.min(records.settlement_date), func.max(records.settlement_date)).where(without_proof)
    ).one()
    return None if first is None else (first, last)


def _day_state(
    day: date,
    proven: set[int],
    recorded: bool,
    contradicted: bool,
    adopted: tuple[date, date] | None,
    now: datetime,
) -> DayState:
    if proven:
        due = set(due_periods(day, now))
        return DayState.INCOMPLETE if contradicted or due - proven else DayState.INGESTED
    if recorded:
        return DayState.ADOPTED
    if adopted and adopted[0] < day < adopted[1]:
        return DayState.ADOPTED_EMPTY
    return DayState.NOT_INGESTED


def reconciled_state(
    connection: Connection, scope: Scope, now: datetime, summaries: Sequence[Layer] = SUMMARIES
) -> State:
    """The reconciled state of the scope, from the rows as they are; the rewards must be loaded (scope.py)."""
    contradicted = contradicted_days(connection, scope)
    days = day_states(connection, scope, now, contradicted)
    records = curtailment_records.c
    curtailed = select(func.count()).select_from(curtailment_records).where(in_days(records.settlement_date, scope))
    bitcoin = (
        select(historical_bitcoin_calculations.c.miner_model, func.sum(historical_bitcoin_calculations.c.bitcoin_mined))
        .where(CALCULATIONS.judged(scope))
        .group_by(historical_bitcoin_calculations.c.miner_model)
    )
    mined = {name: float(total) for name, total in connection.execute(bitcoin)}
    known = [day for day, state in days.items() if state not in (DayState.NOT_INGESTED, DayState.INCOMPLETE)]
    latest = max(known, default=None)
    return State(
        scope=scope,
        days=days,
        curtailment={
            day: tally
            for (day,), tally in audit(
                connection, CURTAILMENT, scope.leaving_out(contradicted), "settlement_date"
            ).items()
        },
        calculations={
            (day, model): tally
            for (day, model), tally in audit(connection, CALCULATIONS, scope, "settlement_date", "miner_model").items()
        },
        stale_summaries={layer.name: stale(connection, layer, scope) for layer in summaries},
        bitcoin={name: mined.get(name, 0.0) for name in scope.models},
        curtailment_records=connection.execute(curtailed).scalar_one(),
        latest_ingested=latest,
        days_behind=(scope.days.last - latest).days if latest else len(scope.days),
        contradicted=contradicted,
    )


def stale(connection: Connection, layer: Layer, scope: Scope) -> frozenset[str]:
    """The keys of the summary rows that differ from their base rows, lack them or are lacking, as text."""
    wider = scope.of(layer.grain.whole(scope.days))
    tallies = audit(connection, layer, wider, *layer.key)
    return frozenset(" ".join(str(part) for part in key) for key, tally in tallies.items() if tally.faults)


def state_counts(states: Iterable[DayState]) -> dict[str, int]:
    """How many days are in each state, all states named."""
    counts = Counter(states)
    return {
        state.value: counts[state]
        for state in (
            DayState.INGESTED,
            DayState.INCOMPLETE,
            DayState.NOT_INGESTED,
            DayState.ADOPTED,
            DayState.ADOPTED_EMPTY,
        )
    }
