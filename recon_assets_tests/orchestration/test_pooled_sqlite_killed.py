"""What a killed process leaves of Dagster's events: none without the rows that it tells of, and all in order."""

import os
import random
import sqlite3
import time
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.domain.mining import MODELS
from recon_assets.orchestration.specs import calculations_key
from recon_assets_tests.support.command import Command, kill
from recon_assets_tests.support.paths import ROOT
from recon_assets_tests.support.steps import execute, scalar

COMMAND = ("reconcile", "--from", "2025-06-01", "--to", "2025-06-30", "--no-ingest")
KILLED_AFTER_SECONDS = (0.3, 0.9, 1.8)
"""After the run of the calculations has begun, which takes about two seconds; each is moved by chance."""
ENDS = {"PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"}
CALCULATED = "SELECT DISTINCT settlement_date FROM historical_bitcoin_calculations WHERE miner_model = '{}'"


@pytest.fixture
def recon(database_url: str, tmp_path: Path) -> Command:
    """The command on the database of the test."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL="http://127.0.0.1:9",
        MEMPOOL_API_URL="none",
        PYTHONPATH=os.fspath(ROOT),
    )


def calculated_days(database: Path, model: str) -> set[str]:
    connection = sqlite3.connect(database)
    days = {day for (day,) in connection.execute(CALCULATED.format(model))}
    connection.close()
    return days


def stored_events(file: Path) -> list[tuple[str, str, str, str]]:
    """Run, type, asset and partition of the events in a file, in the order of their ids."""
    connection = sqlite3.connect(file, timeout=30)
    query = "SELECT run_id, dagster_event_type, asset_key, partition FROM event_logs ORDER BY id"
    found = connection.execute(query).fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return found


def check_home(home: Path, database: Path) -> dict[str, int]:
    """Checks what a killed process left; counts the events, the materializations and the runs that ended."""
    folder = home / "history" / "runs"
    index = stored_events(folder / "index.db")
    counted = {"events": 0, "materializations": 0, "ended": 0}
    for file in folder.glob("*.db"):
        if file.name == "index.db":
            continue
        run_id = "" if file.name == ".db" else file.stem
        of_run = stored_events(file)
        types = [kind for _, kind, _, _ in of_run]
        counted["events"] += len(of_run)
        # The end of a run is told once, and after everything else that the run did.
        ends = [position for position, kind in enumerate(types) if kind in ENDS]
        assert len(ends) <= 1
        assert all(kind in ("ENGINE_EVENT", None) for kind in types[ends[0] + 1 :]) if ends else True
        counted["ended"] += len(ends)
        # What the index knows of a run is in the run's own file, in the same order.
        known = [event for event in index if event[0] == run_id]
        own = iter(of_run)
        assert all(event in own for event in known), f"{run_id} is in another order"
    for model in MODELS:
        told = {
            partition
            for _, kind, asset, partition in index
            if kind == "ASSET_MATERIALIZATION" and asset == calculations_key(model).to_string()
        }
        counted["materializations"] += len(told)
        assert told <= calculated_days(database, model), model
    return counted


def kill_in_the_middle(recon: Command, after_seconds: float) -> None:
    """Starts the command, and kills it so long after it has planned the run of the calculations."""
    process = recon.start(*COMMAND)
    folder = recon.folder / ".recon" / "dagster" / "history" / "runs"
    before = set(folder.glob("*.db"))
    while process.poll() is None and not set(folder.glob("*-*.db")) - before:
        time.sleep(0.01)
    time.sleep(after_seconds)
    kill(process)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_event_without_its_rows_and_all_in_order(june: Engine, recon: Command) -> None:
    database = Path(str(june.url.database))
    for after_seconds in KILLED_AFTER_SECONDS:
        # given
        execute(june, "DELETE FROM historical_bitcoin_calculations")

        # when
        kill_in_the_middle(recon, after_seconds + random.uniform(0, 0.5))

        # then
        check_home(recon.folder / ".recon" / "dagster", database)

    # when nobody kills it
    ended = recon(*COMMAND)

    # then
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert scalar(june, "SELECT count(*) FROM historical_bitcoin_calculations") > 0
    with recon.dagster() as instance:
        for model in MODELS:
            assert len(instance.get_materialized_partitions(calculations_key(model))) == 30
        assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
