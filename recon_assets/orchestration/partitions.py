"""The partitions: days, months and years in London time from 2022 on, the running ones included."""

import dagster as dg

from recon_assets.domain.settlement import FIRST_DAY, LONDON, Days, parse_day
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain

DAYS_A_RUN = 92
"""The most days of a backfill in one run: a quarter. Three years of calculations took 149 s by quarters and 210 s by
months, because each run starts a process and months need 36 runs. A run that fails keeps the months it has finished."""

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
