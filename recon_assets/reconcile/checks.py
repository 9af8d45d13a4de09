"""The checks of the whole history, as pure functions of CheckInputs.

The first line of a check's docstring is its description in Dagster. No check blocks other work: a blocking check of
the whole history would hold up a thousand right days for one wrong day. Instead, each layer leaves out the days that
are not fit for it (converge_span.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from recon_assets.domain.settlement import periods_in
from recon_assets.reconcile.check_inputs import CheckInputs
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layer import Layer
from recon_assets.reconcile.settlement_days import DayState

WORST_DAYS_SHOWN = 20
"""Worst dates that a result lists; `counts` has the number of all."""

WorstDay = Mapping[str, str | int | float]
EXACT = {"tolerated": "0 rows"}
VALUES = {
    "bitcoin_mined": "off by more than half a satoshi (5e-9 BTC) and more than 1e-7",
    "difficulty": "off by more than 1e-9",
}


@dataclass(frozen=True)
class CheckResult:
    """What a check found: `counts` say how much, `thresholds` what counts as a fault, `worst_days` where it is worst.

    A check that does not hold is an error, unless it `is_warning`: nothing is known to be wrong, but data is to come.
    """

    holds: bool
    counts: Mapping[str, int | float]
    thresholds: Mapping[str, str] = field(default_factory=lambda: EXACT)
    worst_days: Sequence[WorstDay] = ()
    is_warning: bool = False

    @property
    def summary(self) -> str:
        """The counts in one line."""
        words = {name: name if name.isupper() else name.replace("_", " ") for name in self.counts}
        return ", ".join(f"{count:,} {words[name]}" for name, count in self.counts.items())


NOTHING_STORED = CheckResult(holds=False, counts={"stored_days": 0}, thresholds={}, is_warning=True)
"""The result for a database without a settlement day."""

Check = Callable[[CheckInputs], CheckResult]


NO_FAULT = {"periods_without_proof": 0, "contradicted": 0, "new_wind_units": 0}
"""What is counted of a day's proofs. Dagster shows the worst days as one table, whose rows have the same columns."""


def every_period_has_proof(inputs: CheckInputs) -> CheckResult:
    """Every due period of every day has a proof of fetch, which bids and wind units do not contradict.

    It is a warning if nothing is known to be wrong: days of an old database that look right but are not proven.
    """
    days = inputs.days
    found: dict[date, dict[str, int]] = {
        day: NO_FAULT | {"periods_without_proof": len(periods)} for day, periods in days.unproven.items()
    }
    for day in days.contradicted:
        found.setdefault(day, dict(NO_FAULT))["contradicted"] = 1
    for day in days.new_wind_days:
        found.setdefault(day, dict(NO_FAULT))["new_wind_units"] = 1
    gaps = [day for day in days.days_in(DayState.NOT_INGESTED) if day < (days.latest_ingested or day)]
    for day in gaps:
        found[day] = NO_FAULT | {"periods_without_proof": periods_in(day)}
    for day in (*days.days_in(DayState.ADOPTED_EMPTY), *days.lost):
        found.setdefault(day, NO_FAULT | {"periods_without_proof": periods_in(day)})
    # The running day is published period by period, and the day before it may be read later.
    late = [day for day in found if day < inputs.today - timedelta(days=1) and day not in gaps]
    adopted = days.days_in(DayState.ADOPTED)
    return CheckResult(
        holds=not found and not adopted,
        counts={
            "incomplete_days": len(days.unproven),
            "contradicted_days": len(days.contradicted),
            "days_with_new_wind_units": len(days.new_wind_days),
            "not_ingested_days": len(gaps),
            "adopted_days_without_proof": len(adopted),
            "adopted_days_without_records": len(days.days_in(DayState.ADOPTED_EMPTY)),
            "days_with_lost_records": len(days.lost),
        },
        thresholds={"periods_without_proof": "0", "bids against proof": "other rows, or 1e-5 MWh or GBP"},
        worst_days=_worst(found, "periods_without_proof"),
        is_warning=not late and not days.contradicted,
    )


def records_equal_bids(inputs: CheckInputs) -> CheckResult:
    """Of every ingested day, the curtailment records are the wind bids under the rule."""
    total = sum(inputs.records.values(), Tally())
    found = {day: _faults(tally, "surplus") for day, tally in inputs.records.items() if tally.faults}
    return CheckResult(
        holds=not total.faults,
        counts={"records": total.actual, "dates": len(found), **_faults(total, "surplus")},
        thresholds={"volume, payment, prices": "off by more than 1e-9, relative and absolute"},
        worst_days=_worst(found, "missing", "surplus", "wrong"),
    )


def payments_follow_volume_and_price(inputs: CheckInputs) -> CheckResult:
    """Every payment is volume x original price. Records of an old database, which readers normalise, only count."""
    adopted = set(inputs.days.days_in(DayState.ADOPTED))
    found = {
        day: {"records": count, "gbp": round(gbp, 2)}
        for day, (count, gbp) in inputs.payments_off.items()
        if day not in adopted
    }
    old = sum(count for day, (count, _) in inputs.payments_off.items() if day in adopted)
    records = sum(int(of_day["records"]) for of_day in found.values())
    return CheckResult(
        holds=not found,
        counts={"dates": len(found), "records": records, "adopted_records": old},
        thresholds={"payment": "off by more than 1e-9 relative and GBP 1e-9"},
        worst_days=_worst(found, "records"),
    )


