"""The Dagster resource: the settings, database, Elexon client, clock and observer that assets work with."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import dagster as dg
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import require_schema
from recon_assets.database.work_log import WorkLog, worker_name
from recon_assets.domain.settlement import Days, all_kept_days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon, open_source
from recon_assets.elexon.outage import Waiting
from recon_assets.orchestration.observers import Observer
from recon_assets.reconcile.check_inputs import CheckInputs
from recon_assets.reconcile.scope import Scope
from recon_assets.settings import Settings

T = TypeVar("T")
RESOURCE_KEY = "recon"
"""The key under which Dagster hands the resource to assets and sensors."""


@dataclass
class ReconResource:
    """The settings and what they open; the source is opened by the first work that reads from it.

    `check_inputs` holds what the latest check-only run has read, by its run id. `logs` are the logs of the steps at
    work, the innermost last. `work_logs` has the work log of each worker: all runs of a command are one piece of work.
    """

    settings: Settings
    engine: Engine
    observer: Observer = field(default_factory=Observer)
    check_inputs: dict[str, CheckInputs] = field(default_factory=dict)
    logs: list[Callable[[str], object]] = field(default_factory=list)
    work_logs: dict[str, WorkLog] = field(default_factory=dict)

    @cached_property
    def elexon(self) -> Elexon:
        """The client of Elexon."""
        return Elexon(open_source(self.settings), in_flight=self.settings.elexon_requests_in_flight)

    def patiently(self, work: Callable[[], T]) -> T:
        """What work that asks Elexon returns; an outage is ridden out, and said to the observer and in the step's log.

        SourceDownError if the source is down (elexon/outage.py).
        """
        return self.elexon.patiently(work, self._heard)

    def _heard(self, waiting: Waiting) -> None:
        self.observer.waiting(waiting)
        if waiting.is_line and self.logs:
            self.logs[-1](waiting.text)

    @property
    def archive(self) -> Archive | None:
        """The archive of Elexon's answers; None if the answers come from recordings, which are an archive already."""
        return None if self.settings.recordings else Archive(self.settings.archive_folder)

    def work_log(self, started_by: str) -> WorkLog:
        """The work log of a command or run in this process."""
        worker = worker_name(started_by)
        return self.work_logs.setdefault(worker, WorkLog(self.engine, worker, self.now))

    def has_archived(self, day: date) -> bool:
        """Whether the archive has a recording of a day."""
        return self.archive is not None and self.archive.recording(day).exists()

    def now(self) -> datetime:
        """The time now, with time zone."""
        return datetime.now(UTC)

    def kept_days(self) -> Days:
        """The days that are kept, today included."""
        return all_kept_days(self.settings.first_day, self.now())

    def scope(self, days: Days) -> Scope:
        """Some days under the curtailment rule of the settings."""
        return Scope(days, self.settings.curtailment_rule, first_day=self.settings.first_day)


@contextmanager
def open_resource(settings: Settings, observer: Observer | None = None) -> Iterator[ReconResource]:
    """A resource on a database with the current schema; in an empty database, the schema is created."""
    engine = open_engine(settings.database_url)
    try:
        require_schema(engine, create=True, first_day=settings.first_day)
        yield ReconResource(settings, engine, observer or Observer())
    finally:
        engine.dispose()


Opener = Callable[[], AbstractContextManager[ReconResource]]
"""A function that opens a resource, for callers that get none from Dagster."""


@dg.resource(description="Database, Elexon source and rule, as the environment says when a run starts.")
def resource_from_environment(_: dg.InitResourceContext) -> Iterator[ReconResource]:
    """The resource of runs that the UI or the daemon starts."""
    with open_resource(Settings.from_environment(os.environ, Path.cwd())) as resource:
        yield resource
