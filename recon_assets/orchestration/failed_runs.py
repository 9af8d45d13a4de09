"""Why a run failed: the reason of each day, or of the run.

Belongs here: reading a run's events. Does not: alerting (problems.py) and asking again (attempts.py).
"""

from datetime import date

import dagster as dg

LONGEST_REASON = 300
"""Characters of a reason that a cursor or a message carries."""


def reasons_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, dict[date, str]]:
    """The first reason of a failed run, and the reason of each day that the run named."""
    first, of_days = "", {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        data = entry.get_dagster_event().step_failure_data
        failure = data.user_failure_data
        said = (failure.description if failure else None) or (data.error.message if data.error else None)
        first = first or _one_line(said or "")
        for label, value in (failure.metadata if failure else {}).items():
            try:
                of_days[date.fromisoformat(label)] = _one_line(str(value.value))
            except ValueError:  # not about a day
                continue
    if not first:
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE):
            first = first or _one_line(entry.get_dagster_event().message or entry.user_message)
    return first or "the run failed", of_days


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 4]} ..."
