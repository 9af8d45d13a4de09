"""Dagster for tests that are not about Dagster's own storage: a light DAGSTER_HOME for commands, and a light instance.

Dagster's storages open a connection for each statement, on an engine that then forgets what it has compiled, and look
for a table each time before they use it. Here one engine stays open for each file, an event or a batch of events is one
transaction, and what one storage has compiled, the others of the process use.

The home is that of the product with one more difference: its databases exist already. All events are in one database,
where the product has a file for each run. Dagster itself calls such a database one for tests.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.types import InstanceType
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    SqliteStorageConfig,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, inspect

from recon_assets_tests.support.paths import ROOT
from recon_assets_tests.support.statements import SHARED

LOCKED_SECONDS = 60
DIFFERENCES = """
storage:
  custom:
    module: recon_assets_tests.support.light_dagster
    class: LightStorage
    config:
      base_dir: {folder}
"""
"""The storage that is named last counts."""


class _Open(threading.local):
    """The transaction that a thread is in."""

    connection: Connection | None = None


class OneEngine:
    """Transactions through one engine: what is asked for within a transaction is part of it."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=-1,
            connect_args={"timeout": LOCKED_SECONDS, "check_same_thread": False},
            execution_options=SHARED,
        )
        # After a crash of the machine nobody needs the runs of a test.
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        self._open = _Open()
        self._tables: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The transaction of this thread, which is begun if there is none."""
        if self._open.connection is not None:
            yield self._open.connection
            return
        with self.engine.begin() as connection:
            self._open.connection = connection
            try:
                yield connection
            finally:
                self._open.connection = None

    def has_table(self, name: str) -> bool:
        """Whether there is a table; one that was found is not looked for again."""
        if name not in self._tables:
            with self.transaction() as connection:
                self._tables |= set(inspect(connection).get_table_names())
        return name in self._tables


class OneEngineEventLog(ConsolidatedSqliteEventLogStorage):
    """All events in one SQLite file, through one engine."""

    def __init__(self, base_dir: str) -> None:
        self._one: OneEngine | None = None
        super().__init__(base_dir)

    def _opened(self) -> OneEngine:
        # Not before the file has its tables: a second connection would keep it from its write-ahead log.
        self._one = self._one or OneEngine(self._conn_string)
        return self._one

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._opened().transaction() as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        """See OneEngine."""
        return self._opened().has_table(table_name)

    def store_event(self, event: EventLogEntry) -> None:
        """Stores an event in one transaction."""
        with self._connect():
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores events in one transaction."""
        with self._connect():
            super().store_event_batch(events)

    def dispose(self) -> None:
        """Closes the connections, too."""
        super().dispose()  # type: ignore[no-untyped-call]
        if self._one is not None:
            self._one.engine.dispose()


class OneEngineRuns(SqliteRunStorage):
    """The runs, through one engine."""

    _one: OneEngine | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """See OneEngine."""
        self._one = self._one or OneEngine(self._conn_string)
        with self._one.transaction() as connection:
            yield connection

    def dispose(self) -> None:
        """Closes the connections, too."""
        super().dispose()
        if self._one is not None:
            self._one.engine.dispose()


class LightStorage(DagsterSqliteStorage):
    """Dagster's own storage, but for its connections and its events."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = OneEngineEventLog(base_dir)  # type: ignore[assignment]
        self._run_storage = OneEngineRuns(self._run_storage._conn_string)

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData, config_value: SqliteStorageConfig
    ) -> "LightStorage":
        """The storage from the configuration that DagsterSqliteStorage takes."""
        return cls.from_local(inst_data=inst_data, **config_value)


class UnlimitedEventLog(OneEngineEventLog):
    """The events of an instance without pools."""

    supports_global_concurrency_limits = False


@contextmanager
def light_instance(template: Path, home: Path, *, with_cursors: bool = False) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in a copy of a home, else as `DagsterInstance.ephemeral()`.

    With cursors it keeps the states of sensors, as one with a daemon does.
    """
    copy_home(template, home)
    instance = dg.DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=LocalArtifactStorage(str(home)),
        run_storage=OneEngineRuns(create_db_conn_string(_runs_directory(str(home)), "runs")),
        event_storage=UnlimitedEventLog(str(home)),
        schedule_storage=SqliteScheduleStorage.from_local(_schedule_directory(str(home))) if with_cursors else None,
        run_coordinator=DefaultRunCoordinator(),
        compute_log_manager=NoOpComputeLogManager(),
        run_launcher=SyncInMemoryRunLauncher(),
    )
    with instance:
        yield instance


def make_home(home: Path) -> None:
    """Makes a home with empty databases."""
    home.mkdir()
    _configure(home)
    with dg.DagsterInstance.from_config(str(home)):
        pass


def copy_home(template: Path, home: Path) -> dict[str, str]:
    """Copies a home; returns the environment of a command that is to use it, in a process of any kind."""
    shutil.copytree(template, home)
    _configure(home)
    return {"DAGSTER_HOME": str(home), "PYTHONPATH": os.fspath(ROOT)}


def _configure(home: Path) -> None:
    """Writes the packaged dagster.yaml with the differences; the path of an event log must be absolute."""
    packaged = (files("recon_assets.data") / "dagster.yaml").read_text(encoding="utf-8")
    (home / "dagster.yaml").write_text(packaged + DIFFERENCES.format(folder=json.dumps(str(home))), encoding="utf-8")
