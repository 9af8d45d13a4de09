"""Recovery: from an unreadable period, a corrupt recording, Ctrl-C, kill -9, and two commands at once.

Finished work is neither lost nor repeated; running the command again does only the rest.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.resource import open_resource
from recon_assets.settings import Settings
from recon_assets_tests.orchestration.test_reconciliation import ALL_TABLES
from recon_assets_tests.reconcile.test_span_runner import drop_trigger, make_endless, progress
from recon_assets_tests.support.command import PATIENCE_SECONDS, Command, Process, kill
from recon_assets_tests.support.content import all_hold, out_of_date, partitions, runs, stacks_asked
from recon_assets_tests.support.steps import JUNE, JUNE_6, contents, execute, scalar
from recon_assets_tests.support.ticks import Sensor

DAYS = ["2025-06-06", "2025-06-07", "2025-06-08"]
RANGE = ("range", DAYS[0], DAYS[-1])
PERIOD = ("--from", DAYS[0], "--to", DAYS[-1])
PROVEN = "SELECT count(DISTINCT settlement_date) FROM proof_of_fetch"


@pytest.fixture
def recon(database_url: str, tmp_path: Path, elexon: StandInElexon) -> Command:
    """The command on an empty database of each engine."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=elexon.url,
        MEMPOOL_API_URL="none",
        ELEXON_REQUESTS_PER_SECOND="1000",
        ELEXON_ATTEMPTS="1",
    )


STALLED = Fault("stall", f"/stack/all/bid/{DAYS[-1]}/20/", seconds=300)


def wait_until_stalled(elexon: StandInElexon, process: Process) -> None:
    """Waits until a process has every answer but one of the last day, and sends no further request."""
    wait_until(lambda: stacks_asked(elexon.requests)[DAYS[-1]] == 48, process)


def wait_until_proven(engine: Engine, days: int, process: Process) -> None:
    """Waits until a process has stored the proof of some days; it must still be running then."""
    wait_until(lambda: scalar(engine, PROVEN) >= days, process)


def wait_until(holds: Callable[[], bool], process: Process) -> None:
    """Waits until a condition holds while a process is running."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def proven_days(engine: Engine) -> set[str]:
    """The days that were read whole, by the proof in the database."""
    return {
        day for day in DAYS
        if scalar(engine, f"SELECT count(*) FROM proof_of_fetch WHERE settlement_date = '{day}'") == 48
    }  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # test_reconciliation.py has it on both
def test_a_period_that_fails_leaves_its_day_as_it_was_and_the_others_are_done(
    recon: Command, engine: Engine, elexon: StandInElexon, light_dagster: dict[str, str]
) -> None:
    # given
    recon.environment |= light_dagster
    elexon.faults = [Fault("server_error", "/stack/all/bid/2025-06-06/48/")]

    # when
    failed = recon("range", "2025-06-06", "2025-06-07")

    # then
    assert failed.exit_code == 1
    assert failed.complaint.startswith("Failed: 2025-06-06 settlement period 48: ")
    assert proven_days(engine) == {"2025-06-07"}
    for table in ("wind_bids", "curtailment_records", "historical_bitcoin_calculations"):
        assert scalar(engine, f"SELECT count(*) FROM {table} WHERE settlement_date = '2025-06-06'") == 0
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(["2025-06-07"])

    # when the fault is gone
    elexon.faults, asked = [], len(elexon.requests)
    mended = recon("reconcile", "--from", "2025-06-06", "--to", "2025-06-07", "--format", "json")

    # then only the rest is done
    assert (mended.exit_code, mended.stderr) == (0, "")
    assert stacks_asked(elexon.requests[asked:]) == {"2025-06-06": 48}
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])
        assert out_of_date(instance) == set()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # test_reconciliation.py has it on both
def test_a_re_read_that_fails_keeps_the_day(
    recon: Command, small_days: Engine, elexon: StandInElexon, light_dagster: dict[str, str]
) -> None:
    # given a day that must be read again, because its bids are not those that were fetched
    recon.environment |= light_dagster
    execute(small_days, "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06' AND settlement_period = 11")
    kept = contents(small_days, *ALL_TABLES)
    elexon.faults = [Fault("truncated", "/stack/all/bid/2025-06-06/12/")]

    # when
    failed = recon("date", "2025-06-06")

    # then
    assert failed.exit_code == 1
    assert "2025-06-06 settlement period 12: " in failed.complaint
    assert contents(small_days, *ALL_TABLES) == kept


KILLED_BEFORE_THE_COMMIT = """
import os, signal
from recon_assets.elexon.archive import Archive
from recon_assets.cli import main

