"""The sensors that find days that are not right, or were never read, and ask runs to fill them.

Belongs here: which runs, and when. Does not: what is right (reconcile/), and the work (assets.py).
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta

import dagster as dg

from recon_assets.database import transactions
from recon_assets.domain.difficulty import DifficultyHistory
from recon_assets.domain.settlement import (
    FIRST_DAY,
    PUBLICATION_DELAY,
    Days,
    contiguous,
    day_starts_at,
    due_periods,
    london_day,
    periods_in,
)
from recon_assets.orchestration.active_runs import ASKED_BY, RANGE_TAGS, active_days, active_runs, days_of_tags
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.jobs import DIFFICULTY_JOB, INGEST_JOB, LAYER_JOBS
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import RetryState, month_spans, read_cursor, write_cursor
from recon_assets.orchestration.specs import WIND_BIDS, calculations_key
from recon_assets.reconcile.constraints import constraints_fingerprint
from recon_assets.reconcile.gaps import Gap, GapRange, calculation_gaps, ranges
from recon_assets.reconcile.layer import DAY
from recon_assets.reconcile.layers import CURTAILMENT
from recon_assets.reconcile.read_state import reconciled_state, settlement_days
from recon_assets.reconcile.scope import difficulty_history
from recon_assets.reconcile.state import DayState, first_day, last_day

CALCULATION_GAPS = "calculation_gap_sensor"
INGEST_GAPS = "ingest_gap_sensor"

DAYS_ASKED = 31
"""Most days that one run is asked for: a month, so that what a sensor fills first is soon right."""

RUNS_A_TICK = 6
"""Runs that one tick asks for at most: twice as many as run at once, so that none waits for the next tick."""

PAUSES = (timedelta(),) * 3
"""A gap is tried three times: what a chunk's own second try and its halves do not cure may be cured once by a restart,
a freed lock or a grown disk, and hardly by a fourth try within minutes."""

PATIENT_PAUSES = (timedelta(), timedelta(minutes=10), timedelta(hours=1))
"""Before each reading of a day. The client has then tried every request five times already: a source that is down
needs time, not another try."""

NO_REPOSITORY = "sensors are evaluated in a code location"


def calculation_gap_sensor(tick_seconds: int) -> dg.SensorDefinition:
    """Fills records and calculations from what is stored."""
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
    """Reads one year of the state; a tick on four years of history stays below 3 s that way."""
    housekeeping(context.instance)
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    now, at = resource.now(), read_cursor(context.cursor).get("year")
    with transactions.reading(resource.engine) as connection:
        first, last = first_day(connection), last_day(connection)
    if first is None or last is None:
        return dg.SkipReason("Nothing is stored yet.")
    years = range(last.year, first.year - 1, -1)
    year = at if isinstance(at, int) and at in years else last.year
    days = Days(max(first, date(year, 1, 1)), min(last, date(year, 12, 31)))
    # Before the rows: a run that ends in between has filled what it was asked for, and is not to be asked again.
    in_flight = active_days(context.instance, _repository(context), [_records(), *_calculations(resource)])
    gaps, unknown = find_gaps(resource, days, now)

    retry_state = RetryState.load(PAUSES, context.cursor)
    retry_state.forget(days, gaps)
    ready = {day: gap.fingerprint for day, gap in gaps.items() if day not in unknown}
    due = _due(retry_state, ready, in_flight, context.instance, CALCULATION_GAPS, now)
    asked = ranges(gaps, due)[:RUNS_A_TICK]
    for span in asked:
        for day in span.days:
            retry_state.ask(day, ready[day], now)
    requests = [_convergence(span) for span in asked]
    if unknown and resource.settings.mempool_api_url is not None:
        hour = now.strftime("%Y-%m-%dT%H")
        requests.append(dg.RunRequest(run_key=f"difficulty {hour}", job_name=DIFFICULTY_JOB.name))
    following = year - 1 if year - 1 in years else last.year
    said = f"{days}: {_format(gaps)} not right, {_format(in_flight & set(gaps))} in flight; {retry_state}."
    if unknown:
        said += f" The difficulty of {_format(unknown)} is not known."
    return _result(requests, write_cursor(year=following, days=retry_state.dump()), said)


def ingest_gap_sensor(tick_seconds: int, *, starts: bool) -> dg.SensorDefinition:
    """Reads what was never read; `starts` says whether it runs where nobody switched it."""
    return dg.SensorDefinition(
        name=INGEST_GAPS,
        job=INGEST_JOB,
        evaluation_fn=find_unread_days,
        required_resource_keys={RESOURCE_KEY},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if starts else dg.DefaultSensorStatus.STOPPED,
        description="Asks for runs that read settlement days which were never ingested, or not whole, from Elexon (or "
        "the recordings): the newest first, at most a month in one run, one run at a time.",
    )


def find_unread_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """The days that the source can have are those that are over and published, or recorded."""
    housekeeping(context.instance)
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    now = resource.now()
    days = Days(FIRST_DAY, london_day(now) - timedelta(days=1))
    in_flight = active_days(context.instance, _repository(context), [WIND_BIDS])
    found = settlement_days(resource.engine, resource.scope(days), now)
    can_have = resource.elexon.source.can_have
    unread = {
        day: f"{state}:{','.join(map(str, found.unproven.get(day, ())))}"
        for day, state in found.days.items()
        if state in (DayState.NOT_INGESTED, DayState.INCOMPLETE)
        and len(due_periods(day, now)) == periods_in(day)
        and can_have(day)
    }
    retry_state = RetryState.load(PATIENT_PAUSES, context.cursor)
    retry_state.forget(days, unread)
    due = _due(retry_state, unread, in_flight, context.instance, INGEST_GAPS, now)
    said = f"{_format(unread)} to be read, {_format(in_flight & set(unread))} in flight; {retry_state}."
    spans = [] if active_runs(context.instance, INGEST_GAPS) else month_spans(due)[:1]
    for span in spans:
        for day in span:
            retry_state.ask(day, unread[day], now)
    requests = [dg.RunRequest(job_name=INGEST_JOB.name, tags={**_range(span), ASKED_BY: INGEST_GAPS}) for span in spans]
    return _result(requests, write_cursor(days=retry_state.dump()), said)


def find_gaps(resource: ReconResource, days: Days, now: datetime) -> tuple[dict[date, Gap], set[date]]:
    """What of the days' records and calculations is not right; and which of these days lack their difficulty."""
    state = reconciled_state(resource.engine, resource.scope(days), now, ())
    with transactions.reading(resource.engine) as connection:
        gaps = calculation_gaps(state, constraints_fingerprint(connection))
        history = difficulty_history(connection) if gaps else None
    return gaps, {day for day in gaps if history is not None and _is_unknown(history, day, now)}


