"""Finds what is broken now: failed runs, failed checks, gaps that a sensor gave up, and sources without news."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from recon_assets.database import transactions
from recon_assets.domain.difficulty import with_packaged
from recon_assets.domain.settlement import Days, contiguous, london_day
from recon_assets.ingest.reference import stored_retargets
from recon_assets.orchestration import events
from recon_assets.orchestration.active_runs import ASKED_BY, CALCULATION_GAPS, INGEST_GAPS, PARTITION_TAG, RANGE_TAGS
from recon_assets.orchestration.checks import CHECKS, newest_materialization
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.incidents import AlertCondition
from recon_assets.orchestration.jobs import DAYS_JOBS, LAYER_JOBS, REINGEST_JOB
from recon_assets.orchestration.partitions import PARTITIONS, days_of
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.retry_state import SensorState, sensor_state
from recon_assets.orchestration.routine_jobs import daily_check, reconcile_range
from recon_assets.orchestration.specs import (
    LAYER_ASSETS,
    NETWORK_DIFFICULTY,
    WIND_BIDS,
    WIND_GENERATION,
    layer_assets,
)
from recon_assets.orchestration.verification_job import verify_days
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain
from recon_assets.reconcile.layers import CALCULATIONS
from recon_assets.reconcile.state import last_proven_day

FAILED_RUN = "a run failed"
FAILED_CHECK = "a check does not hold"
GIVEN_UP = "given up"
STALE_SOURCE = "no news from the source"

ASSETS_OF_JOB: Mapping[str, Collection[dg.AssetKey]] = {
    **DAYS_JOBS,
    **{LAYER_JOBS[grain].name: [asset.key for asset in layer_assets(grain)] for grain in (MONTH, YEAR)},
    REINGEST_JOB.name: [WIND_BIDS, *DAYS_JOBS[LAYER_JOBS[DAY].name]],
    verify_days.name: [WIND_BIDS],
}
"""The assets that a job's run makes for its partitions, if the run does not name its own."""

GRAINS: Mapping[dg.AssetKey, Grain] = {
    WIND_BIDS: DAY,
    WIND_GENERATION: DAY,
    **{asset.key: asset.layer.grain for asset in LAYER_ASSETS},
}
"""Every partitioned asset, upstream first."""

ROUTINES = (daily_check.name, reconcile_range.name)
"""Jobs that do their work by starting further runs."""

LOOK_BACK = timedelta(days=14)
"""Older failed runs are ignored: a failure that nobody fixed in two weeks is no news."""

SETTLING = timedelta(minutes=5)
"""A check must fail for this long before people are told: sensors fix what they can within a few ticks."""

MOST_SPANS = 5
"""The most messages about one check."""

LATEST = timedelta(days=3)
"""How old the newest ingested day, and the last reading of the difficulty, may be: a weekend plus a day's outage."""


