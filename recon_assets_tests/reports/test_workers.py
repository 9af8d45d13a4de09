from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database.transactions import reading
from recon_assets.database.work_log import MonthProgress, Phase, WorkLog, read_progress
from recon_assets.reports.work_view import watch_facts
from recon_assets.reports.workers import worker_facts
from recon_assets_tests.reports.test_work_view import WORKER, facts_of, frame, month
from recon_assets_tests.support.steps import NOW


def a_year(*, seen: float = 1) -> list[MonthProgress]:
    """Three months done in an hour, the last of them 5 minutes ago; one in progress, and eight to come."""
    ended = [month(f"2025-{n}", "completed", done=1_000, started=3_900, seen=300 + n) for n in (12, 11, 10)]
    ended[0] = month("2025-12", "failed", done=990, failed=10, started=3_900, seen=300, error="2025-12-03: no answer")
    to_come = [month(f"2025-0{n}", "pending", total=0, started=3_900, seen=3_900) for n in range(1, 9)]
    return [*ended, month("2025-09", done=100, started=300, seen=seen), *to_come]


def test_the_whole_work_of_a_worker_is_counted_with_the_time_that_is_left() -> None:
    facts = facts_of(*a_year())

    # then nine months are left at 20 minutes each, but for the 5 minutes that have passed
    (worker,) = facts["workers"]
    assert {name: worker[name] for name in ("worker", "months", "done", "failed", "in_progress", "to_come")} == {
        "worker": WORKER, "months": 12, "done": 3, "failed": 1, "in_progress": 1, "to_come": 8,
    }  # fmt: skip
    assert worker["remaining_seconds"] == facts["in_progress"]["remaining_seconds"] == 9 * 1200 - 300
    # and months that are to come are not listed one by one
    assert [found["month"] for found in facts["months"]] == ["2025-09", "2025-12", "2025-10", "2025-11"]


def test_the_first_month_says_how_long_the_others_take() -> None:
    # given a month of which half is done in a minute, and two to come
    rows = [month("2025-03", done=500), *(month(f"2025-0{n}", "pending", total=0, seen=60) for n in (1, 2))]

    assert worker_facts(rows, NOW)[0]["remaining_seconds"] == 60 + 2 * 120
    assert worker_facts([month("2025-03", done=0), *rows[1:]], NOW)[0]["remaining_seconds"] is None


def test_a_worker_that_is_gone_is_silent_with_all_that_it_had_planned() -> None:
    facts = facts_of(*a_year(seen=299), month("2024-12", worker="bob"))

    (gone, bob) = facts["workers"]
    assert (gone["is_silent"], gone["remaining_seconds"], bob["is_silent"]) == (True, None, False)
    assert "no sign of life for 4m 59s" in " ".join(frame(facts))


@pytest.mark.parametrize("width", [40, 80])
def test_a_frame_shows_it_at_any_width(width: int) -> None:
    lines = frame(facts_of(*a_year()), width)

    assert max(map(len, lines)) <= width
    said = " ".join(" ".join(lines).split())
    assert "…" not in said
    assert [line.split()[0] for line in lines if line[:5] == "month" or line[7:9] in (" ━", " ╺", " ╸")] == [
        "month", "2025-09", "2025-12", "2025-10", "2025-11",
    ]  # fmt: skip
    assert f"3 of 12 months done (1 failed), 8 to come, 2h 55m left: {WORKER}" in said


def test_no_worker_is_shown_twice_for_a_single_month() -> None:
    assert " ".join(frame(facts_of(month(done=500)))).count(WORKER) == 1


def test_work_does_not_vanish_between_two_phases_or_two_months(engine: Engine) -> None:
    # given
    seen: list[dict[str, Any]] = []

    def look() -> None:
        with reading(engine) as connection:
            seen.append(watch_facts(read_progress(connection), NOW + timedelta(seconds=1)))

    work_log = WorkLog(engine, WORKER, lambda: NOW)

    # when
    with work_log.finishing():
        work_log.plan(["2025-05", "2025-06"])
        look()
        for name in ("2025-06", "2025-05"):
            for phase in Phase:
                with work_log.working(phase, {name: 10}, []):
                    work_log.advance(name, 10)
                    look()
                look()

    # then
    assert [facts["workers"][0]["worker"] for facts in seen] == [WORKER] * 9
    assert [facts["workers"][0]["done"] for facts in seen] == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert [facts["in_progress"]["months"] for facts in seen] == [0, *[1] * 8]
    assert "Work begins" in " ".join(frame(seen[0]))
    look()
    assert seen[-1]["workers"] == []
