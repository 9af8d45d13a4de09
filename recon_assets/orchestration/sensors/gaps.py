"""What the two gap sensors share: which days are due, which are given up, and how a tick ends."""

from collections.abc import Collection, Mapping
from datetime import date, datetime

import dagster as dg

from recon_assets.domain.settlement import (
    Days,
    contiguous,
)
from recon_assets.orchestration.active_runs import ASKED_BY, RANGE_TAGS, days_of_tags
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.retry_state import RetryState

DAYS_ASKED = 31
"""Most days that one run is asked for: a month, so that what a sensor fills first is soon right."""

RUNS_A_TICK = 6
"""Runs that one tick asks for at most: twice as many as run at once, so that none waits for the next tick."""

NO_REPOSITORY = "sensors are evaluated in a code location"


def due_days(
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


def range_tags(span: Days) -> dict[str, str]:
    """The tags of a run of the days of a span, which are a month at most."""
    assert len(span) <= DAYS_ASKED
    return dict(zip(RANGE_TAGS, (span.first.isoformat(), span.last.isoformat()), strict=True))


def repository_of(context: dg.SensorEvaluationContext) -> dg.RepositoryDefinition:
    """The definitions that a sensor is evaluated with."""
    if context.repository_def is None:
        raise dg.DagsterInvariantViolationError(NO_REPOSITORY)
    return context.repository_def


def format_some_days(days: Collection[date]) -> str:
    """Days for people: how many, and which where these are few spans."""
    spans = contiguous(list(days))
    which = f" ({', '.join(map(str, spans))})" if 0 < len(spans) <= 3 else ""
    return f"{len(days)} day{'' if len(days) == 1 else 's'}{which}"


def tick_result(requests: list[dg.RunRequest], cursor: str, said: str) -> dg.SensorResult:
    """The end of a tick: its runs, or else the sentence that says why there are none."""
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=cursor)
