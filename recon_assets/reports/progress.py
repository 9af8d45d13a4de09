"""The progress report: how far each month and miner model is, what work is in progress, and what to run next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from math import floor
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recon_assets.database.work_log import MonthProgress, Status
from recon_assets.domain.settlement import Days, due_periods
from recon_assets.domain.words import plural
from recon_assets.ingest.revisions import Revision
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layer import MONTH, YEAR
from recon_assets.reconcile.settlement_days import state_counts
from recon_assets.reconcile.state import Conclusion, State
from recon_assets.reports.conclusion import CONCLUSIONS, print_proof
from recon_assets.reports.revisions import print_revisions, revision_facts
from recon_assets.reports.state import state_facts
from recon_assets.reports.work_view import format_seconds, format_work, style_of, work_facts

FAULTS = ("missing", "wrong", "orphaned", "duplicated")
COLUMNS = ("expected", "right", *FAULTS)
ALWAYS = ("curtailed", "ingested", "not ingested", "stale summaries")
"""Columns of the table of days that are shown even if all their values are 0."""

WIDEST_BAR = 20
ROOMY = 100
"""Terminals at least so wide get two spaces between columns."""
LEFT_OF_WORK = 27


def report_facts(
    state: State, progress: Sequence[MonthProgress], now: datetime, revisions: Sequence[Revision] = ()
) -> dict[str, Any]:
    """The keys of `recon report --format json`, among them those of `recon status`; `now` has a time zone."""
    months = [MONTH.label(days.first) for days in state.scope.days.by_month()]
    work = work_facts(progress, now)
    return {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        **state_facts(state),
        **_tally_facts(state.total),
        "models": {
            model: {**_tally_facts(state.of_model(model)), "bitcoin": state.bitcoin[model]}
            for model in state.scope.models
        },
        "months": _month_facts(state, months),
        "stale_yearly_summaries": _stale_by_period(state, YEAR.length),
        "days_not_due": len(_not_due(state, now)),
        "work": [
            month
            for month in work
            if month["status"] == Status.IN_PROGRESS or (month["status"] == Status.FAILED and month["month"] in months)
        ],
        "revisions": revision_facts(revisions),
        "next": [*_watching(work), *_next(state, now)],
    }


def _tally_facts(tally: Tally) -> dict[str, Any]:
    return {
        "expected": tally.expected,
        "actual": tally.actual,
        "right": tally.actual - tally.wrong,
        "missing": tally.missing,
        "wrong": tally.wrong,
        "orphaned": tally.surplus,
        "duplicated": tally.duplicated,
        "completion_pct": tally.completion_pct,
    }


def _month_facts(state: State, months: Sequence[str]) -> dict[str, dict[str, Any]]:
    calculations, records = dict.fromkeys(months, Tally()), dict.fromkeys(months, Tally())
    curtailed: set[date] = set()
    for (day, _), tally in state.calculations.items():
        calculations[MONTH.label(day)] += tally
        curtailed |= {day} if tally.expected else set()
    for day, tally in state.curtailment.items():
        records[MONTH.label(day)] += tally
        curtailed |= {day} if tally.expected else set()
    stale = _stale_by_period(state, MONTH.length)
    of_month: dict[str, list[date]] = {month: [] for month in months}
    for day in state.days:
        of_month[MONTH.label(day)].append(day)
    return {
        month: {
            **_tally_facts(calculations[month]),
            "curtailment_faults": records[month].faults,
            "curtailed_days": len(curtailed.intersection(days)),
            "settlement_days": state_counts(state.days[day] for day in days),
            "stale_summaries": stale.get(month, 0),
        }
        for month, days in of_month.items()
    }


def _stale_by_period(state: State, length: int) -> dict[str, int]:
    """Counts stale summary rows: by month, the daily and monthly ones; by year, the yearly ones alone."""
    periods = [key.split()[0] for keys in state.stale_summaries.values() for key in keys]
    counted = [period[:length] for period in periods if (len(period) == YEAR.length) == (length == YEAR.length)]
    return dict(sorted(Counter(counted).items()))


def _not_due(state: State, now: datetime) -> list[date]:
    return [day for day in state.unready_days if not due_periods(day, now)]


def _watching(work: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    moving = [month["month"] for month in work if month["status"] == Status.IN_PROGRESS and not month["is_silent"]]
    return [{"command": "recon watch", "does": f"shows the work on {', '.join(moving)}"}] if moving else []


def _next(state: State, now: datetime) -> list[dict[str, str]]:
    """The command that makes the scope right, as far as is possible now, and what it does; [] if there is none."""
    not_due = set(_not_due(state, now))
    to_read = [day for day in state.days_to_read if day not in not_due]
    days = {*to_read, *state.faulty_days}
    # Reconciling a day also converges the summaries of its month and year.
    summed = {grain.label(day) for grain in (MONTH, YEAR) for day in days}
    periods = {*_stale_by_period(state, MONTH.length), *_stale_by_period(state, YEAR.length)} - summed
    days |= {day for day in state.scope.days if periods.intersection((MONTH.label(day), YEAR.label(day)))}
    if not days:
        return []
    span = Days(min(days), max(days))
    faults = {
        "calculation": state.total.faults,
        "curtailment record": state.records.faults,
        "summary row": state.summary_faults,
    }
    counts = ", ".join(plural(count, noun) for noun, count in faults.items() if count)
    does = [f"reads {plural(len(to_read), 'day')} from Elexon"] if to_read else []
    does += [f"mends {counts}"] if counts else []
    only_summaries = not to_read and not state.faulty_days
    command = f"recon {'summaries' if only_summaries else 'reconcile'} {_format_options(span)}"
    return [{"command": command, "does": "; ".join(does)}]


def _format_options(span: Days) -> str:
    """The options that name a span of days on the command line."""
    month, year = MONTH.label(span.first), YEAR.label(span.first)
    if span == Days.of_month(month):
        return f"--month {month}"
    return f"--year {year}" if span == Days.of_year(year) else f"--from {span.first} --to {span.last}"


def print_report(console: Console, facts: Mapping[str, Any]) -> None:
    """The facts as tables, then what to run next."""
    at = facts["at"][:16].replace("T", " ") + " UTC"
    console.print(Text.assemble(("Progress report", "bold"), f" {facts['days']} (rule {facts['rule']}), {at}"))
    gap = 1 if console.width < ROOMY else 2
    months = facts["months"]
    tables = [_totals(facts)]
    tables.append(_table(("month", *COLUMNS, "%", ""), [_month_row(*item) for item in months.items()], gap))
    tables.append(_days_table(facts, gap))
    models = [[name, *_numbers(model), f"{model['bitcoin']:,.4f}"] for name, model in facts["models"].items()]
    tables.append(_table(("model", *COLUMNS, "%", "BTC"), models, gap))
    if facts["worst_dates"]:
        worst = [[found["settlement_date"], *_counts(found, FAULTS), _pct(found)] for found in facts["worst_dates"]]
        tables.append(_table(("worst dates", *FAULTS, "%"), worst, gap))
    for table in tables:
        console.print(table, "")
    if facts["revisions"]:
        print_revisions(console, facts["revisions"])
        console.print()
    _print_work(console, facts["work"])
    _print_next(console, facts)


def _totals(facts: Mapping[str, Any]) -> Table:
    days, records = facts["settlement_days"], facts["curtailment"]
    behind = f"{plural(facts['days_behind'], 'day')} behind" if facts["days_behind"] else "up to date"
    yearly = facts["stale_yearly_summaries"]
    of_years = f" ({', '.join(f'{count} of {year}' for year, count in yearly.items())})" if yearly else ""
    grid = Table.grid(padding=(0, 2))
    right = f"{facts['right']:,} of {facts['expected']:,} right ({_pct(facts)}%)"
    grid.add_row("Calculations", right)
    grid.add_row("", ", ".join(f"{facts[fault]:,} {fault}" for fault in FAULTS))
    counts = ", ".join(f"{count:,} {name}" for name, count in records.items())
    grid.add_row("Curtailment records", f"{facts['curtailment_records']:,} ({counts})")
    proven = days["ingested"] / max(1, sum(days.values()))
    grid.add_row("Proven", f"{days['ingested']:,} of {plural(sum(days.values()), 'day')} ({floor(100 * proven)} %)")
    grid.add_row("Settlement days", ", ".join(f"{count:,} {_words(name)}" for name, count in days.items() if count))
    grid.add_row("Stale summaries", f"{facts['stale_summaries']:,}{of_years}")
    grid.add_row("Latest ingested day", f"{facts['latest_ingested'] or 'none'} ({behind})")
    return grid


def _days_table(facts: Mapping[str, Any], gap: int) -> Table:
    """The states and faults of the days of each month; a column without any is left out, unless in ALWAYS."""
    months = facts["months"]
    columns: dict[str, list[int]] = {"curtailed": [month["curtailed_days"] for month in months.values()]}
    for state in facts["settlement_days"]:
        columns[_words(state)] = [month["settlement_days"][state] for month in months.values()]
    columns["record faults"] = [month["curtailment_faults"] for month in months.values()]
    columns["stale summaries"] = [month["stale_summaries"] for month in months.values()]
    shown = {name: counts for name, counts in columns.items() if name in ALWAYS or any(counts)}
    rows = [[month, *(f"{counts[number]:,}" for counts in shown.values())] for number, month in enumerate(months)]
    # Headers wrap into two lines, or the columns would not fit.
    return _table(("days", *(name.replace(" ", "\n") for name in shown)), rows, gap)


def _month_row(name: str, month: Mapping[str, Any]) -> list[RenderableType]:
    if not month["expected"]:
        return [name, *_counts(month, COLUMNS), "-", ""]
    return [name, *_counts(month, COLUMNS), _pct(month), ProgressBar(completed=month["completion_pct"])]


def _numbers(facts: Mapping[str, Any]) -> list[str]:
    return [*_counts(facts, COLUMNS), _pct(facts)]


def _counts(facts: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [f"{facts[key]:,}" for key in keys]


def _pct(facts: Mapping[str, Any]) -> str:
    return f"{facts['completion_pct']:.2f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(header: Sequence[str], rows: Sequence[Sequence[RenderableType]], gap: int) -> Table:
    table = Table(*header, box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold underline")
    for number, column in enumerate(table.columns):
        column.justify = "right" if number else "left"
        column.vertical = "bottom"
        # The column of bars, which has no header, takes the remaining width.
        column.no_wrap, column.max_width = bool(column.header), None if column.header else WIDEST_BAR
    for row in rows:
        table.add_row(*row)
    return table


def _print_work(console: Console, work: Sequence[Mapping[str, Any]]) -> None:
    if not work:
        console.print("Nothing is being worked on.\n")
        return
    console.print("[bold]Work[/]")
    grid = Table.grid(padding=(0, 2))
    for month in work:
        done = f"{int(month['percentage_complete'])}%"
        if month["remaining_seconds"] is not None:
            done += f", {format_seconds(month['remaining_seconds'])} left"
        words = Text(format_work(month, console.width - LEFT_OF_WORK), style=style_of(month))
        if month["error_details"]:
            words.append(f"\n{month['error_details']}", style="default")
        grid.add_row(month["month"], done, words)
    console.print(grid, "")


def _print_next(console: Console, facts: Mapping[str, Any]) -> None:
    if facts["days_not_due"]:
        console.print(f"{plural(facts['days_not_due'], 'day')} not due yet: Elexon still has to publish them.")
    for step in facts["next"]:
        console.print(Text.assemble("Run ", (step["command"], "bold cyan")))
        console.print(Padding(Text(step["does"]), (0, 0, 0, 4)))
    if facts["proof"]:
        print_proof(console, facts["unproven_days"], facts["proof"])
    if facts["conclusion"] != Conclusion.NOT_RIGHT:
        console.print(CONCLUSIONS[Conclusion(facts["conclusion"])])
