"""Commands on a source that is down: one line, exit code 1, within half a minute, and what needs no source is done."""

import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets_tests.orchestration.test_proving import ADOPT
from recon_assets_tests.support.command import Command, Ended
from recon_assets_tests.support.outages import refused_url
from recon_assets_tests.support.serving import wait_until
from recon_assets_tests.support.steps import execute, scalar

SECONDS = 90
"""Alone a command takes 6 s, of which 2 are attempts; on a busy machine it took 36 s. Day by day it takes minutes."""


@pytest.fixture
def recon(database_url: str, tmp_path: Path, light_dagster: dict[str, str]) -> Command:
    """The command, whose source nobody answers for; three attempts take two seconds."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=refused_url(),
        MEMPOOL_API_URL="none",
        ELEXON_ATTEMPTS="3",
        **light_dagster,
    )


def assert_is_down(ended: Ended, said: str = "Failed: ") -> None:
    assert ended.exit_code == 1
    assert ended.complaint.startswith(f"{said}http://127.0.0.1:")
    assert "has not answered since 20" in ended.complaint
    assert (
        "Connection refused): nothing more is asked of it, and what was to be read stays as it was" in ended.complaint
    )
    assert "'recon doctor'" in ended.complaint


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_a_month_ends_soon_with_its_adopted_days_done(recon: Command, small_days: Engine, concurrency: str) -> None:
    execute(small_days, *ADOPT, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    started = time.monotonic()

    ended = recon("reconcile", "--month", "2025-06", "--concurrency", concurrency, "--format", "json")

    assert time.monotonic() - started < SECONDS
    assert_is_down(ended)
    facts = ended.facts
    assert (facts["missing"], facts["stale_summaries"], facts["settlement_days"]["adopted"]) == (0, 0, 2)
    assert (len(facts["done"]["failed_days"]), facts["done"]["days_read"]) == (28, 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "words",
    [
        "range 2024-01-01 2025-06-07",
        "date 2025-06-08",
        "auto --month 2025-06",
        "daily-check",
        "reconcile --month 2025-06 --prove",
        "wind 2025-05-01 2025-06-07",
        "reingest 2025-06-08",
        "repair 2025-06-06",
        "verify 2025-06-06",
    ],
)
def test_every_command_that_asks_elexon(recon: Command, small_days: Engine, words: str) -> None:
    started = time.monotonic()

    ended = recon(*words.split())

    assert time.monotonic() - started < SECONDS
    assert_is_down(ended, "Error: " if words.startswith("verify") else "Failed: ")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_commands_that_share_the_work(recon: Command, small_days: Engine) -> None:
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    started = time.monotonic()

    both = [recon.start("reconcile", "--month", "2025-06") for _ in range(2)]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in both]

    assert time.monotonic() - started < SECONDS
    for stdout, stderr, code in ended:
        assert code is not None
        assert_is_down(Ended(code, stdout, stderr))
    assert recon("status", "--from", "2025-06-06", "--to", "2025-06-07").exit_code == 0


def test_an_outage_is_waited_for_with_a_line_in_a_log(recon: Command, engine: Engine, elexon: StandInElexon) -> None:
    # given a server that goes out in the middle of the second day, until it was asked in vain
    recon.environment |= {"ELEXON_API_URL": elexon.url, "ELEXON_REQUESTS_PER_SECOND": "40"}
    process = recon.start("range", "2025-06-06", "2025-06-08")
    wait_until(lambda: len(elexon.requests) > 60, every=0.01)
    elexon.faults = [Fault("server_error")]
    wait_until(lambda: elexon.requests[-1].path.endswith("/system-prices/2022-01-01"), every=0.01)
    elexon.faults = []

    # when
    stdout, stderr = process.communicate(timeout=120)

    # then
    assert process.returncode == 0, stderr
    first, last = stderr.splitlines()
    assert first.startswith(f"{elexon.url} has not answered since 20")
    assert "(HTTP 503); waiting for it, for 29:" in first
    assert last.startswith(f"{elexon.url} answers again, after 0:0")
    assert "Everything is right." in stdout
    assert scalar(engine, "SELECT count(DISTINCT settlement_date) FROM proof_of_fetch") == 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_that_takes_too_long_ends_the_command(recon: Command, engine: Engine, elexon: StandInElexon) -> None:
    recon.environment |= {"ELEXON_API_URL": elexon.url, "ELEXON_REQUESTS_PER_SECOND": "40"}
    process = recon.start("range", "2025-06-06", "2025-06-20", RECON_OUTAGE_MINUTES="0.05")
    wait_until(lambda: len(elexon.requests) > 60, every=0.01)
    elexon.faults = [Fault("server_error")]

    _, stderr = process.communicate(timeout=120)

    assert process.returncode == 1
    *waited, failed = stderr.splitlines()
    assert len(waited) == 2
    assert failed.startswith(f"Failed: {elexon.url} has not answered since 20")
    assert "(HTTP 503), which is longer than RECON_OUTAGE_MINUTES (0.05): nothing more is asked of it" in failed
    assert scalar(engine, "SELECT count(DISTINCT settlement_date) FROM proof_of_fetch") == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", ["repair", "reingest"])
def test_what_is_made_of_a_stored_day_is_made_right_without_its_source(
    recon: Command, small_days: Engine, command: str
) -> None:
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06'")

    ended = recon(command, "2025-06-06")

    assert_is_down(ended)
    assert recon("status", "--from", "2025-06-06", "--to", "2025-06-06").exit_code == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_months_that_are_not_tried_have_failed(recon: Command, small_days: Engine) -> None:
    recon("range", "2025-06-06", "2025-08-02")

    shown = recon("watch", "--once", "--format", "json").facts
    assert {month["month"]: month["status"] for month in shown["months"]} == dict.fromkeys(
        ["2025-06", "2025-07", "2025-08"], "failed"
    )
    assert all(month["percentage_complete"] < 100 for month in shown["months"])
    assert all("has not answered since" in month["error_details"] for month in shown["months"])
