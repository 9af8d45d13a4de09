"""The sensor that finds records and calculations that are not right, and asks for runs that converge them."""

from datetime import date, datetime, timedelta

import dagster as dg

from recon_assets.database import transactions
from recon_assets.domain.difficulty import DifficultyHistory
from recon_assets.domain.settlement import (
    PUBLICATION_DELAY,
    Days,
    day_starts_at,
)
from recon_assets.orchestration.active_runs import ASKED_BY, CALCULATION_GAPS, active_days
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.jobs import DIFFICULTY_JOB, LAYER_JOBS
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import RetryState, read_cursor, write_cursor
from recon_assets.orchestration.sensors.shared import (
    RUNS_A_TICK,
    due_days,
    format_some_days,
    range_tags,
    repository_of,
    tick_result,
)
from recon_assets.orchestration.specs import calculations_key
from recon_assets.reconcile.constraints import constraints_fingerprint
from recon_assets.reconcile.gaps import Gap, GapRange, calculation_gaps, ranges
from recon_assets.reconcile.layer import DAY
from recon_assets.reconcile.layers import CURTAILMENT
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.scope import difficulty_history
from recon_assets.reconcile.state import first_day, last_day

PAUSES = (timedelta(),) * 3
"""Three attempts. Within a run, a failed chunk is already retried and halved. A restart, a freed lock or a larger disk
may then cure it once more; a fourth attempt within minutes would hardly help."""


def calculation_gap_sensor(tick_seconds: int) -> dg.SensorDefinition:
    """The sensor that has records and calculations converged from the stored bids."""
    return dg.SensorDefinition(
        name=CALCULATION_GAPS,
        jobs=[LAYER_JOBS[DAY], DIFFICULTY_JOB],
        evaluation_fn=find_calculation_gaps,
        required_resource_keys={RESOURCE_KEY},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for runs that fill exactly the records and calculations that are missing, wrong or orphaned, "
        "by value, the newest first; one calendar year a tick. Makes no request to Elexon.",
    )


def find_calculation_gaps(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Reads the state of one year per tick, so that a tick on four years of history stays below 3 s."""
    housekeeping(context.instance)
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    now, at = resource.now(), read_cursor(context.cursor).get("year")
    with transactions.reading(resource.engine) as connection:
        kept = resource.kept_days()
        first, last = first_day(connection, kept), last_day(connection, kept)
    if first is None or last is None:
        return dg.SkipReason("Nothing is stored yet.")
    years = range(last.year, first.year - 1, -1)
    year = at if isinstance(at, int) and at in years else last.year
    days = Days(max(first, date(year, 1, 1)), min(last, date(year, 12, 31)))
    # Read before the rows: if a run ends in between, its days still count as in flight and are not asked for again.
    in_flight = active_days(context.instance, repository_of(context), [_records(), *_calculations(resource)])
    gaps, unknown = find_gaps(resource, days, now)

    retry_state = RetryState.load(PAUSES, context.cursor)
    retry_state.forget(days, gaps)
    ready = {day: gap.fingerprint for day, gap in gaps.items() if day not in unknown}
    due = due_days(retry_state, ready, in_flight, context.instance, CALCULATION_GAPS, now)
    asked = ranges(gaps, due)[:RUNS_A_TICK]
    for span in asked:
        for day in span.days:
            retry_state.ask(day, ready[day], now)
    requests = [_convergence(span) for span in asked]
    if unknown and resource.settings.mempool_api_url is not None:
        hour = now.strftime("%Y-%m-%dT%H")
        requests.append(dg.RunRequest(run_key=f"difficulty {hour}", job_name=DIFFICULTY_JOB.name))
    following = year - 1 if year - 1 in years else last.year
    active = in_flight & set(gaps)
    summary = f"{days}: {format_some_days(gaps)} not right, {format_some_days(active)} in flight; {retry_state}."
    if unknown:
        summary += f" The difficulty of {format_some_days(unknown)} is not known."
    return tick_result(requests, write_cursor(year=following, days=retry_state.dump()), summary)


def find_gaps(resource: ReconResource, days: Days, now: datetime) -> tuple[dict[date, Gap], set[date]]:
    """The days whose records or calculations are not right, and those of them whose difficulty is not known."""
    state = reconciled_state(resource.engine, resource.scope(days), now, ())
    with transactions.reading(resource.engine) as connection:
        gaps = calculation_gaps(state, constraints_fingerprint(connection))
        history = difficulty_history(connection) if gaps else None
    return gaps, {day for day in gaps if history is not None and _is_unknown(history, day, now)}


def _is_unknown(history: DifficultyHistory, day: date, now: datetime) -> bool:
    """Whether the difficulty of a published period of the day is not known."""
    published_until = min(day_starts_at(day + timedelta(days=1)), now - PUBLICATION_DELAY)
    return not history.covers(day) and history.known_until < published_until


def _convergence(span: GapRange) -> dg.RunRequest:
    """A run that converges a range: only the records and models that are not right."""
    keys = [*([_records()] if span.records else []), *(calculations_key(model) for model in sorted(span.models))]
    return dg.RunRequest(
        job_name=LAYER_JOBS[DAY].name,
        asset_selection=keys,
        asset_check_keys=[],  # checks cover the whole history: the audit sensor has them evaluated once at the end
        tags={**range_tags(span.days), ASKED_BY: CALCULATION_GAPS},
    )


def _records() -> dg.AssetKey:
    return dg.AssetKey(CURTAILMENT.name)


def _calculations(resource: ReconResource) -> list[dg.AssetKey]:
    return [calculations_key(model) for model in resource.scope(resource.kept_days()).models]
