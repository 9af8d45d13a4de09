"""What the two gap sensors share: which days are due, which are given up, and the result of a tick."""

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
"""The most days of one run: a month, so that the first days are soon right."""

RUNS_A_TICK = 6
"""The most runs of one tick: twice as many as run at once, so that no slot waits for the next tick."""

NO_REPOSITORY = "sensors are evaluated in a code location"


def due_days(
    retry_state: RetryState,
    gaps: Mapping[date, str],
    in_flight: Collection[date],
    instance: dg.DagsterInstance,
    sensor: str,
    now: datetime,
) -> list[date]:
    """The days that runs may be asked for; days without attempts left are given up, with their last reason."""
    idle = {day: content for day, content in gaps.items() if day not in in_flight}
    exhausted = [day for day, content in idle.items() if retry_state.is_exhausted(day, content)]
    if exhausted:
        reasons = _last_reasons(instance, sensor)
        for day in exhausted:
            retry_state.give_up(day, reasons.get(day, "its runs ended without a reason"))
    return [day for day, content in idle.items() if retry_state.is_due(day, content, now)]


def _last_reasons(instance: dg.DagsterInstance, sensor: str) -> dict[date, str]:
    """The newest reason why runs of a sensor failed, by day."""
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags={ASKED_BY: sensor})
    found: dict[date, str] = {}
    # Only the runs of the last ticks: a day that is given up now failed in one of them.
    for run in instance.get_runs(filters=failed, limit=5 * RUNS_A_TICK):
        reason, of_days = reasons_of(instance, run)
        for day in days_of_tags(run.tags) or ():
            found.setdefault(day, of_days.get(day, reason))
    return found


def range_tags(span: Days) -> dict[str, str]:
    """The tags of a run of a span of days, which is a month at most."""
    assert len(span) <= DAYS_ASKED
    return dict(zip(RANGE_TAGS, (span.first.isoformat(), span.last.isoformat()), strict=True))


def repository_of(context: dg.SensorEvaluationContext) -> dg.RepositoryDefinition:
    """The repository that a sensor is evaluated in."""
    if context.repository_def is None:
        raise dg.DagsterInvariantViolationError(NO_REPOSITORY)
    return context.repository_def


def format_some_days(days: Collection[date]) -> str:
    """How many days there are, and which, if they are at most three spans."""
    spans = contiguous(list(days))
    which = f" ({', '.join(map(str, spans))})" if 0 < len(spans) <= 3 else ""
    return f"{len(days)} day{'' if len(days) == 1 else 's'}{which}"


def tick_result(requests: list[dg.RunRequest], cursor: str, summary: str) -> dg.SensorResult:
    """The result of a tick: its runs, or without any, a sentence that says why."""
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(summary), cursor=cursor)
