"""Declarative automation: refreshes summaries if, and only if, they differ from their rows.

Dagster's own conditions look at events: they miss changes before their first tick, and refresh what did not change.
This condition asks the database. A changed day of any age, whoever changed it, refreshes exactly its day, month and
year, the running ones included.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from weakref import WeakKeyDictionary

import dagster as dg
from dagster import AutomationCondition as When
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from recon_assets.database import transactions
from recon_assets.domain.settlement import Days
from recon_assets.orchestration.active_runs import ASKED_BY, CALCULATION_GAPS
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.partitions import days_of
from recon_assets.orchestration.resource import Opener, ReconResource
from recon_assets.orchestration.retry_state import SensorState, sensor_state
from recon_assets.orchestration.sensors.calculation_gaps import find_gaps
from recon_assets.reconcile.layer import YEAR, Layer
from recon_assets.reconcile.layers import ENERGY, SUMMARIES
from recon_assets.reconcile.read_state import settlement_days, stale_summaries
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import summed_days

SUMMARY_AUTOMATION = "summary_automation"
TURN_SECONDS = 60

SUMMARY_NAMES = [layer.name for layer in SUMMARIES]
SUMMARY_KEYS = {dg.AssetKey(layer.name): layer for layer in SUMMARIES}

Periods = Mapping[str, frozenset[str]]
"""The periods (2025-06-03, 2025-06, 2025) of each summary table, by its name."""


class RowsDiffer(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of a summary whose rows differ from the sums of the rows below."""

    def __init__(self, layer: Layer, reader: "SummaryReader") -> None:
        self._layer = layer
        self._reader = reader

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "rows_differ"

    @property
    def description(self) -> str:
        """What the UI says of it."""
        return "The stored sums differ from the rows below, which nobody is about to change"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Asks the database; all summaries of a tick share one reading."""
        periods = self._reader.read(context.asset_graph_view)[self._layer.name]
        differing = context.candidate_subset.compute_intersection_with_partition_keys(set(periods))
        return dg.AutomationResult(context=context, true_subset=differing)


class SummaryReader:
    """Reads which summaries to refresh, once a tick."""

    def __init__(self, opened: Opener) -> None:
        self._opened = opened
        self._read: WeakKeyDictionary[AssetGraphView, Periods] = WeakKeyDictionary()

    def read(self, view: AssetGraphView) -> Periods:
        """The periods to refresh, as read when the tick first asked."""
        if view not in self._read:
            housekeeping(view.instance)
            with self._opened() as resource:
                self._read[view] = periods_to_refresh(
                    resource, sensor_state(view.instance, CALCULATION_GAPS, by_default=True)
                )
        return self._read[view]


def periods_to_refresh(resource: ReconResource, state: SensorState) -> Periods:
    """The periods of each summary that differ from their rows and that no gap sensor is about to change again.

    Totals that are evidence of lost records stay as they are until their days are proven.

    If several years have such periods, the years take turns, one a tick, so that a tick stays short.
    """
    now = resource.now()
    with transactions.reading(resource.engine) as connection:
        days = summed_days(connection, resource.kept_days())
    if days is None:
        return dict.fromkeys(SUMMARY_NAMES, frozenset())
    years = sorted({period[: YEAR.length] for periods in _stale(resource, days).values() for period in periods})
    if not years:
        return dict.fromkeys(SUMMARY_NAMES, frozenset())
    of_year = Days.of_year(years[int(now.timestamp() // TURN_SECONDS) % len(years)])
    span = Days(max(of_year.first, days.first), min(of_year.last, days.last))
    before = _stale(resource, span)
    changing = _changing_days(resource, span, now, state)
    # A run may have ended between the readings, so refresh only what is stale before and after.
    after = _stale(resource, span)
    found = settlement_days(resource.engine, resource.scope(span), now)
    kept = {
        *found.kept_periods,
        *(day.isoformat() for day in (*found.suspicious_days, *found.days_in(DayState.ADOPTED_EMPTY))),
    }
    return {
        layer.name: frozenset(
            period
            for period in (before[layer] & after[layer]) - kept
            if not changing[layer in ENERGY].intersection(days_of(layer.grain, period))
        )
        for layer in SUMMARIES
    }


def _stale(resource: ReconResource, days: Days) -> dict[Layer, set[str]]:
    found = stale_summaries(resource.engine, resource.scope(days))
    return {layer: {key.split()[0] for key in found[layer.name]} for layer in SUMMARIES}


def _changing_days(resource: ReconResource, days: Days, now: datetime, state: SensorState) -> Mapping[bool, set[date]]:
    """The days that the gap sensor will change: all of them (False), and those whose records it will change (True)."""
    if not state.is_running:
        return {False: set(), True: set()}
    gaps, unknown = find_gaps(resource, days, now)
    changing = {day: gap for day, gap in gaps.items() if day not in unknown and day not in state.given_up}
    return {False: set(changing), True: {day for day, gap in changing.items() if gap.records}}


def automated(opened: Opener) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """A function that gives the specs of summaries their condition."""
    reader = SummaryReader(opened)

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        layer = SUMMARY_KEYS.get(spec.key)
        return spec if layer is None else spec.replace_attributes(automation_condition=refreshed(layer, reader))

    return with_condition


def refreshed(layer: Layer, reader: SummaryReader) -> dg.AutomationCondition[dg.AssetKey]:
    """The rows differ, and nothing works on them or upstream; after a failure, not before the next full hour."""
    idle = ~When.in_progress() & ~When.any_deps_in_progress()
    again = ~When.execution_failed() | When.cron_tick_passed("0 * * * *")
    return RowsDiffer(layer, reader) & idle & again


def summary_automation(tick_seconds: int) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions."""
    return dg.AutomationConditionSensorDefinition(
        SUMMARY_AUTOMATION,
        target=dg.AssetSelection.assets(*SUMMARY_KEYS),
        use_user_code_server=True,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=tick_seconds,
        run_tags={ASKED_BY: SUMMARY_AUTOMATION},
        description="Refreshes the summaries of the days, months and years that differ from their rows.",
    )
