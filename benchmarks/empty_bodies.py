"""The three calculation assets without any work, to measure how long Dagster itself takes for a backfill."""

from collections.abc import Iterator

import dagster as dg

from recon_assets.domain.mining import MODELS
from recon_assets.orchestration.assets import RANGES
from recon_assets.orchestration.partitions import DAYS
from recon_assets.orchestration.specs import calculations_key


@dg.multi_asset(
    specs=[dg.AssetSpec(calculations_key(model), partitions_def=DAYS) for model in MODELS],
    can_subset=True,
    backfill_policy=RANGES,
)
def empty_bodies(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    """Materializes the selected assets."""
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(asset_key=key)


defs = dg.Definitions(assets=[empty_bodies], executor=dg.in_process_executor)
