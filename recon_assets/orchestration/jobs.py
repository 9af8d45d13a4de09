"""The jobs of the launchpad: they materialize the assets of one partitioning, read a day again, or run the checks.

Checks cover the whole history. Jobs that run month by month therefore leave them to one run at the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from recon_assets.orchestration.reingestion import reingest_day
from recon_assets.orchestration.specs import (
    NETWORK_DIFFICULTY,
    WIND_BIDS,
    WIND_BM_UNITS,
    WIND_GENERATION,
    layer_assets,
)
from recon_assets.reconcile.layer import DAY, MONTH, YEAR

BM_UNITS_JOB = dg.define_asset_job(
    "refresh_bm_units",
    selection=dg.AssetSelection.assets(WIND_BM_UNITS),
    description="The wind BM units, joined to Elexon's reference list.",
)
DIFFICULTY_JOB = dg.define_asset_job(
    "refresh_difficulty",
    selection=dg.AssetSelection.assets(NETWORK_DIFFICULTY),
    description="The difficulty retargets, joined to mempool.space's tail.",
)
INGEST_JOB = dg.define_asset_job(
    "ingest_days",
    selection=dg.AssetSelection.assets(WIND_BIDS).without_checks(),
    description="Wind bids of the days, read from Elexon.",
)
GENERATION_JOB = dg.define_asset_job(
    "read_wind_generation",
    selection=dg.AssetSelection.assets(WIND_GENERATION).without_checks(),
    description="Wind generation of the days, read from Elexon.",
)
LAYER_JOBS = {
    grain: dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*(asset.key for asset in layer_assets(grain))).without_checks(),
        description=description,
    )
    for grain, name, description in (
        (DAY, "converge_days", "Records, calculations and daily summaries of the days."),
        (MONTH, "converge_months", "Monthly summaries."),
        (YEAR, "converge_years", "Yearly summaries."),
    )
}
AUDIT_JOB = dg.define_asset_job(
    "audit_history",
    selection=dg.AssetSelection.all_asset_checks(),
    description="Every check on the whole history, without changing anything.",
)
REINGEST_JOB = reingest_day
# Dagster does not export the type of an asset job.
JOBS: Sequence[Any] = [
    BM_UNITS_JOB,
    DIFFICULTY_JOB,
    INGEST_JOB,
    GENERATION_JOB,
    *LAYER_JOBS.values(),
    REINGEST_JOB,
    AUDIT_JOB,
]
DAYS_JOBS: Mapping[str, Sequence[dg.AssetKey]] = {
    INGEST_JOB.name: [WIND_BIDS],
    GENERATION_JOB.name: [WIND_GENERATION],
    LAYER_JOBS[DAY].name: [asset.key for asset in layer_assets(DAY)],
}
"""The daily assets of the jobs that are launched for a day or a range of days, upstream first."""

CONFIGURED = {
    LAYER_JOBS[DAY].name: "settlement_day_layers",
    REINGEST_JOB.name: "reingest",
    DIFFICULTY_JOB.name: "network_difficulty",
}
"""The step of each job that takes config."""
