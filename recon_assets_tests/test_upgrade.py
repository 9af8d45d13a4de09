"""What an older version left is opened as it is: the databases of each release, and the Dagster homes beside them.

data/v0.1.0/README.md says what each day of them holds, and why.
"""

import gzip
import re
import shutil
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.scheduler.instigation import SensorInstigatorData
from sqlalchemy import Engine, MetaData, make_url, select

from recon_assets.orchestration.resource import ReconResource
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.paths import DATA
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.steps import JUNE
from recon_assets_tests.support.ticks import Sensor

LEFT = DATA / "v0.1.0"
READABLE = ("2025-06-09", "2025-06-10")
"""Days that can be read besides the small days. Of 2025-06-08, which was not ingested either, there is no recording."""
ALL_DAYS = ("2025-06-01", "2025-06-10")

SETTLEMENT_DAYS = {
    ("2025-06-01", "2025-06-04"): {"adopted": 3, "adopted_empty": 1},
    ("2025-06-05", "2025-06-07"): {"ingested": 3},
}
"""What the days between two dates were left as; with FOUND, the later ones follow."""

UNCAPTURED = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""

RIGHT = {"2025-06-01", "2025-06-04", "2025-06-05", "2025-06-07"}
"""Days that were left right in all layers."""

FOUND = {
    "expected": 237,
    "actual": 233,
    "missing": 4,
    "orphaned": 1,
    "duplicated": 2,
    "wrong": 7,
    "completion_pct": 95.35,
    "curtailment_records": 145,
    "curtailment": {"missing": 1, "surplus": 1, "wrong": 1},
    "settlement_days": {"ingested": 3, "incomplete": 1, "not_ingested": 2, "adopted": 3, "adopted_empty": 1},
    "stale_summaries": 13,
    "latest_ingested": "2025-06-07",
}
"""What was left of all days together."""

FOUND_OF_MODELS = {
    "S19J_PRO": {"expected": 79, "missing": 0, "orphaned": 1, "duplicated": 0, "wrong": 2},
    "S9": {"expected": 79, "missing": 1, "orphaned": 0, "duplicated": 2, "wrong": 2},
    "M20S": {"expected": 79, "missing": 3, "orphaned": 0, "duplicated": 0, "wrong": 3},
}
FOUND_OF_DATES = {
    "2025-06-06": {"missing": 1, "orphaned": 1, "duplicated": 1, "wrong": 7},
    "2025-06-03": {"missing": 3, "orphaned": 0, "duplicated": 1, "wrong": 0},
}

READ = {"2025-06-05", "2025-06-06", "2025-06-07", "2025-06-09"}
DAYS = READ | {"2025-06-01", "2025-06-02", "2025-06-03", "2025-06-04"}
CALCULATIONS = "historical_bitcoin_calculations"
MATERIALIZED = {
    "wind_bids": READ,
    "wind_generation_data": {"2025-06-01", "2025-06-06", "2025-06-07"},
    "curtailment_records": DAYS,
    f"{CALCULATIONS}/S19J_PRO": DAYS,
    f"{CALCULATIONS}/S9": DAYS,
    f"{CALCULATIONS}/M20S": DAYS,
    "bitcoin_daily_summaries": DAYS,
    "daily_summaries": DAYS,
    "bitcoin_monthly_summaries": {"2025-06"},
    "monthly_summaries": {"2025-06"},
    "bitcoin_yearly_summaries": {"2025"},
    "yearly_summaries": {"2025"},
}
"""What Dagster was told is there."""

REFERENCE = ("wind_bm_units", "network_difficulty")
RUNS = {
    ("ingest_days", "SUCCESS"): 1,
    ("reingest_day", "SUCCESS"): 2,
    ("read_wind_generation", "SUCCESS"): 1,
    ("converge_days", "FAILURE"): 3,
}
"""How many runs there were of some jobs; the daemon made the three that failed."""

CHECK_RESULTS = {
    ("curtailment_records", "records_equal_bids"): "FAILED",
    ("daily_summaries", "days_equal_their_rows"): "FAILED",
    (f"{CALCULATIONS}/M20S", "no_orphan_no_duplicate"): "SUCCEEDED",
    (f"{CALCULATIONS}/S9", "no_orphan_no_duplicate"): "FAILED",
    (f"{CALCULATIONS}/S19J_PRO", "every_expected_row_exists"): "SUCCEEDED",
    ("wind_bids", "every_period_has_proof"): "FAILED",
}
"""What the last audit said of the days as they were left."""


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest) -> str:
    """The engine that keeps both the data and what Dagster knows."""
    return str(request.param)


@pytest.fixture
def content() -> str:
    """The name of the database that is opened."""
    return "recon"


