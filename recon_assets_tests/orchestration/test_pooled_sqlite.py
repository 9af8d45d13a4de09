"""Dagster's storage in SQLite files with connections that stay open."""

import inspect
import os
import sqlite3
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, BATCH_WRITABLE_EVENTS
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from recon_assets.orchestration.instance import open_instance, prepare_home
from recon_assets.orchestration.pooled_sqlite import (
    PooledSqliteEventLogStorage,
    PooledSqliteRunStorage,
    PooledSqliteScheduleStorage,
    together,
)
from recon_assets.orchestration.sqlite_engines import ENGINES
from recon_assets_tests.support.paths import DATA

BATCH = "DAGSTER_EVENT_BATCH_SIZE"
LETTERS = dg.StaticPartitionsDefinition(["a", "b", "c"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
ALL_LETTERS = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
INDEX_TABLES = ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions")
GENERATED = ("id", "event", "last_materialization", "cached_status_data", "evaluation_event")
"""Columns with ids and times of their own; what they tell of is in the others, and in what the instance says."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A new home with the packaged dagster.yaml."""
    prepare_home(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    """A new home that names no storage, so that Dagster takes its own."""
    home = tmp_path / "own_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return home


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands set."""
    monkeypatch.setenv(BATCH, "100")


@pytest.fixture
def commits() -> Iterator[Counter[str]]:
    """The commits of this process, counted by file."""
    counted: Counter[str] = Counter()

    def count(connection: Any) -> None:
        counted[Path(connection.engine.url.database).name] += 1

    event.listen(Engine, "commit", count)
    yield counted
    event.remove(Engine, "commit", count)


@contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a home, without the housekeeping of a command."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def materialization(partition: str) -> dg.AssetMaterialization:
    return dg.AssetMaterialization("told", partition=partition, tags={"dagster/data_version": partition})


def report(instance: dg.DagsterInstance, partitions: range) -> None:
    with together(instance):
        for number in partitions:
            instance.report_runless_asset_event(materialization(str(number)))


def rows(file: Path, table: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]
    connection.close()
    return found


@dg.asset(partitions_def=LETTERS)
def letters(context: dg.AssetExecutionContext) -> None:
    """Logs an event for each partition, as the assets of the project do."""
    for key in context.partition_keys:
        context.log_event(dg.AssetMaterialization("letters", partition=key, tags={"dagster/data_version": key}))


@dg.asset(partitions_def=LETTERS, deps=[letters])
def words(context: dg.AssetExecutionContext) -> None:
    """Follows letters."""


@dg.asset_check(asset=letters)
def is_letter() -> dg.AssetCheckResult:
    """Passes."""
    return dg.AssetCheckResult(passed=True)


@dg.asset(partitions_def=LETTERS, deps=[words])
def fails(context: dg.AssetExecutionContext) -> None:
    """Logs one event, then fails."""
    context.log_event(dg.AssetMaterialization("fails", partition="a"))
    raise dg.Failure("no sentence")


def run_everything(instance: dg.DagsterInstance) -> list[str]:
    """Runs what an instance is told of; the ids of the runs, oldest first."""
    letters_job = dg.define_asset_job("letters_job", selection=["letters", "words"])
    fails_job = dg.define_asset_job("fails_job", selection=["fails"])
    defs = dg.Definitions(
        assets=[letters, words, fails],
        asset_checks=[is_letter],
        jobs=[letters_job, fails_job],
        executor=dg.in_process_executor,
    )
    ended = [
        defs.resolve_job_def(name).execute_in_process(
            instance=instance, tags=ALL_LETTERS, run_config=QUIET, raise_on_error=False
        )
        for name in ("letters_job", "fails_job", "letters_job")
    ]
    instance.report_runless_asset_event(materialization("a"))
    assert [run.success for run in ended] == [True, False, True]
    return [run.run_id for run in ended]


def test_the_packaged_configuration_names_it_and_a_command_uses_it(home: Path) -> None:
    with open_instance(home) as instance:
        assert isinstance(instance.event_log_storage, PooledSqliteEventLogStorage)
        assert isinstance(instance.run_storage, PooledSqliteRunStorage)
        assert isinstance(instance.schedule_storage, PooledSqliteScheduleStorage)
        assert instance.root_directory == str(home)
        # What webserver and daemon give to the processes that they start.
        with dg.DagsterInstance.from_ref(instance.get_ref()) as same:
            assert isinstance(same.event_log_storage, PooledSqliteEventLogStorage)
            assert same.event_log_storage.path_for_shard("index") == str(home / "history" / "runs" / "index.db")
    assert {path.relative_to(home).as_posix() for path in home.rglob("*.db")} == {
        "history/runs.db",
        "history/runs/index.db",
        "schedules/schedules.db",
    }


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    packaged = (files("recon_assets.data") / "dagster.yaml").read_text(encoding="utf-8")
    named = "    class: PooledSqliteStorage\n"
    assert named in packaged
    (home / "dagster.yaml").write_text(
        packaged.replace(named, f"{named}    config: {{base_dir: {{env: ELSEWHERE}}}}\n")
    )
    monkeypatch.setenv("ELSEWHERE", str(elsewhere))

    # when
    with opened(home) as instance:
        report(instance, range(1))

    # then
    assert (elsewhere / "history" / "runs" / "index.db").exists()
    assert (elsewhere / "schedules" / "schedules.db").exists()
    assert list(home.rglob("*.db")) == []


def test_two_homes_of_a_process_are_two(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare_home(tmp_path / name)
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        report(one, range(2))
        report(two, range(3))

        assert one.get_materialized_partitions(dg.AssetKey("told")) == {"0", "1"}
        assert two.get_materialized_partitions(dg.AssetKey("told")) == {"0", "1", "2"}


def test_it_keeps_the_same_as_dagsters_own_storage(home: Path, own_home: Path) -> None:
    # given the same runs on both
    with opened(home) as instance, opened(own_home) as own:
        assert type(own.event_log_storage) is SqliteEventLogStorage
        runs = {home: run_everything(instance), own_home: run_everything(own)}

        # then every event of every run is there, in the same order
        def events(instance: dg.DagsterInstance, run_id: str) -> list[tuple[Any, ...]]:
            told = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
            return [(each.event_type_value, each.asset_key, each.partition, each.step_key) for each in told]

        for run, own_run in zip(runs[home], runs[own_home], strict=True):
            assert events(instance, run) == events(own, own_run) != []
        for key in ("letters", "words", "fails", "told"):
            asked = [dg.AssetKey(key)]
            (record,), (own_record,) = instance.get_asset_records(asked), own.get_asset_records(asked)
            entry, own_entry = record.asset_entry, own_record.asset_entry
            number = runs[home].index(entry.last_run_id) if entry.last_run_id else None
            assert number == (runs[own_home].index(own_entry.last_run_id) if own_entry.last_run_id else None)
            last, own_last = entry.last_materialization, own_entry.last_materialization
            partition, own_partition = (each and each.get_dagster_event().partition for each in (last, own_last))
            assert partition == own_partition
            assert entry.last_materialization_storage_id == own_entry.last_materialization_storage_id

    # and the tables of the index have the same rows
    for table in INDEX_TABLES:
        found, own_found = (comparable(each / "history" / "runs" / "index.db", table, runs[each]) for each in runs)
        assert found == own_found != [], table


def comparable(file: Path, table: str, runs: list[str]) -> list[dict[str, Any]]:
    """The rows of a table, without times; a run is named by its number."""
    numbers = {run: number for number, run in enumerate(runs)}
    return [
        {
            name: numbers.get(value, value)
            for name, value in row.items()
            if name not in GENERATED
            and "timestamp" not in name
            # Of an event without a data version Dagster makes one from the run's id.
            and not (row.get("key") == "dagster/data_version" and len(row["value"]) > 1 and name == "value")
        }
        for row in rows(file, table)
    ]


def test_either_storage_opens_what_the_other_wrote(home: Path) -> None:
    # given a home of ours
    with opened(home) as instance:
        runs = run_everything(instance)

    # when Dagster's own storage goes on with it
    packaged = (home / "dagster.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with opened(home) as own:
        assert type(own.event_log_storage) is SqliteEventLogStorage
        assert sorted(run.run_id for run in own.get_runs()) == sorted(runs)
        assert own.get_materialized_partitions(dg.AssetKey("letters")) == {"a", "b", "c"}
        runs += run_everything(own)
        # while ours still has the files open
        report(own, range(3))

    # then ours sees all of it
    (home / "dagster.yaml").write_text(packaged)
    with opened(home) as instance:
        assert sorted(run.run_id for run in instance.get_runs()) == sorted(runs)
        assert instance.get_materialized_partitions(dg.AssetKey("told")) == {"a", "0", "1", "2"}
        assert all(len(instance.all_logs(run)) > 5 for run in runs)


def test_a_home_of_version_0_1_shows_all_its_history(tmp_path: Path) -> None:
    # given
    home = tmp_path / "home"
    with tarfile.open(DATA / "v0.1.0" / "dagster_home_sqlite.tar.gz") as archive:
        archive.extractall(home, filter="data")

    def history() -> tuple[list[Any], dict[str, Any], dict[str, int]]:
        with opened(home) as instance:
            runs = [(run.run_id, run.status, dict(run.tags)) for run in instance.get_runs()]
            keys = instance.get_asset_keys()
            partitions = {key.to_user_string(): instance.get_materialized_partitions(key) for key in keys}
            return runs, partitions, {run_id: len(instance.all_logs(run_id)) for run_id, _, _ in runs}

    # when
    before = history()
    configuration = (home / "dagster.yaml").read_text(encoding="utf-8")
    assert "storage:" not in configuration
    packaged = (files("recon_assets.data") / "dagster.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text(
        f"{configuration}\n{packaged[packaged.index('storage:') : packaged.index('concurrency:')]}"
    )
    with opened(home) as instance:
        assert isinstance(instance.event_log_storage, PooledSqliteEventLogStorage)

    # then
    assert history() == before
    assert len(before[0]) > 5


def test_one_connection_serves_many_statements_of_many_instances(home: Path) -> None:
    used: dict[str, set[int]] = {"index": set(), "runs": set(), "schedules": set()}
    for _ in range(5):
        with opened(home) as instance:
            parts: dict[str, Any] = {
                "index": instance.event_log_storage.index_connection,  # type: ignore[attr-defined]
                "runs": instance.run_storage.connect,  # type: ignore[attr-defined]
                "schedules": instance.schedule_storage.connect,  # type: ignore[union-attr]
            }
            for name, connect in parts.items():
                for _ in range(5):
                    with connect() as connection:
                        used[name].add(id(connection.connection.dbapi_connection))

    assert {name: len(connections) for name, connections in used.items()} == {"index": 1, "runs": 1, "schedules": 1}


def test_the_files_wait_and_log_as_dagsters_own(home: Path, own_home: Path) -> None:
    def settings(instance: dg.DagsterInstance) -> list[Any]:
        found = []
        storage: Any = instance
        for connect in (
            storage.event_log_storage.index_connection,
            lambda: storage.event_log_storage.run_connection("a_run"),
            storage.run_storage.connect,
            storage.schedule_storage.connect,
        ):
            with connect() as connection:
                for pragma in ("journal_mode", "busy_timeout", "synchronous", "foreign_keys"):
                    found.append(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar())
        return found

    with opened(home) as instance, opened(own_home) as own:
        assert settings(instance) == settings(own)
        assert settings(instance)[0] == "wal"


def test_the_file_of_a_run_that_ended_is_closed(home: Path) -> None:
    with opened(home) as instance:
        runs = run_everything(instance)

        still_open = {path.stem for path in ENGINES.open_files() if path.is_relative_to(home)}
        assert still_open.isdisjoint(runs)
        assert not [path for run in runs for path in home.rglob(f"{run}.db-*")]


def test_a_batch_is_one_transaction_in_each_file(home: Path, commits: Counter[str]) -> None:
    with opened(home) as instance:
        report(instance, range(1))
        commits.clear()

        report(instance, range(1, 251))

        assert commits == {".db": 3, "index.db": 3}
        told = instance.fetch_materializations(dg.AssetKey("told"), limit=300, ascending=True)
        assert [record.partition_key for record in told.records] == [str(number) for number in range(251)]


def test_the_planned_events_of_a_run_are_one_batch(home: Path, commits: Counter[str]) -> None:
    """Dagster gathers them, see DAGSTER_EVENT_BATCH_SIZE."""
    with opened(home) as instance:
        dg.materialize([letters], instance=instance, tags=ALL_LETTERS, run_config=QUIET)
        many = dg.StaticPartitionsDefinition([f"{number:02}" for number in range(50)])

        @dg.asset(partitions_def=many)
        def numbers(context: dg.AssetExecutionContext) -> None:
            pass

        job = dg.Definitions(assets=[numbers]).resolve_implicit_global_asset_job_def()
        commits.clear()
        run = instance.create_run_for_job(
            job,
            tags={"dagster/asset_partition_range_start": "00", "dagster/asset_partition_range_end": "49"},
            asset_selection=frozenset([dg.AssetKey("numbers")]),
        )

        planned = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        assert len(planned.records) == 50
        # Making the run's file takes a few more.
        assert commits["index.db"] < 10


def test_a_long_batch_lets_others_write(home: Path) -> None:
    # given somebody who wants to write to the index all the time
    with opened(home) as instance:
        report(instance, range(1))
        over, waits = threading.Event(), []

        def write() -> None:
            connection = sqlite3.connect(home / "history" / "runs" / "index.db", timeout=30, isolation_level=None)
            while not over.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                waits.append(time.monotonic())
                time.sleep(0.005)
            connection.close()

        writer = threading.Thread(target=write)
        writer.start()

        # when
        began = time.monotonic()
        report(instance, range(1, 3001))
        ended = time.monotonic()
        over.set()
        writer.join()

        # then he came in between, not only before and after
        assert len([moment for moment in waits if began < moment < ended]) > 3
        assert len(instance.get_materialized_partitions(dg.AssetKey("told"))) == 3001


def test_what_was_told_before_an_error_is_stored(home: Path) -> None:
    def fail(instance: dg.DagsterInstance) -> None:
        with together(instance):
            instance.report_runless_asset_event(materialization("0"))
            raise ZeroDivisionError

    with opened(home) as instance:
        with pytest.raises(ZeroDivisionError):
            fail(instance)

        assert instance.get_materialized_partitions(dg.AssetKey("told")) == {"0"}
        instance.report_runless_asset_event(materialization("1"))
        assert instance.get_materialized_partitions(dg.AssetKey("told")) == {"0", "1"}


def test_a_batch_that_fails_leaves_nothing_in_either_file(home: Path) -> None:
    with opened(home) as instance:
        report(instance, range(1))
        index = sqlite3.connect(home / "history" / "runs" / "index.db")
        refused = "CREATE TRIGGER refuse BEFORE INSERT ON event_logs WHEN NEW.partition = '7' BEGIN {} END"
        index.execute(refused.format("SELECT RAISE(ABORT, 'no');"))

        with pytest.raises(IntegrityError):
            report(instance, range(1, 20))

        assert instance.get_materialized_partitions(dg.AssetKey("told")) == {"0"}
        assert len(rows(home / "history" / "runs" / ".db", "event_logs")) == 1
        index.execute("DROP TRIGGER refuse")
        index.close()
        report(instance, range(1, 20))
        assert len(rows(home / "history" / "runs" / ".db", "event_logs")) == 20


def test_threads_write_batches_at_once(home: Path) -> None:
    with opened(home) as instance:
        threads = [threading.Thread(target=report, args=(instance, range(n, n + 50))) for n in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(instance.get_materialized_partitions(dg.AssetKey("told"))) == 400


def test_all_events_can_be_wiped(home: Path) -> None:
    with opened(home) as instance:
        run_everything(instance)

        instance.wipe()

        assert instance.get_asset_keys() == []
        assert len(run_everything(instance)) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_goes_on_with_the_instance(home: Path) -> None:
    with opened(home) as instance:
        report(instance, range(5))
        child = os.fork()
        if child == 0:
            report(instance, range(5, 10))
            os._exit(0 if len(instance.get_materialized_partitions(dg.AssetKey("told"))) == 10 else 1)
        _, status = os.waitpid(child, 0)

        assert status == 0
        report(instance, range(10, 15))
        assert len(instance.get_materialized_partitions(dg.AssetKey("told"))) == 15


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_dagster_is_inside_as_the_storage_relies_on() -> None:
    """If this fails, Dagster has changed what pooled_sqlite.py overrides or calls: read its SQLite storage again."""
    own = SqliteEventLogStorage
    assert parameters(own.__init__) == ["self", "base_dir", "inst_data"]
    assert parameters(own.run_connection) == ["self", "run_id"]
    assert parameters(own.index_connection) == ["self"]
    assert parameters(own.has_table) == ["self", "table_name"]
    assert parameters(own.path_for_shard) == ["self", "run_id"]
    assert parameters(own._initdb)[:2] == ["self", "engine"]
    assert parameters(own.store_event) == ["self", "event"]
    assert parameters(own.store_event_batch) == ["self", "events"]
    assert parameters(SqlEventLogStorage._event_to_row) == ["self", "event"]
    assert parameters(SqlEventLogStorage._store_asset_event) == ["self", "conn", "event", "event_id"]
    assert parameters(SqlEventLogStorage._store_asset_event_tags) == ["self", "conn", "events", "event_ids"]
    assert parameters(SqlEventLogStorage.store_asset_check_event) == ["self", "event", "event_id"]
    assert ASSET_EVENTS | ASSET_CHECK_EVENTS > BATCH_WRITABLE_EVENTS
    assert parameters(SqlEventLogStorage._has_asset_key_col_on_connection) == ["self", "conn", "column_name"]
    assert parameters(SqlEventLogStorage.index_transaction) == ["self"]
    for storage in (SqliteRunStorage, SqliteScheduleStorage):
        assert parameters(storage.__init__) == ["self", "conn_string", "inst_data"]
        assert parameters(storage.from_local) == ["base_dir", "inst_data"]
        assert parameters(storage.connect) == ["self"]
    assert DagsterSqliteStorage.config_type() == {"base_dir": dg.StringSource}
    assert isinstance(inspect.getattr_static(own, "supports_global_concurrency_limits"), cached_property)
    # Nothing but the two connections leads to the files: a new way in would not know of the open transactions.
    sources = inspect.getsource(own)
    assert sources.count("create_engine(") == 3  # the constructor, has_table and _connect
    assert sources.count("self._connect(") == 2
