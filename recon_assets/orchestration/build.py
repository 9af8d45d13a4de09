"""Builds all Dagster definitions on a resource."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import dagster as dg

from recon_assets.orchestration.automation import automated, summary_automation
from recon_assets.orchestration.resource import ReconResource, open_resource
from recon_assets.orchestration.routine_jobs import daily_check, reconcile_range
from recon_assets.orchestration.runnable import runnable_defs
from recon_assets.orchestration.schedules import schedules
from recon_assets.orchestration.sensors.audit import audit_sensor
from recon_assets.orchestration.sensors.calculation_gaps import calculation_gap_sensor
from recon_assets.orchestration.sensors.incidents import incident_sensor
from recon_assets.orchestration.sensors.ingest_gaps import ingest_gap_sensor
from recon_assets.orchestration.sensors.revisions import revision_sensor
from recon_assets.orchestration.verification_job import verify_days
from recon_assets.settings import Settings, Unattended


def build_defs(resource: ReconResource | None = None, unattended: Unattended | None = None) -> dg.Definitions:
    """All definitions, on the given resource or, without one, on the environment's.

    `unattended` says which schedules and sensors run until somebody switches them by hand; None reads it from the
    environment.
    """
    by_itself = unattended or Unattended.from_environment(os.environ)
    seconds, everything = by_itself.tick_seconds, by_itself.everything

    def settings() -> Settings:
        return resource.settings if resource else Settings.from_environment(os.environ, Path.cwd())

    def opened() -> AbstractContextManager[ReconResource]:
        if resource is not None:
            return nullcontext(resource)
        return open_resource(settings())

    others = dg.Definitions(
        jobs=[daily_check, reconcile_range, verify_days],
        sensors=[
            calculation_gap_sensor(seconds),
            summary_automation(seconds),
            audit_sensor(seconds),
            incident_sensor(seconds, settings, opened),
            ingest_gap_sensor(seconds, starts=everything),
            revision_sensor(seconds, starts=everything),
        ],
        schedules=schedules(starts=everything),
    )
    return dg.Definitions.merge(runnable_defs(resource, automated(opened)), others)