@pytest.fixture
def database_url(storage: str, content: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The database that was left, as it was."""
    if storage == "sqlite":
        (tmp_path / "recon.db").write_bytes(gzip.decompress((LEFT / f"{content}.db.gz").read_bytes()))
        yield f"sqlite:///{tmp_path / 'recon.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    yield (url := _restored(server, f"{content}.sql.gz"))
    server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def home(storage: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The Dagster home that was left beside it, where a command in tmp_path looks for one."""
    home = tmp_path / ".recon" / "dagster"
    home.mkdir(parents=True)
    if storage == "sqlite":
        with tarfile.open(LEFT / "dagster_home_sqlite.tar.gz") as archive:
            archive.extractall(home, filter="data")
        _capture_nothing(home)
        yield home
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = _restored(server, "dagster_postgresql.sql.gz")
    address = make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    configuration = (LEFT / "dagster_postgresql.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text(re.sub(r"(?<=postgres_url: )\S+", address, configuration), encoding="utf-8")
    _capture_nothing(home)
    yield home
    server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def recon(database_url: str, home: Path, recordings: Path, tmp_path: Path) -> Command:
    """The command on what was left, with two more days that it can read."""
    for day in READABLE:
        shutil.copy(JUNE / f"{day}.json.gz", recordings)
    return Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=recordings.as_uri(), MEMPOOL_API_URL="none")


def _capture_nothing(home: Path) -> None:
    """Spares new runs two processes each, which would keep what their steps print."""
    with (home / "dagster.yaml").open("a", encoding="utf-8") as configuration:
        configuration.write(UNCAPTURED)


def _restored(server: PostgresServer, dump: str) -> str:
    """The address of a new database that holds a dump."""
    url = server.create_database(f"upgrade_{uuid.uuid4().hex}")
    with psycopg.connect(url) as connection:
        connection.execute(gzip.decompress((LEFT / dump).read_bytes()))
    return url


Rows = dict[str, Counter[tuple[Any, ...]]]


def tables_of(engine: Engine) -> MetaData:
    """The tables that the database has now, with the columns that they have now."""
    found = MetaData()
    found.reflect(engine)
    return found


def rows_of(engine: Engine, tables: MetaData) -> Rows:
    """Every row of the tables, ids and timestamps included: what there may be more by then is left out."""
    with engine.connect() as connection:
        return {
            table.name: Counter(tuple(row) for row in connection.execute(select(*table.columns)))
            for table in tables.sorted_tables
            if table.name != "recon_schema_version"
        }


def gone(before: Rows, after: Rows) -> Rows:
    """The rows of each table that are not there any more as they were."""
    return {table: rows - after[table] for table, rows in before.items() if rows - after[table]}


def days_of(rows: Rows) -> set[str]:
    """The dates that rows of any table speak of."""
    cells = (cell for of_table in rows.values() for row in of_table for cell in row)
    return {cell.isoformat() for cell in cells if isinstance(cell, date) and not isinstance(cell, datetime)}


def facts_of(recon: Command, first: str, last: str) -> dict[str, Any]:
    ended = recon("status", "--from", first, "--to", last, "--format", "json")
    assert ended.stderr == ""
    return ended.facts


def part_of(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> dict[Any, Any]:
    """What was found under the keys that are wanted; a later version may say more."""
    return {
        key: part_of(found[key], value) if isinstance(value, dict) else found.get(key) for key, value in wanted.items()
    }


def migrated(recon: Command) -> None:
    ended = recon("migrate")
    assert (ended.exit_code, ended.stderr) == (0, "")


def test_a_database_is_upgraded_without_losing_a_row_and_its_state_is_the_one_that_was_left(
    recon: Command, engine: Engine
) -> None:
    # given
    tables = tables_of(engine)
    before = rows_of(engine, tables)

    # when
    migrated(recon)

    # then
    assert gone(before, rows_of(engine, tables)) == {}
    found = facts_of(recon, *ALL_DAYS)
    assert part_of(found, FOUND) == FOUND
    assert part_of(found["models"], FOUND_OF_MODELS) == FOUND_OF_MODELS
    of_dates = {worst["settlement_date"]: worst for worst in found["worst_dates"]}
    assert part_of(of_dates, FOUND_OF_DATES) == FOUND_OF_DATES
    assert of_dates.keys() == FOUND_OF_DATES.keys()
    for (first, last), wanted in SETTLEMENT_DAYS.items():
        states = facts_of(recon, first, last)["settlement_days"]
        assert {state: days for state, days in states.items() if days} == wanted

    # and what was revised, and which work never ended, can be read
    report = recon("report", "--from", ALL_DAYS[0], "--to", ALL_DAYS[1], "--format", "json").facts
    revision = {"settlement_date": "2025-06-06", "settlement_periods": "7", "rows_changed": 1}
    assert [part_of(found, revision) for found in report["revisions"]] == [revision]
    work = {"month": "2025-05", "status": "in_progress", "processed_records": 576}
    assert [part_of(found, work) for found in report["work"]] == [work]


@pytest.mark.parametrize("content", ["recon_new"])
def test_a_database_that_was_never_an_old_one_is_upgraded_and_right(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    # given
    recon = Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri())
    tables = tables_of(engine)
    before = rows_of(engine, tables)

    # when
    migrated(recon)

    # then
    assert gone(before, rows_of(engine, tables)) == {}
    ended = recon("status", "--from", "2025-06-07", "--to", "2025-06-07", "--format", "json")
    assert (ended.exit_code, ended.stderr) == (0, "")
    wanted = {"expected": 24, "actual": 24, "curtailment_records": 14, "stale_summaries": 0}
    assert part_of(ended.facts, wanted) == wanted


def test_what_can_be_right_is_made_right_and_nothing_else_is_touched(recon: Command, engine: Engine) -> None:
    # given
    tables = tables_of(engine)
    migrated(recon)
    before = rows_of(engine, tables)
    with recon.dagster() as instance:
        runs_before = [run.run_id for run in instance.get_runs()]

    # when
    ended = recon("range", *ALL_DAYS)

    # then one day cannot be read, and of the adopted days nobody knows more than before
    assert ended.exit_code == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    wanted = {
        "missing": 0,
        "orphaned": 0,
        "duplicated": 0,
        "wrong": 0,
        "completion_pct": 100,
        "curtailment": {"missing": 0, "surplus": 0, "wrong": 0},
        "settlement_days": {"ingested": 5, "incomplete": 0, "not_ingested": 1, "adopted": 3, "adopted_empty": 1},
        "stale_summaries": 0,
        "latest_ingested": "2025-06-10",
    }
    assert part_of(facts_of(recon, *ALL_DAYS), wanted) == wanted

    # and only wrong rows are gone: of the records 1 surplus and 1 wrong, of the calculations 1 orphaned, 2 duplicated
    # and 1 wrong in itself; those that the wrong records only made look wrong are kept
    after = rows_of(engine, tables)
    lost = gone(before, after)
    assert (lost["curtailment_records"].total(), lost[CALCULATIONS].total()) == (2, 4)
    assert days_of(lost) & RIGHT == set()
    # nor what was read, what Elexon revised, and what is the user's own
    assert (
        lost.keys() & {"wind_bids", "wind_generation_data", "settlement_revisions", "reconciliation_progress"} == set()
    )

    # and the runs are added to those that were there
    with recon.dagster() as instance:
        runs = [run.run_id for run in instance.get_runs()]
        assert set(runs_before) < set(runs)
        assert runs[-len(runs_before) :] == runs_before
        assert READ | {*READABLE} <= _materialized(instance, "wind_bids")
        assert DAYS | {*READABLE} <= _materialized(instance, f"{CALCULATIONS}/S9")


def test_what_dagster_was_told_can_be_read(recon: Command) -> None:
    with recon.dagster() as instance:
        # runs that went well and that failed, of the jobs of commands and of sensors
        runs = Counter((run.job_name, run.status.value) for run in instance.get_runs())
        made = {asset: _materialized(instance, asset) for asset in MATERIALIZED}
        reference = [instance.get_latest_materialization_event(dg.AssetKey(asset)) for asset in REFERENCE]
        results = _check_results(instance)

    assert part_of(dict(runs), RUNS) == RUNS
    assert {status for _, status in runs} == {"SUCCESS", "FAILURE"}
    assert made == MATERIALIZED
    assert None not in reference
    assert results == CHECK_RESULTS


def test_a_sensor_goes_on_from_its_cursor(recon: Command, request: pytest.FixtureRequest) -> None:
    migrated(recon)
    resource: ReconResource = request.getfixturevalue("resource")
    with recon.dagster() as instance:
        # given a gap that no run could fill
        states = {state.instigator_name: state.instigator_data for state in instance.all_instigator_state()}
        kept = states["calculation_gap_sensor"]
        assert isinstance(kept, SensorInstigatorData)
        sensor = Sensor("calculation_gap_sensor", resource, instance, kept.cursor)
        (given_up,) = sensor.given_up.items()
        assert given_up[0] == "2025-06-04"
        assert given_up[1].endswith("no such row may be written")

        # when
        asked = sensor.asked()

        # then it is no gap any more, and others are
        assert sensor.given_up == {}
        assert asked == [
            "converge_days 2025-06-06 curtailment_records,M20S,S19J_PRO,S9",
            "converge_days 2025-06-03 M20S,S9",
        ]


def _materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey.from_user_string(asset)))


def _check_results(instance: dg.DagsterInstance) -> dict[tuple[str, str], str]:
    """What the last audit said of some checks."""
    keys = [dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check) for asset, check in CHECK_RESULTS]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    # Some storages answer with all checks of these assets.
    return {(key.asset_key.to_user_string(), key.name): found[key].status.value for key in keys if key in found}
