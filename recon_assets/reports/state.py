"""The reconciled state and what a command did, each as tables and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import date
from math import fsum
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recon_assets.database.keys import pending_line
from recon_assets.domain.settlement import Days
from recon_assets.domain.words import plural
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layers import ENERGY
from recon_assets.reconcile.plan import Plan, format_days
from recon_assets.reconcile.settlement_days import state_counts
from recon_assets.reconcile.spot import Spot
from recon_assets.reconcile.state import State
from recon_assets.reports.conclusion import conclusion_facts, print_conclusion
from recon_assets.reports.looked_past import print_looked_past

if TYPE_CHECKING:
    from recon_assets.ingest.generation import GenerationDay

WORST_DATES = 10
PIPE_WIDTH = 100
"""The width in columns if the output is not a terminal."""


class Work(Protocol):
    """What a CountingObserver counted while a command worked."""

    read: Changes
    converged_rows: Changes
    days_read: int
    unlisted: dict[str, float]
    remarks: list[str]
    failures: dict[date, str]


def state_facts(state: State) -> dict[str, Any]:
    """The keys of `recon status --format json`."""
    records = state.records
    return {
        **conclusion_facts(state),
        **_calculation_facts(state.total),
        "curtailment_records": state.curtailment_records,
        "curtailment": {"missing": records.missing, "surplus": records.surplus, "wrong": records.wrong},
        "settlement_days": state_counts(state.days.values()),
        "days_with_new_wind_units": [day.isoformat() for day in sorted(state.new_wind_days)],
        "stale_summaries": state.summary_faults,
        "unknown_models": dict(state.unknown_models),
        "outside_days": sum(state.outside_days.values()),
        "latest_ingested": state.latest_ingested.isoformat() if state.latest_ingested else None,
        "days_behind": state.days_behind,
        "models": {
            model: {**_calculation_facts(state.of_model(model)), "bitcoin": state.bitcoin[model]}
            for model in state.scope.models
        },
        "worst_dates": worst_dates(state),
    }


def brief_facts(state: State) -> dict[str, Any]:
    """A state in a few numbers, for logs."""
    names = ("conclusion", "settlement_days", "stale_summaries", "days_behind")
    facts = state_facts(state)
    return {"days": str(state.scope.days), **_calculation_facts(state.total), **{name: facts[name] for name in names}}


def spot_facts(before: Spot, after: Spot) -> dict[str, Any]:
    """What `recon spot-fix` found and left."""
    return {
        "settlement_date": before.day.isoformat(),
        "settlement_period": before.period,
        "farm_id": before.farm,
        "curtailment_records": after.records,
        "curtailed_mwh": after.curtailed_mwh,
        "models": {
            model: {
                "expected": None if now.expected is None else now.expected[0],
                "difficulty": None if now.expected is None else now.expected[1],
                "before": [bitcoin for bitcoin, _ in before.calculations[model].stored],
                "after": [bitcoin for bitcoin, _ in now.stored],
                "was_right": before.calculations[model].is_right,
                "is_right": now.is_right,
            }
            for model, now in after.calculations.items()
        },
    }


def print_spot(console: Console, facts: Mapping[str, Any]) -> None:
    """The calculations of one farm in one settlement period, as a table."""
    where = f"{facts['settlement_date']} period {facts['settlement_period']} {facts['farm_id']}"
    records = plural(facts["curtailment_records"], "record")
    console.print(f"[bold]{where}[/]: {facts['curtailed_mwh']:,.3f} MWh curtailed in {records}")
    table = Table("model", "expected BTC", "before", "after", "", box=None, header_style="bold underline")
    for name, model in facts["models"].items():
        result = "right" if model["was_right"] else "mended" if model["is_right"] else "[red]not right[/]"
        table.add_row(name, _bitcoin([model["expected"]]), _bitcoin(model["before"]), _bitcoin(model["after"]), result)
    console.print(table)


def _bitcoin(values: Sequence[float | None]) -> str:
    return ", ".join(f"{value:.12f}" for value in values if value is not None) or "none"


def _calculation_facts(tally: Tally) -> dict[str, Any]:
    return {
        "expected": tally.expected,
        "actual": tally.actual,
        "missing": tally.missing,
        "orphaned": tally.surplus,
        "duplicated": tally.duplicated,
        "wrong": tally.wrong,
        "completion_pct": tally.completion_pct,
    }


def worst_dates(state: State) -> list[dict[str, Any]]:
    """The ten dates whose calculations have the most faults, the worst first."""
    tallies: dict[Any, Tally] = {}
    for (day, _), tally in state.calculations.items():
        if tally.faults:
            tallies[day] = tallies.get(day, Tally()) + tally
    worst = sorted(tallies.items(), key=lambda item: (-item[1].faults, item[0]))[:WORST_DATES]
    keys = ("missing", "orphaned", "duplicated", "wrong", "completion_pct")
    return [
        {"settlement_date": day.isoformat(), **{key: _calculation_facts(tally)[key] for key in keys}}
        for day, tally in worst
    ]


def open_console() -> Console:
    """A console on stdout; for a file or a pipe, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def print_state(console: Console, state: State) -> None:
    """The state as tables."""
    facts = state_facts(state)
    console.print(f"[bold]Reconciled state[/] {state.scope.days} (rule {state.scope.rule})")
    names = ("model", "expected", "actual", "missing", "orphaned", "duplicated", "wrong", "%", "BTC")
    table = Table(*names, box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold underline")
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column.header == "model" else "right"
    for name, model in facts["models"].items():
        table.add_row(name, *_numbers(model), f"{model['bitcoin']:,.4f}")
    table.add_row("all", *_numbers(facts), "")
    console.print(table)
    curtailment, days = facts["curtailment"], facts["settlement_days"]
    summary = Table.grid(padding=(0, 2))
    summary.add_row("Settlement days", ", ".join(f"{count:,} {name}" for name, count in days.items() if count))
    records = ", ".join(f"{count:,} {name}" for name, count in curtailment.items())
    summary.add_row("Curtailment records", f"{facts['curtailment_records']:,} ({records})")
    if state.new_wind_days:
        changed = sorted(state.new_wind_days)
        summary.add_row("BM units changed", f"{plural(len(changed), 'day')} to read again: {format_days(changed)}")
    summary.add_row("Stale summaries", f"{facts['stale_summaries']:,}")
    behind = f"{plural(facts['days_behind'], 'day')} behind" if facts["days_behind"] else "up to date"
    summary.add_row("Latest ingested day", f"{facts['latest_ingested'] or 'none'} ({behind})")
    console.print(summary)
    print_looked_past(console, state)
    if facts["worst_dates"]:
        headings = ("worst dates", "missing", "orphaned", "duplicated", "wrong", "%")
        worst = Table(*headings, box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold underline")
        for column in worst.columns[1:]:
            column.justify = "right"
        for found in facts["worst_dates"]:
            day, *counts, share = found.values()
            worst.add_row(day, *(f"{count:,}" for count in counts), f"{share:.2f}")
        console.print(worst)
    print_conclusion(console, state)


def print_pending_keys(console: Console, pending: Mapping[str, int]) -> None:
    """A line for each table that waits for its unique key."""
    for table, duplicates in pending.items():
        console.print(pending_line(table, duplicates), soft_wrap=True, highlight=False)


def _numbers(facts: Mapping[str, Any]) -> list[str]:
    keys = ("expected", "actual", "missing", "orphaned", "duplicated", "wrong")
    return [*(f"{facts[key]:,}" for key in keys), f"{facts['completion_pct']:.2f}"]


def done_facts(runs: int, reported: int, work: Work) -> dict[str, Any]:
    """What a command did: days read, rows changed, failures, Dagster runs, and partitions reported to Dagster."""
    return {
        "days_read": work.days_read,
        "bids": _change_facts(work.read),
        "converged": _change_facts(work.converged_rows),
        "unlisted_bm_units": dict(sorted(work.unlisted.items())),
        "failed_days": {day.isoformat(): reason for day, reason in sorted(work.failures.items())},
        "runs": runs,
        "partitions_told": reported,
        "remarks": list(work.remarks),
    }


def _change_facts(changes: Changes) -> dict[str, int]:
    return {"inserted": changes.inserted, "corrected": changes.corrected, "removed": changes.removed}


def print_done(console: Console, done: Mapping[str, Any], before: State, work: Plan) -> None:
    """What a command did, in a few lines."""
    was = before.total
    console.print(
        f"[bold]Before[/]: {plural(was.missing, 'calculation')} missing, {was.wrong:,} wrong, "
        f"{was.surplus:,} orphaned, {was.duplicated:,} duplicated; {plural(len(work.ingest), 'day')} to read"
    )
    counts = done["converged"]
    console.print(
        f"[bold]Done[/]: {plural(done['days_read'], 'day')} read; {plural(counts['inserted'], 'row')} inserted, "
        f"{counts['corrected']:,} corrected, {counts['removed']:,} removed; {plural(done['runs'], 'Dagster run')}"
    )
    if done["partitions_told"]:
        reported = plural(done["partitions_told"], "partition")
        console.print(f"Dagster was told of {reported} that the database proves right")
    if work.out_of_reach:
        out = plural(len(work.out_of_reach), "day")
        which = "it" if len(work.out_of_reach) == 1 else "them"
        reason = f"the source does not have {which} (yet), or nothing was to be read"
        console.print(f"[yellow]{out} not read[/], because {reason}: {format_days(work.out_of_reach)}")
    for remark in done["remarks"]:
        console.print(f"[yellow]{escape(remark)}[/]")
    for unit, mwh in done["unlisted_bm_units"].items():
        console.print(
            f"[yellow]BM unit {unit} is not known to be wind or not[/]: {-mwh:,.3f} MWh of accepted bids are not "
            f"counted; say what it is with 'recon units declare {unit} --wind' (or --not-wind)"
        )


def generation_facts(
    days: Days, read: Sequence["GenerationDay"], failures: Mapping[date, str], after: State
) -> dict[str, Any]:
    """What `recon wind` read: what is stored (half-hours and MWh), and what is not published."""
    incomplete = [day for day in read if not day.is_whole]
    stale = sum(len(after.stale_summaries[layer.name]) for layer in ENERGY)
    return {
        "days": str(days),
        "days_read": len(read),
        "half_hours": {
            "stored": sum(day.half_hours for day in read),
            **_change_facts(sum((day.changes for day in read), Changes())),
        },
        "mwh": {
            "onshore": fsum(day.onshore_mwh for day in read),
            "offshore": fsum(day.offshore_mwh for day in read),
            "total": fsum(day.total_mwh for day in read),
        },
        "incomplete_days": {
            day.settlement_date.isoformat(): {"pending": list(day.pending), "of_one_kind": list(day.halves)}
            for day in incomplete
        },
        "failed_days": {day.isoformat(): reason for day, reason in sorted(failures.items())},
        "stale_summaries": stale,
        "generation_is_right": not (incomplete or failures or stale),
    }


def print_generation(console: Console, facts: Mapping[str, Any]) -> None:
    """The facts of `recon wind` as lines."""
    half_hours, mwh, summed = facts["half_hours"], facts["mwh"], facts["summaries"]
    console.print(f"[bold]Wind generation[/] {facts['days']}: {plural(facts['days_read'], 'day')} read")
    table = Table.grid(padding=(0, 2))
    counts = f"{half_hours['inserted']:,} inserted, {half_hours['corrected']:,} corrected"
    table.add_row("Half-hours", f"{half_hours['stored']:,} stored ({counts})")
    table.add_row("Onshore", f"{mwh['onshore']:,.3f} MWh")
    table.add_row("Offshore", f"{mwh['offshore']:,.3f} MWh")
    table.add_row("In all", f"{mwh['total']:,.3f} MWh")
    changed = f"{summed['inserted']:,} inserted, {summed['corrected']:,} corrected, {summed['removed']:,} removed"
    table.add_row("Summaries", f"{changed}, {facts['stale_summaries']:,} stale")
    console.print(table)
    for day, periods in facts["incomplete_days"].items():
        for what, found in (("not published", periods["pending"]), ("of one kind only", periods["of_one_kind"])):
            if found:
                console.print(f"[yellow]{day}[/]: {what}: settlement period {', '.join(map(str, found))}")
    if facts["failed_days"]:
        days = [date.fromisoformat(day) for day in facts["failed_days"]]
        console.print(f"[yellow]{plural(len(days), 'day')} could not be read[/]: {format_days(days)}")
    verdict = "[green]The wind generation is right.[/]"
    console.print(verdict if facts["generation_is_right"] else "[red]The wind generation is not right.[/]")
