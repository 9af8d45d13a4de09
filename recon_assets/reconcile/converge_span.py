"""Converges a span of days, months or years, layer by layer from the bottom up, in one transaction.

A layer leaves out the days for which the layer below cannot be trusted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import Connection, Engine, or_, select

from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import Changes, converge_by, damaged_days, fill_missing
from recon_assets.reconcile.content import Content, contents_of
from recon_assets.reconcile.difference import compare_layer, contradicted_days
from recon_assets.reconcile.expected import curtailed_energy, rewards_of
from recon_assets.reconcile.layer import DAY, MONTH, Layer
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT, ENERGY_DAILY
from recon_assets.reconcile.looked_past import around, misnamed, why_unfit
from recon_assets.reconcile.scope import Scope, difficulty_history, writing
from recon_assets.reconcile.settlement_days import DayState, SettlementDays, days_with_evidence
from recon_assets.reconcile.state import generated_days
from recon_assets.reconcile.sums import Sums, sum_rows


@dataclass(frozen=True)
class ConvergedSpan:
    """What was converged. Keys of `changes` and `contents` are (layer name, miner model or None, period).

    `unfit_models` has periods that were left as they are for one miner model: layer name and model -> period -> reason.
    """

    days: Mapping[date, DayState]
    unfit: Mapping[str, Mapping[date, str]]
    changes: Mapping[tuple[str, str | None, str], Changes] = field(default_factory=dict)
    contents: Mapping[tuple[str, str | None, str], Content] = field(default_factory=dict)
    unfit_models: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)

    def changes_of(self, layer: str, model: str | None = None, period: str | None = None) -> Changes:
        """The changes of a layer, limited to a miner model and a period if these are given."""
        return sum(
            (
                made
                for (name, of_model, of_period), made in self.changes.items()
                if name == layer and model in (None, of_model) and period in (None, of_period)
            ),
            Changes(),
        )


def converge_span(
    engine: Engine,
    layers: Sequence[Layer],
    scope: Scope,
    now: datetime,
    *,
    only: Collection[str] = MODELS,
    converging: Collection[Layer] | None = None,
    with_contents: bool = True,
    timeout_seconds: float | None = None,
) -> ConvergedSpan:
    """Makes the layers right from the bottom up, under the days' locks; of calculations, only the models `only`.

    Days that cannot be made right stay as they are and are listed in `unfit`, per layer, with the reason (a month or
    year under its first day). Those that are so for one miner model, because its rows have another spelling, are in
    `unfit_models`. With `converging`, the other layers are only compared: their days that are not right are unfit.
    """
    with writing(engine, scope, timeout_seconds) as (connection, scope):
        days = _settlement_days(connection, scope, now)
        unfit: dict[str, dict[date, str]] = {}
        changes: dict[tuple[str, str | None, str], Changes] = {}
        unfit_models: dict[tuple[str, str], dict[str, str]] = {}
        for layer in layers:
            kept = _kept_days(layer, days)
            unfit[layer.name] = kept | _unfit_days(connection, layer, scope, days)
            if layer.grain is not DAY and kept:
                continue
            left_out = frozenset(unfit[layer.name] if layer in (CURTAILMENT, CALCULATIONS) else kept)
            fit = _for_layer(layer, scope, only).excluding(left_out)
            if converging is not None and layer not in converging:
                for (day,), tally in compare_layer(connection, layer, fit, layer.period).items():
                    if tally.faults:
                        unfit[layer.name][day] = f"{day}: not all settlement periods of {layer.name} are right"
                continue
            by = (layer.period, "miner_model") if "miner_model" in layer.key else (layer.period,)
            lost = [day for day in days.suspicious_days if unfit[layer.name].get(day) == kept.get(day)]
            # Of days that lost records only what is missing is added: it is no evidence.
            others = frozenset(scope.days).difference(lost)
            to_fill = [(fit.only_excluding(others), fill_missing)] if layer is CALCULATIONS and lost else []
            for part, change in ((fit, converge_by), *to_fill):
                found = misnamed(connection, layer, part)
                for (name, of_model), spellings in found.items():
                    reason = why_unfit(layer, name, of_model, spellings)
                    unfit_models.setdefault((layer.name, of_model), {})[name] = reason
                for piece in around(layer, part, found):
                    for (period, *model), made in change(connection, layer, piece, *by).items():
                        changes[layer.name, model[0] if model else None, str(period)] = made
        contents = {
            key: found
            for layer in (layers if with_contents else ())
            for key, found in contents_of(connection, layer, _for_layer(layer, scope, only))
        }
    return ConvergedSpan(days.days, unfit, changes, contents, unfit_models)


def _settlement_days(connection: Connection, scope: Scope, now: datetime) -> SettlementDays:
    """The states of the scope's days, with evidence of lost records where a day is not proven."""
    whole_days = replace(scope, periods=None, farm=None)
    contradicted = contradicted_days(connection, scope)

    def sum_up(days: Days) -> Sums:
        return sum_rows(connection, whole_days.of(days))

    months = MONTH.whole(scope.days)
    return days_with_evidence(connection, whole_days, now, contradicted, sum_up, around=months)


