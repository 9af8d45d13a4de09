"""The conclusion of a state: right, right as far as known, or not right; and what speaks against the first."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from recon_assets.domain.words import duration, plural
from recon_assets.reconcile.evidence import Lost
from recon_assets.reconcile.state import Conclusion, State
from recon_assets.reports.recovery import proof_facts

LOST_SHOWN = 10
"""Days, months and years with evidence of lost records that the table shows; JSON has all of them."""

CONCLUSIONS = {
    Conclusion.RIGHT: "[green]Everything is right.[/]",
    Conclusion.RIGHT_AS_FAR_AS_KNOWN: "[yellow]Right as far as known.[/]",
    Conclusion.NOT_RIGHT: "[red]Not everything is right.[/]",
}


def conclusion_facts(state: State) -> dict[str, Any]:
    """The conclusion, the days and rule that it is about, and the evidence of lost records."""
    return {
        "conclusion": state.conclusion.value,
        "is_right": state.is_right,
        "rule": state.scope.rule.value,
        "days": str(state.scope.days),
        "unproven_days": len(state.unproven_days),
        "proof": proof_facts(state),
        "lost": [
            {
                "period": period,
                "claimed_mwh": evidence.claimed_mwh,
                "recorded_mwh": evidence.recorded_mwh,
                "orphaned": evidence.orphaned,
                "claimed_btc": dict(evidence.claimed_btc),
            }
            for period, evidence in lost_evidence(state)
        ],
    }


def lost_evidence(state: State) -> list[tuple[str, Lost]]:
    """The days, months and years that seem to have lost records, with the evidence; the newest first."""
    of_days = [(day.isoformat(), evidence) for day, evidence in state.lost.items()]
    return sorted([*of_days, *state.lost_periods.items()], reverse=True, key=lambda found: found[0])


def print_conclusion(console: Console, state: State) -> None:
    """The conclusion in words, after what speaks for lost records and what is not proven."""
    found = lost_evidence(state)
    for period, evidence in found[:LOST_SHOWN]:
        console.print(f"[red]Records seem to be lost[/] {period}: {evidence}")
    if len(found) > LOST_SHOWN:
        console.print(f"... and {len(found) - LOST_SHOWN:,} more: see 'recon analyze'")
    proof = proof_facts(state)
    if proof is not None:
        print_proof(console, len(state.unproven_days), proof)
    console.print(CONCLUSIONS[state.conclusion])


def print_proof(console: Console, days: int, proof: Mapping[str, Any]) -> None:
    """The command that proves so many unproven days, and what it takes."""
    takes = f"{plural(proof['requests'], 'request')}, about {duration(proof['seconds'])}"
    console.print(f"{plural(days, 'day')} of the old database {'is' if days == 1 else 'are'} not proven ({takes}):")
    console.print(Text(f"    {proof['command']}", style="bold cyan"))
