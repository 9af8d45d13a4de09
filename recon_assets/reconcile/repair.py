"""The repair of a span of days, months or years: which layers can be made right, and what they hold afterwards.

Belongs here: the order of the layers, the days that one layer leaves out because the layer below does not vouch for
them, the evidence (row counts, totals, fingerprint). Does not: SQL that changes rows (converge.py).
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, select

from recon_assets.mining import MODELS
from recon_assets.reconcile.audit import audit, contradicted_days
from recon_assets.reconcile.converge import Changes, converge_by, damaged_days
from recon_assets.reconcile.layering import DAY, Layer, in_days
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT, ENERGY_DAILY, GENERATED, curtailed_energy
from recon_assets.reconcile.scope import Scope, difficulty_history, period_rewards, reading, writing
from recon_assets.reconcile.state import DayState, day_states, generated_days

TOTALS = {
    "volume": "volume_mwh",
    "payment": "payment_gbp",
    "bitcoin_mined": "bitcoin_mined",
    "total_curtailed_energy": "curtailed_mwh",
    "total_payment": "payment_gbp",
    "total_wind_generation": "generated_mwh",
    "wind_onshore_generation": "generated_onshore_mwh",
    "wind_offshore_generation": "generated_offshore_mwh",
}
"""The column of a layer -> the name of its total, with the unit."""


@dataclass(frozen=True)
class Evidence:
    """What a partition of a layer holds: rows, totals, and a fingerprint of the content."""

    rows: int
    totals: Mapping[str, float]
    fingerprint: str


@dataclass(frozen=True)
class Repair:
    """What a repair did. Keys of `changes` and `evidence` are (layer name, miner model or None, period)."""

    days: Mapping[date, DayState]
    unfit: Mapping[str, Mapping[date, str]]
    changes: Mapping[tuple[str, str | None, str], Changes] = field(default_factory=dict)
    evidence: Mapping[tuple[str, str | None, str], Evidence] = field(default_factory=dict)

    def changes_of(self, layer: str, model: str | None = None, period: str | None = None) -> Changes:
        """The changes of a layer, of one miner model and one period where they are named."""
        return sum(
            (
                made
                for (name, of_model, of_period), made in self.changes.items()
                if name == layer and model in (None, of_model) and period in (None, of_period)
            ),
            Changes(),
        )


def repair(
    engine: Engine,
    layers: Sequence[Layer],
    scope: Scope,
    now: datetime,
    *,
    only: Collection[str] = MODELS,
    converging: Collection[Layer] | None = None,
    with_evidence: bool = True,
    timeout_seconds: float | None = None,
) -> Repair:
    """Makes the layers right, bottom up, in one transaction under the days' locks; calculations of the models `only`.

    Days that cannot be made right are left as they are and named in `unfit`, per layer, with the reason. With
    `converging`, the other layers are only looked at: their days that are not right are unfit.
    """
    with writing(engine, scope.days, timeout_seconds) as connection:
        contradicted = contradicted_days(connection, scope)
        states = day_states(connection, scope, now, contradicted)
        unfit: dict[str, dict[date, str]] = {}
        changes: dict[tuple[str, str | None, str], Changes] = {}
        for layer in layers:
            unfit[layer.name] = _unfit_days(connection, layer, scope, states, contradicted)
            left_out = frozenset(unfit[layer.name]) if layer in (CURTAILMENT, CALCULATIONS) else frozenset()
            fit = _for_layer(layer, scope, only).leaving_out(left_out)
            if converging is not None and layer not in converging:
                for (day,), tally in audit(connection, layer, fit, layer.period).items():
                    if tally.faults:
                        unfit[layer.name][day] = f"{day}: not all settlement periods of {layer.name} are right"
                continue
            by = (layer.period, "miner_model") if "miner_model" in layer.key else (layer.period,)
            for (period, *model), made in converge_by(connection, layer, fit, *by).items():
                changes[layer.name, model[0] if model else None, str(period)] = made
        evidence = {
            key: found
            for layer in (layers if with_evidence else ())
            for key, found in evidence_of(connection, layer, _for_layer(layer, scope, only))
        }
    return Repair(states, unfit, changes, evidence)


def _for_layer(layer: Layer, scope: Scope, only: Collection[str]) -> Scope:
    chosen = {name: model for name, model in scope.models.items() if name in only}
    return replace(scope, models=chosen) if layer is CALCULATIONS else scope


def gather_evidence(
    engine: Engine, layers: Sequence[Layer], scope: Scope
) -> dict[tuple[str, str | None, str], Evidence]:
    """What the layers hold, per (layer name, miner model or None, period), without changing anything."""
    with reading(engine, scope.days) as connection:
        return {key: found for layer in layers for key, found in evidence_of(connection, layer, scope)}


def evidence_of(
    connection: Connection, layer: Layer, scope: Scope
) -> Iterator[tuple[tuple[str, str | None, str], Evidence]]:
    """The evidence of every period of a layer, those without a row included, read as a stream in key order."""
    table = layer.table
    models: list[str | None] = list(scope.models) if layer is CALCULATIONS else [None]
    names = [*layer.key, *(name for name in layer.compared if name not in layer.key)]
    held = in_days(table.c.settlement_date, scope) if layer is CURTAILMENT else layer.judged(scope)
    of_model = [table.c.miner_model] if layer is CALCULATIONS else []
    order = [table.c[layer.period], *of_model, *(table.c[name] for name in layer.key), *table.primary_key.columns]
    rows = connection.execute(select(*(table.c[name] for name in names)).where(held).order_by(*order))
    found: dict[tuple[str | None, str], Evidence] = {}
    period, model = names.index(layer.period), names.index("miner_model") if of_model else None

    def group(row: Any) -> tuple[str | None, str]:
        return (None if model is None else row[model], str(row[period]))

    for key, members in groupby(rows, group):
        found[key] = _summarise(names, members)
    for label in dict.fromkeys(layer.grain.label(day) for day in scope.days):
        for name in models:
            yield (layer.name, name, label), found.get((name, label)) or _summarise(names, ())


def _summarise(names: Sequence[str], rows: Iterable[Any]) -> Evidence:
    digest = hashlib.blake2b(digest_size=16)
    measured = [(index, TOTALS[name]) for index, name in enumerate(names) if name in TOTALS]
    # Of a generation that nobody has read there is no total, rather than one of 0.
    totals = {TOTALS[name]: 0.0 for name in names if name in TOTALS and name not in GENERATED}
    count = 0
    for row in rows:
        digest.update(repr(tuple(row)).encode())
        for index, total in measured:
            if row[index] is not None:
                totals[total] = totals.get(total, 0.0) + row[index]
        count += 1
    return Evidence(count, totals, digest.hexdigest())


def _unfit_days(
    connection: Connection,
    layer: Layer,
    scope: Scope,
    states: Mapping[date, DayState],
    contradicted: frozenset[date],
) -> dict[date, str]:
    """The days that a layer cannot be made right for, with the reason."""
    if layer.grain is not DAY:
        return {}
    unfit = {
        day: f"{day} has never been ingested: materialize wind_bids, or run 'recon date {day}'"
        for day, state in states.items()
        if state is DayState.NOT_INGESTED
    }
    if layer is ENERGY_DAILY:
        for day in generated_days(connection, scope):
            unfit.pop(day, None)
    if layer is CURTAILMENT:
        unfit |= {
            day: f"{day}: the stored wind bids are not those fetched: run 'recon date {day}' to read them again"
            for day in contradicted
        }
    if layer is CALCULATIONS:
        unfit |= {
            day: f"{day}: curtailment records are missing; calculations wait until curtailment_records is right"
            for day in damaged_days(connection, scope.leaving_out(contradicted))
        }
        unfit |= _days_of_unknown_difficulty(connection, scope)
    return unfit


def _days_of_unknown_difficulty(connection: Connection, scope: Scope) -> dict[date, str]:
    """Days with curtailed energy in a settlement period whose reward is not known, with the reason."""
    energy = curtailed_energy(scope).subquery("energy")
    same = (energy.c.settlement_date == period_rewards.c.settlement_date) & (
        energy.c.settlement_period == period_rewards.c.settlement_period
    )
    without = (
        select(energy.c.settlement_date)
        .select_from(energy.outerjoin(period_rewards, same))
        .where(period_rewards.c.difficulty.is_(None))
        .distinct()
    )
    days = connection.execute(without).scalars().all()
    if not days:
        return {}
    history = difficulty_history(connection)
    return {day: str(history.unknown(day)) for day in days}
