"""Evaluates ticks of sensors as a code location does, with the cursor of the tick before."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from recon_assets.database.limits import WorkLimits
from recon_assets.orchestration.active_runs import RANGE_TAGS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import read_cursor
from recon_assets.settings import Unattended
from recon_assets_tests.support.steps import NOW

LOCATION = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("of the test"), "of the test")
EVERYTHING = Unattended(everything=True, tick_seconds=60)


@dataclass
class WorkbenchAt(ReconResource):
    """A resource whose clock the test sets."""

    moment: datetime = datetime(2026, 1, 15, tzinfo=UTC)

    def now(self) -> datetime:
        """See ReconResource."""
        return self.moment

    def wait(self, **time: float) -> None:
        """Lets time pass."""
        self.moment += timedelta(**time)


def at_noon(resource: ReconResource) -> WorkbenchAt:
    """The same resource at noon of 2026-01-15, with a single attempt for each chunk."""
    settings = replace(resource.settings, limits=WorkLimits(attempts=1))
    return WorkbenchAt(settings, resource.engine, moment=NOW)


@dataclass
class Sensor:
    """A sensor of a code location, which remembers its cursor from tick to tick, as the daemon does."""

    name: str
    resource: ReconResource
    instance: dg.DagsterInstance
    cursor: str | None = None
    defs: dg.Definitions = field(init=False)

    def __post_init__(self) -> None:
        self.defs = build_defs(self.resource, EVERYTHING)

    def tick(self) -> SensorExecutionData:
        """One tick."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.defs.get_repository_def(),
            resources={RESOURCE_KEY: self.resource},
            sensor_name=self.name,
        )
        with context:
            ticked = self.defs.resolve_sensor_def(self.name).evaluate_tick(context)
        self.cursor = ticked.cursor
        return ticked

    def asked(self) -> list[str]:
        """The runs that a tick asks for: for each its job, its days and the selected assets."""
        return [spell(request) for request in self.tick().run_requests or []]

    def said(self) -> str:
        """Why a tick asks for nothing."""
        ticked = self.tick()
        assert not ticked.run_requests
        return ticked.skip_message or ""

    @property
    def known(self) -> dict[str, Any]:
        """The content of the cursor."""
        return read_cursor(self.cursor)

    @property
    def given_up(self) -> dict[str, str]:
        """Why each day was given up, by day."""
        return {day: was[3] for day, was in self.known.get("days", {}).items() if was[3] is not None}

    def make(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Makes the run that was asked for, in this process."""
        return self._job_of(request).execute_in_process(
            instance=self.instance,
            tags=request.tags,
            run_config=request.run_config or None,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            raise_on_error=False,
        )

    def keep(self, status: InstigatorStatus = InstigatorStatus.RUNNING) -> None:
        """Has the instance keep the sensor's cursor, as the daemon does after each tick."""
        origin = RemoteInstigatorOrigin(LOCATION, self.name)
        state = InstigatorState(origin, InstigatorType.SENSOR, status, SensorInstigatorData(cursor=self.cursor))
        if self.instance.get_instigator_state(origin.get_id(), origin.get_selector().get_id()):
            self.instance.update_instigator_state(state)
        else:
            self.instance.add_instigator_state(state)

    def _job_of(self, request: dg.RunRequest) -> dg.JobDefinition:
        return self.defs.resolve_job_def(request.job_name or self.defs.resolve_sensor_def(self.name).job_name or "")

    def begin(self, request: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> dg.DagsterRun:
        """Notes the run that was asked for as queued or running, without doing its work."""
        job = self._job_of(request)
        return self.instance.create_run_for_job(
            job,
            tags=request.tags,
            asset_selection=frozenset(request.asset_selection) if request.asset_selection else None,
            status=status,
            remote_job_origin=RemoteJobOrigin(LOCATION, job.name),
        )

    def fail(self, request: dg.RunRequest, reason: str = "its process was killed") -> dg.DagsterRun:
        """Notes the run that was asked for as failed."""
        run = self.begin(request)
        self.instance.report_run_failed(run, reason)
        return run


def spell(request: dg.RunRequest) -> str:
    """A run request as text."""
    days = "..".join(dict.fromkeys(request.tags[tag] for tag in RANGE_TAGS if tag in request.tags))
    keys = ",".join(key.path[-1] for key in request.asset_selection or ())
    return " ".join(filter(None, [request.job_name, days, keys]))
