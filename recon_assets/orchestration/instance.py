"""The Dagster instance that the commands, the UI and the daemon share.

It prepares DAGSTER_HOME, ends runs whose process is gone, and reports partitions that the database proves right.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.resources import as_file, files
from pathlib import Path
from textwrap import shorten

import dagster as dg
import portalocker
import psutil
from dagster._core.instance import InstanceRef
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from recon_assets.database.disk import named_error
from recon_assets.domain.settlement import Days, contiguous
from recon_assets.errors import ConfigurationError
from recon_assets.folders import DISK_ERRORS, disk_error, require_writable
from recon_assets.orchestration import events
from recon_assets.orchestration.pooled_sqlite import together
from recon_assets.orchestration.pools import POOL_LIMITS
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import (
    LAYER_ASSETS,
    NETWORK_DIFFICULTY,
    WIND_BIDS,
    WIND_BM_UNITS,
    WIND_GENERATION,
    LayerAsset,
)
from recon_assets.reconcile.content import read_contents
from recon_assets.reconcile.layer import DAY
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State

REFERENCE = {WIND_BM_UNITS: events.bm_units_version, NETWORK_DIFFICULTY: events.difficulty_version}
EVENTS_AT_ONCE = {"DAGSTER_EVENT_BATCH_SIZE": "100"}
"""About a month of three miner models: the storages of this project write so many events in one transaction. If a run
is killed before it writes its events, the next reconciliation reports the partitions."""

HOME = "DAGSTER_HOME"
LOCK_TIMEOUT_SECONDS = 60
NOTHING_PRINTED = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
"""A command's steps print nothing: what they log are events, which the UI shows. To capture what is printed, Dagster
starts four processes for each step. Ctrl-C in a terminal reaches these, too, and two of them print tracebacks."""
UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def prepare_home(home: Path) -> None:
    """Makes the folder, with the packaged dagster.yaml; an existing dagster.yaml is never overwritten."""
    home.mkdir(parents=True, exist_ok=True)
    target = home / "dagster.yaml"
    if not target.exists():
        # Whole or not at all: nothing would ever complete a file that a full disk cut off.
        unfinished = home / f".dagster.yaml.{uuid.uuid4().hex}"
        try:
            with as_file(files("recon_assets.data") / "dagster.yaml") as packaged:
                shutil.copyfile(packaged, unfinished)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


@contextmanager
def open_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a home, which is prepared first; runs whose process is gone are ended."""
    # The user's own dagster.yaml may refer to DAGSTER_HOME.
    os.environ[HOME] = str(home)
    for name, value in EVENTS_AT_ONCE.items():
        os.environ.setdefault(name, value)
    try:
        home.mkdir(parents=True, exist_ok=True)
        require_writable(home, HOME)
        # Dagster creates its databases without a lock: of ten homes opened by four at once, seven never opened again.
        with portalocker.Lock(home / "opening.lock", timeout=LOCK_TIMEOUT_SECONDS):
            prepare_home(home)
            opened = dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=NOTHING_PRINTED))
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise disk_error(home, HOME, str(error.strerror)) from error
        raise ConfigurationError(
            f"{HOME}: {home} cannot be used: {error.strerror}; set {HOME} to a folder that can be written"
        ) from error
    except DBAPIError as error:
        # Dagster makes new databases on engines of its own.
        place = URL.create("sqlite", database=str(home))
        raise named_error(place, HOME, error.orig) or error from error
    except dg.DagsterInvalidConfigError as error:
        reason = shorten(str(error), 200, placeholder=" ...")
        raise ConfigurationError(f"DAGSTER_HOME: {home / 'dagster.yaml'} is not valid: {reason}") from error
    with opened as instance:
        housekeeping(instance)
        yield instance


def housekeeping(instance: dg.DagsterInstance) -> None:
    """The first work of every command and tick: limits the pools and ends runs whose process is gone."""
    limit_pools(instance)
    end_dead_runs(instance)


