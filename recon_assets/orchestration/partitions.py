"""The partitions: days, months and years in London time from RECON_FIRST_DAY on, the running ones included.

Those of the demo home are the days of its recordings, their month and their year.

Dagster fixes partitions when it loads the definitions: another RECON_FIRST_DAY takes effect when they are loaded again.
"""

import os
from datetime import date, timedelta

import dagster as dg

from recon_assets.demo import DEMO_DAYS, DEMO_HOME
from recon_assets.domain.settlement import LONDON, Days, parse_day
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain
from recon_assets.settings import first_kept_day

DAYS_A_RUN = 92
"""The most days of a backfill in one run: a quarter. Three years of calculations took 149 s by quarters and 210 s by
months, because each run starts a process and months need 36 runs. A run that fails keeps the months it has finished."""


def _is_demo() -> bool:
    return DEMO_HOME in os.environ


def _first_day() -> date:
    return DEMO_DAYS.first if _is_demo() else first_kept_day(os.environ)


FIRST_DAY = _first_day()


def _partitions(fmt: str, cron_schedule: str, grain: Grain) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of a grain; without an end, the running one is the last."""
    after = grain.whole(DEMO_DAYS).last + timedelta(days=1)
    return dg.TimeWindowPartitionsDefinition(
        start=FIRST_DAY.strftime(fmt),
        end=after.strftime(fmt) if _is_demo() else None,
        fmt=fmt,
        cron_schedule=cron_schedule,
        timezone=LONDON.key,
        end_offset=0 if _is_demo() else 1,
    )


DAYS = _partitions("%Y-%m-%d", "0 0 * * *", DAY)
MONTHS = _partitions("%Y-%m", "0 0 1 * *", MONTH)
YEARS = _partitions("%Y", "0 0 1 1 *", YEAR)
PARTITIONS: dict[Grain, dg.TimeWindowPartitionsDefinition] = {DAY: DAYS, MONTH: MONTHS, YEAR: YEARS}


def days_of(grain: Grain, partition_key: str) -> Days:
    """The settlement days of a partition."""
    if grain is MONTH:
        return Days.of_month(partition_key)
    if grain is YEAR:
        return Days.of_year(partition_key)
    day = parse_day(partition_key)
    return Days(day, day)
