"""Dagster's storage in SQLite files, with connections that stay open; `storage: custom:` in dagster.yaml names it.

Dagster's own classes make an engine and a connection for every statement, in the run's file and again in the index, and
a new engine compiles every statement anew. The files and their tables stay those of Dagster's own classes: either
storage opens what the other wrote. All that recon knows of the inside of Dagster's SQLite storage is in this module;
test_pooled_sqlite.py fails if a new version of Dagster changes it.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from sqlite3 import sqlite_version_info
from typing import Any

import dagster as dg
from dagster import DagsterEventType, StringSource
from dagster import _check as check
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, BATCH_WRITABLE_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import _event_logs_directory, _runs_directory, _schedule_directory
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect
from sqlalchemy.exc import OperationalError

from recon_assets.database.disk import name_disk_errors
from recon_assets.orchestration.sqlite_engines import ENGINES

WAITING = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
EVENTS_A_TRANSACTION = 100
EVENTS = SqlEventLogStorageTable
RETURNS_IDS = (3, 35)
"""The version of SQLite, of 2021, since which an INSERT tells the ids that it gave."""
ENDED = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


class _Thread(threading.local):
    """What a thread is about to store."""

    gathered: list[EventLogEntry] | None = None
    index: Connection | None = None
    """The connection to the index of the batch that the thread stores now."""


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """SqliteEventLogStorage on connections that all instances of a process share.

    A batch of events is one transaction in the run's file and one in the index.
    """

    def __init__(self, base_dir: str | None) -> None:
        """`base_dir` is the folder of the instance; None if it comes with the instance."""
        self._local = _Thread()
        self._found_tables: set[str] = set()
        self._found_columns: set[str] = set()
        if base_dir is not None:
            super().__init__(_event_logs_directory(base_dir))

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Opens the files in the instance's folder, unless the configuration names a folder."""
        if not hasattr(self, "_base_dir"):
            super().__init__(_event_logs_directory(instance.root_directory))
        super().register_instance(instance)

    def run_connection(self, run_id: str | None = None) -> AbstractContextManager[Connection]:
        """A connection to the file of a run, in a transaction."""
        return self._engine(check.not_none(run_id)).begin()

    def index_connection(self) -> AbstractContextManager[Connection]:
        """A connection to the file that speaks of all runs, in a transaction."""
        batch = self._local.index
        return nullcontext(batch) if batch else self._engine(INDEX_SHARD_NAME).begin()

    def _engine(self, shard: str) -> Engine:
        path = Path(self.path_for_shard(shard))
        return ENGINES.engine(path, WAITING, lambda: self._make_tables(shard))

    def _make_tables(self, shard: str) -> None:
        """Makes the tables of a new file; Dagster's own way to find out that there is nothing to do takes 20 ms."""
        # Not on a connection that stays open: with a second one, a new file would not get its write-ahead log.
        engine = create_engine(self.conn_string_for_shard(shard), poolclass=NullPool, connect_args=WAITING)
        name_disk_errors(engine, "DAGSTER_HOME")
        with engine.connect() as connection:
            try:
                is_made = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first() is not None
            except OperationalError:
                is_made = False
        if not is_made:
            self._initdb(engine)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; one that was found is not looked for again."""
        if table_name not in self._found_tables:
            with self.index_connection() as connection:
                self._found_tables |= set(inspect(connection).get_table_names())
        return table_name in self._found_tables

    def store_event(self, event: EventLogEntry) -> None:
        """Stores an event; closes the file of a run that has ended."""
        if self._local.gathered is not None:
            self._local.gathered.append(event)
            return
        super().store_event(event)
        if event.is_dagster_event and event.dagster_event_type in ENDED:
            ENGINES.close(Path(self.path_for_shard(event.run_id)))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keeps the events that this thread stores meanwhile, and stores them as a batch when the context is left.

        Until then nobody sees them. An error that leaves the context does not keep them from being stored.
        """
        if self._local.gathered is not None:
            yield
            return
        self._local.gathered = []
        try:
            yield
        finally:
            gathered, self._local.gathered = self._local.gathered, None
            self.store_event_batch(gathered)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores the events that Dagster has gathered, see DAGSTER_EVENT_BATCH_SIZE.

        Other processes wait for the index meanwhile: 14 to 19 ms for 100 events, at most 30 ms.
        """
        are_of_assets = all(event.dagster_event_type in BATCH_WRITABLE_EVENTS for event in events)
        if sqlite_version_info < RETURNS_IDS or not are_of_assets:
            super().store_event_batch(events)
            return
        for run_id, grouped in groupby(events, lambda event: event.run_id):
            of_run = list(grouped)
            for start in range(0, len(of_run), EVENTS_A_TRANSACTION):
                self._store_batch(run_id, of_run[start : start + EVENTS_A_TRANSACTION])

    def _store_batch(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        """Stores events of assets and their checks, of one run, as store_event would store each."""
        rows = [self._event_to_row(event) for event in events]
        with self._engine(run_id).connect() as run, self._engine(INDEX_SHARD_NAME).connect() as index:
            run.execute(EVENTS.insert(), rows)
            ids = index.execute(EVENTS.insert().returning(EVENTS.c.id, sort_by_parameter_order=True), rows)
            stored = list(zip(events, ids.scalars().all(), strict=True))
            self._local.index = index
            try:
                self._store_what_events_tell(index, stored)
            finally:
                self._local.index = None
            # After everything that can fail: Dagster stores the events of a batch that failed once more, one by one.
            # The run's file first, as Dagster does: what the index tells of is in the log of its run.
            run.commit()
            index.commit()

    def _store_what_events_tell(self, index: Connection, stored: Sequence[tuple[EventLogEntry, int]]) -> None:
        of_assets = [(event, number) for event, number in stored if event.dagster_event_type in ASSET_EVENTS]
        self._store_asset_event_tags(index, [event for event, _ in of_assets], [number for _, number in of_assets])
        # An event overwrites what the one before it of the same asset wrote, if they are of one type.
        latest: dict[tuple[Any, Any], tuple[EventLogEntry, int]] = {}
        for event, number in of_assets:
            told = event.get_dagster_event()
            latest.pop((told.asset_key, told.event_type), None)
            latest[told.asset_key, told.event_type] = (event, number)
        for event, number in latest.values():
            self._store_asset_event(index, event, number)
        for event, number in stored:
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, number)

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        """Whether the table of assets has a column; one that was found is not looked for again."""
        if column_name not in self._found_columns and super()._has_asset_key_col_on_connection(conn, column_name):
            self._found_columns.add(column_name)
        return column_name in self._found_columns

    def wipe(self) -> None:
        """Removes all events; the files of the runs are closed first."""
        ENGINES.close_folder(Path(self.path_for_shard(INDEX_SHARD_NAME)).parent)
        super().wipe()


def together(instance: dg.DagsterInstance) -> AbstractContextManager[None]:
    """PooledSqliteEventLogStorage.together() of an instance; another storage writes events as it always does."""
    storage = instance.event_log_storage
    return storage.together() if isinstance(storage, PooledSqliteEventLogStorage) else nullcontext()


class _OneFile:
    """What the storages of runs and of schedules have in common: a file that is opened when its folder is known."""

    _file: Path | None = None

    def __init__(self, base_dir: str | None) -> None:
        """`base_dir` is the folder of the instance; None if it comes with the instance."""
        if base_dir is not None:
            self._open(base_dir)

    def _open(self, base_dir: str) -> None:
        raise NotImplementedError

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Opens the file in the instance's folder, unless the configuration names a folder."""
        if self._file is None:
            self._open(instance.root_directory)
        super().register_instance(instance)  # type: ignore[misc]

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction."""
        # No time-out: as Dagster, which leaves SQLite's driver its own, five seconds.
        with ENGINES.engine(check.not_none(self._file), {}, lambda: None).begin() as connection:
            yield connection


class PooledSqliteRunStorage(_OneFile, SqliteRunStorage):
    """SqliteRunStorage on connections that all instances of a process share."""

    def _open(self, base_dir: str) -> None:
        folder = _runs_directory(base_dir)
        SqliteRunStorage.from_local(folder)  # makes the file and its tables
        self._file = Path(folder, "runs.db").absolute()
        SqliteRunStorage.__init__(self, create_db_conn_string(folder, "runs"))


class PooledSqliteScheduleStorage(_OneFile, SqliteScheduleStorage):
    """SqliteScheduleStorage on connections that all instances of a process share."""

    def _open(self, base_dir: str) -> None:
        folder = _schedule_directory(base_dir)
        SqliteScheduleStorage.from_local(folder)  # makes the file and its tables
        self._file = Path(folder, "schedules.db").absolute()
        SqliteScheduleStorage.__init__(self, create_db_conn_string(folder, "schedules"))


class PooledSqliteStorage(DagsterStorage, ConfigurableClass):
    """DagsterSqliteStorage on connections that all instances of a process share.

    Without `base_dir` the files are where Dagster keeps them if dagster.yaml names no storage: in the folder of the
    instance, which is DAGSTER_HOME.

    .. code-block:: YAML

        storage:
          custom:
            module: recon_assets.orchestration.pooled_sqlite
            class: PooledSqliteStorage
    """

    def __init__(self, base_dir: str | None = None, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self._event_log_storage = PooledSqliteEventLogStorage(base_dir)
        self._run_storage = PooledSqliteRunStorage(base_dir)
        self._schedule_storage = PooledSqliteScheduleStorage(base_dir)
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml says of this storage."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        """`base_dir`, a path or `{env: VARIABLE}`."""
        return {"base_dir": dg.Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledSqliteStorage":
        """The storage from its configuration."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def event_log_storage(self) -> PooledSqliteEventLogStorage:
        """The events."""
        return self._event_log_storage

    @property
    def run_storage(self) -> PooledSqliteRunStorage:
        """The runs and backfills."""
        return self._run_storage

    @property
    def schedule_storage(self) -> PooledSqliteScheduleStorage:
        """The state and the ticks of schedules and sensors."""
        return self._schedule_storage

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Gives the instance to each part that has none yet."""
        super().register_instance(instance)
        for part in (self._event_log_storage, self._run_storage, self._schedule_storage):
            if not part.has_instance:
                part.register_instance(instance)
