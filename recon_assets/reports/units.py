"""What is known of BM units, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.domain.words import plural
from recon_assets.ingest.declarations import Declaration
from recon_assets.ingest.unit_facts import Amount, Kind, Unit, UnitDetails
from recon_assets.reconcile.plan import format_days

SAID = {True: "wind", False: "not wind"}


def unit_facts(unit: Unit) -> dict[str, Any]:
    """The keys of a unit in `recon units list --format json`; null is what is not known."""
    listed = unit.listed
    return {
        "bm_unit_id": unit.bm_unit_id,
        "kind": unit.kind.value,
        "is_listed": listed is not None,
        "fuel_type": listed and listed.fuel_type,
        "bm_unit_name": listed and listed.bm_unit_name,
        "national_grid_bm_unit": listed and listed.national_grid_bm_unit,
        "lead_party_name": listed and listed.lead_party_name,
        "generation_capacity_mw": listed and listed.generation_capacity_mw,
        "first_seen_at": listed.first_seen_at.isoformat() if listed and listed.first_seen_at else None,
        "declaration": declaration_facts(unit.declaration),
        "uncounted_bids": _amount_facts(unit.uncounted),
        "records_without_proof": _amount_facts(unit.unproven),
    }


def declaration_facts(said: Declaration | None) -> dict[str, Any] | None:
    """What a person said of a unit; None if nobody said anything."""
    if said is None:
        return None
    at = said.declared_at.isoformat(timespec="seconds")
    return {"is_wind": said.is_wind, "declared_by": said.declared_by, "declared_at": at, "note": said.note}


def _amount_facts(amount: Amount) -> dict[str, Any]:
    return {"rows": amount.rows, "mwh": amount.mwh, "days": amount.days}


def list_facts(units: Sequence[Unit], kinds: Sequence[Kind]) -> dict[str, Any]:
    """The keys of `recon units list --format json`: units of some kinds, and how many there are of each.

    Farms of records without proof are among the unknown, also those that Elexon lists with another fuel.
    """
    chosen = [unit for unit in units if unit.kind in kinds or (unit.unproven.rows and Kind.UNKNOWN in kinds)]
    # First those of which something is not counted: the live list has thousands without a fuel type.
    chosen.sort(key=lambda unit: (unit.uncounted.mwh + unit.unproven.mwh, unit.bm_unit_id))
    counts = {kind.value: sum(unit.kind is kind for unit in units) for kind in Kind}
    return {"counts": counts, "units": [unit_facts(unit) for unit in chosen]}


def show_facts(details: UnitDetails) -> dict[str, Any]:
    """The keys of `recon units show --format json`."""
    return unit_facts(details.unit) | {
        "uncounted_days": [
            {"settlement_date": day.isoformat(), "bids": bids, "mwh": mwh}
            for day, (bids, mwh) in details.uncounted_days.items()
        ],
        "wind_bids": _amount_facts(details.bids),
        "curtailment_records": _amount_facts(details.records),
    }


def declared_facts(unit: str, before: Kind, after: Kind, said: Declaration, days: Sequence[date]) -> dict[str, Any]:
    """The keys of `recon units declare --format json`; `days` are to be read again because of it."""
    return {
        "bm_unit_id": unit,
        "kind_before": before.value,
        "kind": after.value,
        "declaration": declaration_facts(said),
        "days_with_new_wind_units": [day.isoformat() for day in days],
    }


def print_list(console: Console, facts: Mapping[str, Any]) -> None:
    """Units as a table, and a line that counts them."""
    columns = ("BM unit", "kind", "fuel", "lead party", "MW", "not counted, or without proof")
    table = Table(*columns, box=None, header_style="bold underline", pad_edge=False)
    for column in (table.columns[0], table.columns[5]):
        column.no_wrap = True
    table.columns[4].justify = "right"
    for unit in facts["units"]:
        capacity = unit["generation_capacity_mw"]
        amounts = ((unit["uncounted_bids"], "bid"), (unit["records_without_proof"], "record"))
        table.add_row(
            unit["bm_unit_id"],
            f"{unit['kind']} (declared)" if unit["declaration"] else unit["kind"],
            unit["fuel_type"] or "-",
            unit["lead_party_name"] or "-",
            "-" if capacity is None else f"{capacity:,.0f}",
            "\n".join(_amount(amount, noun) for amount, noun in amounts if amount["rows"]) or "-",
        )
    if table.row_count:
        console.print(table)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in facts["counts"].items())
    console.print(f"[bold]BM units[/]: {counts}")


def print_unit(console: Console, facts: Mapping[str, Any]) -> None:
    """All that is known of a unit."""
    console.print(f"[bold]{facts['bm_unit_id']}[/] is {KINDS[facts['kind']]}")
    table = Table.grid(padding=(0, 2))
    table.add_row("Elexon's list", _list_words(facts))
    if facts["is_listed"]:
        capacity = facts["generation_capacity_mw"]
        table.add_row("Lead party", facts["lead_party_name"] or "not known")
        table.add_row("Capacity", "not known" if capacity is None else f"{capacity:,.1f} MW")
        table.add_row("First seen", facts["first_seen_at"] or "not known")
    said = facts["declaration"]
    table.add_row("Declared", _said_words(said) if said else "by nobody")
    if said and said["note"]:
        table.add_row("Note", said["note"])
    table.add_row("Wind bids", _amount(facts["wind_bids"], "bid"))
    table.add_row("Curtailment records", _amount(facts["curtailment_records"], "record"))
    table.add_row("Records without proof", _amount(facts["records_without_proof"], "record"))
    table.add_row("Bids not counted", _amount(facts["uncounted_bids"], "bid"))
    console.print(table)
    if facts["uncounted_days"]:
        days = Table("day", "bids", "MWh", box=None, header_style="bold underline", pad_edge=False)
        for column in days.columns[1:]:
            column.justify = "right"
        for day in facts["uncounted_days"]:
            days.add_row(day["settlement_date"], f"{day['bids']:,}", f"{day['mwh']:,.3f}")
        console.print(days)
    if facts["kind"] == Kind.UNKNOWN:
        console.print(f"Say what it is with 'recon units declare {facts['bm_unit_id']} --wind' (or --not-wind).")


KINDS = {Kind.WIND: "wind", Kind.OTHER: "not wind", Kind.UNKNOWN: "not known to be wind or not"}


def print_declared(console: Console, facts: Mapping[str, Any]) -> None:
    """What a declaration has changed, and the command that has the days read again."""
    console.print(f"[bold]{facts['bm_unit_id']}[/] is declared {_said_words(facts['declaration'])}")
    console.print(f"It was {KINDS[facts['kind_before']]}.")
    days = [date.fromisoformat(day) for day in facts["days_with_new_wind_units"]]
    if days:
        count = "1 stored day was" if len(days) == 1 else f"{len(days):,} stored days were"
        console.print(f"{count} read when other units counted as wind: {format_days(days)}")
        console.print(f"Read again with 'recon reconcile --from {days[0]} --to {days[-1]}'")


def _list_words(facts: Mapping[str, Any]) -> str:
    if not facts["is_listed"]:
        return "not in it"
    return facts["fuel_type"] or "without a fuel type"


def _said_words(said: Mapping[str, Any]) -> str:
    return f"{SAID[said['is_wind']]} by {said['declared_by']} at {said['declared_at']}"


def _amount(amount: Mapping[str, Any], noun: str) -> str:
    if not amount["rows"]:
        return "-"
    rows, days = amount["rows"], amount["days"]
    return f"{plural(rows, noun)} of {plural(days, 'day')}, {amount['mwh']:,.3f} MWh"
