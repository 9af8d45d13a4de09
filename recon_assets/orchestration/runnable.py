"""What a run can be made of: the assets and their jobs, on a workbench."""

from collections.abc import Callable

import dagster as dg

from recon_assets.orchestration.assets import ASSETS
from recon_assets.orchestration.jobs import JOBS
from recon_assets.orchestration.resource import WORKBENCH, Workbench, workbench_from_environment


def runnable_defs(
    workbench: Workbench | None = None, change: Callable[[dg.AssetSpec], dg.AssetSpec] = lambda spec: spec
) -> dg.Definitions:
    """Assets (each spec changed as asked) and jobs, on the environment's workbench or on one that is handed in."""
    resource = workbench_from_environment if workbench is None else dg.ResourceDefinition.hardcoded_resource(workbench)
    # Steps are one set-based transaction after another: a process for each would only add its 3 s of start-up.
    return dg.Definitions(
        assets=dg.map_asset_specs(change, ASSETS),
        jobs=JOBS,
        resources={WORKBENCH: resource},
        executor=dg.in_process_executor,
    )
