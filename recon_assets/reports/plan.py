"""A plan, as a table and as JSON: the exact work, the requests and an estimate of time."""

from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.domain.words import duration, plural
from recon_assets.reconcile.plan import Plan, format_days
from recon_assets.reports.recovery import REQUESTS_A_SECOND


def plan_facts(work: Plan) -> dict[str, Any]:
    """The exact work of a plan, for `--dry-run --format json`."""
    return {
        "ingest": [day.isoformat() for day in work.ingest],
        "converge": sorted(day.isoformat() for chunk in work.chunks for day in chunk),
        "months": work.months,
        "years": work.years,
        "out_of_reach": [day.isoformat() for day in work.out_of_reach],
        "requests": work.requests,
        "seconds": round(work.requests / REQUESTS_A_SECOND),
        "from_archive": [day.isoformat() for day in work.from_archive],
        "by_volumes": [day.isoformat() for day in work.by_volumes],
    }


def print_plan(console: Console, work: Plan) -> None:
    """The exact work of a plan as a table."""
    days = [day for chunk in work.chunks for day in chunk]
    table = Table.grid(padding=(0, 2))
    from_elexon = [day for day in work.ingest if day not in work.from_archive]
    table.add_row("Read from Elexon", plural(len(from_elexon), "day"), format_days(from_elexon))
    if work.from_archive:
        table.add_row("Read from the archive", plural(len(work.from_archive), "day"), format_days(work.from_archive))
    if work.by_volumes:
        what = "ask first whether there was any wind; each day that is not empty is read whole"
        table.add_row("of these by volumes", plural(len(work.by_volumes), "day"), what)
    takes = f"about {duration(work.requests / REQUESTS_A_SECOND)}" if work.requests else ""
    table.add_row("Requests", f"{work.requests:,}", takes)
    table.add_row("Converge", plural(len(days), "day"), format_days(days))
    table.add_row("Monthly summaries", f"{len(work.months):,}", ", ".join(work.months))
    table.add_row("Yearly summaries", f"{len(work.years):,}", ", ".join(work.years))
    table.add_row("Out of reach", plural(len(work.out_of_reach), "day"), format_days(work.out_of_reach))
    console.print(table)
