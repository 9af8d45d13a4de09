import io
import json
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine

from recon_assets.database.work_log import MonthProgress
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.ingest.revisions import Revision
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State
from recon_assets.reports.progress import print_report, report_facts
from recon_assets_tests.support.steps import JUNE_6, NOW, SMALL_DAYS, execute, scalar, state_of

MAY_TO_JULY = Days(date(2025, 5, 30), date(2025, 7, 1))
COUNTS = ("expected", "right", "missing", "wrong", "orphaned", "duplicated")


def working(month: str, status: str = "in_progress", *, seen: float = 1) -> MonthProgress:
    """A row of the work log, half done."""
    started, updated = NOW - timedelta(seconds=100), NOW - timedelta(seconds=seen)
    reason = f"{month}-02: no answer"
    return MonthProgress(month, status, "converging", 50, 200, 100, 0, 0, reason, "recon auto", started, updated)


def facts_of(state: State, *progress: MonthProgress, now: datetime = NOW) -> dict[str, Any]:
    facts = report_facts(state, progress, now)
    assert json.loads(json.dumps(facts)) == facts
    return facts


def printed(facts: dict[str, Any], width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        print_report(console, facts)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_what_elexon_revised_is_shown_before_the_work(small_days: Engine) -> None:
    revision = Revision(JUNE_6, NOW, "3, 7", 1, 2, 3, -10.0, -12.5, 800.0, 750.25, "2025-06-06T09:52:19Z", None)

    facts = report_facts(state_of(small_days, SMALL_DAYS), [], NOW, [revision])

    assert json.loads(json.dumps(facts))["revisions"] == [
        asdict(revision) | {"settlement_date": "2025-06-06", "read_at": "2026-01-15T12:00:00+00:00"}
    ]
    (line,) = [line for line in printed(facts) if line.startswith("2025-06-06")]
    assert line.split() == ["2025-06-06", "2026-01-15", "12:00", "3,", "7", "1", "2", "3", "-2.500", "-49.75"]


def commands(facts: dict[str, Any]) -> list[str]:
    return [step["command"] for step in facts["next"]]


def test_when_everything_is_right_there_is_nothing_to_run(small_days: Engine) -> None:
    facts = facts_of(state_of(small_days, SMALL_DAYS))

    assert facts["is_right"] is True
    assert facts["next"] == facts["work"] == []
    month = facts["months"]["2025-06"]
    rows = scalar(small_days, "SELECT count(*) FROM historical_bitcoin_calculations")
    assert [month[key] for key in COUNTS] == [facts[key] for key in COUNTS] == [rows, rows, 0, 0, 0, 0]
    assert (month["curtailed_days"], month["settlement_days"]["ingested"]) == (2, 2)
    for name, model in facts["models"].items():
        bitcoin = f"SELECT sum(bitcoin_mined) FROM historical_bitcoin_calculations WHERE miner_model = '{name}'"
        assert model["bitcoin"] == pytest.approx(scalar(small_days, bitcoin), rel=1e-12, abs=0)
    said = printed(facts)
    assert said[-1] == "Everything is right."
    assert "Nothing is being worked on." in said


def test_how_much_of_the_history_is_proven_is_said_and_what_proves_the_rest(small_days: Engine) -> None:
    execute(
        small_days,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06'",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06'",
    )

    facts = facts_of(state_of(small_days, SMALL_DAYS))
    said = printed(facts)

    assert facts["conclusion"] == "right_as_far_as_known"
    assert next(line.split() for line in said if line.startswith("Proven")) == [
        "Proven",
        "1",
        "of",
        "2",
        "days",
        "(50",
        "%)",
    ]
    assert said[-3:] == [
        "1 day of the old database is not proven (49 requests, about 1 minute):",
        "    recon reconcile --from 2025-06-06 --to 2025-06-06 --prove",
        "Right as far as known.",
    ]


def test_every_month_is_there_and_its_counts_are_the_faults_in_it(small_days: Engine) -> None:
    # given two days, of which one has lost its calculations and the other a record and the truth of one model
    of_june_7 = scalar(
        small_days, "SELECT count(*) FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-07'"
    )
    _, wrong, _ = execute(
        small_days,
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-07'",
        "UPDATE historical_bitcoin_calculations SET bitcoin_mined = bitcoin_mined * 2 WHERE miner_model = 'S9'",
        "DELETE FROM curtailment_records WHERE id = (SELECT max(id) FROM curtailment_records "
        "WHERE settlement_date = '2025-06-06' AND farm_id NOT IN (SELECT farm_id FROM curtailment_records "
        "GROUP BY settlement_date, settlement_period, farm_id HAVING count(*) > 1))",
    )

    # when
    facts = facts_of(state_of(small_days, MAY_TO_JULY))

    # then
    assert list(facts["months"]) == ["2025-05", "2025-06", "2025-07"]
    may, june, july = facts["months"].values()
    assert [may[key] for key in COUNTS] == [july[key] for key in COUNTS] == [0] * 6
    assert [june[key] for key in COUNTS] == [facts[key] for key in COUNTS]
    assert june["missing"] == of_june_7
    assert june["orphaned"] == 3
    assert june["wrong"] == wrong - 1
    assert june["right"] == june["expected"] - june["missing"] - june["wrong"]
    assert june["curtailment_faults"] == 1
    assert june["curtailed_days"] == 2
    assert [month["settlement_days"]["not_ingested"] for month in (may, june, july)] == [2, 28, 1]
    assert sum(model["wrong"] for model in facts["models"].values()) == june["wrong"]
    assert {found["settlement_date"] for found in facts["worst_dates"]} == {"2025-06-06", "2025-06-07"}


def test_completion_is_rounded_down(small_days: Engine) -> None:
    # given one row of 100,000 missing
    state = replace(state_of(small_days, SMALL_DAYS), calculations={(JUNE_6, "S9"): Tally(100_000, 99_999)})

    facts = facts_of(state)

    assert facts["completion_pct"] == facts["months"]["2025-06"]["completion_pct"] == 99.99
    assert any(line.startswith("2025-06") and "  99.99  ━" in line for line in printed(facts))


def test_a_month_without_anything_expected_is_not_called_complete(small_days: Engine) -> None:
    lines = printed(facts_of(state_of(small_days, MAY_TO_JULY)))

    may, june, *_ = [line.split() for line in lines if line.startswith(("2025-05", "2025-06"))]
    assert may == ["2025-05", "0", "0", "0", "0", "0", "0", "-"]
    assert june[7] == "100.00"


def test_what_to_run_is_one_command_for_the_days_that_are_not_right(small_days: Engine) -> None:
    # given
    execute(
        small_days,
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06'",
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-07' AND settlement_period = 3",
    )
    state = state_of(small_days, SMALL_DAYS)

    # when
    (step,) = facts_of(state)["next"]

    # then
    assert step["command"] == "recon reconcile --from 2025-06-06 --to 2025-06-07"
    assert step["does"].startswith(f"reads 1 day from Elexon; mends {state.total.missing:,} calculations")
    whole_month = state_of(small_days, Days.of_month("2025-06"))
    assert commands(facts_of(whole_month)) == ["recon reconcile --month 2025-06"]


def test_summaries_alone_are_summed_up_again(small_days: Engine) -> None:
    execute(small_days, "UPDATE yearly_summaries SET total_payment = 1", "DELETE FROM bitcoin_yearly_summaries")

    facts = facts_of(state_of(small_days, SMALL_DAYS))

    assert facts["stale_yearly_summaries"] == {"2025": 4}
    assert facts["stale_summaries"] == 4
    assert facts["months"]["2025-06"]["stale_summaries"] == 0
    assert facts["next"] == [
        {"command": "recon summaries --from 2025-06-06 --to 2025-06-07", "does": "mends 4 summary rows"}
    ]
    assert "Stale summaries      4 (4 of 2025)" in printed(facts)


def test_daily_and_monthly_summaries_count_for_their_month(small_days: Engine) -> None:
    execute(small_days, "DELETE FROM daily_summaries", "DELETE FROM bitcoin_monthly_summaries WHERE miner_model = 'S9'")

    facts = facts_of(state_of(small_days, SMALL_DAYS))

    assert facts["months"]["2025-06"]["stale_summaries"] == facts["stale_summaries"] == 3


def test_days_that_are_not_due_are_not_asked_for(engine: Engine) -> None:
    # given the evening of the second of a month
    now = datetime(2025, 6, 2, 20, tzinfo=UTC)

    # when
    facts = facts_of(state_of(engine, Days.of_month("2025-06"), now=now), now=now)

    # then
    assert facts["days_not_due"] == 28
    assert commands(facts) == ["recon reconcile --from 2025-06-01 --to 2025-06-02"]
    assert "28 days not due yet: Elexon still has to publish them." in printed(facts)


def test_work_that_is_under_way_and_work_that_failed_within_the_days_are_told(small_days: Engine) -> None:
    facts = facts_of(
        state_of(small_days, SMALL_DAYS),
        working("2025-06", "failed", seen=500),
        working("2025-05", "failed"),
        working("2025-04", "completed"),
        working("2024-01"),
        working("2023-01", seen=500),
    )

    assert [(month["month"], month["is_silent"]) for month in facts["work"]] == [
        ("2024-01", False),
        ("2023-01", True),
        ("2025-06", False),
    ]
    assert facts["next"] == [{"command": "recon watch", "does": "shows the work on 2024-01"}]
    said = printed(facts)
    assert "2024-01  50%, 1m 40s left  converging in progress, 1s ago by recon auto" in said
    assert "2023-01  50%               converging, no sign of life for 8m 20s from recon auto" in said
    assert "                           2025-06-02: no answer" in said


def test_states_of_days_have_a_column_where_some_day_is_in_them(small_days: Engine) -> None:
    execute(
        small_days,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06'",
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-07' AND settlement_period = 1",
    )

    facts = facts_of(state_of(small_days, SMALL_DAYS))

    lines = printed(facts)
    header = next(line.split() for line in lines if line.startswith("days"))
    row = lines[lines.index(next(line for line in lines if line.startswith("days"))) + 1].split()
    assert header == ["days", "curtailed", "ingested", "incomplete", "ingested", "adopted", "summaries"]
    assert row == ["2025-06", "2", "0", "1", "0", "1", str(facts["stale_summaries"])]


@pytest.mark.parametrize("width", [80, 100])
def test_no_table_is_wrapped_or_cut(small_days: Engine, width: int) -> None:
    # given three years with millions of rows, days in every state and faults of every kind
    days = Days(date(2022, 1, 1), date(2024, 12, 31))
    state = state_of(small_days, SMALL_DAYS)
    scope = replace(state.scope, days=days, rule=CurtailmentRule.ALL_BIDS)
    tally = Tally(1_000, 900, 200, 10, 100)
    state = replace(
        state,
        scope=scope,
        days={day: list(DayState)[number % 5] for number, day in enumerate(days)},
        calculations={(day, model): tally for day in days for model in scope.models},
        curtailment=dict.fromkeys(days, tally),
        bitcoin=dict.fromkeys(scope.models, 50_902.00394),
        stale_summaries={
            "daily_summaries": frozenset(str(day) for day in days),
            "yearly_summaries": frozenset({"2023"}),
        },
    )

    # when
    lines = printed(facts_of(state, working("2024-12")), width)

    # then
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert f"Progress report {days} (rule all_bids), 2026-01-15 12:00 UTC" in lines
    for start in ("month", "days", "model", "worst dates"):
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{start} ")]
        rows = lines[at + 1 : lines.index("", at)]
        assert len(rows) == {"month": 36, "days": 36, "model": 3, "worst dates": 10}[start]
        assert {len(row.split()) for row in rows} == {len(rows[0].split())}
        figures = {len(row.rstrip("━╸╺ ")) for row in rows}
        assert figures == ({len(lines[at])} if start != "month" else {len(lines[at].rstrip())})
    first = next(line for line in lines if line.startswith("2022-01"))
    assert first.split()[:8] == ["2022-01", "93,000", "74,400", "9,300", "9,300", "18,600", "930", "80.00"]
    assert first.split()[8][0] == "━"
