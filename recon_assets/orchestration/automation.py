"""Declarative automation: summaries are refreshed when they differ from their rows, and only then.

Belongs here: the condition, and who evaluates it. Does not: what differs (reconcile/census.py).

Dagster's own conditions look at events: they miss what happened before their first tick and refresh what did not
change. This one asks the database. However old a changed day is, and whoever changed it, exactly its day, month and
year are refreshed; a month that is not over yet, too.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from weakref import WeakKeyDictionary

import dagster as dg
from dagster import AutomationCondition as When
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from recon_assets.database import transactions
from recon_assets.domain.settlement import FIRST_DAY, Days, london_day
from recon_assets.orchestration.active_runs import ASKED_BY, CALCULATION_GAPS
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.partitions import days_of
from recon_assets.orchestration.resource import Opener, ReconResource
from recon_assets.orchestration.retry_state import SensorState, sensor_state
from recon_assets.orchestration.sensors.calculation_gaps import find_gaps
from recon_assets.reconcile.layer import YEAR, Layer
from recon_assets.reconcile.layers import ENERGY, SUMMARIES
from recon_assets.reconcile.read_state import stale_summaries
from recon_assets.reconcile.state import summed_days

SUMMARY_AUTOMATION = "summary_automation"
TURN_SECONDS = 60

SUMMARY_NAMES = [layer.name for layer in SUMMARIES]
SUMMARY_KEYS = {dg.AssetKey(layer.name): layer for layer in SUMMARIES}

Periods = Mapping[str, frozenset[str]]
"""The periods (2025-06-03, 2025-06, 2025) of each summary table."""


class RowsDiffer(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of a summary whose rows are not the sums of the rows below."""

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
        """Asks the database, once for all summaries of a tick."""
        periods = self._reader.read(context.asset_graph_view)[self._layer.name]
        differing = context.candidate_subset.compute_intersection_with_partition_keys(set(periods))
        return dg.AutomationResult(context=context, true_subset=differing)


class SummaryReader:
    """Reads which summaries are to be refreshed, once a tick."""

    def __init__(self, opened: Opener) -> None:
        self._opened = opened
        self._read: WeakKeyDictionary[AssetGraphView, Periods] = WeakKeyDictionary()

    def read(self, view: AssetGraphView) -> Periods:
        """The periods to refresh, as they were when a tick first asked."""
        if view not in self._read:
            housekeeping(view.instance)
            with self._opened() as resource:
                self._read[view] = periods_to_refresh(
                    resource, sensor_state(view.instance, CALCULATION_GAPS, by_default=True)
                )
        return self._read[view]


def periods_to_refresh(resource: ReconResource, state: SensorState) -> Periods:
    """The periods of each summary that differ from their rows and that no gap sensor is about to change again.

    Where several years have some, one of them has its turn, so that a tick stays short.
    """
    now = resource.now()
    with transactions.reading(resource.engine) as connection:
        stored = summed_days(connection)
    if stored is None:
        return dict.fromkeys(SUMMARY_NAMES, frozenset())
    days = Days(max(stored.first, FIRST_DAY), max(min(stored.last, london_day(now)), FIRST_DAY))
    years = sorted({period[: YEAR.length] for periods in _stale(resource, days).values() for period in periods})
    if not years:
        return dict.fromkeys(SUMMARY_NAMES, frozenset())
    of_year = Days.of_year(years[int(now.timestamp() // TURN_SECONDS) % len(years)])
    span = Days(max(of_year.first, days.first), min(of_year.last, days.last))
    before = _stale(resource, span)
    changing = _changing_days(resource, span, now, state)
    # What was filled meanwhile differed before, and lacks nothing now: only what differs afterwards, too, is refreshed.
    after = _stale(resource, span)
    return {
        layer.name: frozenset(
            period
            for period in before[layer] & after[layer]
            if not changing[layer in ENERGY].intersection(days_of(layer.grain, period))
        )
        for layer in SUMMARIES
    }


def _stale(resource: ReconResource, days: Days) -> dict[Layer, set[str]]:
    found = stale_summaries(resource.engine, resource.scope(days))
    return {layer: {key.split()[0] for key in found[layer.name]} for layer in SUMMARIES}


def _changing_days(resource: ReconResource, days: Days, now: datetime, state: SensorState) -> Mapping[bool, set[date]]:
    """The days whose rows the gap sensor is to change: all of them, and (True) those whose records it is to change."""
    if not state.is_running:
        return {False: set(), True: set()}
    gaps, unknown = find_gaps(resource, days, now)
    mended = {day: gap for day, gap in gaps.items() if day not in unknown and day not in state.given_up}
    return {False: set(mended), True: {day for day, gap in mended.items() if gap.records}}


def automated(opened: Opener) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """Gives the summaries their condition."""
    reader = SummaryReader(opened)

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        layer = SUMMARY_KEYS.get(spec.key)
        return spec if layer is None else spec.replace_attributes(automation_condition=refreshed(layer, reader))

    return with_condition


def refreshed(layer: Layer, reader: SummaryReader) -> dg.AutomationCondition[dg.AssetKey]:
    """The rows differ, nobody is at work on them or below; after a failure again at the next full hour."""
    idle = ~When.in_progress() & ~When.any_deps_in_progress()
    again = ~When.execution_failed() | When.cron_tick_passed("0 * * * *")
    return RowsDiffer(layer, reader) & idle & again


def summary_automation(tick_seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Evaluates the conditions."""
    return dg.AutomationConditionSensorDefinition(
        SUMMARY_AUTOMATION,
        target=dg.AssetSelection.assets(*SUMMARY_KEYS),
        use_user_code_server=True,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=tick_seconds,
        run_tags={ASKED_BY: SUMMARY_AUTOMATION},
        description="Refreshes the summaries of the days, months and years that differ from their rows.",
    )
