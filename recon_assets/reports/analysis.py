"""The analysis: every date that is not right, why, and the command that makes it right."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from recon_assets.domain.settlement import Days, contiguous, format_periods
from recon_assets.domain.words import plural
from recon_assets.reconcile.layers import BITCOIN_DAILY, ENERGY_DAILY, MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import Conclusion, State
from recon_assets.reports.conclusion import CONCLUSIONS, conclusion_facts, print_proof
from recon_assets.reports.looked_past import print_unknown_model_facts, unknown_model_facts

NOTHING_OLD = "the old database holds no record, and nothing proves that there was none"


def analysis_facts(state: State) -> dict[str, Any]:
    """The findings: dates first (adjacent days never read are one span), then months and years; newest first."""
    findings = [*_days(state), *_never_read(state)]
    findings.sort(key=lambda finding: str(finding["from"]), reverse=True)
    summaries = [*_summaries(state, MONTHLY_LAYERS, "month"), *_summaries(state, YEARLY_LAYERS, "year")]
    return {
        **conclusion_facts(state),
        "faulty_dates": len({day for finding in findings for day in _span(finding)}),
        "findings": findings,
        "stale_periods": summaries,
        "unknown_models": unknown_model_facts(state),
    }


def _days(state: State) -> Iterator[dict[str, Any]]:
    """A finding for every day with stored rows that are not right."""
    days = {*state.faulty_days, *state.days_in(DayState.INCOMPLETE), *state.lost, *state.new_wind_days}
    days |= {day for day, _ in state.misnamed}
    for day in sorted(days):
        reasons = list(_reasons(state, day))
        if reasons:
            yield _finding(Days(day, day), reasons, _command(state, day))


def _never_read(state: State) -> Iterator[dict[str, Any]]:
    named = {*state.faulty_days, *state.lost}
    for unread, why in ((DayState.NOT_INGESTED, "never ingested"), (DayState.ADOPTED_EMPTY, NOTHING_OLD)):
        for span in contiguous(day for day in state.days_in(unread) if day not in named):
            words = f"recon range {span.first} {span.last}" if len(span) > 1 else f"recon date {span.first}"
            yield _finding(span, [why], words)


def _finding(span: Days, reasons: Sequence[str], command: str) -> dict[str, Any]:
    return {"from": span.first.isoformat(), "to": span.last.isoformat(), "why": list(reasons), "mend": command}


def _span(finding: Mapping[str, Any]) -> Days:
    return Days(date.fromisoformat(finding["from"]), date.fromisoformat(finding["to"]))


def _reasons(state: State, day: date) -> Iterator[str]:
    if state.days[day] is DayState.NOT_INGESTED:
        yield "never ingested"
    if state.days[day] is DayState.ADOPTED_EMPTY:
        yield NOTHING_OLD
    if day in state.suspicious_days:
        yield f"records seem to be lost: {state.evidence_of(day)}"
    if day in state.contradicted:
        yield "the wind bids are not those that were fetched"
    if day in state.unproven:
        yield f"not read: settlement periods {format_periods(state.unproven[day])}"
    if day in state.new_wind_days:
        yield "read when other BM units counted as wind"
    records = state.curtailment.get(day)
    if records and records.faults:
        yield f"records: {_counts(missing=records.missing, surplus=records.superfluous, wrong=records.wrong)}"
    if rows := state.no_numbers.get(day):
        yield f"volume or price is NaN or Infinity: {'; '.join(rows)}"
    for model in state.scope.models:
        tally = state.calculations.get((day, model))
        if tally and tally.faults:
            counts = _counts(
                missing=tally.missing, orphaned=tally.surplus, duplicated=tally.duplicated, wrong=tally.wrong
            )
            yield f"{model}: {counts}"
        if spellings := state.misnamed.get((day, model)):
            yield f"{model}: looked past rows of {', '.join(map(repr, sorted(spellings)))}: rename them first"
    stale = [layer.name for layer in (BITCOIN_DAILY, ENERGY_DAILY) if _is_stale(state, layer.name, day)]
    if stale:
        yield f"stale: {', '.join(stale)}"


def _is_stale(state: State, layer: str, day: date) -> bool:
    return any(key.split()[0] == day.isoformat() for key in state.stale_summaries.get(layer, ()))


def _command(state: State, day: date) -> str:
    """The smallest command that makes a day right: summaries only if nothing else is wrong."""
    reasons = list(_reasons(state, day))
    if all(reason.startswith("stale") for reason in reasons):
        return f"recon summaries --from {day} --to {day}"
    if day in state.no_numbers and state.days[day] in (DayState.ADOPTED, DayState.ADOPTED_EMPTY):
        return f"recon reingest {day}"
    return f"recon date {day}"


def _summaries(state: State, layers: Sequence[Any], kind: str) -> Iterator[dict[str, Any]]:
    stale: dict[str, list[str]] = {}
    for layer in layers:
        for key in sorted(state.stale_summaries.get(layer.name, ())):
            period, *model = key.split()
            stale.setdefault(period, []).append(f"{layer.name} {model[0]}" if model else layer.name)
    for period, names in sorted(stale.items(), reverse=True):
        why, mend = f"stale: {', '.join(names)}", f"recon summaries --{kind} {period}"
        if period in state.lost_periods:
            why, mend = (
                f"records seem to be lost: {state.lost_periods[period]}",
                f"recon reconcile --{kind} {period} --prove",
            )
        elif period in state.kept_periods:
            why, mend = f"{why}; kept until its lost days are read", f"recon reconcile --{kind} {period}"
        yield {"period": period, "why": why, "mend": mend}


def _counts(**counts: int) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def print_analysis(console: Console, facts: Mapping[str, Any]) -> None:
    """The findings as a table: a line for each reason, and the command beside them."""
    dates = facts["faulty_dates"]
    verb = "is" if dates == 1 else "are"
    console.print(f"[bold]Analysis[/] {facts['days']}: {plural(dates, 'date')} {verb} not right")
    table = Table("date", "why", "mend it with", box=None, header_style="bold underline", pad_edge=False)
    table.columns[2].no_wrap = True
    for finding in facts["findings"]:
        first, last = finding["from"], finding["to"]
        table.add_row(first if first == last else f"{first}..{last}", "\n".join(finding["why"]), finding["mend"])
    for finding in facts["stale_periods"]:
        table.add_row(finding["period"], finding["why"], finding["mend"])
    if table.row_count:
        console.print(table)
    print_unknown_model_facts(console, facts["unknown_models"])
    console.print(CONCLUSIONS[Conclusion(facts["conclusion"])])
    if facts["proof"]:
        print_proof(console, facts["unproven_days"], facts["proof"])
