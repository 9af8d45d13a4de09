"""The command `recon`.

Belongs here: arguments, exit codes, and what is printed. Does not: work; each command calls one function. Dagster is
imported only by commands that write, so that reading commands start fast.

Exit codes: 0 done and right; 1 something is missing, wrong, behind or failed; 2 wrong usage or configuration;
130 interrupted.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recon_assets.cli_options import DAY, Period, format_option, period_options
from recon_assets.errors import ReconError, UsageError, first_line
from recon_assets.settings import Settings
from recon_assets.settlement import FIRST_DAY, Days

if TYPE_CHECKING:
    from recon_assets.orchestration.reconciliation import Options, Outcome
    from recon_assets.progress import TerminalObserver
    from recon_assets.reconcile.state import State

ABOUT_THE_RECORDINGS = """\
The packaged recordings of June 2025 are rebuilt, not raw: units, half-hourly volumes, day totals and
prices are real and public (NESO wind bid volumes via nlpfd/uk-wind-curtailment-app, per-unit day totals
via richardjlyon/subsidy-clock, both MIT; contains BMRS data © Elexon Limited copyright and database
right); the split into acceptances, the flags and the non-wind rows are made up.
"""

RIGHT, NOT_RIGHT, INTERRUPTED = 0, 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="recon")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def recon(debug: bool) -> None:
    """Keeps GB wind-curtailment data and its bitcoin-mining potential reconciled.

    DATABASE_URL names the database, ELEXON_API_URL the source; .env.example lists every variable.
    """


@recon.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
def migrate(dry_run: bool) -> int:
    """Create or upgrade the schema; adopt an old database without losing a row."""
    from recon_assets import schema
    from recon_assets.database import open_engine

    settings = _settings()
    engine = open_engine(settings.database_url)
    done = schema.migrate(engine, dry_run=dry_run)
    engine.dispose()
    for line in done:
        click.echo(f"{'would add' if dry_run else 'added'} {line}")
    if not done:
        click.echo("The schema is up to date.")
    return RIGHT


@recon.command()
@period_options
@format_option
def status(period: Period, style: str) -> int:
    """Show the reconciled state, computed from the rows at this moment."""
    with _read_state(period) as state:
        return _show_state(state, style)


@recon.command()
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
@click.option("--dry-run", is_flag=True, help="Only print the exact work and the number of requests.")
@format_option
def reconcile(period: Period, limit: int | None, order: str, no_ingest: bool, dry_run: bool, style: str) -> int:
    """Bring everything in the period to right: read what the source can have, converge every layer."""
    from recon_assets.orchestration.reconciliation import Options

    options = Options(ingest=not no_ingest, limit=limit, worst_first=order == "worst")
    return _reconcile(lambda settings: period.resolve(settings, _first_day(settings)), options, style, dry_run=dry_run)


@recon.command("date")
@click.argument("day", type=DAY, metavar="D")
@format_option
def date_(day: date, style: str) -> int:
    """Bring one day D (YYYY-MM-DD) to right."""
    return _reconcile(lambda _: Days(day, day), None, style)


@recon.command("range")
@click.argument("first", type=DAY, metavar="A")
@click.argument("last", type=DAY, metavar="B")
@format_option
def range_(first: date, last: date, style: str) -> int:
    """Bring the days from A to B (YYYY-MM-DD) to right."""
    days = Days(first, last)
    return _reconcile(lambda _: days, None, style)


@recon.command()
def demo() -> int:
    """Ingest, calculate, sum and verify June 2025 from the packaged recordings, through Dagster."""
    from importlib.resources import files

    recordings = Path(str(files("recon_assets.data") / "recordings"))
    click.echo(ABOUT_THE_RECORDINGS)
    settings = replace(_settings(), elexon_api_url=recordings.as_uri(), mempool_api_url=None)
    code = _reconcile(lambda _: Days.of_month("2025-06"), None, "table", settings=settings)
    command = "recon" if shutil.which("recon") else os.path.relpath(sys.argv[0])
    click.echo(
        f"\nNext:\n"
        f"  {command} ui                        the Dagster UI: assets, partitions and the runs of this demo\n"
        f"  {command} status --month 2025-06    the same state again, from the rows\n"
        f"  {command} --help"
    )
    return code


@recon.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the webserver listens on.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the webserver.")
def ui(host: str, port: int) -> int:
    """Serve the Dagster UI, with the daemon that runs backfills and sensors, until Ctrl-C."""
    from recon_assets.orchestration.server import serve

    settings = _settings()
    click.echo(f"Dagster UI on http://{host}:{port} (Ctrl-C stops it); state in {settings.dagster_home}")
    return serve(settings.dagster_home, host, port)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits; no error shows a traceback unless --debug is given."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    # SQLAlchemy would print a traceback when Ctrl-C comes while it closes a connection.
    logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(recon.main(words, prog_name="recon", standalone_mode=False) or RIGHT)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "recon"
        _complain(f"{error.format_message()} ('{command} --help' shows how)")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _complain("Interrupted: what was committed stays; the same command does the rest.")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # not sys.exit, which waits for requests that are still under way
    except Exception as error:
        if "--debug" in words:
            raise
        _complain(str(error) if isinstance(error, ReconError) else f"{first_line(error)} (--debug shows where)")
        sys.exit(error.exit_code if isinstance(error, ReconError) else NOT_RIGHT)


def _complain(line: str) -> None:
    click.echo(f"Error: {line}" if not line.startswith("Interrupted") else line, err=True)


def _settings() -> Settings:
    return Settings.from_environment(os.environ, Path.cwd())


def _first_day(settings: Settings) -> date | None:
    """The first day with data in the database, None when there is none."""
    from recon_assets import database, schema
    from recon_assets.reconcile.state import first_day

    engine = database.open_engine(settings.database_url)
    file = database.sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return None
    with database.reading(engine) as connection:
        current = schema.schema_state(connection) is schema.SchemaState.CURRENT
        found = first_day(connection) if current else None
    engine.dispose()
    return found


@contextmanager
def _read_state(period: Period) -> Iterator["State"]:
    from recon_assets import database, schema
    from recon_assets.reconcile.census import reconciled_state
    from recon_assets.reconcile.scope import Scope
    from recon_assets.reconcile.state import first_day

    settings = _settings()
    engine = database.open_engine(settings.database_url)
    schema.require_schema(engine, create=False)
    with database.reading(engine) as connection:
        days = period.resolve(settings, first_day(connection))
    yield reconciled_state(engine, Scope(days, settings.curtailment_rule), datetime.now(UTC))
    engine.dispose()


def _show_state(state: "State", style: str) -> int:
    from recon_assets import report

    if style == "json":
        click.echo(json.dumps(report.state_facts(state), indent=2))
    else:
        report.print_state(report.open_console(), state)
    return RIGHT if state.is_right else NOT_RIGHT


def _reconcile(
    resolve: Callable[[Settings], Days],
    options: "Options | None",
    style: str,
    *,
    settings: Settings | None = None,
    dry_run: bool = False,
) -> int:
    """Reconciles through Dagster and shows what was done and the state after it."""
    # Before the imports, which take two seconds: what is set wrongly is said at once.
    settings = settings or _settings()
    days = resolve(settings)
    if days.first < FIRST_DAY:
        raise UsageError(f"{days.first} is before {FIRST_DAY}, the first day that is kept")
    from recon_assets import report
    from recon_assets.orchestration.instance import open_instance
    from recon_assets.orchestration.reconciliation import Options, Reconciliation
    from recon_assets.orchestration.workbench import open_source, open_workbench
    from recon_assets.progress import TerminalObserver

    options = options or Options()
    if options.ingest:
        # A source that is not there is said before anything is created.
        open_source(settings)
    observer = TerminalObserver()
    command = f"recon {' '.join(sys.argv[1:])}"
    with open_workbench(settings, observer) as workbench, open_instance(settings.dagster_home) as instance:
        work = Reconciliation(workbench, instance, command)
        if dry_run:
            planned = work.plan(work.state(days), options)
            if style == "json":
                click.echo(json.dumps(report.plan_facts(planned), indent=2))
            else:
                report.print_plan(report.open_console(), planned)
            return RIGHT if planned.is_empty and not planned.out_of_reach else NOT_RIGHT
        with observer:
            outcome = work.reconcile(days, options)
    return _show_outcome(outcome, observer, style)


def _show_outcome(outcome: "Outcome", observer: "TerminalObserver", style: str) -> int:
    from recon_assets import report

    for reason in observer.reasons:
        click.echo(f"Failed: {reason}", err=True)
    if style == "json":
        facts = report.state_facts(outcome.after) | {"done": report.done_facts(outcome.runs, outcome.told, observer)}
        click.echo(json.dumps(facts, indent=2))
    else:
        console = report.open_console()
        report.print_done(
            console, report.done_facts(outcome.runs, outcome.told, observer), outcome.before, outcome.plan
        )
        report.print_state(console, outcome.after)
    return RIGHT if outcome.after.is_right and not observer.reasons else NOT_RIGHT


if __name__ == "__main__":
    main()
