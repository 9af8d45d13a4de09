"""The unattended routines, as commands and schedules run them.

Belongs here: which days, and in which order. Does not: logs (unattended.py) and the work itself (reconciliation.py).
"""

from dataclasses import replace
from datetime import timedelta

from recon_assets.orchestration.reconciliation import Options, Outcome, Reconciliation
from recon_assets.settlement import Days

LONGEST_OUTAGE_DAYS = 30
"""What a daily check makes good by itself. More is history, which `auto` or a backfill fills."""

HARDEST_DAYS = 10
"""Days that failed and are tried again in small chunks: more of them have a cause that small chunks do not cure."""

PERIODS_AT_FIRST = 6


def days_to_check(work: Reconciliation, at_least: int) -> Days:
    """From the last ingested day to the newest that the source should have."""
    last = work.newest_day()
    recent = Days(last - timedelta(days=LONGEST_OUTAGE_DAYS - 1), last)
    ingested = work.state(recent, ()).latest_ingested
    first = recent.first if ingested is None else ingested
    return Days(max(recent.first, min(first, last - timedelta(days=at_least - 1))), last)


def daily_check(work: Reconciliation, at_least: int, force: bool) -> Outcome:
    """Checks and mends the newest days; with `force`, reads them again too."""
    return work.reconcile(days_to_check(work, at_least), Options(force=force, always_check=True))


def auto(work: Reconciliation, days: Days, ingest: bool) -> Outcome:
    """Reconciles the days newest first, then what failed in small chunks."""
    outcome = work.reconcile(days, Options(ingest=ingest))
    hardest = [day for day in reversed(outcome.after.faulty_days)][:HARDEST_DAYS]
    if not hardest:
        return outcome
    again = work.converge_again(days, hardest, {"periods_at_first": PERIODS_AT_FIRST})
    return replace(again, before=outcome.before, plan=outcome.plan)
