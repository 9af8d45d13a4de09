import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.database.work_log import MonthProgress, Phase, WorkLog
from recon_assets.errors import SchemaError
from recon_assets.reports.work_view import FINISHED_SHOWN, render, watch, watch_facts
from recon_assets_tests.support.steps import NOW

WORKER = "recon reconcile --month 2025-06 (host, process 4711)"


def month(
    period: str = "2025-06",
    status: str = "in_progress",
    *,
    done: int = 0,
    failed: int = 0,
    total: int = 1_000,
    started: float | None = 60,
    seen: float | None = 1,
    worker: str | None = WORKER,
    error: str | None = None,
) -> MonthProgress:
    """A row of the work log; `started` and `seen` are seconds before NOW."""

    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOW - timedelta(seconds=seconds)

    return MonthProgress(
        time_period=period,
        status=status,
        phase="converging",
        percentage_complete=0,
        total_records=total,
        processed_records=done,
        failed_records=failed,
        timeouts=2,
        error_details=error,
        worker=worker,
        started_at=ago(started),
        last_updated=ago(seen),
    )


def facts_of(*rows: MonthProgress) -> dict[str, Any]:
    facts = watch_facts(rows, NOW)
    assert json.loads(json.dumps(facts)) == facts
    return facts


def frame(facts: dict[str, Any], width: int = 100, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(render(facts, height))
    return captured.get().splitlines()


def test_rate_success_and_time_remaining_come_of_what_was_handled() -> None:
    # given 600 records handled in 60 s, one of which failed, and 400 that remain
    facts = facts_of(month(done=599, failed=1))

    # then a share is rounded down
    (found,) = facts["months"]
    keys = ("percentage_complete", "records_per_second", "success_pct", "remaining_seconds", "age_seconds")
    assert [found[key] for key in keys] == [60.0, 10.0, 99.83, 40, 1]
    assert [facts["in_progress"][key] for key in keys[1:4]] == [10.0, 99.83, 40]
    assert facts_of(month(done=999_999, total=1_000_000))["months"][0]["percentage_complete"] == 99.99


@pytest.mark.parametrize(
    "row",
    [
        month(),
        month(started=0, seen=0),
        month(started=-5, seen=-5),
        month(total=0),
        month(started=None, done=10),
        month(status="completed", total=0),
        month(status="pending", started=None, seen=None, worker=None),
        month(started=None, seen=None, worker=None),
    ],
)
def test_what_is_not_known_is_none_and_not_divided_by(row: MonthProgress) -> None:
    facts = facts_of(row)

    assert facts["months"][0]["remaining_seconds"] is None
    assert facts["in_progress"]["remaining_seconds"] is None
    assert frame(facts)


def test_two_minutes_without_an_update_are_no_sign_of_life() -> None:
    # given one worker that was just in time and one that was not
    facts = facts_of(
        month("2025-06", done=600, seen=120, worker="ann"), month("2025-05", done=600, seen=121, worker="bob")
    )

    # then
    assert [(found["month"], found["is_silent"]) for found in facts["months"]] == [
        ("2025-06", False),
        ("2025-05", True),
    ]
    assert facts["months"][1]["remaining_seconds"] is None
    assert (facts["in_progress"]["months"], facts["in_progress"]["processed_records"]) == (1, 600)
    assert facts["silent_months"] == 1
    assert "        converging, no sign of life for 2m 01s from bob" in "\n".join(frame(facts))


def test_months_that_a_living_worker_has_not_come_to_or_is_through_with_are_not_silent() -> None:
    facts = facts_of(
        month("2025-06", done=10, seen=1),
        month("2025-05", done=1_000, seen=600),
        month("2025-04", done=0, seen=600),
        month("2025-03", done=500, seen=600),
        month("2025-02", done=0, seen=600, worker="someone else"),
        month("2025-01", done=0, seen=600, worker=None),
        month("2024-12", done=0, seen=1, worker=None),
    )

    silent = {found["month"] for found in facts["months"] if found["is_silent"]}
    assert silent == {"2025-03", "2025-02", "2025-01"}


def test_what_remains_in_all_is_what_the_last_worker_needs() -> None:
    # given a worker with two months begun together, and another that is quick
    rows = [
        month("2025-06", done=600, worker="ann"),
        month("2025-05", done=0, worker="ann"),
        month("2025-04", done=900, worker="bob"),
    ]

    # then 1,400 records at 10/s, though together they do 25/s
    assert facts_of(*rows)["in_progress"]["remaining_seconds"] == 140
    assert facts_of(*rows)["in_progress"]["records_per_second"] == 25.0
    assert facts_of(*rows, month("2025-03", worker="eve"))["in_progress"]["remaining_seconds"] is None


def test_months_in_progress_come_first_then_those_that_ended_last() -> None:
    # given more ended months than are shown, of which the oldest failed
    ended = [
        month(f"2024-{n:02}", "failed" if n == 1 else "completed", done=1_000, seen=1_000 - n) for n in range(1, 13)
    ]

    # when
    facts = facts_of(*ended, month("2021-01"))

    # then
    shown = [found["month"] for found in facts["months"]]
    assert shown == ["2021-01", *(f"2024-{n:02}" for n in range(12, 12 - FINISHED_SHOWN, -1))]
    assert frame(facts)[-1] == "and 2 more, of which 1 failed"


@pytest.mark.parametrize("width", [80, 100])
def test_a_frame_is_aligned_and_nothing_is_cut(width: int) -> None:
    # given the widest figures, and reasons longer than a line
    reason = "2025-06-11..2025-06-20: timed out: QueryCanceled: canceling statement due to statement timeout, at last"
    rows = [
        month("2025-06", total=312_000, done=100_000, failed=12_000, error=reason),
        month("2025-05", "failed", total=9, done=8, failed=1, error="no difficulty"),
        month("2025-04", "completed", done=1_000, error="timed out once"),
    ]

    # when
    lines = frame(facts_of(*rows), width)

    # then
    assert max(map(len, lines)) <= width
    _, sums, header, *below = lines
    assert sums == "1 month in progress: 1,867/s, 89.28% success, 1m 47s left"
    figures = {line[:7]: line for line in below if line[:4] == "2025"}
    assert [figures[name].split()[2:] for name in ("2025-06", "2025-05", "2025-04")] == [
        ["35%", "100,000/312,000", "1,867/s", "89.28%", "12,000", "2", "1m", "47s"],
        ["99%", "8/9", "0.2/s", "88.88%", "1", "2", "-"],
        ["100%", "1,000/1,000", "17/s", "100.00%", "0", "2", "-"],
    ]
    assert {len(line.rstrip()) for line in figures.values()} == {len(header.rstrip())}
    words = " ".join(" ".join(below).split())
    assert f"converging in progress, 1s ago by {WORKER} {reason}" in words
    assert f"converging failed 1s ago by {WORKER} no difficulty" in words
    assert "timed out once" not in words


def test_a_frame_has_as_many_months_as_there_is_room_for() -> None:
    facts = facts_of(*(month(f"2025-{n:02}", done=n) for n in range(1, 13)))

    lines = frame(facts, height=20)

    assert len(lines) < 20
    assert lines[-1] == "and 5 more"
    assert len(frame(facts)) > 20


def test_an_empty_work_log_says_so(engine: Engine) -> None:
    assert "Nothing has been worked on yet" in drawn(engine, once=True, is_terminal=True)


def drawn(
    engine: Engine,
    *,
    once: bool,
    is_terminal: bool,
    sleep: Callable[[float], None] = lambda seconds: pytest.fail("there is nothing to wait for"),
) -> str:
    """What was drawn until the end, or until Ctrl-C."""
    file = io.StringIO()
    console = Console(file=file, width=100, height=40, force_terminal=is_terminal, color_system=None)
    try:
        watch(engine, console, lambda: NOW, 7.0, once, sleep)
    except KeyboardInterrupt:
        file.write("interrupted")
    return file.getvalue()


@pytest.mark.parametrize(("once", "is_terminal"), [(True, True), (False, False)])
def test_a_single_frame_is_drawn_when_asked_for_or_without_a_terminal(
    engine: Engine, once: bool, is_terminal: bool
) -> None:
    WorkLog(engine, WORKER, lambda: NOW).begin(Phase.READING, {"2025-06": 1_440})

    said = drawn(engine, once=once, is_terminal=is_terminal)

    assert "0/1,440" in said
    assert "reading in progress, 0s ago by recon reconcile" in said
    assert "\x1b" not in said


def test_every_frame_is_of_the_work_log_as_it_is_until_ctrl_c(engine: Engine) -> None:
    # given somebody who works on a month between two frames
    work_log = WorkLog(engine, WORKER, lambda: NOW - timedelta(seconds=10))
    work_log.begin(Phase.CONVERGING, {"2025-06": 100})
    pauses = []

    def work(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt
        work_log.advance("2025-06", 25)

    # when
    said = drawn(engine, once=False, is_terminal=True, sleep=work)

    # then
    assert said.index("0/100") < said.index("25/100") < said.index("50/100") < said.index("interrupted")
    assert pauses == [7.0, 7.0, 7.0]
    show_cursor = "\x1b[?25h"
    assert said.index("50/100") < said.rindex(show_cursor) < said.index("interrupted")


def test_a_schema_without_the_work_log_is_an_error_with_a_remedy(database_url: str) -> None:
    with pytest.raises(SchemaError, match="run 'recon migrate'"):
        drawn(open_engine(database_url), once=True, is_terminal=False)