def _is_unknown(history: DifficultyHistory, day: date, now: datetime) -> bool:
    """Whether published periods of a day lack their difficulty."""
    published_until = min(day_starts_at(day + timedelta(days=1)), now - PUBLICATION_DELAY)
    return not history.covers(day) and history.known_until < published_until


def _due(
    retry_state: RetryState,
    gaps: Mapping[date, str],
    in_flight: Collection[date],
    instance: dg.DagsterInstance,
    sensor: str,
    now: datetime,
) -> list[date]:
    """The days that may be asked for; those that were tried often enough are given up, with their last reason."""
    idle = {day: content for day, content in gaps.items() if day not in in_flight}
    exhausted = [day for day, content in idle.items() if retry_state.is_exhausted(day, content)]
    if exhausted:
        reasons = _last_reasons(instance, sensor)
        for day in exhausted:
            retry_state.give_up(day, reasons.get(day, "its runs ended without a reason"))
    return [day for day, content in idle.items() if retry_state.is_due(day, content, now)]


def _last_reasons(instance: dg.DagsterInstance, sensor: str) -> dict[date, str]:
    """The newest reason of each day that runs of a sensor failed for."""
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags={ASKED_BY: sensor})
    found: dict[date, str] = {}
    # The runs of some ticks: a day that is given up failed in one of the last.
    for run in instance.get_runs(filters=failed, limit=5 * RUNS_A_TICK):
        reason, of_days = reasons_of(instance, run)
        for day in days_of_tags(run.tags) or ():
            found.setdefault(day, of_days.get(day, reason))
    return found


def _convergence(span: GapRange) -> dg.RunRequest:
    """The run that fills a range: exactly the records and models that are not right."""
    keys = [*([_records()] if span.records else []), *(calculations_key(model) for model in sorted(span.models))]
    return dg.RunRequest(
        job_name=LAYER_JOBS[DAY].name,
        asset_selection=keys,
        asset_check_keys=[],  # they speak of the whole history: the audit sensor has them evaluated once in the end
        tags={**_range(span.days), ASKED_BY: CALCULATION_GAPS},
    )


def _range(span: Days) -> dict[str, str]:
    assert len(span) <= DAYS_ASKED
    return dict(zip(RANGE_TAGS, (span.first.isoformat(), span.last.isoformat()), strict=True))


def _records() -> dg.AssetKey:
    return dg.AssetKey(CURTAILMENT.name)


def _calculations(resource: ReconResource) -> list[dg.AssetKey]:
    return [calculations_key(model) for model in resource.scope(Days(FIRST_DAY, FIRST_DAY)).models]


def _repository(context: dg.SensorEvaluationContext) -> dg.RepositoryDefinition:
    if context.repository_def is None:
        raise dg.DagsterInvariantViolationError(NO_REPOSITORY)
    return context.repository_def


def _format(days: Collection[date]) -> str:
    """Days for people: how many, and which where these are few spans."""
    spans = contiguous(list(days))
    which = f" ({', '.join(map(str, spans))})" if 0 < len(spans) <= 3 else ""
    return f"{len(days)} day{'' if len(days) == 1 else 's'}{which}"


def _result(requests: list[dg.RunRequest], cursor: str, said: str) -> dg.SensorResult:
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=cursor)
