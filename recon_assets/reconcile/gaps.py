"""Gaps: the days whose records or calculations are not right, and the ranges of days that one run can fill."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from recon_assets.domain.curtailment import fingerprint
from recon_assets.domain.settlement import Days, contiguous
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Gap:
    """What is not right in one day: its records, or the calculations of some miner models.

    `fingerprint` changes when the gap does: other numbers of missing, wrong or surplus rows, or other constraints.
    """

    records: bool
    models: frozenset[str]
    fingerprint: str


@dataclass(frozen=True)
class GapRange:
    """Consecutive days within one month that have the same gap."""

    days: Days
    records: bool
    models: frozenset[str]


def calculation_gaps(state: State, constraints: str = "") -> dict[date, Gap]:
    """The gaps that can be filled from the stored bids, by day; `constraints` is the fingerprint of constraints.py.

    Days whose bids contradict their proof of fetch are left out: only reading them again helps. So are days with
    evidence of lost records, unless calculations are missing: nothing else of them is changed before they are read.
    """
    gaps: dict[date, Gap] = {}
    of_models: dict[date, dict[str, Tally]] = {}
    for (day, model), tally in state.calculations.items():
        if tally.faults:
            of_models.setdefault(day, {})[model] = tally
    damaged = {day: tally for day, tally in state.curtailment.items() if tally.faults}
    frozen = {day for day in state.suspicious_days if not state.of_day(day).missing}
    for day in sorted({*of_models, *damaged} - state.contradicted - frozen):
        models, records = of_models.get(day, {}), damaged.get(day, Tally())
        counts = [["records", *_counts(records)], *([model, *_counts(models[model])] for model in sorted(models))]
        # Calculations follow from records: if the records are damaged, no calculation is known to be right.
        wrong = frozenset(state.scope.models) if records.faults else frozenset(models)
        gaps[day] = Gap(bool(records.faults), wrong, fingerprint([*counts, [constraints]])[:16])
    return gaps


def ranges(gaps: Mapping[date, Gap], days: Collection[date]) -> list[GapRange]:
    """The fewest ranges that cover exactly these days, newest first."""
    alike: dict[tuple[bool, frozenset[str]], list[date]] = {}
    for day in days:
        alike.setdefault((gaps[day].records, gaps[day].models), []).append(day)
    found = [
        GapRange(month, records, models)
        for (records, models), of_kind in alike.items()
        for span in contiguous(of_kind)
        for month in span.by_month()
    ]
    return sorted(found, key=lambda gap: gap.days.last, reverse=True)


def _counts(tally: Tally) -> list[int]:
    return [tally.missing, tally.surplus, tally.duplicated, tally.wrong]
