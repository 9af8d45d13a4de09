"""The one resource: everything that an asset needs from outside, made from the environment or handed in.

Belongs here: settings, engine, source, clock, and the observer to whom work is reported. Does not: assets.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import dagster as dg
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import require_schema
from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon, open_source
from recon_assets.orchestration.observers import Observer
from recon_assets.reconcile.check_inputs import CheckInputs
from recon_assets.reconcile.scope import Scope
from recon_assets.settings import Settings

RESOURCE_KEY = "recon"
"""The resource's key."""


@dataclass
class ReconResource:
    """Settings with what they open; the source is only opened by work that reads from it.

    `check_inputs` holds what the latest run that only checks has read, by its run id.
    """

    settings: Settings
    engine: Engine
    observer: Observer = field(default_factory=Observer)
    check_inputs: dict[str, CheckInputs] = field(default_factory=dict)

    @cached_property
    def elexon(self) -> Elexon:
        """The client of Elexon."""
        return Elexon(open_source(self.settings), in_flight=self.settings.elexon_requests_in_flight)

    @property
    def archive(self) -> Archive | None:
        """Where answers are kept; None when they come from recordings, which is such a place itself."""
        return None if self.settings.recordings else Archive(self.settings.archive_folder)

    def now(self) -> datetime:
        """The clock, aware."""
        return datetime.now(UTC)

    def scope(self, days: Days) -> Scope:
        """Days under the rule that is set."""
        return Scope(days, self.settings.curtailment_rule)


@contextmanager
def open_resource(settings: Settings, observer: Observer | None = None) -> Iterator[ReconResource]:
    """A resource on a database with a current schema, which is created when the database is empty."""
    engine = open_engine(settings.database_url)
    try:
        require_schema(engine, create=True)
        yield ReconResource(settings, engine, observer or Observer())
    finally:
        engine.dispose()


Opener = Callable[[], AbstractContextManager[ReconResource]]
"""Opens a resource where Dagster hands none over."""


@dg.resource(description="Database, Elexon source and rule, as the environment says when a run starts.")
def resource_from_environment(_: dg.InitResourceContext) -> Iterator[ReconResource]:
    """The resource of runs that the UI or the daemon started."""
    with open_resource(Settings.from_environment(os.environ, Path.cwd())) as resource:
        yield resource
