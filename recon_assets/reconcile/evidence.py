"""Evidence of lost records: what old calculations and totals say of days that nobody has proven.

An old database may have lost records while what was made from them is still there. Until such a day is proven, nothing
of it is corrected or removed, because it is all that is known of what was lost.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from math import fsum, isfinite

from sqlalchemy import Connection, Table, and_, exists, func, select

from recon_assets.database.kept_tables import superseded_tables
from recon_assets.database.tables import (
    bitcoin_daily_summaries,
    bitcoin_monthly_summaries,
    bitcoin_yearly_summaries,
    curtailment_records,
    daily_summaries,
    historical_bitcoin_calculations,
    monthly_summaries,
    yearly_summaries,
)
from recon_assets.domain.settlement import Days, contiguous
from recon_assets.reconcile.expected import owned_calculations
from recon_assets.reconcile.layer import MONTH, YEAR, Grain
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.sums import Sums

ROUNDING_MWH = 0.01
ROUNDING_RELATIVE = 1e-6
"""By so much an old total may be above its records without being evidence: old systems rounded them."""

ROUNDING_BTC = 1e-8

PERIOD_TOTALS: tuple[tuple[Grain, Table, Table], ...] = (
    (MONTH, monthly_summaries, bitcoin_monthly_summaries),
    (YEAR, yearly_summaries, bitcoin_yearly_summaries),
)


@dataclass(frozen=True)
class Lost:
    """What speaks for lost records of a day, month or year.

    `claimed_mwh` is an old total (None if there is none), `recorded_mwh` the sum of the records. `orphaned` are
    calculations whose farm has no record in their settlement period. `claimed_btc` has the totals, by miner model, that
    are above the stored calculations.
    """

    claimed_mwh: float | None = None
    recorded_mwh: float = 0.0
    orphaned: int = 0
    claimed_btc: Mapping[str, float] = field(default_factory=dict)

    def is_explained(self, mwh: float) -> bool:
        """Whether so many lost MWh are all that the total is above the records."""
        claimed = self.claimed_mwh
        return not self.claimed_btc and claimed is not None and not is_above(claimed - mwh, self.recorded_mwh)

    def __str__(self) -> str:
        words = []
        if self.claimed_mwh is not None:
            words.append(f"a total of {self.claimed_mwh:,.3f} MWh over {self.recorded_mwh:,.3f} MWh of records")
        if self.orphaned:
            words.append(f"{self.orphaned:,} calculation{'s' if self.orphaned > 1 else ''} without a record")
        if not words:
            totals = ", ".join(f"{model} {total:,.8f}" for model, total in self.claimed_btc.items())
            words.append(f"totals of bitcoin ({totals}) that no calculations support")
        return ", ".join(words)


def lost_days(
    connection: Connection,
    scope: Scope,
    unproven: Collection[date],
    sums: Sums,
    suspects: Collection[date] | None = None,
) -> dict[date, Lost]:
    """The unproven days with evidence of lost records; `sums` are those of the stored rows.

    Calculations without a record are only looked for on the `suspects`, if these are given.
    """
    if not unproven:
        return {}
    span = scope.of(Days(min(unproven), max(unproven)))
    claimed = {day: mwh for day, mwh in _energy_totals(connection, span).items() if day in unproven}
    above = {day: mwh for day, mwh in claimed.items() if is_above(mwh, _recorded(sums, day))}
    searched = unproven if suspects is None else frozenset(suspects).intersection(unproven)
    orphaned = _orphaned(connection, scope, searched)
    bitcoin = {
        day: totals
        for day, totals in _bitcoin_totals(connection, span, sums, claimed).items()
        if totals and day in unproven
    }
    return {
        day: Lost(above.get(day), _recorded(sums, day), orphaned.get(day, 0), bitcoin.get(day, {}))
        for day in sorted({*above, *orphaned, *bitcoin})
    }


def lost_periods(
    connection: Connection,
    around: Days,
    unproven: Collection[date],
    proven: Collection[date],
    models: Collection[str],
    sum_up: Callable[[Days], Sums],
) -> dict[str, Lost]:
    """The months and years with unproven days whose old totals are above their rows, by label.

    Only those that lie within the days `around`. A total of a period with a proven day is not an old one any more: the
    old one was kept (superseded) when the first day was proven. `sum_up` gives the sums of the rows of some days.
    """
    found: dict[str, Lost] = {}
    for grain, energy, bitcoin in PERIOD_TOTALS:
        labels = {grain.label(day) for day in unproven if is_within(grain.whole(Days(day, day)), around)}
        old = labels - {grain.label(day) for day in proven}
        claimed_mwh: dict[str, float] = {}
        claimed_btc: dict[str, dict[str, float]] = {}
        for of_labels, tables in ((old, (energy, bitcoin)), (labels, _superseded(energy, bitcoin))):
            claimed_mwh |= _energy_of(connection, tables[0], grain, of_labels)
            for label, model, total in _bitcoin_of(connection, tables[1], grain, of_labels, models):
                claimed_btc.setdefault(label, {})[model] = total
        if not claimed_mwh and not claimed_btc:
            continue
        periods = [whole_period(label) for label in {*claimed_mwh, *claimed_btc}]
        sums = sum_up(Days(min(days.first for days in periods), max(days.last for days in periods)))
        recorded, calculated = _by_period(sums, grain), _bitcoin_by_period(sums, grain)
        for label in {*claimed_mwh, *claimed_btc}:
            mwh = recorded.get(label, 0.0)
            above = claimed_mwh.get(label)
            above = above if above is not None and is_above(above, mwh) else None
            stored = {model: calculated.get((label, model), 0.0) for model in claimed_btc.get(label, {})}
            unsupported = _unsupported(claimed_btc.get(label, {}), stored, has_energy=label in claimed_mwh, mwh=mwh)
            if above is not None or unsupported:
                found[label] = Lost(above, mwh, claimed_btc=unsupported)
    return found


def _superseded(*tables: Table) -> tuple[Table, ...]:
    return tuple(superseded_tables[table.name] for table in tables)


def _energy_of(connection: Connection, table: Table, grain: Grain, labels: Collection[str]) -> dict[str, float]:
    totals = select(table.c[grain.column], table.c.total_curtailed_energy).where(
        table.c[grain.column].in_(sorted(labels)), table.c.total_curtailed_energy.is_not(None)
    )
    return {label: abs(float(mwh)) for label, mwh in connection.execute(totals) if isfinite(mwh)}


def _bitcoin_of(
    connection: Connection, table: Table, grain: Grain, labels: Collection[str], models: Collection[str]
) -> list[tuple[str, str, float]]:
    totals = select(table.c[grain.column], table.c.miner_model, table.c.bitcoin_mined).where(
        table.c[grain.column].in_(sorted(labels)), table.c.miner_model.in_(models), table.c.bitcoin_mined > 0
    )
    return [(label, model, float(total)) for label, model, total in connection.execute(totals) if isfinite(total)]


def _unsupported(
    claimed: Mapping[str, float], stored: Mapping[str, float], *, has_energy: bool, mwh: float
) -> dict[str, float]:
    """The totals of bitcoin, by model, that no calculation supports.

    Where no energy total is stored, a total above the calculations counts too. Elsewhere it does not: old calculations
    were made with wrong difficulties, and their sums say little of energy.
    """
    return {
        model: total
        for model, total in claimed.items()
        if (not stored.get(model) and not mwh)
        or (not has_energy and total > stored.get(model, 0.0) * (1 + ROUNDING_RELATIVE) + ROUNDING_BTC)
    }


def whole_period(label: str) -> Days:
    """The days of a month or year."""
    return Days.of_month(label) if "-" in label else Days.of_year(label)


def is_within(days: Days, others: Days) -> bool:
    """Whether all of the days are among the others."""
    return others.first <= days.first and days.last <= others.last


def is_above(claimed_mwh: float, recorded_mwh: float) -> bool:
    """Whether a total is above the records by more than rounding."""
    return claimed_mwh - recorded_mwh > ROUNDING_MWH + ROUNDING_RELATIVE * recorded_mwh


def _recorded(sums: Sums, day: date) -> float:
    return sums.energy[day][0] if day in sums.energy else 0.0


def _by_period(sums: Sums, grain: Grain) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for day, (mwh, _, _) in sums.energy.items():
        parts.setdefault(grain.label(day), []).append(mwh)
    return {label: fsum(of_days) for label, of_days in parts.items()}


def _bitcoin_by_period(sums: Sums, grain: Grain) -> dict[tuple[str, str], float]:
    parts: dict[tuple[str, str], list[float]] = {}
    for (day, model), (total, _) in sums.bitcoin.items():
        parts.setdefault((grain.label(day), model), []).append(total)
    return {key: fsum(of_days) for key, of_days in parts.items()}


def _energy_totals(connection: Connection, scope: Scope) -> dict[date, float]:
    """MWh by day, as a positive number, of every stored daily total."""
    totals = daily_summaries.c
    query = select(totals.summary_date, totals.total_curtailed_energy).where(
        totals.summary_date.between(scope.days.first, scope.days.last), totals.total_curtailed_energy.is_not(None)
    )
    return {day: abs(float(mwh)) for day, mwh in connection.execute(query) if isfinite(mwh)}


def _bitcoin_totals(
    connection: Connection, scope: Scope, sums: Sums, claimed: Mapping[date, float]
) -> dict[date, dict[str, float]]:
    """BTC by day and model of the totals that no calculation supports."""
    totals = bitcoin_daily_summaries.c
    query = select(totals.summary_date, totals.miner_model, totals.bitcoin_mined).where(
        totals.summary_date.between(scope.days.first, scope.days.last),
        totals.miner_model.in_(scope.models),
        totals.bitcoin_mined > 0,
    )
    found: dict[date, dict[str, float]] = {}
    for day, model, total in connection.execute(query):
        if isfinite(total):
            found.setdefault(day, {})[model] = float(total)
    return {
        day: _unsupported(
            of_day,
            {model: sums.bitcoin.get((day, model), (0.0, 0))[0] for model in of_day},
            has_energy=day in claimed,
            mwh=_recorded(sums, day),
        )
        for day, of_day in found.items()
    }


def _orphaned(connection: Connection, scope: Scope, days: Iterable[date]) -> dict[date, int]:
    """The number of calculations, by day, whose farm has no record in their settlement period."""
    records, stored = curtailment_records.c, historical_bitcoin_calculations.c
    recorded = exists().where(
        and_(*(records[name] == stored[name] for name in ("settlement_date", "settlement_period", "farm_id")))
    )
    found: dict[date, int] = {}
    for span in contiguous(list(days)):
        orphans = (
            select(stored.settlement_date, func.count())
            .where(owned_calculations(scope.of(span)), ~recorded)
            .group_by(stored.settlement_date)
        )
        found |= {day: count for day, count in connection.execute(orphans)}
    return found
