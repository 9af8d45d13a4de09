"""The definitions that runs are made from: the assets and their jobs, on a resource."""

from collections.abc import Callable

import dagster as dg

from recon_assets.orchestration.assets import ASSETS
from recon_assets.orchestration.jobs import JOBS
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource, resource_from_environment


def runnable_defs(
    resource: ReconResource | None = None, change: Callable[[dg.AssetSpec], dg.AssetSpec] = lambda spec: spec
) -> dg.Definitions:
    """Assets (each spec passed through `change`) and jobs, on the given resource or, without one, the environment's."""
    definition = resource_from_environment if resource is None else dg.ResourceDefinition.hardcoded_resource(resource)
    # In process: steps are one set-based transaction after another, and a process for each would only add 3 s.
    return dg.Definitions(
        assets=dg.map_asset_specs(change, ASSETS),
        jobs=JOBS,
        resources={RESOURCE_KEY: definition},
        executor=dg.in_process_executor,
    )
