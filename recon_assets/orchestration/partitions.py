"""The partitions: days, months and years in London time from RECON_FIRST_DAY on, the running ones included.

Dagster fixes partitions when it loads the definitions: another RECON_FIRST_DAY takes effect when they are loaded again.
"""

import os
from datetime import date

import dagster as dg

from recon_assets.domain.settlement import LONDON, Days, parse_day
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain
from recon_assets.settings import first_kept_day

DAYS_A_RUN = 92
"""The most days of a backfill in one run: a quarter. Three years of calculations took 149 s by quarters and 210 s by
months, because each run starts a process and months need 36 runs. A run that fails keeps the months it has finished."""


def _first_day() -> date:
    return first_kept_day(os.environ)


FIRST_DAY = _first_day()
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone=LONDON.key, end_offset=1)
MONTHS = dg.MonthlyPartitionsDefinition(
    start_date=FIRST_DAY.strftime("%Y-%m"), fmt="%Y-%m", timezone=LONDON.key, end_offset=1
)
YEARS = dg.TimeWindowPartitionsDefinition(
    start=str(FIRST_DAY.year), fmt="%Y", cron_schedule="0 0 1 1 *", timezone=LONDON.key, end_offset=1
)
PARTITIONS: dict[Grain, dg.TimeWindowPartitionsDefinition] = {DAY: DAYS, MONTH: MONTHS, YEAR: YEARS}


def days_of(grain: Grain, partition_key: str) -> Days:
    """The settlement days of a partition."""
    if grain is MONTH:
        return Days.of_month(partition_key)
    if grain is YEAR:
        return Days.of_year(partition_key)
    day = parse_day(partition_key)
    return Days(day, day)
