"""The schedules of Dagster: when they tick, and what a tick asks for."""

from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from recon_assets.domain.settlement import LONDON, Days, london_day, parse_day
from recon_assets.orchestration.active_runs import ASKED_BY, days_of_tags
from recon_assets.orchestration.build import build_defs
from recon_assets.settings import Unattended

SCHEDULES = {
    "daily_check_schedule": ("daily_check", "02:00"),
    "todays_periods_schedule": ("reconcile_range", None),
    "weekly_reconciliation_schedule": ("reconcile_range", "03:00"),
    "last_month_schedule": ("reconcile_range", "04:00"),
    "random_days_schedule": ("verify_days", "05:00"),
    "wind_generation_schedule": ("read_wind_generation", "10:00"),
}
"""The job and the time in London; None: every hour."""
FORWARD, BACK = datetime(2026, 3, 29, tzinfo=LONDON), datetime(2026, 10, 25, tzinfo=LONDON)
"""Midnight of the Sundays on which the clocks change."""

DEFS = build_defs(unattended=Unattended(everything=False, tick_seconds=60))


def schedule(name: str, defs: dg.Definitions = DEFS) -> dg.ScheduleDefinition:
    found = defs.resolve_schedule_def(name)
    assert isinstance(found, dg.ScheduleDefinition)
    return found


def ticks(name: str, start: datetime, end: datetime) -> list[str]:
    """The ticks from `start` until before `end`, in London time with its offset."""
    timed = schedule(name)
    from_start = schedule_execution_time_iterator(start.timestamp(), timed.cron_schedule, timed.execution_timezone)
    in_time = takewhile(lambda tick: tick.timestamp() < end.timestamp(), from_start)
    return [tick.astimezone(LONDON).strftime("%a %d %H:%M %z") for tick in in_time]


def tick(name: str, at: datetime) -> dg.RunRequest:
    """What a tick asks for."""
    context = dg.build_schedule_context(scheduled_execution_time=at)
    (request,) = schedule(name).evaluate_tick(context).run_requests or []
    return request


def config(name: str, at: datetime) -> dict[str, Any]:
    """The config of the one step of a tick's run, with the job's defaults."""
    request, job = tick(name, at), DEFS.resolve_job_def(SCHEDULES[name][0])
    taken = dg.validate_run_config(job, request.run_config)
    ((_, step),) = taken["ops"].items()
    filled: dict[str, Any] = step["config"]
    return filled


def test_each_schedule_has_its_job_and_is_in_london() -> None:
    found = {name: schedule(name) for name in SCHEDULES}

    assert {name: each.job_name for name, each in found.items()} == {name: job for name, (job, _) in SCHEDULES.items()}
    assert {each.execution_timezone for each in found.values()} == {"Europe/London"}
    assert {each.name for each in DEFS.schedules or []} == set(SCHEDULES)
    assert all(len(each.description or "") > 30 for each in found.values())


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("daily_check_schedule", ["Sat", "Sun", "Mon"]),
        ("weekly_reconciliation_schedule", ["Sun"]),
        ("last_month_schedule", ["Mon"]),
        ("random_days_schedule", ["Sat"]),
        ("wind_generation_schedule", ["Sat", "Sun", "Mon"]),
    ],
)
@pytest.mark.parametrize(
    ("change", "days"),
    [
        (FORWARD, {"Sat": ("28", "+0000"), "Sun": ("29", "+0100"), "Mon": ("30", "+0100")}),
        (BACK, {"Sat": ("24", "+0100"), "Sun": ("25", "+0000"), "Mon": ("26", "+0000")}),
    ],
    ids=["forward", "back"],
)
def test_a_schedule_keeps_its_london_time_on_both_sides_of_a_clock_change(
    name: str, on: list[str], change: datetime, days: dict[str, tuple[str, str]]
) -> None:
    at = SCHEDULES[name][1]
    expected = [f"{day} {days[day][0]} {at} {days[day][1]}" for day in on]

    assert ticks(name, change - timedelta(days=1), change + timedelta(days=2)) == expected


