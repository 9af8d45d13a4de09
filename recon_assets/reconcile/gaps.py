"""Gaps: what of a day's records and calculations is not right, and the ranges of days that one run can fill.

Belongs here: from a state to days and ranges. Does not: who fills them, and how often that was tried (orchestration).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from recon_assets.domain.curtailment import fingerprint
from recon_assets.domain.settlement import Days, contiguous
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Gap:
    """What is not right of one day: its records, or calculations of some miner models.

    `fingerprint` changes as soon as the gap does: other rows missing, wrong or too many, another database around them.
    """

    records: bool
    models: frozenset[str]
    fingerprint: str


@dataclass(frozen=True)
class GapRange:
    """Days in a row, within one month, of which the same is not right."""

    days: Days
    records: bool
    models: frozenset[str]


def calculation_gaps(state: State, around: str = "") -> dict[date, Gap]:
    """What can be made right from the stored bids, by day; `around` is what else the outcome hangs on (guards.py).

    Days whose bids are not those that were fetched are left out: only reading them again helps.
    """
    gaps: dict[date, Gap] = {}
    of_models: dict[date, dict[str, Tally]] = {}
    for (day, model), tally in state.calculations.items():
        if tally.faults:
            of_models.setdefault(day, {})[model] = tally
    damaged = {day: tally for day, tally in state.curtailment.items() if tally.faults}
    for day in sorted({*of_models, *damaged} - state.contradicted):
        models, records = of_models.get(day, {}), damaged.get(day, Tally())
        counts = [["records", *_counts(records)], *([model, *_counts(models[model])] for model in sorted(models))]
        # Calculations follow from records, so that none of a damaged day is known to be right.
        wrong = frozenset(state.scope.models) if records.faults else frozenset(models)
        gaps[day] = Gap(bool(records.faults), wrong, fingerprint([*counts, [around]])[:16])
    return gaps


def ranges(gaps: Mapping[date, Gap], days: Collection[date]) -> list[GapRange]:
    """The fewest ranges that hold exactly these days of the gaps, the newest first."""
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
