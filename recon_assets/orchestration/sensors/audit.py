"""The sensor that has every check evaluated after work that left the checks out."""

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from recon_assets.orchestration.active_runs import ASKED_BY, active_runs
from recon_assets.orchestration.checks import CHECKS, newest_materialization
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.jobs import AUDIT_JOB
from recon_assets.orchestration.retry_state import read_cursor, write_cursor

AUDITS = "audit_sensor"
ENDED = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)


def audit_sensor(tick_seconds: int) -> dg.SensorDefinition:
    """The sensor that asks for the audit job."""
    return dg.SensorDefinition(
        name=AUDITS,
        job=AUDIT_JOB,
        evaluation_fn=find_unchecked_work,
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has every check evaluated when assets were materialized since, and nothing is queued or running "
        "any more: checks speak of the whole history, so that runs which fill it leave them out.",
    )


def find_unchecked_work(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Asks for an audit after one quiet tick; in that tick, the automation may ask for further runs."""
    housekeeping(context.instance)
    made, evaluated = newest_materialization(context.instance), _oldest_evaluation(context.instance)
    seen = read_cursor(context.cursor).get("made")
    if made is None or evaluated > made:
        return dg.SkipReason("Nothing was made since the last checks.")
    if active_runs(context.instance):
        return dg.SkipReason("Runs are queued or running.")
    cursor = write_cursor(made=made)
    if made != seen:
        return dg.SensorResult(skip_reason=dg.SkipReason("Waits for a quiet minute."), cursor=cursor)
    request = dg.RunRequest(run_key=f"after {made}", tags={ASKED_BY: AUDITS})
    return dg.SensorResult(run_requests=[request], cursor=cursor)


def _oldest_evaluation(instance: dg.DagsterInstance) -> float:
    """The start of the oldest run among those that last evaluated each check; 0 if a check was never evaluated."""
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(CHECKS))
    evaluated = {record.run_id for record in found.values() if record.status in ENDED}
    if any(check not in found or found[check].status not in ENDED for check in CHECKS):
        return 0.0
    # Not the evaluations' own times, which are whole seconds: an evaluation in the same second as the materialization
    # that it checked would look older.
    runs = instance.get_run_records(dg.RunsFilter(run_ids=sorted(evaluated)))
    return min(run.start_time or 0.0 for run in runs) if len(runs) == len(evaluated) else 0.0
