import io
import json
from dataclasses import replace
from datetime import date

import pytest
from rich.console import Console

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State
from recon_assets.reports.analysis import analysis_facts, print_analysis

FIRST, SECOND, THIRD = (date(2025, 6, day) for day in (1, 2, 3))
DAYS = Days(FIRST, THIRD)
RIGHT = State(
    scope=Scope(DAYS, CurtailmentRule.SO_FLAGGED),
    days=dict.fromkeys(DAYS, DayState.INGESTED),
    curtailment={},
    calculations={(FIRST, "S9"): Tally(5, 5)},
    stale_summaries={},
    bitcoin={},
    curtailment_records=5,
    days_behind=0,
)


def findings(state: State) -> list[tuple[str, str, list[str], str]]:
    return [tuple(finding.values()) for finding in analysis_facts(state)["findings"]]


def test_of_what_is_right_there_is_nothing_to_say() -> None:
    assert analysis_facts(RIGHT) == {
        "conclusion": "right", "is_right": True, "rule": "so_flagged", "days": "2025-06-01..2025-06-03",
        "unproven_days": 0, "proof": None, "lost": [], "unknown_models": [], "faulty_dates": 0, "findings": [],
        "stale_periods": [],
    }  # fmt: skip


def test_days_that_were_never_read_are_spans_and_the_newest_come_first() -> None:
    states = {FIRST: DayState.NOT_INGESTED, SECOND: DayState.INGESTED, THIRD: DayState.NOT_INGESTED}
    july = {date(2025, 7, day): DayState.NOT_INGESTED for day in (1, 2)}
    state = replace(RIGHT, days=states | july, calculations={(SECOND, "S9"): Tally(5, 4)})

    assert findings(state) == [
        ("2025-07-01", "2025-07-02", ["never ingested"], "recon range 2025-07-01 2025-07-02"),
        ("2025-06-03", "2025-06-03", ["never ingested"], "recon date 2025-06-03"),
        ("2025-06-02", "2025-06-02", ["S9: 1 missing"], "recon date 2025-06-02"),
        ("2025-06-01", "2025-06-01", ["never ingested"], "recon date 2025-06-01"),
    ]
    assert analysis_facts(state)["faulty_dates"] == 5


def test_every_reason_of_a_day_is_named_and_models_keep_their_order() -> None:
    state = replace(
        RIGHT,
        days={**RIGHT.days, SECOND: DayState.INCOMPLETE},
        contradicted=frozenset([SECOND]),
        unproven={SECOND: (1, 2, 3, 17, 48)},
        curtailment={SECOND: Tally(9, 7, surplus=1, duplicated=2, wrong=3), FIRST: Tally(4, 4)},
        calculations={(SECOND, "M20S"): Tally(1200, 0), (SECOND, "S19J_PRO"): Tally(5, 5, 1, 2, 3)},
        stale_summaries={"bitcoin_daily_summaries": frozenset(["2025-06-02 S9"])},
    )

    assert findings(state) == [
        (
            "2025-06-02",
            "2025-06-02",
            [
                "the wind bids are not those that were fetched",
                "not read: settlement periods 1-3, 17, 48",
                "records: 2 missing, 3 surplus, 3 wrong",
                "S19J_PRO: 1 orphaned, 2 duplicated, 3 wrong",
                "M20S: 1,200 missing",
                "stale: bitcoin_daily_summaries",
            ],
            "recon date 2025-06-02",
        )
    ]


@pytest.mark.parametrize(
    ("found", "why", "mend"),
    [
        (DayState.INGESTED, ["stale: daily_summaries"], "recon summaries --from 2025-06-02 --to 2025-06-02"),
        (DayState.NOT_INGESTED, ["never ingested", "stale: daily_summaries"], "recon date 2025-06-02"),
    ],
)
def test_a_sum_is_summed_again_where_its_day_was_read(found: DayState, why: list[str], mend: str) -> None:
    stale = {"daily_summaries": frozenset(["2025-06-02"])}
    state = replace(RIGHT, days={**RIGHT.days, SECOND: found}, stale_summaries=stale)

    assert findings(state) == [("2025-06-02", "2025-06-02", why, mend)]


def test_months_and_years_are_named_once_with_all_that_is_stale() -> None:
    stale = {
        "bitcoin_monthly_summaries": frozenset(["2025-05 S9", "2025-06 S9", "2025-06 M20S"]),
        "monthly_summaries": frozenset(["2025-06"]),
        "yearly_summaries": frozenset(["2025"]),
    }

    facts = analysis_facts(replace(RIGHT, stale_summaries=stale))

    assert (facts["findings"], facts["is_right"]) == ([], False)
    june = "stale: bitcoin_monthly_summaries M20S, bitcoin_monthly_summaries S9, monthly_summaries"
    assert [tuple(entry.values()) for entry in facts["stale_periods"]] == [
        ("2025-06", june, "recon summaries --month 2025-06"),
        ("2025-05", "stale: bitcoin_monthly_summaries S9", "recon summaries --month 2025-05"),
        ("2025", "stale: yearly_summaries", "recon summaries --year 2025"),
    ]


def test_a_command_is_printed_whole_on_a_narrow_terminal() -> None:
    stale = {"daily_summaries": frozenset(["2025-06-02"])}
    facts = analysis_facts(replace(RIGHT, stale_summaries=stale))
    console = Console(file=io.StringIO(), width=80)

    with console.capture() as captured:
        print_analysis(console, json.loads(json.dumps(facts)))

    assert "recon summaries --from 2025-06-02 --to 2025-06-02\n" in captured.get()
