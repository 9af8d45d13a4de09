"""Runs as the Dagster UI launches them: any selection of assets, over one partition or a range, in one run.

The runs execute in this process; test_server.py serves the UI itself.
"""

import time

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill

from recon_assets.orchestration.active_runs import RANGE_TAGS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS, layer_assets
from recon_assets.reconcile.layer import DAY
from recon_assets_tests.support.ticks import Sensor

DAILY_LAYERS = [asset.key for asset in layer_assets(DAY)]
DAILY_ASSETS = [WIND_BIDS, *DAILY_LAYERS]


def launch(
    resource: ReconResource, instance: dg.DagsterInstance, assets: list[dg.AssetKey], first: str = "", last: str = ""
) -> dg.ExecuteInProcessResult:
    """Materializes assets in one run: without a partition, of one, or of the range from `first` to `last`."""
    job = build_defs(resource).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=assets,
        partition_key=first if first and not last else None,
        tags=dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else None,
        run_config=QUIET,
        raise_on_error=False,
    )


def reasons(result: dg.ExecuteInProcessResult) -> list[str]:
    """What the UI shows of each step that failed."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return [failure.user_failure_data.description or "" for failure in failures if failure.user_failure_data]


def note_backfill(sensor: Sensor, assets: list[dg.AssetKey], *days: str) -> None:
    """Notes a backfill as the UI does when it is launched; none of its runs has started yet."""
    asked = PartitionBackfill.from_asset_partitions(
        backfill_id="of_the_test",
        asset_graph=sensor.defs.get_repository_def().asset_graph,
        partition_names=days,
        asset_selection=assets,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=sensor.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    sensor.instance.add_backfill(asked)