def alert_conditions(instance: dg.DagsterInstance, resource: ReconResource, now: datetime) -> list[AlertCondition]:
    """Everything broken that nothing will retry."""
    states = {
        CALCULATION_GAPS: sensor_state(instance, CALCULATION_GAPS, by_default=True),
        INGEST_GAPS: sensor_state(instance, INGEST_GAPS, by_default=False),
    }
    return [
        *failed_runs(instance, now),
        *failed_checks(instance, states.values(), now),
        *(condition for sensor, state in states.items() for condition in given_up_gaps(sensor, state)),
        *stale_sources(resource, now),
    ]


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> Iterator[AlertCondition]:
    """Failed runs that no later run made good.

    A failed run of days gives the days that are still not made, each under the lowest asset that it lacks. A run that
    a gap sensor asked for, or that Dagster will start again, is not reported: it is retried, and a last failure shows
    as a given-up gap or as a failed run without a retry.
    """
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    for record in instance.get_run_records(filters=failed):
        run = record.dagster_run
        if run.tags.get(ASKED_BY) in (CALCULATION_GAPS, INGEST_GAPS) or run.tags.get("dagster/will_retry") == "true":
            continue
        reason, of_days = reasons_of(instance, run)
        if of_days and run.job_name in ROUTINES:
            continue  # the runs that it started are reported themselves
        grain, partitions = _partitions_of(run)
        if grain is DAY and of_days:
            partitions = [day.isoformat() for day in of_days]
        about = run.asset_selection or ASSETS_OF_JOB.get(run.job_name, ())
        assets = [key for key, of_asset in GRAINS.items() if of_asset is grain and key in about]
        if not partitions or not assets:
            if not _has_succeeded_since(instance, record):
                mend = f"look at run {run.run_id[:8]} in the Dagster UI, and launch it again"
                yield AlertCondition(run.job_name, FAILED_RUN, None, reason, mend)
            continue
        lacking = {
            day: key
            for partition, key in _lacking(instance, record, assets, partitions).items()
            for day in days_of(grain, partition)
        }
        for asset in dict.fromkeys(lacking.values()):
            for span in contiguous([day for day, lowest in lacking.items() if lowest == asset]):
                yield AlertCondition(
                    asset.to_user_string(), FAILED_RUN, span, of_days.get(span.first, reason), _reconcile(span)
                )


def failed_checks(
    instance: dg.DagsterInstance, states: Iterable[SensorState], now: datetime
) -> Iterator[AlertCondition]:
    """Checks whose last evaluation failed.

    A failure is not news yet in three cases: a gap sensor works on its days or gave them up; the evaluation is so new
    that a sensor may still fix what it found; or something was materialized since, so that the check will run again.
    """
    asked = set().union(*(state.asked for state in states))
    made = newest_materialization(instance) or 0.0
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(CHECKS))
    for key, record in found.items():
        event = record.event.dagster_event if record.event else None
        if record.status is not AssetCheckExecutionRecordStatus.FAILED or event is None or record.event is None:
            continue
        evaluation = event.asset_check_evaluation_data
        if evaluation.severity is not dg.AssetCheckSeverity.ERROR:
            continue
        is_settled = made < record.event.timestamp < (now - SETTLING).timestamp()
        asset, kind = key.asset_key.to_user_string(), f"{FAILED_CHECK}: {key.name}"
        reason, days = evaluation.description or key.name, _days_of(evaluation)
        for among, is_news in ((days - asked, is_settled), (days & asked, False)):
            for span in _few_spans(among):
                mend = f"recon analyze --from {span.first} --to {span.last}"
                yield AlertCondition(asset, kind, span, reason, mend, is_news)
        if not days:
            yield AlertCondition(asset, kind, None, reason, "recon analyze", is_settled)


def given_up_gaps(sensor: str, state: SensorState) -> Iterator[AlertCondition]:
    """Days that a gap sensor no longer asks runs for, as long as they are not right."""
    asset = WIND_BIDS if sensor == INGEST_GAPS else dg.AssetKey(CALCULATIONS.name)
    for span in contiguous(list(state.given_up)):
        mend = f"recon critical {span.first}" if len(span) == 1 and sensor == CALCULATION_GAPS else _reconcile(span)
        yield AlertCondition(asset.to_user_string(), GIVEN_UP, span, state.given_up[span.first], mend)


def stale_sources(resource: ReconResource, now: datetime) -> Iterator[AlertCondition]:
    """Sources from which nothing was read for days, though they publish daily; recordings never have anything new."""
    if resource.settings.recordings is not None:
        return
    with transactions.reading(resource.engine) as connection:
        newest = last_proven_day(connection)
        observed = max(retarget.observed_at for retarget in with_packaged(stored_retargets(connection)))
    if newest is None:
        return
    if london_day(now) - newest > LATEST + timedelta(days=1):
        reason = f"The newest day that was read from Elexon is {newest}."
        yield AlertCondition(
            WIND_BIDS.to_user_string(), STALE_SOURCE, None, reason, "recon doctor, then recon daily-check"
        )
    if resource.settings.mempool_api_url is not None and now - observed > LATEST:
        reason = f"The difficulty was last read at {observed:%Y-%m-%dT%H:%MZ}."
        mend = "recon doctor, then launch the job refresh_difficulty"
        yield AlertCondition(NETWORK_DIFFICULTY.to_user_string(), STALE_SOURCE, None, reason, mend)


