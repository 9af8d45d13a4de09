"""Commands that need nobody: the unattended routines, the demo, the Dagster UI."""

import os
import shutil
import sys
from pathlib import Path

import click

from recon_assets.cli.options import TEXT, Period, format_option, period_options, strict_option
from recon_assets.cli.shared import first_day_of, read_settings
from recon_assets.cli.through_dagster import reconcile_through_dagster, run_routine
from recon_assets.demo import DEMO_DAYS, DEMO_HOME, demo_home
from recon_assets.errors import ConfigurationError
from recon_assets.folders import obstacle
from recon_assets.settings import Unattended

ABOUT_THE_RECORDINGS = """\
The packaged recordings of June 2025 are rebuilt, not raw. Real and public: units, half-hourly volumes, day
totals and prices (NESO wind bid volumes via nlpfd/uk-wind-curtailment-app, per-unit day totals via
richardjlyon/subsidy-clock), wind generation (Elexon FUELHH via richardjlyon/gb-grid-margin), all MIT;
contains BMRS data © Elexon Limited copyright and database right. Made up: the split into acceptances, the
flags, the non-wind rows, and the split of the generation into onshore and offshore.
"""


@click.command("daily-check")
@click.option("--days", type=click.IntRange(1, 30), default=2, show_default=True, help="Check at least so many days.")
@click.option("--force", is_flag=True, help="Read the days from Elexon again, those that are right too.")
@strict_option
@format_option
def daily_check(days: int, force: bool, style: str) -> int:
    """Check and mend the newest days, unattended.

    From the last ingested day to yesterday: at least --days, at most 30, so that an outage of a week is made good.
    The log is daily-check.jsonl in RECON_LOGS.
    """
    return run_routine("daily-check", style, days=days, force=force)


@click.command()
@period_options
@click.option("--no-ingest", is_flag=True, help="Do not read from Elexon; converge from what is stored.")
@strict_option
@format_option
def auto(period: Period, no_ingest: bool, style: str) -> int:
    """Bring everything to right, unattended: newest month first, then days that failed in small chunks.

    The log is auto.jsonl in RECON_LOGS.
    """
    return run_routine(
        "auto", style, ingest=not no_ingest, resolve=lambda settings: period.resolve(settings, first_day_of(settings))
    )


@click.command()
def demo() -> int:
    """Ingest, calculate, sum and verify June 2025 from the packaged recordings, through Dagster, in .recon/demo/."""
    home = demo_home(Path.cwd())
    if reason := obstacle(home):
        raise ConfigurationError(f"the demo cannot use {home}: {reason}; run it in another folder")
    os.environ[DEMO_HOME] = str(home)
    click.echo(ABOUT_THE_RECORDINGS)
    code = reconcile_through_dagster(lambda _: DEMO_DAYS, None, "table", with_generation=True)
    command = "recon" if shutil.which("recon") else os.path.relpath(sys.argv[0])
    click.echo(
        f"\nNext:\n"
        f"  {command} --demo ui        the Dagster UI: assets, partitions and the runs of this demo\n"
        f"  {command} --demo status    the same state again, from the rows\n"
        f"  {command} --help"
    )
    return code


@click.command()
@click.option(
    "--host", type=TEXT, default="127.0.0.1", show_default=True, help="Address that the webserver listens on."
)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the webserver.")
def ui(host: str, port: int) -> int:
    """Serve the Dagster UI, with the daemon that runs backfills and sensors, until Ctrl-C."""
    # Before the imports and the processes: a wrong setting is then one line of error, not the log of a code server.
    settings = read_settings()
    Unattended.from_environment(os.environ)
    from recon_assets.orchestration.alerts import Alerts
    from recon_assets.orchestration.server import serve

    Alerts(settings.alert_urls)
    click.echo(f"Dagster UI on http://{host}:{port} (Ctrl-C stops it); state in {settings.dagster_home}")
    return serve(settings.dagster_home, host, port)


COMMANDS = (daily_check, auto, demo, ui)