keep = Archive.keep

def keep_and_die(*arguments):
    keep(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

Archive.keep = keep_and_die
main(["date", "2025-06-06"])
"""


def test_a_command_killed_between_archive_and_commit_has_stored_nothing_and_loses_nothing(
    recon: Command, engine: Engine, light_dagster: dict[str, str]
) -> None:
    # when
    recon.environment |= light_dagster
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_COMMIT], cwd=recon.folder, env=recon.environment, capture_output=True
    )

    # then
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (recon.folder / ".recon" / "archive").glob("*.gz")] == ["2025-06-06.json.gz"]
    assert proven_days(engine) == set()
    assert scalar(engine, "SELECT count(*) FROM wind_bids") == 0

    # and the same command does all of it
    assert recon("date", "2025-06-06").exit_code == 0
    assert proven_days(engine) == {"2025-06-06"}
    assert not list((recon.folder / ".recon" / "archive").glob("earlier/*"))
    assert scalar(engine, "SELECT count(*) FROM settlement_revisions") == 0


def test_a_corrupt_recording_is_named_and_the_other_days_are_done(
    tmp_path: Path, recordings: Path, light_dagster: dict[str, str]
) -> None:
    # given
    recon = Command(tmp_path, ELEXON_API_URL=recordings.as_uri(), **light_dagster)
    spoiled = recordings / "2025-06-07.json.gz"
    spoiled.write_bytes(spoiled.read_bytes()[:1000])

    # when
    failed = recon("reconcile", "--format", "json")

    # then
    assert failed.exit_code == 1
    assert str(spoiled) in failed.complaint
    assert failed.facts["settlement_days"] == {
        "ingested": 1, "incomplete": 0, "not_ingested": 1, "adopted": 0, "adopted_empty": 0,
    }  # fmt: skip
    assert list(failed.facts["done"]["failed_days"]) == ["2025-06-07"]

    # when the recording is whole again
    shutil.copy(JUNE / spoiled.name, spoiled)

    # then
    assert recon("reconcile").exit_code == 0


@pytest.mark.parametrize("days", [len(DAYS) - 1, len(DAYS)], ids=["while reading", "after the last day was read"])
def test_a_killed_command_is_finished_by_the_next(
    recon: Command, engine: Engine, elexon: StandInElexon, days: int
) -> None:
    # given a command that is killed in the middle
    if days < len(DAYS):
        elexon.faults = [STALLED]
    process = recon.start(*RANGE)
    wait_until_proven(engine, days, process)
    if days < len(DAYS):
        wait_until_stalled(elexon, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(PATIENCE_SECONDS)
    assert psutil.wait_procs(children, timeout=20)[1] == []
    done, asked = proven_days(engine), len(elexon.requests)
    assert done == set(DAYS[:days])

    # when
    elexon.faults = []
    finished = recon("reconcile", *PERIOD, "--format", "json")

    # then only the rest is asked for, nothing is missing, and no run is left that nobody does
    assert (finished.exit_code, finished.stderr) == (0, "")
    assert stacks_asked(elexon.requests[asked:]) == dict.fromkeys(set(DAYS) - done, 48)
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(DAYS)
        assert out_of_date(instance) == set()
        ended = {record.dagster_run.status for record in runs(instance)}
        assert ended <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_killed_command_does_not_keep_the_sensor_from_filling_its_gap(recon: Command, small_days: Engine) -> None:
    # given a command that is killed while it writes calculations
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    make_endless(small_days, JUNE_6, 7)
    process = recon.start("reconcile", "--from", DAYS[0], "--to", DAYS[1], "--no-ingest")
    wait_until(lambda: bool(started(recon)), process)
    kill(process)
    drop_trigger(small_days)

    settings = Settings.from_environment(recon.environment, recon.folder)
    with recon.dagster() as instance, open_resource(settings) as resource:
        assert [run.tags["recon/command"].split()[1] for run in started(recon)] == ["reconcile"]

        # when the sensor looks
        gaps = Sensor("calculation_gap_sensor", resource, instance)
        asked = gaps.asked()

        # then the run is ended, and what it was to do is asked for
        assert asked == ["converge_days 2025-06-06..2025-06-07 S9"]
        assert started(recon) == []


def test_a_day_that_could_not_be_read_leaves_its_month_failed_with_the_reason(
    recon: Command, engine: Engine, elexon: StandInElexon, light_dagster: dict[str, str]
) -> None:
    # given
    recon.environment |= light_dagster
    elexon.faults = [Fault("server_error", "/stack/all/bid/2025-06-07/48/")]

    # when the other days of the month are read and calculated
    failed = recon(*RANGE)

    # then
    assert failed.exit_code == 1
    assert proven_days(engine) == {"2025-06-06", "2025-06-08"}
    row = progress(engine)["2025-06"]
    assert (row.status, row.phase, row.failed_records) == ("failed", "converging", 48)
    assert row.percentage_complete < 100
    assert (row.error_details or "").startswith("2025-06-07 settlement period 48: ")

    # when the fault is gone
    elexon.faults = []

    # then
    assert recon("reconcile", *PERIOD).exit_code == 0
    row = progress(engine)["2025-06"]
    assert (row.status, row.percentage_complete, row.error_details) == ("completed", 100, None)


def started(recon: Command) -> list[dg.DagsterRun]:
    """The runs of a range of days that have begun and not ended."""
    if not (recon.folder / ".recon" / "dagster" / "dagster.yaml").exists():
        return []
    with recon.dagster() as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], job_name="converge_days"))
        return [run for run in runs if "recon/pid" in run.tags]


def test_an_interrupted_command_says_so_and_loses_nothing(
    recon: Command, engine: Engine, elexon: StandInElexon, light_dagster: dict[str, str]
) -> None:
    # given
    recon.environment |= light_dagster
    elexon.faults = [STALLED]
    process = recon.start(*RANGE)
    wait_until_stalled(elexon, process)

    # when
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=30)

    # then: one line, and what was committed is whole
    assert process.returncode == 130
    assert said == ""
    assert complaint.strip() == "Interrupted: what was committed stays; the same command does the rest."
    done, asked = proven_days(engine), len(elexon.requests)
    assert done == set(DAYS[:-1])
    assert scalar(engine, PROVEN) == len(done)
    with recon.dagster() as instance:
        assert partitions(instance)["wind_bids"] >= done - {max(done)}
        assert dg.DagsterRunStatus.STARTED not in {record.dagster_run.status for record in runs(instance)}

    # when
    elexon.faults = []
    finished = recon(*RANGE)

    # then
    assert (finished.exit_code, finished.stderr) == (0, "")
    assert stacks_asked(elexon.requests[asked:]) == dict.fromkeys(set(DAYS) - done, 48)
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(DAYS)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_interruption_does_not_wait_for_an_elexon_that_hangs(
    recon: Command, elexon: StandInElexon, light_dagster: dict[str, str]
) -> None:
    # given a server that takes requests and answers none, which the command would ask again and again
    recon.environment |= light_dagster
    elexon.faults = [Fault("stall", "/stack/all/bid/", seconds=300)]
    process = recon.start_script("date", "2025-06-06", ELEXON_ATTEMPTS="5")
    wait_until(lambda: len(elexon.requests) >= 5, process)

    # when
    process.send_signal(signal.SIGINT)

    # then
    _, complaint = process.communicate(timeout=10)
    assert process.returncode == 130
    assert len(complaint.strip().splitlines()) == 1


def test_two_commands_at_once_on_an_empty_database_end_right(recon: Command) -> None:
    # when both have the same period: the sums of a command's month are stale while another one fills other days of it
    days = ("2025-06-06", "2025-06-07")
    both = [recon.start("range", *days), recon.start("reconcile", "--from", days[0], "--to", days[1])]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in both]

    # then
    assert [code for *_, code in ended] == [0, 0], ended
    status = recon("status", "--from", "2025-06-06", "--to", "2025-06-07", "--format", "json")
    assert status.exit_code == 0
    assert status.facts["curtailment_records"] == 80 + 14
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])