def _partitions_of(run: dg.DagsterRun) -> tuple[Grain, Sequence[str]]:
    """The partitions of a run, from its tags (none if they name none), and their grain."""
    first, last = (run.tags.get(tag, run.tags.get(PARTITION_TAG)) for tag in RANGE_TAGS)
    if first is None or last is None:
        return DAY, ()
    grain = _grain_of(first)
    return grain, PARTITIONS[grain].get_partition_keys_in_range(dg.PartitionKeyRange(first, last))


def _grain_of(period: str) -> Grain:
    """The grain of a partition key: 2025-06-06 is a day, 2025-06 a month, 2025 a year."""
    return next(grain for grain in (DAY, MONTH, YEAR) if grain.length == len(period))


def _lacking(
    instance: dg.DagsterInstance, failed: dg.RunRecord, assets: Sequence[dg.AssetKey], partitions: Collection[str]
) -> dict[str, dg.AssetKey]:
    """The lowest asset of each partition that was not made since the run began; complete partitions are left out.

    For a failed comparison with Elexon, a comparison after the run counts as well. Only those after its end count: the
    failed run itself observes the days that differ.
    """
    # By time, not by event id: the default storage numbers the events of each run from 1.
    began = failed.start_time or failed.create_timestamp.timestamp()
    lacking: dict[str, dg.AssetKey] = {}
    for key in assets:
        keys = list(partitions)
        made = dg.AssetRecordsFilter(key, asset_partitions=keys, after_timestamp=began)
        good = {record.partition_key for record in events.every_record(instance.fetch_materializations, made)}
        if failed.dagster_run.job_name == verify_days.name:
            compared = dg.AssetRecordsFilter(key, asset_partitions=keys, after_timestamp=failed.end_time)
            good |= {record.partition_key for record in events.every_record(instance.fetch_observations, compared)}
        for partition in set(partitions) - good:
            lacking.setdefault(partition, key)
    return lacking


def _has_succeeded_since(instance: dg.DagsterInstance, failed: dg.RunRecord) -> bool:
    """Whether a later run of the same job and partitions succeeded."""
    run = failed.dagster_run
    same = {tag: run.tags[tag] for tag in (*RANGE_TAGS, PARTITION_TAG) if tag in run.tags}
    later = dg.RunsFilter(
        job_name=run.job_name,
        statuses=[dg.DagsterRunStatus.SUCCESS],
        tags=same,
        created_after=failed.create_timestamp,
    )
    return instance.get_runs_count(later) > 0


def _days_of(evaluation: dg.AssetCheckEvaluation) -> set[date]:
    """The days that a check lists as worst; for a listed month or year, all of its days."""
    worst = evaluation.metadata.get("worst")
    found: set[date] = set()
    for record in worst.records if isinstance(worst, dg.TableMetadataValue) else ():
        period = str(record.data.get("settlement_date") or record.data.get("period"))
        found |= set(days_of(_grain_of(period), period))
    return found


def _few_spans(days: Collection[date]) -> list[Days]:
    """The spans of the days; a single span around all of them if there are many, because each span is a message."""
    spans = contiguous(list(days))
    return spans if len(spans) <= MOST_SPANS else [Days(spans[0].first, spans[-1].last)]


def _reconcile(span: Days) -> str:
    return f"recon date {span.first}" if len(span) == 1 else f"recon range {span.first} {span.last}"
