"""What Elexon revised, as a table and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.ingest.revisions import Revision

SHOWN = 20
"""Revisions that the table shows; JSON has all of them."""


def revision_facts(revisions: Sequence[Revision]) -> list[dict[str, Any]]:
    """Revisions for `--format json`, the newest reading first."""
    return [
        asdict(revision)
        | {"settlement_date": revision.settlement_date.isoformat(), "read_at": revision.read_at.isoformat()}
        for revision in revisions
    ]


def print_revisions(console: Console, revisions: Sequence[Mapping[str, Any]]) -> None:
    """What Elexon revised, as a table; prints nothing if there are no revisions."""
    if not revisions:
        return
    table = Table(
        "revised day", "read at", "periods", "added", "removed", "changed", "MWh", "GBP", box=None,
        padding=(0, 0, 0, 1), pad_edge=False, header_style="bold underline",
    )  # fmt: skip
    for column in table.columns[3:]:
        column.justify = "right"
    for found in revisions[:SHOWN]:
        rows = (f"{found[name]:,}" for name in ("rows_added", "rows_removed", "rows_changed"))
        mwh = f"{found['mwh_after'] - found['mwh_before']:+,.3f}"
        gbp = f"{found['gbp_after'] - found['gbp_before']:+,.2f}"
        read_at = found["read_at"][:16].replace("T", " ")
        table.add_row(found["settlement_date"], read_at, found["settlement_periods"], *rows, mwh, gbp)
    console.print(table)
    if len(revisions) > SHOWN:
        console.print(f"and {len(revisions) - SHOWN:,} more (--format json lists them)")
