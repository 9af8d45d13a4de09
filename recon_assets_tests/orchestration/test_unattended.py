"""Unattended work: sensors, automation and daemon, as processes, find what is broken, converge it and send alerts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.domain.mining import MODELS
from recon_assets.orchestration.active_runs import CALCULATION_GAPS
from recon_assets.orchestration.automation import SUMMARY_AUTOMATION
from recon_assets.orchestration.sensors.audit import AUDITS
from recon_assets.orchestration.sensors.calculation_gaps import PAUSES
from recon_assets.orchestration.sensors.incidents import INCIDENTS
from recon_assets.orchestration.specs import calculations_key
from recon_assets.settings import Settings
from recon_assets_tests.reconcile.test_span_runner import add_trigger, drop_trigger
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.receiver import Receiver
from recon_assets_tests.support.serving import UNDER_WAY, Served, serve, wait_until
from recon_assets_tests.support.steps import JUNE, JUNE_DAYS, change_recording, execute, restate, scalar, state_of

CALCULATIONS = "historical_bitcoin_calculations"
NINE_DATES = [f"2025-06-{day:02d}" for day in (1, 2, 3, 4, 11, 12, 21, 22, 28)]
TICK_SECONDS = 5
LOOK_SECONDS = 3
"""Between two looks at all of June, each of which compares every row."""
ON_POSTGRESQL_IN_CAMPAIGN = pytest.mark.parametrize(
    "night", ["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)], indirect=True
)
"""Tests that wait for minutes run on PostgreSQL only in `make campaign`, and some of them on both engines."""

FIVE_MINUTES = 300


@dataclass
class Night:
    """A served Dagster that nobody attends, its database and recordings, and the receiver of its alerts."""

    engine: Engine
    recordings: Path
    receiver: Receiver
    served: Served

    def is_quiet(self) -> bool:
        """Whether no run is queued or running."""
        return not [run for run in self.served.runs() if run["status"] in UNDER_WAY]

    def wait_until_right(self, seconds: float = FIVE_MINUTES) -> None:
        """Waits until every row is right, summaries too."""
        wait_until(lambda: state_of(self.engine, JUNE_DAYS).is_right, seconds, every=LOOK_SECONDS)

    def wait_until_checked(self, since: int) -> None:
        """Waits until the audit sensor has asked for more than `since` audits and all runs have ended."""
        wait_until(lambda: len(self.served.runs(asked_by=AUDITS)) > since and self.is_quiet())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def night(
    request: pytest.FixtureRequest, june_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Night]:
    """Webserver, daemon and code servers on June 2025, which is right; sensors look every few seconds."""
    folder = tmp_path_factory.mktemp("night")
    url = june_database(request.param, folder)
    recordings = Path(copytree(JUNE, folder / "june"))
    engine = open_engine(Settings.from_environment({"DATABASE_URL": url}, folder).database_url)
    with Receiver() as receiver:
        recon = Command(
            folder,
            DATABASE_URL=url,
            ELEXON_API_URL=recordings.as_uri(),
            RECON_ALERT_URLS=receiver.url,
            RECON_TICK_SECONDS=str(TICK_SECONDS),
        )
        with serve(recon) as served:
            wait_until(lambda: served.ticks(CALCULATION_GAPS))
            yield Night(engine, recordings, receiver, served)
    engine.dispose()


@ON_POSTGRESQL_IN_CAMPAIGN
def test_deleted_calculations_are_filled_by_range_runs_and_nothing_else_is(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    # given 3,000 calculations of nine dates are gone
    before, ticks_before = others(night.engine), len(night.served.ticks(CALCULATION_GAPS))
    audits, runs_before = len(night.served.runs(asked_by=AUDITS)), {run["runId"] for run in night.served.runs()}
    deleted = execute(night.engine, *(delete_calculations(day) for day in NINE_DATES))
    assert sum(deleted) == 3000

    # when nobody does anything
    night.wait_until_right()

    # then runs of ranges did it, for these dates alone
    runs = night.served.runs(asked_by=CALCULATION_GAPS)
    spans = sorted(run["tags"]["dagster/asset_partition_range_start"] for run in runs)
    assert spans == ["2025-06-01", "2025-06-11", "2025-06-21", "2025-06-28"]
    assert {len(run["assetSelection"]) for run in runs} == {len(MODELS)}
    ticks = night.served.ticks(CALCULATION_GAPS)[:-ticks_before]
    asked = [tick for tick in ticks if tick["runIds"]]
    with capsys.disabled():
        print(f"\n3,000 calculations of nine dates: {len(runs)} runs, asked for by {len(asked)} of {len(ticks)} ticks")
    assert len(asked) <= 3
    assert others(night.engine) == before
    # and the checks are evaluated in the end
    night.wait_until_checked(audits)
    assert set(night.served.checks().values()) == {"SUCCEEDED"}
    assert {run["tags"].get("recon/asked_by") for run in new_runs(night, runs_before)} == {CALCULATION_GAPS, AUDITS}
    assert night.receiver.titles == []


def delete_calculations(day: str) -> str:
    """Deletes a ninth of 3,000 calculations, of all models."""
    count = 333 if day != NINE_DATES[-1] else 3000 - 333 * 8
    order = "ORDER BY settlement_period, farm_id, miner_model"
    rows = f"SELECT id FROM {CALCULATIONS} WHERE settlement_date = '{day}' {order} LIMIT {count}"
    return f"DELETE FROM {CALCULATIONS} WHERE id IN ({rows})"


def others(engine: Engine) -> tuple[Any, ...]:
    """Values that show whether a calculation of another date, or a summary, was written."""
    dates = ", ".join(f"'{day}'" for day in NINE_DATES)
    rows = f"FROM {CALCULATIONS} WHERE settlement_date NOT IN ({dates})"
    return (
        scalar(engine, f"SELECT count(*) {rows}"),
        scalar(engine, f"SELECT max(id) {rows}"),
        scalar(engine, f"SELECT max(calculated_at) {rows}"),
        scalar(engine, "SELECT max(updated_at) FROM bitcoin_daily_summaries"),
        scalar(engine, "SELECT max(updated_at) FROM bitcoin_monthly_summaries"),
    )


@ON_POSTGRESQL_IN_CAMPAIGN
def test_a_poisoned_date_is_given_up_told_of_once_and_holds_up_nothing(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    # given calculations of two dates are gone, and those of a settlement period of one cannot be written
    poisoned, other = "2025-06-17", "2025-06-03"
    sent, runs_before = len(night.receiver.messages), len(night.served.runs(asked_by=CALCULATION_GAPS))
    period = scalar(
        night.engine, f"SELECT min(settlement_period) FROM {CALCULATIONS} WHERE settlement_date = '{poisoned}'"
    )
    poison(night.engine, f"NEW.settlement_date = '{poisoned}' AND NEW.settlement_period = {period}")
    gone = f"DELETE FROM {CALCULATIONS} WHERE settlement_date"
    execute(night.engine, f"{gone} = '{other}'", f"{gone} = '{poisoned}' AND settlement_period = {period}")

    # when nobody does anything
    wait_until(lambda: len(night.receiver.messages) > sent)

    # then it was tried as often as the sensor tries, told of once, and the other date is right
    runs = [run for run in night.served.runs(asked_by=CALCULATION_GAPS) if span_of(run)[0] == poisoned]
    with capsys.disabled():
        print(f"\na poisoned date: {len(runs)} runs, {tries_of(night.engine)} tries to write")
    assert len(runs) == len(PAUSES)
    assert {run["status"] for run in runs} == {"FAILURE"}
    faulty = state_of(night.engine, JUNE_DAYS).calculations
    assert {str(day) for (day, _), tally in faulty.items() if tally.faults} == {poisoned}
    (message,) = night.receiver.messages[sent:]
    assert message["title"] == f"recon: {CALCULATIONS} {poisoned}: given up"
    assert message["message"].endswith(f"To mend it: recon critical {poisoned}")
    # and nothing more is tried, nor told, however often the sensors look
    ticks = len(night.served.ticks(INCIDENTS))
    wait_until(lambda: len(night.served.ticks(INCIDENTS)) > ticks + 1)
    assert len(night.served.runs(asked_by=CALCULATION_GAPS)) == runs_before + len(runs) + 1
    assert len(night.receiver.messages) == sent + 1

    # when it is healed
    drop_trigger(night.engine)

    # then it is filled, its sums are refreshed, and the end is told of
    night.wait_until_right()
    wait_until(lambda: len(night.receiver.messages) == sent + 2 and night.is_quiet())
    assert night.receiver.titles[-1] == f"recon: over: {CALCULATIONS} {poisoned}: given up"


def poison(engine: Engine, where: str) -> None:
    """Forbids calculations; PostgreSQL counts the tries, because a sequence is not rolled back."""
    if engine.dialect.name == "postgresql":
        execute(engine, "CREATE SEQUENCE tries")
    on_postgres = "PERFORM nextval(''tries''); RAISE EXCEPTION USING MESSAGE = ''no''"
    add_trigger(engine, CALCULATIONS, on_postgres, "SELECT RAISE(ABORT, 'no')", where)


def tries_of(engine: Engine) -> int | str:
    """How often a run tried to write what is forbidden."""
    if engine.dialect.name == "postgresql":
        return int(scalar(engine, "SELECT last_value FROM tries"))
    return "uncounted"


def span_of(run: dict[str, Any]) -> tuple[str, str]:
    """The first and the last partition of a run."""
    tags = run["tags"]
    ends = (tags.get(f"dagster/asset_partition_range_{end}", tags.get("dagster/partition")) for end in ("start", "end"))
    first, last = ends
    return str(first), str(last)


@pytest.mark.campaign
def test_a_revised_day_refreshes_its_day_month_and_year_and_nothing_else(night: Night) -> None:
    # given a day that Elexon says something else of, months later
    before = {run["runId"] for run in night.served.runs()}
    revised = JUNE_DAYS.first.replace(day=12)
    change_recording(night.recordings, revised, restate)

    # when its bids are read again
    began = time.monotonic()
    night.served.launch("ingest_days", partition=str(revised))
    wait_until(lambda: not state_of(night.engine, JUNE_DAYS).is_right or time.monotonic() > began + 30)
    night.wait_until_right(FIVE_MINUTES)

    # then exactly what follows from them was made again
    wait_until(night.is_quiet)
    runs = new_runs(night, before)
    assert {run["status"] for run in runs} == {"SUCCESS"}
    made = {
        ("/".join(key["path"]), span_of(run)[0])
        for run in runs
        if run["tags"].get("recon/asked_by") in (CALCULATION_GAPS, SUMMARY_AUTOMATION)
        for key in run["assetSelection"]
    }
    day, month, year = str(revised), str(revised)[:7], str(revised)[:4]
    assert made == {
        ("curtailment_records", day),
        *((f"{CALCULATIONS}/{model}", day) for model in MODELS),
        ("bitcoin_daily_summaries", day),
        ("daily_summaries", day),
        ("bitcoin_monthly_summaries", month),
        ("monthly_summaries", month),
        ("bitcoin_yearly_summaries", year),
        ("yearly_summaries", year),
    }
    assert {span_of(run) for run in runs if run["tags"].get("recon/asked_by") == CALCULATION_GAPS} == {(day, day)}


@ON_POSTGRESQL_IN_CAMPAIGN
def test_a_backfill_goes_on_after_its_daemon_was_killed_and_makes_each_range_once(night: Night) -> None:
    # given two weeks and two more without calculations
    halves = [JUNE_DAYS.first.replace(day=day) for day in (*range(1, 15), *range(17, 31))]
    days = [day.isoformat() for day in halves]
    listed = ", ".join(f"'{day}'" for day in days)
    before = {run["runId"] for run in night.served.runs()}

    # when they are backfilled, and the daemon is killed while runs execute
    keys = [list(calculations_key(model).path) for model in MODELS]
    backfill = night.served.backfill(keys, days)
    execute(night.engine, f"DELETE FROM {CALCULATIONS} WHERE settlement_date IN ({listed})")
    wait_until(lambda: any(run["status"] == "STARTED" for run in new_runs(night, before)))
    night.served.kill_daemon()
    time.sleep(2)
    night.served.start_daemon()

    # then it comes to its end, with one good run for each range
    wait_until(lambda: night.served.backfill_status(backfill) == "COMPLETED_SUCCESS", FIVE_MINUTES)
    launched = [run for run in new_runs(night, before) if "dagster/backfill" in run["tags"]]
    good = [span_of(run) for run in launched if run["status"] == "SUCCESS"]
    assert sorted(good) == [("2025-06-01", "2025-06-14"), ("2025-06-17", "2025-06-30")]
    night.wait_until_right()
    wait_until(night.is_quiet)


def new_runs(night: Night, before: set[str]) -> list[dict[str, Any]]:
    """The runs that there were not before."""
    return [run for run in night.served.runs() if run["runId"] not in before]