def limit_pools(instance: dg.DagsterInstance) -> None:
    """Limits each pool without a limit of its own: the default in dagster.yaml does not bind a pool's first runs."""
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        limited = {pool.name for pool in storage.get_pool_limits() if not pool.from_default}
        for name, limit in POOL_LIMITS.items():
            if name not in limited:
                storage.set_concurrency_slots(name, limit)


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks the runs failed whose process on this machine is gone; returns their ids."""
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED))
    # A retried run carries the tags of the run before it until it sets its own.
    own = (run for run in unfinished if run.tags.get("recon/run", run.run_id) == run.run_id)
    gone = [run for run in own if _is_process_gone(run.tags)]
    # Read again: a run may have ended, and its process with it, since the runs were listed.
    dead = [run for run in gone if _is_unfinished(instance, run.run_id)]
    for run in dead:
        instance.report_run_failed(
            run, f"The process {run.tags['recon/pid']} of this run is gone; running again does the rest."
        )
    return [run.run_id for run in dead]


def _is_unfinished(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in UNFINISHED


def _is_process_gone(tags: Mapping[str, str]) -> bool:
    """Whether the tags name a process of this machine that no longer runs."""
    if tags.get("recon/host") != socket.gethostname() or "recon/pid" not in tags:
        return False
    try:
        process = psutil.Process(int(tags["recon/pid"]))
        # In a container an ended process may stay a zombie, and a later process may get the same number.
        return process.status() == psutil.STATUS_ZOMBIE or (
            abs(process.create_time() - float(tags["recon/process_started"])) > 1
        )
    except psutil.NoSuchProcess:
        return True


def report_right_partitions(instance: dg.DagsterInstance, resource: ReconResource, state: State) -> int:
    """Reports to Dagster every partition that the database proves right and Dagster does not know; returns how many.

    Nothing is computed again. After an adoption or a killed run, the partitions that the UI shows as missing are then
    exactly those to fill.
    """
    reported = _report_reference(instance, resource)
    reported += _report_bids(instance, resource, state) + _report_generation(instance, resource, state)
    return reported + sum(_report_layer(instance, resource, state, asset) for asset in LAYER_ASSETS)


def _report_reference(instance: dg.DagsterInstance, resource: ReconResource) -> int:
    """Without these events, the first materialization of a reference asset would make everything below it stale."""
    reported = 0
    for key, version_of in REFERENCE.items():
        if instance.get_latest_materialization_event(key) is not None:
            continue
        version, rows = version_of(resource.engine)
        if rows:
            instance.report_runless_asset_event(events.reference_event(key, version, rows))
            reported += 1
    return reported


def _report_bids(instance: dg.DagsterInstance, resource: ReconResource, state: State) -> int:
    known = instance.get_materialized_partitions(WIND_BIDS)
    right = {*state.days_in(DayState.INGESTED), *state.days_in(DayState.INCOMPLETE)} - state.contradicted
    unreported = [day for day in right if day.isoformat() not in known]
    if not unreported:
        return 0
    provenance = events.Provenance(instance, {WIND_BM_UNITS: events.event_pointer(instance)})
    versions = events.bids_versions(resource.engine, state.scope)
    proven = [day for day in sorted(unreported) if day in versions]
    return _report(instance, [events.bids_event(day, versions[day], {}, provenance) for day in proven])


def _report_generation(instance: dg.DagsterInstance, resource: ReconResource, state: State) -> int:
    """Reports the days with stored wind generation; nothing says how many half-hours there must be."""
    known = instance.get_materialized_partitions(WIND_GENERATION)
    unreported = [day for day in state.generated if day.isoformat() not in known]
    if not unreported:
        return 0
    provenance = events.Provenance(instance, {})
    versions = events.generation_versions(resource.engine, state.scope.days)
    stored = [day for day in sorted(unreported) if day in versions]
    return _report(instance, [events.generation_event(day, versions[day], {}, provenance) for day in stored])


def _report_layer(instance: dg.DagsterInstance, resource: ReconResource, state: State, asset: LayerAsset) -> int:
    known = instance.get_materialized_partitions(asset.key)
    unreported = state.right_periods(asset.layer, asset.model) - known
    if not unreported:
        return 0
    provenance = events.Provenance(instance, dict.fromkeys(asset.upstream, events.event_pointer(instance)))
    reported = 0
    for span in _spans_of(asset, unreported):
        contents = read_contents(resource.engine, [asset.layer], resource.scope(span))
        reported += _report(
            instance,
            [
                events.layer_event(asset, partition, found, None, provenance)
                for (_, model, partition), found in contents.items()
                if model == asset.model and partition in unreported
            ],
        )
    return reported


def _report(instance: dg.DagsterInstance, materializations: Sequence[dg.AssetMaterialization]) -> int:
    """Reports events that no run made; returns how many."""
    with together(instance):
        for materialization in materializations:
            instance.report_runless_asset_event(materialization)
    return len(materializations)


def _spans_of(asset: LayerAsset, partitions: set[str]) -> list[Days]:
    if asset.layer.grain is not DAY:
        return [_whole(key) for key in sorted(partitions)]
    spans = contiguous([date.fromisoformat(key) for key in partitions])
    return [month for span in spans for month in span.by_month()]


def _whole(key: str) -> Days:
    return Days.of_month(key) if "-" in key else Days.of_year(key)
