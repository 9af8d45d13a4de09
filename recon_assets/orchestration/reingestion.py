"""The job that reads one settlement day again and converges everything above it, up to its year, in one run."""

from datetime import date

import dagster as dg
from pydantic import Field

from recon_assets.domain.settlement import parse_day, parse_periods, periods_in
from recon_assets.errors import UsageError
from recon_assets.orchestration.partitions import days_of
from recon_assets.orchestration.pools import ELEXON
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.run_config import ConvergeConfig
from recon_assets.orchestration.specs import layer_assets
from recon_assets.orchestration.steps import at_work, converge_spans, fail_for, read_days
from recon_assets.reconcile.layer import DAY, MONTH, YEAR


class Reingestion(dg.Config):
    """Which day is read again, and how far that cascades."""

    settlement_date: str = Field(description="The settlement day, YYYY-MM-DD.")
    periods: str | None = Field(default=None, description="Only these settlement periods, for example 44-48.")
    bitcoin: bool = Field(default=True, description="Whether calculations and their sums follow.")


@dg.op(required_resource_keys={RESOURCE_KEY}, pool=ELEXON)
def reingest(context: dg.OpExecutionContext, config: Reingestion) -> None:
    """Reads the day from Elexon again, then converges its records, calculations and summaries up to its year."""
    with at_work(context) as resource:
        day = parse_day(config.settlement_date)
        periods = None
        if config.periods is not None:
            first, last = parse_periods(config.periods)
            if last > periods_in(day):
                raise UsageError(f"{day} has settlement periods 1 to {periods_in(day)}, not {last}")
            periods = range(first, last + 1)
        reingest_whole_day(context, resource, day, periods, bitcoin=config.bitcoin)


def reingest_whole_day(
    context: dg.OpExecutionContext,
    resource: ReconResource,
    day: date,
    periods: range | None = None,
    *,
    bitcoin: bool = True,
) -> None:
    """Reads the day (or some settlement periods of it) again, then converges it up to its year; dg.Failure if not."""
    _, failures = read_days(context, resource, [day], periods)
    fail_for(failures, 1)
    for grain in (DAY, MONTH, YEAR):
        assets = [asset for asset in layer_assets(grain) if bitcoin or asset.group != "bitcoin"]
        failures |= converge_spans(context, resource, assets, [days_of(grain, grain.label(day))], ConvergeConfig())
    fail_for(failures, 1)


@dg.job(description="Reads one settlement day again from Elexon, and cascades up to its year.")
def reingest_day() -> None:
    """A single step, so that no other run comes between the day's bids and the layers above them."""
    reingest()
