"""Why a run failed: the reason of each day, or of the whole run, from the run's events."""

from datetime import date

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

LONGEST_REASON = 300
"""The most characters of a reason, because cursors and messages hold it."""


def reasons_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, dict[date, str]]:
    """The first reason of a failed run, and the reason of each day that the run names."""
    first, of_days = "", {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        failure = data.user_failure_data
        message = (failure.description if failure else None) or _cause_of(data.error)
        first = first or _one_line(message or "")
        for label, value in (failure.metadata if failure else {}).items():
            try:
                of_days[date.fromisoformat(label)] = _one_line(str(value.value))
            except ValueError:  # the label is not a day
                continue
    if not first:  # the run failed outside its steps
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE):
            event = entry.get_dagster_event()
            ended = event.job_failure_data
            message = _cause_of(ended.error if ended else None)
            first = first or _one_line(message or event.message or entry.user_message)
    return first or "the run failed", of_days


def _cause_of(error: SerializableErrorInfo | None) -> str:
    """The message of the innermost of nested errors; the outer ones only say where it happened."""
    while error is not None and error.cause is not None:
        error = error.cause
    return "" if error is None else error.message


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 4]} ..."
