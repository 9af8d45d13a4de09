"""Commands that ask Elexon about stored days: `verify`, `repair` and `reingest`."""

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from recon_assets.cli.options import DAY, PERIODS, format_option, kept_days, newest_day, strict_option
from recon_assets.cli.shared import echo_json, exit_code, read_settings, reading_engine
from recon_assets.cli.through_dagster import reingest_through_dagster, repair_through_dagster
from recon_assets.domain.settlement import Days, periods_in
from recon_assets.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = ("witness", "progressive", "random", "fixed", "full")


def comparison_options(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """The day and the options that `verify` and `repair` share."""
    for option in (
        format_option,
        click.option("--seed", type=click.IntRange(min=0), help="Draw the random periods of an earlier run again."),
        click.option(
            "--method",
            type=click.Choice(METHODS),
            default=METHODS[0],
            show_default=True,
            help="witness: all volumes, in one request; fixed: 5 settlement periods; progressive: the same, and 10 "
            "more where one differs; random: 10; full: every value of every bid.",
        ),
        click.argument("day", type=DAY, metavar="[D]", required=False),
    ):
        command = option(command)
    return command


@click.command()
@comparison_options
def verify(day: date | None, method: str, seed: int | None, style: str) -> int:
    """Compare day D (YYYY-MM-DD, default yesterday) with Elexon, and change nothing.

    Ends with the command that mends what it found. Nothing is written.
    """
    settings = read_settings()
    days = kept_days(Days(chosen := day or newest_day(settings), chosen), settings)
    from rich.console import Console

    from recon_assets.elexon.client import Elexon, open_source
    from recon_assets.elexon.outage import Waiting
    from recon_assets.ingest.verification import Finding, Method
    from recon_assets.ingest.verify import verify_day
    from recon_assets.reconcile.scope import Scope
    from recon_assets.reports.state import open_console
    from recon_assets.reports.verification import print_verification, verification_facts

    elexon = Elexon(open_source(settings), in_flight=settings.elexon_requests_in_flight)
    scope = Scope(days, settings.curtailment_rule, first_day=settings.first_day)
    terminal = Console(stderr=True)
    comparing = f"Comparing {chosen} with {elexon.source.name}"
    with reading_engine(settings) as engine, terminal.status(comparing) as status:

        def show(waiting: Waiting) -> None:
            if terminal.is_terminal:
                status.update(comparing if waiting.seconds_left is None else waiting.text)
            elif waiting.is_line:
                click.echo(waiting.text, err=True)

        found = elexon.patiently(
            lambda: verify_day(engine, elexon, scope, datetime.now(UTC), Method(method), seed), show
        )
    facts = verification_facts(found)
    if style == "json":
        echo_json(facts)
    else:
        print_verification(open_console(), found)
    return exit_code(found.finding is Finding.AGREES)


@click.command()
@comparison_options
@click.option("--force", is_flag=True, help="Read the day again without verifying it.")
def repair(day: date | None, method: str, seed: int | None, style: str, force: bool) -> int:
    """Verify day D (YYYY-MM-DD, default yesterday), and mend what differs.

    What differs from Elexon is read again; records that are not as the bids say are made so. Shows the day before and
    after, and verifies it again. The log is repair.jsonl in RECON_LOGS.
    """
    settings = read_settings()
    return repair_through_dagster(settings, day or newest_day(settings), None if force else method, seed, style)


@click.command()
@click.argument("day", type=DAY, metavar="D")
@click.option("--periods", type=PERIODS, metavar="A-B", help="Only these settlement periods.")
@click.option("--no-bitcoin", is_flag=True, help="Leave the calculations and their sums as they are.")
@strict_option
@format_option
def reingest(day: date, periods: tuple[int, int] | None, no_bitcoin: bool, style: str) -> int:
    """Read day D (YYYY-MM-DD) again from Elexon, and make everything that follows from it right."""
    if periods and periods[1] > periods_in(day):
        raise UsageError(f"{day} has settlement periods 1 to {periods_in(day)}, not {periods[1]}")
    return reingest_through_dagster(day, periods, bitcoin=not no_bitcoin, style=style)


COMMANDS = (verify, repair, reingest)
