"""What the proofs of adopted days recovered, by month, and what proving the rest would take."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.domain.settlement import periods_in
from recon_assets.domain.words import plural
from recon_assets.ingest.recovery import Figures, Recovery
from recon_assets.reconcile.settlement_days import DayState, SettlementDays

REQUESTS_A_SECOND = 8
"""The default of ELEXON_REQUESTS_PER_SECOND."""


def recovery_facts(found: Sequence[Recovery]) -> list[dict[str, Any]]:
    """The recoveries for programs: figures of the proven days of each month, before and after."""
    return [
        {
            "month": month.month,
            "days": month.days,
            "changed_days": month.changed_days,
            "before": _figures(month.before),
            "after": _figures(month.after),
        }
        for month in found
    ]


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "records": figures.records,
        "curtailed_mwh": figures.curtailed_mwh,
        "payment_gbp": figures.payment_gbp,
        "bitcoin": dict(figures.bitcoin),
    }


def print_recovery(console: Console, found: Sequence[Recovery]) -> None:
    """The recoveries as a table: what the proven days hold now, and how much more (or less) that is than before."""
    if not found:
        return
    days, changed = sum(month.days for month in found), sum(month.changed_days for month in found)
    console.print(f"[bold]Proven[/]: {plural(days, 'day')} of the old database, {changed:,} of them not as they were")
    model = next((name for month in found for name in month.after.bitcoin), None)
    headings = ("month", "days", "changed", "records", "MWh", "GBP", f"BTC {model}" if model else "BTC")
    table = Table(*headings, box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold underline")
    for column in table.columns[1:]:
        column.justify = "right"
    for month in found:
        old, new = month.before, month.after
        bitcoin = new.bitcoin.get(model, 0.0) - old.bitcoin.get(model, 0.0) if model else 0.0
        table.add_row(
            month.month,
            f"{month.days:,}",
            f"{month.changed_days:,}",
            f"{new.records - old.records:+,}",
            f"{new.curtailed_mwh - old.curtailed_mwh:+,.3f}",
            f"{new.payment_gbp - old.payment_gbp:+,.2f}",
            f"{bitcoin:+,.8f}",
        )
    console.print(table)


def proof_facts(state: SettlementDays) -> dict[str, Any] | None:
    """The command that proves the unproven days, with its requests and seconds; None if all are proven."""
    days = state.unproven_days
    if not days:
        return None
    empty = set(state.days_in(DayState.ADOPTED_EMPTY)).difference(state.lost)
    asked = {day for day in days if state.days[day] is DayState.ADOPTED} | empty
    requests = len(asked) + sum(periods_in(day) for day in days if day not in empty)
    return {
        "command": f"recon reconcile --from {days[0]} --to {days[-1]} --prove",
        "requests": requests,
        "seconds": round(requests / REQUESTS_A_SECOND),
    }
