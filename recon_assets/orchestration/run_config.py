"""Turns a run and its config in the launchpad into a SpanRunner and a WorkLog."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
from pydantic import Field

from recon_assets.database.limits import WorkLimits
from recon_assets.database.work_log import WorkLog
from recon_assets.domain.settlement import parse_periods
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import LayerAsset
from recon_assets.reconcile.span_runner import SpanRunner

STARTED_BY = ("recon/command", "dagster/sensor_name", "dagster/schedule_name", "dagster/backfill")
"""Tags that say who started a run, the most specific first."""


class ConvergeConfig(dg.Config):
    """How a run goes about its work. What is not given is as the environment says (RECON_BATCH_SIZE and so on)."""

    batch_size: int | None = Field(default=None, ge=1, description="Rows that one transaction may touch at most.")
    pause_seconds: float | None = Field(default=None, ge=0, description="Pause after each chunk.")
    concurrency: int | None = Field(default=None, ge=1, description="Chunks at once.")
    periods_at_first: int | None = Field(
        default=None, ge=1, le=50, description="Settlement periods of the first chunks, for days that are difficult."
    )
    periods: str | None = Field(default=None, description="Only these settlement periods, for example 44-48.")
    farm: str | None = Field(default=None, description="Only this BM unit.")

    def limits(self, default: WorkLimits) -> WorkLimits:
        """The limits: those of the config, else the default ones."""
        names = ("batch_size", "pause_seconds", "concurrency", "periods_at_first")
        given = {name: getattr(self, name) for name in names}
        return replace(default, **{name: value for name, value in given.items() if value is not None})


class DifficultyConfig(dg.Config):
    """Where the difficulty comes from."""

    packaged_only: bool = Field(
        default=False, description="Store the packaged table alone; MEMPOOL_API_URL is not asked."
    )


def span_runner_of(
    resource: ReconResource, assets: Sequence[LayerAsset], config: ConvergeConfig, run: dg.DagsterRun
) -> SpanRunner:
    """The SpanRunner of a run: for the layers of the assets, and only the miner models among the assets."""
    return SpanRunner(
        engine=resource.engine,
        layers=list(dict.fromkeys(asset.layer for asset in assets)),
        scope=lambda days: replace(resource.scope(days), run_id=run.run_id),
        now=resource.now,
        work_log=work_log_of(resource, run),
        limits=config.limits(resource.settings.limits),
        only={asset.model for asset in assets if asset.model is not None},
        periods=None if config.periods is None else parse_periods(config.periods),
        farm=config.farm,
    )


def work_log_of(resource: ReconResource, run: dg.DagsterRun) -> WorkLog:
    """The work log of a run, under the name of whoever started it."""
    by = (run.tags.get(tag) for tag in STARTED_BY)
    return resource.work_log(next(filter(None, by), f"Dagster run {run.run_id[:8]}"))