def _kept_days(layer: Layer, days: SettlementDays) -> dict[date, str]:
    """The days of which a layer stays as it is until they are proven, with the reason; of a month or year, its first.

    Of a day with evidence of lost records that is everything that was made from records; of a day without any record,
    its summaries too.
    """
    if layer is CURTAILMENT:
        return {}
    if layer.grain is not DAY:
        first = min(days.days)
        label = layer.grain.label(first)
        if label not in days.kept_periods:
            return {}
        evidence = days.lost_periods.get(label) or next(iter(days.lost.values()))
        option = "month" if layer.grain is MONTH else "year"
        return {
            first: f"{label}: records seem to be lost ({evidence}): run 'recon reconcile --{option} {label} --prove'"
        }
    kept = {
        day: f"{day} has no record and no proof: run 'recon date {day}', which asks whether there was any curtailment"
        for day in days.days_in(DayState.ADOPTED_EMPTY)
    }
    return kept | {
        day: f"{day}: records seem to be lost ({days.evidence_of(day)}): only reading the day from Elexon helps"
        for day in days.suspicious_days
    }


def _for_layer(layer: Layer, scope: Scope, only: Collection[str]) -> Scope:
    chosen = {name: model for name, model in scope.models.items() if name in only}
    return replace(scope, models=chosen) if layer is CALCULATIONS else scope


def _unfit_days(connection: Connection, layer: Layer, scope: Scope, days: SettlementDays) -> dict[date, str]:
    """The days for which a layer cannot be made right, with the reason."""
    if layer.grain is not DAY:
        return {}
    unfit = {
        day: f"{day} has never been ingested: materialize wind_bids, or run 'recon date {day}'"
        for day in days.days_in(DayState.NOT_INGESTED)
    }
    if layer is ENERGY_DAILY:
        for day in generated_days(connection, scope):
            unfit.pop(day, None)
    if layer is CURTAILMENT:
        unfit |= {
            day: f"{day}: the stored wind bids are not those fetched: run 'recon date {day}' to read them again"
            for day in days.contradicted
        }
    if layer is CALCULATIONS:
        unfit |= {
            day: f"{day}: curtailment records are missing; calculations wait until curtailment_records is right"
            for day in damaged_days(connection, scope.excluding(days.contradicted))
        }
        unfit |= _days_of_unknown_bitcoin(connection, scope)
    return unfit


def _days_of_unknown_bitcoin(connection: Connection, scope: Scope) -> dict[date, str]:
    """Days with a settlement period whose reward or curtailed energy is not known, with the reason."""
    energy, rewards = curtailed_energy(scope).subquery("energy"), rewards_of(scope)
    same = (energy.c.settlement_date == rewards.c.settlement_date) & (
        energy.c.settlement_period == rewards.c.settlement_period
    )
    without_energy = energy.c.curtailed_mwh.is_(None)
    without = (
        select(energy.c.settlement_date, without_energy)
        .select_from(energy.outerjoin(rewards, same))
        .where(or_(rewards.c.difficulty.is_(None), without_energy))
        .distinct()
    )
    days = connection.execute(without).all()
    if not days:
        return {}
    history = difficulty_history(connection)
    return {
        day: f"{day}: a curtailment record has NaN or Infinity as its volume: run 'recon reingest {day}'"
        if is_without_energy
        else history.unknown(day)
        for day, is_without_energy in sorted(days, key=lambda found: bool(found[1]))
    }
