"""All definitions, put together on a workbench. What each of them is, the other modules of this package say."""

import dagster as dg

from recon_assets.orchestration.assets import ASSETS
from recon_assets.orchestration.jobs import JOBS
from recon_assets.orchestration.workbench import WORKBENCH, Workbench, workbench_from_environment


def build_defs(workbench: Workbench | None = None) -> dg.Definitions:
    """All definitions, on the environment's workbench or on one that is handed in."""
    resource = workbench_from_environment if workbench is None else dg.ResourceDefinition.hardcoded_resource(workbench)
    # Steps are one set-based transaction after another: a process for each would only add its 3 s of start-up.
    return dg.Definitions(assets=ASSETS, jobs=JOBS, resources={WORKBENCH: resource}, executor=dg.in_process_executor)
