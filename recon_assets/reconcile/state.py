"""The reconciled state: the terms that checks, sensors, commands and reports share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select

from recon_assets.database.kept_tables import recovered_days
from recon_assets.database.tables import (
    curtailment_records,
    historical_bitcoin_calculations,
    proof_of_fetch,
    wind_generation_data,
)
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layer import Layer, in_days
from recon_assets.reconcile.layers import BITCOIN_DAILY, ENERGY, ENERGY_DAILY
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState, SettlementDays, distinct_days


class Conclusion(StrEnum):
    """What can be said of a state as a whole."""

    RIGHT = "right"
    RIGHT_AS_FAR_AS_KNOWN = "right_as_far_as_known"
    NOT_RIGHT = "not_right"


@dataclass(frozen=True, kw_only=True)
class State(SettlementDays):
    """The reconciled state of a span of days; see DayState and Tally for the terms.

    `generated` are the days with stored wind generation. `unknown_models` counts the rows of each stored spelling that
    is no declared miner model; `unknown_rows` by table; `misnamed` has the spellings that resemble a model, by day.
    `outside_days` counts the rows of each table before the first kept day or after the running one. `no_numbers` names
    the records of each day whose volume or price is NaN or infinite.
    """

    scope: Scope
    curtailment: Mapping[date, Tally]
    calculations: Mapping[tuple[date, str], Tally]
    stale_summaries: Mapping[str, frozenset[str]]
    bitcoin: Mapping[str, float]
    curtailment_records: int
    days_behind: int
    generated: frozenset[date] = field(default_factory=frozenset)
    unknown_models: Mapping[str, int] = field(default_factory=dict)
    unknown_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    misnamed: Mapping[tuple[date, str], frozenset[str]] = field(default_factory=dict)
    outside_days: Mapping[str, int] = field(default_factory=dict)
    no_numbers: Mapping[date, tuple[str, ...]] = field(default_factory=dict)

    @property
    def total(self) -> Tally:
        """The tally of all calculations."""
        return sum(self.calculations.values(), Tally())

    @property
    def records(self) -> Tally:
        """The tally of all curtailment records of ingested days."""
        return sum(self.curtailment.values(), Tally())

    def of_model(self, model: str) -> Tally:
        """The tally of the calculations of one miner model."""
        return sum((tally for (_, name), tally in self.calculations.items() if name == model), Tally())

    def of_day(self, day: date) -> Tally:
        """The tally of the calculations of one day, all models."""
        return sum((tally for (found, _), tally in self.calculations.items() if found == day), Tally())

    @property
    def summary_faults(self) -> int:
        """Summary rows that are wrong, are missing or have no base rows."""
        return sum(len(keys) for keys in self.stale_summaries.values())

    @property
    def faulty_days(self) -> list[date]:
        """Days whose records, calculations or daily summaries are not right."""
        faulty = {day for day, tally in self.curtailment.items() if tally.faults}
        faulty |= {day for (day, _), tally in self.calculations.items() if tally.faults} | set(self.no_numbers)
        daily = (self.stale_summaries.get(layer.name, ()) for layer in (BITCOIN_DAILY, ENERGY_DAILY))
        return sorted(faulty | {date.fromisoformat(key.split()[0]) for keys in daily for key in keys})

    @property
    def worst_day(self) -> date | None:
        """The day with most faulty calculations and records, the newest of equals; None if no day is faulty."""
        faulty = self.faulty_days
        faults = {day: self.of_day(day).faults + self.curtailment.get(day, Tally()).faults for day in faulty}
        return max(faulty, key=lambda day: (faults[day], day), default=None)

    def right_periods(self, layer: Layer, model: str | None = None) -> set[str]:
        """The periods of a layer (of one miner model) that are right, and whose layers below are right too.

        The layers below matter because without records no calculation is missing.
        """
        unknown = (DayState.NOT_INGESTED, DayState.ADOPTED_EMPTY)
        present = {day for day, found in self.days.items() if found not in unknown}
        if layer in ENERGY:
            present |= self.generated
        present.difference_update(self.suspicious_days)
        unfit = {day for day, tally in self.curtailment.items() if tally.faults}
        unfit |= self.contradicted | self.new_wind_days | self.no_numbers.keys()
        if "miner_model" in layer.key:
            faulty = {key for key, tally in self.calculations.items() if tally.faults}
            unfit |= {day for day, of_model in faulty if model in (None, of_model)}
        stale = {key.split()[0] for key in self.stale_summaries.get(layer.name, ())}
        labels = {layer.grain.label(day) for day in present} - {layer.grain.label(day) for day in unfit}
        return labels - stale - self.kept_periods

    @property
    def conclusion(self) -> Conclusion:
        """Not right if anything is missing, wrong, stale, behind, lost or unread; right only if all days are proven."""
        faults = self.total.faults + self.records.faults + self.summary_faults
        others = self.days_behind or self.lost_periods or self.unknown_models or self.no_numbers
        if faults or self.days_to_read or others:
            return Conclusion.NOT_RIGHT
        return Conclusion.RIGHT_AS_FAR_AS_KNOWN if self.unproven_days else Conclusion.RIGHT

    @property
    def is_right(self) -> bool:
        """Whether everything is right, and proven."""
        return self.conclusion is Conclusion.RIGHT


def empty_state(scope: Scope) -> State:
    """The state of days of which nothing is stored, without a database."""
    return State(
        scope=scope,
        days=dict.fromkeys(scope.days, DayState.NOT_INGESTED),
        curtailment={},
        calculations={},
        stale_summaries={},
        bitcoin=dict.fromkeys(scope.models, 0.0),
        curtailment_records=0,
        days_behind=len(scope.days),
    )


def generated_days(connection: Connection, scope: Scope) -> frozenset[date]:
    """The days of the scope with stored wind generation."""
    day = wind_generation_data.c.settlement_date
    return frozenset(connection.execute(select(day).where(in_days(day, scope)).distinct()).scalars())


def first_day(connection: Connection, kept: Days) -> date | None:
    """The first kept day with a proof, a record or a calculation; None if there is none."""
    return min(_ends(connection, func.min, kept), default=None)


def last_day(connection: Connection, kept: Days) -> date | None:
    """The last kept day with a proof, a record or a calculation; None if there is none."""
    return max(_ends(connection, func.max, kept), default=None)


def default_first_day(connection: Connection, kept: Days) -> date | None:
    """The first day of a command that was given no period; None if nothing is stored.

    It is the first day with data; on a database with records of an old one, it is the first kept day, because the old
    one may have lost what was before.
    """
    recorded = set(distinct_days(connection, curtailment_records))
    adopted = recorded.difference(distinct_days(connection, proof_of_fetch))
    adopted |= set(connection.execute(select(recovered_days.c.settlement_date)).scalars())
    return kept.first if any(day in kept for day in adopted) else first_day(connection, kept)


def _ends(connection: Connection, end: Callable[..., Any], kept: Days) -> list[date]:
    """The first or last kept day of each table that has any."""
    days = [table.c.settlement_date for table in (proof_of_fetch, curtailment_records, historical_bitcoin_calculations)]
    found = (connection.execute(select(end(day)).where(day.between(kept.first, kept.last))).scalar() for day in days)
    return [day for day in found if day is not None]


def last_proven_day(connection: Connection) -> date | None:
    """The newest day of which anything was read; None if nothing was."""
    return connection.execute(select(func.max(proof_of_fetch.c.settlement_date))).scalar()


def summed_days(connection: Connection, kept: Days) -> Days | None:
    """From the first to the last kept day with rows that summaries are made from; None if there are none."""
    day = wind_generation_data.c.settlement_date
    generated = select(func.min(day), func.max(day)).where(day.between(kept.first, kept.last))
    first, last = connection.execute(generated).one()
    ends = (first_day(connection, kept), last_day(connection, kept), first, last)
    known = [end for end in ends if end is not None]
    return Days(min(known), max(known)) if known else None
