"""A verification and a repair, each as tables and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.ingest.day_totals import DayTotals
from recon_assets.ingest.verification import Finding, Verification

SHOWN = 20
"""Differences that the table shows; JSON has all of them."""

COLOURS = {Finding.AGREES: "green", Finding.NOT_COMPARABLE: "yellow"}


def verification_facts(found: Verification) -> dict[str, Any]:
    """The facts of `recon verify --format json`."""
    return {
        "settlement_date": found.settlement_date.isoformat(),
        "method": found.method.value,
        "finding": found.finding.value,
        "state": found.state.value,
        "periods": list(found.periods),
        "requests": found.requests,
        "found_within_requests": found.found_within,
        "seed": found.seed,
        "differences": [asdict(difference) for difference in found.differences],
        "unread_periods": list(found.unread),
        "unpublished_periods": list(found.unpublished),
        "stored_bids_contradict_their_proof": found.is_contradicted,
        "not_comparable": found.not_comparable,
        "tolerance": found.tolerance,
        "does_not_see": found.unseen,
        "mended_by": found.mended_by,
    }


def print_verification(console: Console, found: Verification) -> None:
    """What was compared, what differs, and the command that makes it right."""
    facts = verification_facts(found)
    compared = _format(facts["periods"])
    colour = COLOURS.get(found.finding, "red")
    console.print(f"[bold]{found.settlement_date}[/] by {found.method}: [{colour}]{found.finding}[/]")
    summary = Table.grid(padding=(0, 2))
    summary.add_row("Settlement day", facts["state"])
    summary.add_row("Periods compared", compared + (f" (seed {found.seed})" if found.seed is not None else ""))
    within = f" (a difference was found within {found.found_within})" if found.found_within else ""
    summary.add_row("Requests", f"{found.requests}{within}")
    summary.add_row("Tolerance", facts["tolerance"])
    summary.add_row("Does not see", facts["does_not_see"])
    for what, text in (
        ("Not comparable", found.not_comparable),
        ("Not stored", _format(found.unread) if found.unread else None),
        ("Not listed by Elexon (yet)", _format(found.unpublished) if found.unpublished else None),
        ("Damaged", "the stored bids are not those that were fetched" if found.is_contradicted else None),
    ):
        if text:
            summary.add_row(what, f"[yellow]{text}[/]")
    console.print(summary)
    if found.differences:
        console.print(_difference_table(facts["differences"]))
    if len(found.differences) > SHOWN:
        console.print(f"and {len(found.differences) - SHOWN:,} more (--format json lists them)")
    if found.mended_by:
        console.print(f"[bold]{found.mended_by}[/]")


def _difference_table(differences: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        "period", "farm", "between", "MWh stored", "right", "GBP stored", "right", "differ", box=None,
        padding=(0, 0, 0, 1), pad_edge=False, header_style="bold underline",
    )  # fmt: skip
    for column in (0, 3, 4, 5, 6):
        table.columns[column].justify = "right"
    for found in differences[:SHOWN]:
        amounts = [_number(found["stored_mwh"], 3), _number(found["right_mwh"], 3)]
        amounts += [_number(found["stored_gbp"], 2), _number(found["right_gbp"], 2)]
        table.add_row(str(found["settlement_period"]), found["farm_id"], found["side"], *amounts, found["what"])
    return table


def repair_facts(
    before: DayTotals, after: DayTotals, found: Verification | None, again: Verification | None, done: str
) -> dict[str, Any]:
    """The facts of `recon repair --format json`; `done` is what was done: nothing, reingested or converged."""
    return {
        "verification": None if found is None else verification_facts(found),
        "done": done,
        "before": asdict(before),
        "after": asdict(after),
        "verified_again": None if again is None else verification_facts(again),
    }


def print_day_totals(console: Console, before: DayTotals, after: DayTotals) -> None:
    """The totals of a day before and after, side by side."""
    table = Table("", "before", "after", box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold underline")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, old, new in (("bids", before.bids, after.bids), ("records", before.records, after.records)):
        table.add_row(f"{what}: rows", *(f"{amounts.rows:,}" for amounts in (old, new)))
        table.add_row(f"{what}: MWh", *(f"{amounts.mwh:,.3f}" for amounts in (old, new)))
        table.add_row(f"{what}: GBP", *(f"{amounts.gbp:,.2f}" for amounts in (old, new)))
    for model in sorted({*before.bitcoin, *after.bitcoin}):
        table.add_row(f"{model}: BTC", *(_number(totals.bitcoin.get(model), 8) for totals in (before, after)))
    console.print(table)


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _format(periods: Sequence[int]) -> str:
    """Periods as spans, `1-46` or `1, 12, 24`; `none` if there are none."""
    spans: list[list[int]] = []
    for period in sorted(periods):
        if spans and period == spans[-1][1] + 1:
            spans[-1][1] = period
        else:
            spans.append([period, period])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans) or "none"
