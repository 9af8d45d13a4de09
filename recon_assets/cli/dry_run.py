"""Shows what a command would do, and writes nothing."""

from typing import TYPE_CHECKING

import click

from recon_assets.cli.shared import echo_json, engine_if_any, exit_code
from recon_assets.domain.settlement import Days
from recon_assets.settings import Settings

if TYPE_CHECKING:
    from recon_assets.orchestration.outcome import Options


def show_plan(settings: Settings, days: Days, options: "Options", style: str) -> int:
    """Shows the work, and writes nothing: no database, no Dagster home, no folder."""
    from recon_assets.database.engine import display_url, open_engine_to_read
    from recon_assets.elexon.client import open_source
    from recon_assets.orchestration.planning import plan_work, read_state
    from recon_assets.orchestration.resource import ReconResource
    from recon_assets.reconcile.state import empty_state
    from recon_assets.reports import state as report
    from recon_assets.reports.plan import plan_facts, print_plan

    if options.ingest:
        # A missing source is a wrong setting, whatever there is to do.
        open_source(settings)
    with engine_if_any(settings) as engine:
        resource = ReconResource(settings, engine or open_engine_to_read(settings.database_url))
        state = read_state(resource, days) if engine else empty_state(resource.scope(days))
        planned = plan_work(resource, state, options)
    if engine is None:
        where = display_url(settings.database_url)
        click.echo(f"{where} holds no data yet: the first run creates the tables and does this", err=True)
    if style == "json":
        echo_json(plan_facts(planned))
    else:
        print_plan(report.open_console(), planned)
    return exit_code(planned.is_empty and not planned.out_of_reach)
