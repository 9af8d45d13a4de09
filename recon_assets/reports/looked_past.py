"""Rows that no layer speaks of, and rows that recon did not write, in words: how many, and what mends them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from recon_assets.domain.words import plural
from recon_assets.reconcile.foreign_rows import ForeignRows
from recon_assets.reconcile.looked_past import mend
from recon_assets.reconcile.state import State


def unknown_model_facts(state: State) -> list[dict[str, Any]]:
    """A fact for each table and stored spelling that is no declared miner model, with what mends it."""
    return [
        {"table": table, "miner_model": spelling, "rows": rows, "mend": mend(table, spelling)}
        for table, of_table in sorted(state.unknown_rows.items())
        for spelling, rows in sorted(of_table.items())
    ]


def print_looked_past(console: Console, state: State) -> None:
    """The rows of days that are not kept and of undeclared miner models, as lines."""
    if state.outside_days:
        counts = ", ".join(f"{count:,} in {table}" for table, count in sorted(state.outside_days.items()))
        console.print(
            f"Rows before {state.scope.first_day} or after today: {sum(state.outside_days.values()):,} ({counts}); "
            "they are left alone",
            highlight=False,
        )
    print_unknown_model_facts(console, unknown_model_facts(state))


def print_unknown_model_facts(console: Console, facts: Sequence[Mapping[str, Any]]) -> None:
    """The facts as lines; a statement is a line of its own, to be copied."""
    if facts:
        console.print("[red]Rows of unknown miner models[/], which nothing counts or changes:")
    for fact in facts:
        rows = plural(fact["rows"], "row")
        console.print(f"{fact['miner_model']!r} in {fact['table']}: {rows}", markup=False, highlight=False)
        console.print(f"  {fact['mend']}", markup=False, highlight=False, soft_wrap=True)


def foreign_facts(found: Sequence[ForeignRows]) -> list[dict[str, Any]]:
    """A fact for each table into which something other than recon has written; dates and instants in ISO 8601."""
    plain = ("since", "newest_at", "first_day", "last_day")
    return [asdict(rows) | {name: getattr(rows, name).isoformat() for name in plain} for rows in found]


def print_foreign_rows(console: Console, found: Sequence[ForeignRows]) -> None:
    """A line for each of these tables."""
    for rows in found:
        console.print(f"[yellow]{rows}[/]: see 'recon doctor'", soft_wrap=True, highlight=False)
