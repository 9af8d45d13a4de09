"""Reconciles through Dagster in this process, with progress bars, and shows the result."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from recon_assets.cli.dry_run import show_plan
from recon_assets.cli.options import kept_days
from recon_assets.cli.shared import NOT_RIGHT, echo_json, exit_code, exit_code_of, read_settings
from recon_assets.domain.settlement import Days, london_day
from recon_assets.errors import ReconError, SourceDownError, UsageError
from recon_assets.folders import require_writable
from recon_assets.settings import Settings

if TYPE_CHECKING:
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.orchestration.outcome import Outcome
    from recon_assets.orchestration.reconciliation import Reconciliation


def reconcile_through_dagster(
    resolve: Callable[[Settings], Days],
    options: Mapping[str, Any] | None,
    style: str,
    *,
    dry_run: bool = False,
    only_summaries: bool = False,
    with_generation: bool = False,
) -> int:
    """Reconciles the days, and shows what was done and the state afterwards."""
    # Before the imports, which take two seconds: a wrong setting is reported at once.
    settings = read_settings()
    days = kept_days(resolve(settings), settings)
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.orchestration.outcome import Options

    chosen = Options(**(options or {}))
    if dry_run:
        return show_plan(settings, days, chosen, style)
    observer = TerminalObserver()
    with _reconciliation(settings, observer, reads=chosen.ingest) as work, observer:
        outcome = work.summarise(days) if only_summaries else work.reconcile(days, chosen)
        if with_generation:
            outcome = replace(work.read_generation(days), before=outcome.before, plan=outcome.plan)
    code = exit_code(not outcome.after.summary_faults) if only_summaries else exit_code_of(outcome.after)
    return _show(outcome, observer, style, code)


def spot_fix_through_dagster(day: date, period: int, farm: str, style: str) -> int:
    """Reconciles one farm in one settlement period, and shows its calculations before and after."""
    settings = read_settings()
    kept_days(Days(day, day), settings)
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.reconcile.settlement_days import DayState
    from recon_assets.reconcile.spot import read_spot
    from recon_assets.reports import state as report

    observer = TerminalObserver()
    with _reconciliation(settings, observer, reads=False) as work:
        scope = work.scope(Days(day, day))
        before = read_spot(work.engine, scope, day, period, farm)
        if not before.is_right:
            with observer:
                work.spot_fix(day, period, farm)
        after = read_spot(work.engine, scope, day, period, farm)
        ingested = not work.state(Days(day, day), ()).days_in(DayState.NOT_INGESTED)
    for reason in observer.reasons:
        # Other calculations of the day may be wrong, which is no failure of these.
        click.echo(f"{'Still not right' if after.is_right else 'Failed'}: {reason}", err=True)
    if not ingested:
        click.echo(f"{day} was never ingested: run 'recon date {day}'", err=True)
    facts = report.spot_facts(before, after)
    if style == "json":
        echo_json(facts)
    else:
        report.print_spot(report.open_console(), facts)
    return exit_code(after.is_right and ingested)


def read_generation_through_dagster(days: Days, style: str) -> int:
    """Reads wind generation, converges its summaries, and shows what is stored and what Elexon does not have."""
    settings = read_settings()
    today = london_day(datetime.now(UTC))
    if kept_days(days, settings).last > today:
        raise UsageError(f"{days.last} is still to come")
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.reports import state as report

    observer = TerminalObserver()
    with _reconciliation(settings, observer, reads=True) as work, observer:
        outcome = work.read_generation(days)
    for reason in observer.reasons:
        click.echo(f"Failed: {reason}", err=True)
    facts = report.generation_facts(days, observer.generation, observer.failures, outcome.after)
    done = report.done_facts(outcome.runs, outcome.reported, observer)
    facts |= {"summaries": done["converged"], "runs": done["runs"], "partitions_told": done["partitions_told"]}
    if style == "json":
        echo_json(facts)
    else:
        report.print_generation(report.open_console(), facts)
    return exit_code(facts["generation_is_right"] and not observer.reasons)


def run_routine(
    name: str,
    style: str,
    *,
    days: int = 2,
    force: bool = False,
    ingest: bool = True,
    resolve: Callable[[Settings], Days] | None = None,
) -> int:
    """Runs an unattended routine, which also writes its log."""
    settings = read_settings()
    span = None if resolve is None else kept_days(resolve(settings), settings)
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.orchestration.logs import open_log
    from recon_assets.orchestration.observers import LogObserver
    from recon_assets.orchestration.routines import auto, daily_check, log_end, report_day

    observer = TerminalObserver()
    if span is None:
        require_writable(settings.report_folder, "RECON_REPORTS")
    with open_log(settings.log_folder, name) as log:
        both = LogObserver(log, observer)
        with _reconciliation(settings, both, reads=ingest) as work, observer:
            outcome = daily_check(work, days, force) if span is None else auto(work, span, ingest)
            if span is None:
                report_day(work, settings, outcome, observer, datetime.now(UTC))
        log_end(log, outcome, observer)
    return _show(outcome, observer, style, exit_code_of(outcome.after))


def reingest_through_dagster(day: date, periods: tuple[int, int] | None, *, bitcoin: bool, style: str) -> int:
    """Reads a day again, and shows what changed."""
    settings = read_settings()
    kept_days(Days(day, day), settings)
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.ingest.day_totals import read_day_totals
    from recon_assets.reports import state as report
    from recon_assets.reports.verification import print_day_totals

    observer = TerminalObserver()
    with _reconciliation(settings, observer, reads=True) as work:
        before = read_day_totals(work.engine, day)
        with observer:
            outcome = work.reingest(day, periods, bitcoin=bitcoin)
        after = read_day_totals(work.engine, day)
    state = outcome.after
    code = exit_code_of(state) if bitcoin else exit_code(not (state.records.faults or state.unready_days))
    if style == "json":
        return _show(outcome, observer, style, code, before=asdict(before), after=asdict(after))
    if observer.read.total or observer.converged_rows.total or observer.reasons:
        print_day_totals(report.open_console(), before, after)
    else:
        click.echo(f"{day} is as it was.")
    return _show(outcome, observer, style, code)


def repair_through_dagster(settings: Settings, day: date, method: str | None, seed: int | None, style: str) -> int:
    """Verifies a day, reconciles what differs and verifies it again; without a method, reads the day again at once."""
    kept_days(Days(day, day), settings)
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.ingest.day_totals import read_day_totals
    from recon_assets.ingest.verification import Finding, Method
    from recon_assets.orchestration.logs import open_log
    from recon_assets.reports import state as report
    from recon_assets.reports.verification import print_day_totals, print_verification, repair_facts

    observer = TerminalObserver()
    with (
        open_log(settings.log_folder, "repair") as log,
        _reconciliation(settings, observer, reads=True) as work,
        observer,
    ):
        before = read_day_totals(work.engine, day)
        found, failures = None, []
        try:
            found = None if method is None else work.verify(day, Method(method), seed)
        except SourceDownError as error:
            failures = [str(error)]
        outcome = work.repair(day, found)
        again = found
        failures += observer.reasons
        if found is not None and outcome is not None:
            try:
                again = work.verify(day, found.method, found.seed)
            except ReconError as error:
                again = None
                failures.append(f"not verified again: {error}")
        after = read_day_totals(work.engine, day)
        done = "nothing" if outcome is None else "reingested" if outcome.plan.ingest else "converged"
        done = "failed" if failures else done
        facts = repair_facts(before, after, found, again, done) | {"failures": failures}
        log.log(
            logging.ERROR if failures else logging.INFO,
            "repaired",
            extra={"settlement_date": day.isoformat(), **facts},
        )
    for reason in failures:
        click.echo(f"Failed: {reason}", err=True)
    right = again.finding is Finding.AGREES if again else outcome is not None and outcome.after.is_right
    if style == "json":
        echo_json(facts)
        return exit_code(right and not failures)
    console = report.open_console()
    if found is not None:
        print_verification(console, found)
    console.print(f"[bold]Done[/]: {done}")
    print_day_totals(console, before, after)
    if again is not None and outcome is not None:
        print_verification(console, again)
    return exit_code(right and not failures)


def declare_through_dagster(unit: str, *, is_wind: bool, by: str, note: str | None, force: bool, style: str) -> int:
    """Stores what a person says of a BM unit, and materializes the units, so that Dagster shows it."""
    settings = read_settings()
    from recon_assets.cli.progress import TerminalObserver
    from recon_assets.ingest.declarations import Declaration
    from recon_assets.ingest.declared import declare_unit, unit_now
    from recon_assets.reports.state import open_console
    from recon_assets.reports.units import declared_facts, print_declared

    observer = TerminalObserver()
    said = Declaration(unit, is_wind, by, datetime.now(UTC), note)
    with _reconciliation(settings, observer, reads=True) as work:
        before = declare_unit(work.engine, said, force=force)
        with observer:
            work.refresh_units()
        after, days = unit_now(work.engine, unit)
    for reason in observer.reasons:
        click.echo(f"Failed: {reason}", err=True)
    facts = declared_facts(unit, before, after, said, days)
    if style == "json":
        echo_json(facts)
    else:
        print_declared(open_console(), facts)
    return exit_code(not observer.reasons)


@contextmanager
def _reconciliation(settings: Settings, observer: Any, *, reads: bool) -> Iterator["Reconciliation"]:
    from recon_assets.cli.interrupts import noticed_interrupts
    from recon_assets.elexon.client import open_source
    from recon_assets.orchestration.instance import open_instance
    from recon_assets.orchestration.reconciliation import Reconciliation
    from recon_assets.orchestration.resource import open_resource

    if reads:
        # A missing source is reported before anything is created.
        open_source(settings)
        if settings.recordings is None:
            require_writable(settings.archive_folder, "RECON_ARCHIVE")
    command = f"recon {' '.join(sys.argv[1:])}"
    with (
        open_resource(settings, observer) as resource,
        open_instance(settings.dagster_home) as instance,
        noticed_interrupts() as raise_if_interrupted,
    ):
        work = Reconciliation(resource, instance, command, raise_if_interrupted)
        with work.work_log.finishing():
            yield work


def _show(outcome: "Outcome", observer: "TerminalObserver", style: str, code: int, **more: Any) -> int:
    """Shows what was done and the state afterwards; the exit code is `code`, or 1 if anything failed."""
    from recon_assets.reconcile.plan import format_days
    from recon_assets.reports import recovery
    from recon_assets.reports import state as report

    for reason in observer.reasons:
        click.echo(f"Failed: {reason}", err=True)
    done = report.done_facts(outcome.runs, outcome.reported, observer)
    if style == "json":
        recovered = recovery.recovery_facts(outcome.recovered)
        echo_json(report.state_facts(outcome.after) | {"done": done, "recovered": recovered} | more)
    else:
        console = report.open_console()
        report.print_done(console, done, outcome.before, outcome.plan)
        recovery.print_recovery(console, outcome.recovered)
        if outcome.unproven:
            console.print(f"[red]Not proven[/]: {format_days(outcome.unproven)}")
        report.print_state(console, outcome.after)
    return NOT_RIGHT if observer.reasons or outcome.unproven else code