def every_expected_row_exists(model: str) -> Check:
    """Every triple with curtailed energy has a calculation of the model."""

    def check(inputs: CheckInputs) -> CheckResult:
        return _of_model(inputs, model, lambda tally: {"missing": tally.missing}, EXACT)

    check.__doc__ = every_expected_row_exists.__doc__
    return check


def every_value_is_right(model: str) -> Check:
    """Every calculation of the model has the right bitcoin and the right difficulty."""

    def check(inputs: CheckInputs) -> CheckResult:
        return _of_model(inputs, model, lambda tally: {"wrong": tally.wrong}, VALUES)

    check.__doc__ = every_value_is_right.__doc__
    return check


def no_orphan_no_duplicate(model: str) -> Check:
    """No calculation of the model lacks curtailment, and none is there twice."""

    def check(inputs: CheckInputs) -> CheckResult:
        return _of_model(
            inputs, model, lambda tally: {"orphaned": tally.surplus, "duplicated": tally.duplicated}, EXACT
        )

    check.__doc__ = no_orphan_no_duplicate.__doc__
    return check


def models_have_equal_counts(inputs: CheckInputs) -> CheckResult:
    """Every day has as many calculations of one model as of any other."""
    rows: dict[date, dict[str, int]] = {}
    for (day, model), count in inputs.stored_calculations.items():
        rows.setdefault(day, dict.fromkeys(inputs.scope.models, 0))[model] = count
    found = {
        day: {**counts, "apart": max(counts.values()) - min(counts.values())}
        for day, counts in rows.items()
        if len(set(counts.values())) > 1
    }
    totals = {model: sum(counts[model] for counts in rows.values()) for model in inputs.scope.models}
    return CheckResult(holds=not found, counts={"dates": len(found), **totals}, worst_days=_worst(found, "apart"))


def settlement_periods_match(inputs: CheckInputs) -> CheckResult:
    """Records, proofs and each model's calculations know the same settlement periods, which the day really has."""
    adopted = set(inputs.days.days_in(DayState.ADOPTED))
    found: dict[date, dict[str, int]] = {}
    days = {*inputs.curtailed, *(day for day, _ in inputs.calculated)}
    for day in days:
        curtailed = inputs.curtailed.get(day, frozenset())
        real = frozenset(range(1, periods_in(day) + 1))
        of_models = [inputs.calculated.get((day, model), frozenset()) for model in inputs.scope.models]
        differing = {
            "without_calculations": len(frozenset().union(*(curtailed - known for known in of_models))),
            "without_records": len(frozenset().union(*(known - curtailed for known in of_models))),
            "without_proof": 0 if day in adopted else len(curtailed - inputs.proven.get(day, frozenset())),
            "beyond_the_day": len(curtailed.union(*of_models) - real),
        }
        if any(differing.values()):
            found[day] = differing
    names = ("without_calculations", "without_records", "without_proof", "beyond_the_day")
    totals = {name: sum(of_day[name] for of_day in found.values()) for name in names}
    return CheckResult(
        holds=not found,
        counts={"dates": len(found), **totals},
        thresholds={"tolerated": "0 settlement periods"},
        worst_days=_worst(found, *names),
    )


def sums_equal_their_rows(layer: Layer) -> Check:
    """Every summary of a layer is there and equals the sum of its base rows, and no other is there."""

    def check(inputs: CheckInputs) -> CheckResult:
        stale = sorted(inputs.stale_summaries[layer.name], reverse=True)
        return CheckResult(
            holds=not stale,
            counts={"stale": len(stale)},
            thresholds={"sum": "off by more than 1e-9"},
            worst_days=[
                dict(zip(("period", "miner_model"), key.split(), strict=False)) for key in stale[:WORST_DAYS_SHOWN]
            ],
        )

    check.__doc__ = sums_equal_their_rows.__doc__
    return check


def _of_model(
    inputs: CheckInputs, model: str, faults: Callable[[Tally], dict[str, int]], thresholds: Mapping[str, str]
) -> CheckResult:
    of_model = inputs.of_model(model)
    total = sum(of_model.values(), Tally())
    tallies = ((day, faults(tally)) for day, tally in of_model.items())
    found = {day: counts for day, counts in tallies if any(counts.values())}
    return CheckResult(
        holds=not found,
        counts={"expected": total.expected, "dates": len(found), **faults(total)},
        thresholds=thresholds,
        worst_days=_worst(found, *faults(total)),
    )


def _faults(tally: Tally, superfluous: str) -> dict[str, int]:
    return {"missing": tally.missing, superfluous: tally.superfluous, "wrong": tally.wrong}


def _worst(found: Mapping[date, Mapping[str, int | float]], *by: str) -> list[WorstDay]:
    """The dates with most of what `by` counts, the newest first among equals."""

    def most(day: date) -> tuple[float, int]:
        return (-sum(found[day].get(name, 0) for name in by), -day.toordinal())

    days: Iterable[date] = sorted(found, key=most)[:WORST_DAYS_SHOWN]
    return [{"settlement_date": day.isoformat(), **found[day]} for day in days]
