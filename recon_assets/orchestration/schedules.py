"""The schedules, in London time: which job, when, and with which config.

All of them ask Elexon, so that none runs until it is switched on. The config of a tick can be changed: "Test schedule"
in the UI opens it in the launchpad.
"""

from datetime import date, timedelta
from typing import Any

import dagster as dg

from recon_assets.domain.settlement import LONDON, Days, london_day
from recon_assets.orchestration.active_runs import ASKED_BY, RANGE_TAGS
from recon_assets.orchestration.jobs import GENERATION_JOB
from recon_assets.orchestration.routine_jobs import (
    DailyCheck,
    ReconcileRange,
    check_days,
    daily_check,
    reconcile_days,
    reconcile_range,
)
from recon_assets.orchestration.verification_job import VerifyDays, verify_days, verify_settlement_days
from recon_assets.reconcile.layer import MONTH

RANDOM_DAYS = 10

GENERATION_DAYS = 7
"""Wind generation is sometimes published days late."""


def schedules(*, starts: bool) -> list[dg.ScheduleDefinition]:
    """All schedules; `starts` says whether they run until somebody switches them."""
    common: dict[str, Any] = {
        "execution_timezone": LONDON.key,
        "default_status": dg.DefaultScheduleStatus.RUNNING if starts else dg.DefaultScheduleStatus.STOPPED,
    }
    return [
        dg.ScheduleDefinition(
            name="daily_check_schedule",
            job=daily_check,
            cron_schedule="0 2 * * *",
            run_config=_config(check_days, DailyCheck()),
            description="Every night at 2: reads and mends the newest days, at least two, after an outage up to 30, "
            "and writes the report of the day.",
            **common,
        ),
        dg.ScheduleDefinition(
            name="todays_periods_schedule",
            job=reconcile_range,
            cron_schedule="20 * * * *",  # a half-hour is published a quarter of an hour after its end
            run_config_fn=todays_periods,
            description="Every hour: reads the settlement periods of today that were published since.",
            **common,
        ),
        dg.ScheduleDefinition(
            name="weekly_reconciliation_schedule",
            job=reconcile_range,
            cron_schedule="0 3 * * 0",
            run_config=_config(reconcile_days, ReconcileRange()),
            description="Every Sunday at 3: brings everything to right, from the first day with data to yesterday.",
            **common,
        ),
        dg.ScheduleDefinition(
            name="last_month_schedule",
            job=reconcile_range,
            cron_schedule="0 4 * * 1",
            run_config_fn=last_month,
            description="Every Monday at 4: reads the month before this one again as a whole, prices and flags "
            "included (about 1,450 requests: three minutes at the rate limit).",
            **common,
        ),
        dg.ScheduleDefinition(
            name="random_days_schedule",
            job=verify_days,
            cron_schedule="0 5 * * 6",
            run_config_fn=random_days,
            description="Every Saturday at 5: compares ten days drawn from the whole history with Elexon, and reads "
            "again what differs.",
            **common,
        ),
        dg.ScheduleDefinition(
            name=WIND_GENERATION_SCHEDULE,
            job=GENERATION_JOB,
            cron_schedule="0 10 * * *",
            execution_fn=last_week,
            description="Every morning at 10: reads the wind generation of the last 7 days, for one request a day; "
            "what was published late is taken over, and the automation refreshes the sums.",
            **common,
        ),
    ]


WIND_GENERATION_SCHEDULE = "wind_generation_schedule"


def todays_periods(context: dg.ScheduleEvaluationContext) -> dg.RunConfig:
    """The config for today, the running settlement day."""
    today = str(_today(context))
    return _config(reconcile_days, ReconcileRange(first=today, last=today))


def last_month(context: dg.ScheduleEvaluationContext) -> dg.RunConfig:
    """The config for the whole month before the running one."""
    month = Days.of_month(MONTH.label(_today(context).replace(day=1) - timedelta(days=1)))
    return _config(reconcile_days, ReconcileRange(first=str(month.first), last=str(month.last), force=True))


def random_days(context: dg.ScheduleEvaluationContext) -> dg.RunConfig:
    """The config for ten random days; the seed is the date, so that the same days can be drawn again."""
    seed = int(_today(context).strftime("%Y%m%d"))
    return _config(verify_settlement_days, VerifyDays(random_days=RANDOM_DAYS, seed=seed, repair=True))


def last_week(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """A run for the last 7 days that are over. (Dagster refuses its own tags from a schedule's tags_fn.)"""
    today = _today(context)
    ends = (str(today - timedelta(days=GENERATION_DAYS)), str(today - timedelta(days=1)))
    return dg.RunRequest(tags={**dict(zip(RANGE_TAGS, ends, strict=True)), ASKED_BY: WIND_GENERATION_SCHEDULE})


def _today(context: dg.ScheduleEvaluationContext) -> date:
    return london_day(context.scheduled_execution_time)


def _config(step: dg.OpDefinition, config: dg.Config) -> dg.RunConfig:
    return dg.RunConfig(ops={step.name: config})