@pytest.mark.parametrize(
    ("change", "ends", "count"),
    [
        (FORWARD, ["Sun 29 00:20 +0000", "Sun 29 02:20 +0100"], 23),
        (BACK, ["Sun 25 00:20 +0100", "Sun 25 01:20 +0100", "Sun 25 01:20 +0000", "Sun 25 02:20 +0000"], 25),
    ],
    ids=["forward", "back"],
)
def test_todays_periods_are_read_every_hour_that_there_is(change: datetime, ends: list[str], count: int) -> None:
    found = ticks("todays_periods_schedule", change, change + timedelta(days=1))

    assert found[: len(ends)] == ends
    assert len(found) == count


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_tick_asks_for_a_run_that_its_job_takes(name: str) -> None:
    job = DEFS.resolve_job_def(SCHEDULES[name][0])

    for at in (FORWARD, BACK, datetime(2024, 2, 29, tzinfo=LONDON)):
        dg.validate_run_config(job, tick(name, at).run_config)


def test_the_daily_check_is_that_of_the_command() -> None:
    assert config("daily_check_schedule", FORWARD) == {"days": 2, "force": False, "reports_kept": 90}


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (datetime(2026, 6, 16, 0, 20, tzinfo=LONDON), "2026-06-16"),
        (datetime(2026, 6, 15, 23, 20, tzinfo=LONDON), "2026-06-15"),
        (BACK + timedelta(hours=1, minutes=20), "2026-10-25"),
    ],
)
def test_todays_periods_are_those_of_the_london_day(at: datetime, day: str) -> None:
    found = config("todays_periods_schedule", at)

    assert (found["first"], found["last"], found["force"], found["ingest"]) == (day, day, False, True)


def test_the_weekly_reconciliation_is_about_everything() -> None:
    found = config("weekly_reconciliation_schedule", FORWARD)

    assert (found.get("first"), found.get("last"), found["force"], found["ingest"]) == (None, None, False, True)


@pytest.mark.parametrize(
    ("at", "first", "last"),
    [
        (datetime(2026, 3, 2, 4, tzinfo=LONDON), "2026-02-01", "2026-02-28"),
        (datetime(2024, 3, 4, 4, tzinfo=LONDON), "2024-02-01", "2024-02-29"),
        (datetime(2026, 1, 5, 4, tzinfo=LONDON), "2025-12-01", "2025-12-31"),
        (datetime(2026, 6, 1, 0, 30, tzinfo=LONDON), "2026-05-01", "2026-05-31"),
    ],
)
def test_the_month_before_is_read_again_as_a_whole(at: datetime, first: str, last: str) -> None:
    found = config("last_month_schedule", at)

    assert (found["first"], found["last"], found["force"]) == (first, last, True)


def test_random_days_are_the_same_whenever_the_tick_is_evaluated_and_others_the_next_week() -> None:
    saturday = datetime(2026, 1, 17, 5, tzinfo=LONDON)

    found = config("random_days_schedule", saturday)

    assert (found["random_days"], found["seed"], found["repair"], found["method"]) == (10, 20260117, True, "witness")
    assert config("random_days_schedule", saturday) == found
    assert config("random_days_schedule", saturday + timedelta(days=7))["seed"] == 20260124


def test_the_wind_generation_is_read_of_the_week_that_is_over() -> None:
    at = datetime(2026, 4, 2, 10, tzinfo=LONDON)

    tags = tick("wind_generation_schedule", at).tags

    assert days_of_tags(tags) == Days(parse_day("2026-03-26"), parse_day("2026-04-01"))
    assert tags[ASKED_BY] == "wind_generation_schedule"
    assert london_day(at) == parse_day("2026-04-02")


@pytest.mark.parametrize(
    ("environment", "status", "seconds"),
    [({}, "STOPPED", 60), ({"RECON_UNATTENDED": "on", "RECON_TICK_SECONDS": "7"}, "RUNNING", 7)],
    ids=["off", "on"],
)
def test_what_asks_elexon_runs_by_itself_only_where_the_environment_says_so(
    environment: dict[str, str], status: str, seconds: int
) -> None:
    # when
    defs = build_defs(unattended=Unattended.from_environment(environment))

    # then
    assert {name: schedule(name, defs).default_status.value for name in SCHEDULES} == dict.fromkeys(SCHEDULES, status)
    sensors = {each.name: each for each in defs.sensors or []}
    assert {name: sensor.default_status.value for name, sensor in sensors.items()} == {
        "calculation_gap_sensor": "RUNNING",
        "summary_automation": "RUNNING",
        "audit_sensor": "RUNNING",
        "incident_sensor": "RUNNING",
        "ingest_gap_sensor": status,
        "revision_sensor": status,
    }
    assert {sensor.minimum_interval_seconds for sensor in sensors.values()} == {seconds}
