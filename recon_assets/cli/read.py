"""Commands that only read: they never change the schema, the data or any session."""

from contextlib import suppress
from datetime import UTC, datetime

import click

from recon_assets.cli.options import NumberParameter, Period, format_option, period_options, strict_option
from recon_assets.cli.shared import RIGHT, echo_json, exit_code, exit_code_of, read_settings, read_state, reading_engine


@click.command()
@period_options
@strict_option
@format_option
def status(period: Period, style: str) -> int:
    """Show the reconciled state, computed from the rows at this moment."""
    from recon_assets.database import transactions
    from recon_assets.database.keys import pending_keys
    from recon_assets.reconcile.foreign_rows import foreign_rows

    settings = read_settings()
    with reading_engine(settings) as engine:
        state = read_state(engine, settings, period)
        with transactions.reading(engine) as connection:
            pending = pending_keys(connection)
            foreign = foreign_rows(connection)
    from recon_assets.reports import state as report
    from recon_assets.reports.looked_past import foreign_facts, print_foreign_rows

    if style == "json":
        of_others = foreign_facts(foreign)
        echo_json({**report.state_facts(state), "pending_keys": list(pending), "foreign_rows": of_others})
    else:
        console = report.open_console()
        report.print_state(console, state)
        report.print_pending_keys(console, pending)
        print_foreign_rows(console, foreign)
    return exit_code_of(state)


@click.command()
@period_options
@strict_option
@format_option
def analyze(period: Period, style: str) -> int:
    """Show every date that is not right, why, and the command that mends it."""
    settings = read_settings()
    with reading_engine(settings) as engine:
        state = read_state(engine, settings, period)
    from recon_assets.reports import analysis
    from recon_assets.reports import state as report

    facts = analysis.analysis_facts(state)
    if style == "json":
        echo_json(facts)
    else:
        analysis.print_analysis(report.open_console(), facts)
    return exit_code_of(state)


@click.command()
@period_options
@strict_option
@format_option
def report(period: Period, style: str) -> int:
    """Report the progress: by month and model, the worst dates, what Elexon revised, the work that is under way."""
    from recon_assets.database import transactions
    from recon_assets.database.work_log import read_progress
    from recon_assets.ingest.revisions import read_revisions

    settings = read_settings()
    with reading_engine(settings) as engine:
        state = read_state(engine, settings, period)
        with transactions.reading(engine) as connection:
            progress = read_progress(connection)
            revisions = read_revisions(connection, state.scope.days)
    from recon_assets.reports.progress import print_report, report_facts
    from recon_assets.reports.state import open_console

    facts = report_facts(state, progress, datetime.now(UTC), revisions)
    if style == "json":
        echo_json(facts)
    else:
        print_report(open_console(), facts)
    return exit_code_of(state)


@click.command()
@click.option(
    "--interval", type=NumberParameter(min=0.1), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Show it once and end.")
@format_option
def watch(interval: float, once: bool, style: str) -> int:
    """Watch the work that is under way, whoever started it, until Ctrl-C."""
    from recon_assets.database import transactions
    from recon_assets.database.work_log import read_progress
    from recon_assets.reports.state import open_console
    from recon_assets.reports.work_view import watch as watch_work
    from recon_assets.reports.work_view import watch_facts

    settings = read_settings()
    with reading_engine(settings) as engine:
        if style == "json":
            with transactions.reading(engine) as connection:
                echo_json(watch_facts(read_progress(connection), datetime.now(UTC)))
        else:
            # Ctrl-C ends only the view, not the work.
            with suppress(KeyboardInterrupt):
                watch_work(engine, open_console(), lambda: datetime.now(UTC), interval, once)
    return RIGHT


@click.command()
@format_option
def doctor(style: str) -> int:
    """Examine the database and the sources: latency, time-outs, sizes, indexes, locks, and what to change."""
    from recon_assets.database.engine import open_engine
    from recon_assets.health.examination import examine

    settings = read_settings()
    engine = open_engine(settings.database_url)
    health = examine(engine, settings, datetime.now(UTC))
    engine.dispose()
    if style == "json":
        echo_json(health.facts())
    else:
        from recon_assets.health.printing import print_health
        from recon_assets.reports.state import open_console

        print_health(open_console(), health.facts())
    return exit_code(health.is_healthy)


COMMANDS = (status, analyze, report, watch, doctor)
