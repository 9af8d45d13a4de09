"""The runs that are queued or running, and the days that they will make."""

from collections.abc import Collection, Mapping
from datetime import date

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from recon_assets.domain.settlement import Days

ASKED_BY = "recon/asked_by"
"""The tag that names the sensor which asked for a run; retries of the run inherit it."""

FROM_ARCHIVE = "recon/from_archive"
"""The tag of a run that reads days from the archive: only what counts as wind has changed since they were read."""

CALCULATION_GAPS = "calculation_gap_sensor"
INGEST_GAPS = "ingest_gap_sensor"
"""The sensors that ask for runs of days."""

RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
PARTITION_TAG = "dagster/partition"

ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def active_runs(instance: dg.DagsterInstance, asked_by: str | None = None) -> list[dg.DagsterRun]:
    """The runs that are queued or running: all, or only those that one sensor asked for."""
    tags = {} if asked_by is None else {ASKED_BY: asked_by}
    return list(instance.get_runs(filters=dg.RunsFilter(statuses=ACTIVE, tags=tags)))


def active_days(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, assets: Collection[dg.AssetKey]
) -> set[date]:
    """The days of some daily assets that an unfinished run or backfill will make."""
    found: set[date] = set()
    for run in active_runs(instance):
        if run.asset_selection is None or not run.asset_selection.isdisjoint(assets):
            span = days_of_tags(run.tags)
            found |= set(span or ())
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        if not backfill.is_asset_backfill:
            continue
        asked = backfill.get_asset_backfill_data(repository.asset_graph).target_subset
        for key in set(assets).intersection(asked.partitions_subsets_by_asset_key):
            partitions = asked.partitions_subsets_by_asset_key[key].get_partition_keys()
            found |= {date.fromisoformat(partition) for partition in partitions}
    return found


def days_of_tags(tags: Mapping[str, str]) -> Days | None:
    """The days of a run, from its tags; None if the run has no partitions, or a month or a year."""
    first, last = (tags.get(tag, tags.get(PARTITION_TAG)) for tag in RANGE_TAGS)
    if first is None or last is None:
        return None
    try:
        return Days(date.fromisoformat(first), date.fromisoformat(last))
    except ValueError:  # a month (2025-06) or a year (2025)
        return None
