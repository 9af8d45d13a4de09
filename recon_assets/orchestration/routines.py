"""The unattended routines of commands and schedules: which days they reconcile, and the log and report they write."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from recon_assets.database import transactions
from recon_assets.database.work_log import read_progress
from recon_assets.domain.settlement import Days, london_day
from recon_assets.ingest.revisions import read_revisions
from recon_assets.orchestration.observers import CountingObserver
from recon_assets.orchestration.outcome import Options, Outcome
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.reconcile.state import Conclusion
from recon_assets.reports.daily import REPORTS_KEPT, write_report
from recon_assets.reports.progress import report_facts
from recon_assets.reports.state import brief_facts, done_facts
from recon_assets.settings import Settings

LONGEST_OUTAGE_DAYS = 30
"""The longest outage that a daily check makes good by itself; `auto` or a backfill fills older history."""

HARDEST_DAYS = 10
"""The most failed days that are tried again in small chunks: more have a cause that small chunks do not cure."""

PERIODS_AT_FIRST = 6


def days_to_check(work: Reconciliation, at_least: int) -> Days:
    """The days from the last ingested one to the newest that the source should have; at least so many."""
    last = work.newest_day()
    recent = Days(last - timedelta(days=LONGEST_OUTAGE_DAYS - 1), last)
    recent = Days(min(last, max(recent.first, work.scope(recent).first_day)), last)
    ingested = work.state(recent, ()).latest_ingested
    first = recent.first if ingested is None else ingested
    return Days(max(recent.first, min(first, last - timedelta(days=at_least - 1))), last)


def daily_check(work: Reconciliation, at_least: int, force: bool) -> Outcome:
    """Reconciles the newest days; with `force`, reads all of them again."""
    return work.reconcile(days_to_check(work, at_least), Options(force=force, always_check=True))


def auto(work: Reconciliation, days: Days, ingest: bool) -> Outcome:
    """Reconciles the days newest first, then again in small chunks those that failed."""
    outcome = work.reconcile(days, Options(ingest=ingest))
    hardest = [day for day in reversed(outcome.after.faulty_days)][:HARDEST_DAYS]
    if not hardest:
        return outcome
    again = work.converge_again(days, hardest, {"periods_at_first": PERIODS_AT_FIRST})
    return replace(again, before=outcome.before, plan=outcome.plan)


def log_end(log: logging.Logger, outcome: Outcome, counts: CountingObserver) -> None:
    """Writes the last line of a routine's log: the state before and after, what was done, what failed."""
    level = (
        logging.INFO if outcome.after.conclusion is not Conclusion.NOT_RIGHT and not counts.reasons else logging.ERROR
    )
    done = done_facts(outcome.runs, outcome.reported, counts)
    before, after = brief_facts(outcome.before), brief_facts(outcome.after)
    log.log(level, "finished", extra={"before": before, "after": after, "done": done, "failures": counts.reasons})


def report_day(
    work: Reconciliation,
    settings: Settings,
    outcome: Outcome,
    counts: CountingObserver,
    now: datetime,
    kept: int = REPORTS_KEPT,
) -> Path:
    """Writes the report of the London day of `now`: the days that were checked, and what was done."""
    with transactions.reading(work.engine) as connection:
        progress = read_progress(connection)
        revisions = read_revisions(connection, outcome.after.scope.days)
    facts = report_facts(outcome.after, progress, now, revisions)
    done = {"done": done_facts(outcome.runs, outcome.reported, counts), "failures": counts.reasons}
    return write_report(settings.report_folder, london_day(now), {**facts, **done}, kept)
