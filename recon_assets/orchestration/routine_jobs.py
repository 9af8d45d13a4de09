"""The jobs that schedules and the launchpad run like `recon daily-check` and `recon reconcile`.

The one step of such a job starts further runs, one for each month and layer (see reconciliation.py).
"""

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
from pydantic import Field

from recon_assets.database import transactions
from recon_assets.domain.settlement import Days, london_day, parse_day
from recon_assets.errors import UsageError
from recon_assets.folders import require_writable
from recon_assets.orchestration.logs import open_log
from recon_assets.orchestration.observers import CountingObserver, LogObserver
from recon_assets.orchestration.outcome import Options, Outcome
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.routines import daily_check as check_newest_days
from recon_assets.orchestration.routines import log_end, report_day
from recon_assets.orchestration.steps import at_work
from recon_assets.reconcile.state import default_first_day
from recon_assets.reports.daily import REPORTS_KEPT


class DailyCheck(dg.Config):
    """How many days are checked, and what is kept of it."""

    days: int = Field(default=2, ge=1, le=30, description="Check at least so many days; after an outage more.")
    force: bool = Field(default=False, description="Read the days from Elexon again, those that are right too.")
    reports_kept: int = Field(default=REPORTS_KEPT, ge=1, description="Reports of days that are kept.")


class ReconcileRange(dg.Config):
    """Which days are reconciled, and how."""

    first: str | None = Field(default=None, description="First day, YYYY-MM-DD. Without it: the first with data.")
    last: str | None = Field(default=None, description="Last day, YYYY-MM-DD. Without it: yesterday in London.")
    ingest: bool = Field(default=True, description="Read from Elexon what was never read, or not whole.")
    force: bool = Field(default=False, description="Read every day from Elexon again.")
    limit: int | None = Field(default=None, ge=1, description="Work on at most so many days, the newest first.")


@dg.op(required_resource_keys={RESOURCE_KEY})
def check_days(context: dg.OpExecutionContext, config: DailyCheck) -> None:
    """From the last ingested day to yesterday: reads, converges, has every check evaluated, and writes the report."""

    def check(work: Reconciliation, resource: ReconResource, counts: CountingObserver) -> Outcome:
        require_writable(resource.settings.report_folder, "RECON_REPORTS")
        outcome = check_newest_days(work, config.days, config.force)
        report = report_day(work, resource.settings, outcome, counts, resource.now(), config.reports_kept)
        context.log.info(f"The report of the day is {report}")
        return outcome

    _work_within(context, "daily-check", check)


@dg.op(required_resource_keys={RESOURCE_KEY})
def reconcile_days(context: dg.OpExecutionContext, config: ReconcileRange) -> None:
    """Brings the days to right, the newest month first, and has every check evaluated."""

    def reconcile(work: Reconciliation, resource: ReconResource, _: CountingObserver) -> Outcome:
        options = Options(ingest=config.ingest, force=config.force, limit=config.limit, always_check=True)
        return work.reconcile(_days(config, work, resource), options)

    _work_within(context, "reconcile", reconcile)


@dg.job(description="Checks and mends the newest days, like `recon daily-check`; its report is in RECON_REPORTS.")
def daily_check() -> None:
    """A single step, which starts a run for each month and layer."""
    check_days()


@dg.job(description="Brings a range of days, or everything, to right, like `recon reconcile`.")
def reconcile_range() -> None:
    """A single step, which starts a run for each month and layer."""
    reconcile_days()


def _work_within(
    context: dg.OpExecutionContext,
    name: str,
    routine: Callable[[Reconciliation, ReconResource, CountingObserver], Outcome],
) -> None:
    """Executes a routine, which starts runs of its own; logs like the command of that name; fails if days fail."""
    with at_work(context) as resource, open_log(resource.settings.log_folder, name) as log:
        counts = CountingObserver()
        resource = replace(resource, observer=LogObserver(log, counts))
        work = Reconciliation(resource, context.instance, f"{context.job_name} {context.run_id[:8]}")
        with work.work_log.finishing():
            outcome = routine(work, resource, counts)
        log_end(log, outcome, counts)
        context.add_output_metadata(_numbers(outcome))
        if counts.reasons:
            raise dg.Failure(
                "; ".join(counts.reasons),
                metadata={day.isoformat(): reason for day, reason in sorted(counts.failures.items())},
                allow_retries=False,
            )


def _days(config: ReconcileRange, work: Reconciliation, resource: ReconResource) -> Days:
    with transactions.reading(resource.engine) as connection:
        stored = default_first_day(connection, resource.kept_days())
    first = parse_day(config.first) if config.first else stored
    last = parse_day(config.last) if config.last else work.newest_day()
    if first is None:
        raise UsageError("nothing is stored yet: say which day is the first")
    kept = resource.kept_days()
    if first < kept.first:
        raise UsageError(f"{first} is before {kept.first}, the first day that is kept")
    if last > london_day(resource.now()):
        raise UsageError(f"{last} is still to come")
    return Days(first, last)


def _numbers(outcome: Outcome) -> dict[str, dg.IntMetadataValue]:
    """The counts that the UI shows."""
    counts = {
        "days_to_read": len(outcome.plan.ingest),
        "runs": outcome.runs,
        "missing_before": outcome.before.total.missing,
        "missing_after": outcome.after.total.missing,
        "stale_summaries_after": outcome.after.summary_faults,
    }
    return {name: dg.IntMetadataValue(count) for name, count in counts.items()}
