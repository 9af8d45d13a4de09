"""Commands that write; all but `migrate` write through Dagster, so that the UI shows what they did."""

from datetime import date
from typing import Any

import click

from recon_assets.cli.options import (
    DAY,
    PERIODS,
    TEXT,
    Period,
    format_option,
    limit_options,
    period_options,
    strict_option,
)
from recon_assets.cli.shared import echo_json, exit_code, first_day_of, read_settings, read_state, reading_engine
from recon_assets.cli.through_dagster import (
    read_generation_through_dagster,
    reconcile_through_dagster,
    spot_fix_through_dagster,
)
from recon_assets.domain.settlement import Days, periods_in
from recon_assets.domain.words import plural
from recon_assets.errors import UsageError

PERIODS_AT_FIRST = 6
"""Settlement periods in the first chunks of a critical day: if one fails, at most an eighth of the day is repeated."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be done, and the SQL of it.")
@format_option
def migrate(dry_run: bool, style: str) -> int:
    """Create or upgrade the schema; adopt an old database without losing a row."""
    from recon_assets.database import schema
    from recon_assets.database.engine import open_engine

    settings = read_settings()
    engine = open_engine(settings.database_url, keep_journal=True)
    try:
        migration = schema.migrate(engine, dry_run=dry_run, first_day=settings.first_day)
    finally:
        engine.dispose()
    lines = [change.line(planned=dry_run) for change in migration.changes]
    if style == "json":
        sql = list(migration.statements) if dry_run else []
        echo_json({"changes": lines, "notes": [*migration.notes, *migration.failures], "sql": sql})
    else:
        for line in (*lines, *migration.notes, *migration.failures):
            click.echo(line)
        if not lines and not migration.failures:
            click.echo("The schema is up to date.")
        for statement in migration.statements if dry_run else ():
            click.echo(f"{statement};")
    return exit_code(not migration.failures)


@click.command()
@period_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Work on at most N days.")
@click.option(
    "--order",
    type=click.Choice(["newest", "worst"]),
    default="newest",
    show_default=True,
    help="Newest month first, or the date with most faults first.",
)
@click.option("--no-ingest", is_flag=True, help="Do not read from Elexon; converge from what is stored.")
@click.option("--prove", is_flag=True, help="Read the days of an old database again, until every day is proven.")
@click.option("--dry-run", is_flag=True, help="Only print the exact work and the number of requests.")
@limit_options
@strict_option
@format_option
def reconcile(
    period: Period,
    limit: int | None,
    order: str,
    no_ingest: bool,
    prove: bool,
    dry_run: bool,
    run_config: dict[str, Any],
    style: str,
) -> int:
    """Bring everything in the period to right: read what the source can have, converge every layer.

    Days of an old database that look right are left alone. With --prove they are read too, first those that seem to
    have lost records: only Elexon can tell that an old day is complete. What a day held before is kept.
    """
    if prove and no_ingest:
        raise UsageError("--prove reads from Elexon, and --no-ingest does not: name one of them")
    options = {
        "ingest": not no_ingest,
        "limit": limit,
        "worst_first": order == "worst",
        "prove": prove,
        "run_config": run_config,
    }
    return reconcile_through_dagster(
        lambda settings: period.resolve(settings, first_day_of(settings)), options, style, dry_run=dry_run
    )


@click.command("date")
@click.argument("day", type=DAY, metavar="D")
@strict_option
@format_option
def date_(day: date, style: str) -> int:
    """Bring one day D (YYYY-MM-DD) to right."""
    return reconcile_through_dagster(lambda _: Days(day, day), {}, style)


@click.command("range")
@click.argument("first", type=DAY, metavar="A")
@click.argument("last", type=DAY, metavar="B")
@limit_options
@strict_option
@format_option
def range_(first: date, last: date, run_config: dict[str, Any], style: str) -> int:
    """Bring the days from A to B (YYYY-MM-DD) to right."""
    days = Days(first, last)
    return reconcile_through_dagster(lambda _: days, {"run_config": run_config}, style)


@click.command()
@click.argument("day", type=DAY, metavar="D")
@click.option("--periods", type=PERIODS, metavar="A-B", help="Only these settlement periods.")
@limit_options
@strict_option
@format_option
def critical(day: date, periods: tuple[int, int] | None, run_config: dict[str, Any], style: str) -> int:
    """Bring a difficult day D (YYYY-MM-DD) to right in ever smaller chunks.

    A chunk that fails is tried again, then halved, down to one settlement period. What still fails is named with its
    reason, and the rest is done.
    """
    if periods and periods[1] > periods_in(day):
        raise UsageError(f"{day} has settlement periods 1 to {periods_in(day)}, not {periods[1]}")
    return _critical(day, periods, run_config, style)


@click.command("most-critical")
@period_options
@strict_option
@limit_options
@format_option
def most_critical(period: Period, run_config: dict[str, Any], style: str) -> int:
    """Bring the date with most faults to right, as `critical` does."""
    settings = read_settings()
    with reading_engine(settings) as engine:
        state = read_state(engine, settings, period)
    worst = state.worst_day
    if worst is None:
        if style == "json":
            echo_json({"settlement_date": None})
        else:
            click.echo(f"No date of {state.scope.days} has a fault.")
        if state.unready_days:
            first, last = min(state.unready_days), max(state.unready_days)
            unread = f"not read whole: {plural(len(state.unready_days), 'day')}"
            click.echo(f"{unread}; run 'recon reconcile --from {first} --to {last}'", err=True)
        return exit_code(not state.unready_days)
    click.echo(f"The most critical date is {worst}.", err=True)
    return _critical(worst, None, run_config, style)


def _critical(day: date, periods: tuple[int, int] | None, run_config: dict[str, Any], style: str) -> int:
    narrow = {"periods_at_first": PERIODS_AT_FIRST, **run_config}
    if periods:
        narrow["periods"] = f"{periods[0]}-{periods[1]}"
    return reconcile_through_dagster(lambda _: Days(day, day), {"run_config": narrow}, style)


@click.command("spot-fix")
@click.argument("day", type=DAY, metavar="D")
@click.argument("period", type=click.IntRange(1, 50), metavar="PERIOD")
@click.argument("farm", type=TEXT, metavar="FARM")
@format_option
def spot_fix(day: date, period: int, farm: str, style: str) -> int:
    """Bring one triple to right.

    That is the calculations of day D (YYYY-MM-DD) in settlement period PERIOD for FARM (a BM unit).
    """
    return spot_fix_through_dagster(day, period, farm, style)


@click.command()
@period_options
@strict_option
@format_option
def summaries(period: Period, style: str) -> int:
    """Sum days, months and years of the period again, from the rows below them."""
    return reconcile_through_dagster(
        lambda settings: period.resolve(settings, first_day_of(settings)), {"ingest": False}, style, only_summaries=True
    )


@click.command()
@click.argument("first", type=DAY, metavar="A")
@click.argument("last", type=DAY, metavar="B")
@format_option
def wind(first: date, last: date, style: str) -> int:
    """Read the wind generation of the days from A to B (YYYY-MM-DD) again, and sum it."""
    return read_generation_through_dagster(Days(first, last), style)


COMMANDS = (migrate, reconcile, date_, range_, critical, most_critical, spot_fix, summaries, wind)
