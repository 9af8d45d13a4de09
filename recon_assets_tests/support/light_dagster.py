"""A light DAGSTER_HOME for commands in tests that are not about Dagster's own storage.

It is that of the product with two differences, which make a command of six runs faster: its databases exist already,
and all events go into one database on one engine, where Dagster's own storage makes a database for each run and an
engine for each statement, which then forgets what it has compiled. Dagster itself calls such a database one for tests.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine

from recon_assets_tests.support.paths import ROOT

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


class OneEngineEventLog(ConsolidatedSqliteEventLogStorage):
    """All events in one SQLite file, through one engine."""

    @cached_property
    def _engine(self) -> Engine:
        return create_engine(self._conn_string, connect_args={"timeout": LOCKED_SECONDS})

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Closes the connections, too."""
        super().dispose()  # type: ignore[no-untyped-call]
        self._engine.dispose()


class LightStorage(DagsterSqliteStorage):
    """Dagster's own storage, but for its events."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = OneEngineEventLog(base_dir)  # type: ignore[assignment]

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData, config_value: SqliteStorageConfig
    ) -> "LightStorage":
        """The storage from the configuration that DagsterSqliteStorage takes."""
        return cls.from_local(inst_data=inst_data, **config_value)


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
