"""The assets: shells that get inputs, call one function of the domain and log the evidence.

The layers of one partitioning are one multi-asset that can be subset: a run walks them bottom up, a month of days in
one transaction, so that all miner models of a month come from one snapshot. The wind generation is read in the step of
the daily layers: as a step before theirs it would keep them from being made on days of which Elexon has none.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg
import psutil

from recon_assets import database
from recon_assets.bm_units import packaged_bm_units
from recon_assets.errors import ReconError, UnpublishedError
from recon_assets.ingest import ingest_day
from recon_assets.journal import Phase
from recon_assets.orchestration import events
from recon_assets.orchestration.catalogue import (
    NETWORK_DIFFICULTY_SPEC,
    WIND_BIDS,
    WIND_BIDS_SPEC,
    WIND_BM_UNITS,
    WIND_BM_UNITS_SPEC,
    WIND_GENERATION,
    WIND_GENERATION_SPEC,
    LayerAsset,
    layer_assets,
)
from recon_assets.orchestration.checks import evaluate, specs_of
from recon_assets.orchestration.pacing import Pacing, journal_of, works_of
from recon_assets.orchestration.partitions import DAYS, DAYS_A_RUN, PARTITIONS, days_of
from recon_assets.orchestration.workbench import WORKBENCH, Workbench
from recon_assets.reconcile.layering import DAY, MONTH, YEAR, Grain
from recon_assets.reconcile.repair import Repair
from recon_assets.reference import read_tail, store_bm_units, store_retargets
from recon_assets.settlement import Days, contiguous, due_periods
from recon_assets.wind_generation import read_wind_generation

RESOURCES = {WORKBENCH}
RANGES = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_A_RUN)


def process_tags() -> dict[str, str]:
    """The process that executes a run, so that a run whose process is gone can be told."""
    started = psutil.Process().create_time()
    return {
        "recon/host": socket.gethostname(),
        "recon/pid": str(os.getpid()),
        "recon/process_started": f"{started:.2f}",
    }


@contextmanager
def _at_work(context: dg.AssetExecutionContext) -> Iterator[Workbench]:
    """The workbench; the run is marked with its process, and an error that a user may meet is one line in the UI."""
    context.instance.add_run_tags(context.run.run_id, process_tags())
    workbench: Workbench = getattr(context.resources, WORKBENCH)
    try:
        yield workbench
    except ReconError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.asset(**WIND_BM_UNITS_SPEC, required_resource_keys=RESOURCES)
def wind_bm_units(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Joins Elexon's reference list to what is stored."""
    with _at_work(context) as workbench:
        # The packaged list is stored whatever Elexon answers: days can be read with it.
        with database.writing(workbench.engine) as connection:
            changed = store_bm_units(connection, packaged_bm_units(), workbench.now())
        listed = workbench.elexon.bm_units()
        units, received = listed or ([], None)
        if workbench.archive and received:
            workbench.archive.keep_reference(received)
        with database.writing(workbench.engine) as connection:
            changed += store_bm_units(connection, units, workbench.now())
        version, rows = events.bm_units_version(workbench.engine)
        source = "packaged list alone" if listed is None else f"packaged list and {workbench.elexon.source.name}"
        return dg.MaterializeResult(
            metadata={"dagster/row_count": rows, "changed": changed, "source": source},
            data_version=dg.DataVersion(version),
        )


@dg.asset(**NETWORK_DIFFICULTY_SPEC, required_resource_keys=RESOURCES)
def network_difficulty(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Joins the packaged table and mempool.space's tail to what is stored."""
    with _at_work(context) as workbench:
        url = workbench.settings.mempool_api_url
        with database.writing(workbench.engine) as connection:
            changed = store_retargets(connection)
        if url is not None:
            tail = read_tail(url, workbench.now())
            with database.writing(workbench.engine) as connection:
                changed += store_retargets(connection, tail)
        version, rows = events.difficulty_version(workbench.engine)
        source = "packaged table alone" if url is None else f"packaged table and {url}"
        return dg.MaterializeResult(
            metadata={"dagster/row_count": rows, "changed": changed, "source": source},
            data_version=dg.DataVersion(version),
        )


@dg.multi_asset(
    name=WIND_BIDS.to_user_string(),
    specs=[WIND_BIDS_SPEC],
    check_specs=specs_of([WIND_BIDS]),
    can_subset=True,
    partitions_def=DAYS,
    backfill_policy=RANGES,
    required_resource_keys=RESOURCES,
)
def wind_bids(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Reads each day whole from Elexon; a day that fails does not stop the others."""
    with _at_work(context) as workbench:
        if not context.selected_asset_keys:
            yield from evaluate(workbench, context.selected_asset_check_keys, context.run.run_id)
            return
        failures: dict[date, str] = {}
        logged: list[dg.AssetMaterialization] = []
        days = [date.fromisoformat(key) for key in context.partition_keys]
        journal = journal_of(workbench, context.run)
        periods = {day: len(due_periods(day, workbench.now())) for day in days}
        months = dict.fromkeys((MONTH.label(day) for day in days), 0)
        for day, count in periods.items():
            months[MONTH.label(day)] += count
        with journal.working(Phase.READING, months):
            for day in days:
                provenance = events.Provenance(
                    context.instance, {WIND_BM_UNITS: events.event_pointer(context.instance)}
                )
                try:
                    ingested = ingest_day(
                        workbench.engine, workbench.elexon, day, workbench.now(), archive=workbench.archive
                    )
                except ReconError as error:
                    failures[day] = str(error)
                    journal.fail(MONTH.label(day), periods[day], str(error))
                    workbench.observer.failed(day, str(error))
                    context.log.error(str(error))
                    continue
                version = events.bids_versions(workbench.engine, workbench.scope(Days(day, day)))[day]
                event = events.bids_event(day, version, events.bids_metadata(ingested), provenance)
                context.log_event(event)
                logged.append(event)
                if ingested.unlisted:
                    context.log.warning(
                        f"{day}: accepted bids of BM units in no list: {', '.join(sorted(ingested.unlisted))}"
                    )
                journal.advance(MONTH.label(day), periods[day])
                workbench.observer.ingested(ingested)
        yield from evaluate(workbench, context.selected_asset_check_keys)
        _fail_for(failures, len(context.partition_keys))
        if set(context.op_execution_context.job_def.graph.node_dict) != {WIND_BIDS.to_user_string()}:
            # Steps below only run when this one yields. Dagster then adds events with one data version for the whole
            # range; the days' own versions are logged again after them.
            yield dg.MaterializeResult(asset_key=WIND_BIDS)
            for event in logged:
                context.log_event(event)


def _read_generation(context: dg.AssetExecutionContext, workbench: Workbench) -> dict[date, str]:
    """Reads the wind generation of each day; a day that fails does not stop the others. The reasons of those that did.

    A day of which Elexon has none is a failure where nothing else was asked for; the layers are right without it.
    """
    is_alone = context.selected_asset_keys == {WIND_GENERATION}
    failures: dict[date, str] = {}
    journal, provenance = journal_of(workbench, context.run), events.Provenance(context.instance, {})
    periods = {day: len(due_periods(day, workbench.now())) for day in map(date.fromisoformat, context.partition_keys)}
    months: dict[str, int] = {}
    for day, count in periods.items():
        months[MONTH.label(day)] = months.get(MONTH.label(day), 0) + count
    with journal.working(Phase.READING, months):
        for day, count in periods.items():
            try:
                read = read_wind_generation(
                    workbench.engine, workbench.elexon, day, workbench.now(), archive=workbench.archive
                )
            except ReconError as error:
                if isinstance(error, UnpublishedError) and not is_alone:
                    context.log.warning(str(error))
                    journal.advance(MONTH.label(day), count)
                else:
                    failures[day] = str(error)
                    context.log.error(str(error))
                    journal.fail(MONTH.label(day), count, str(error))
                continue
            version = events.generation_versions(workbench.engine, Days(day, day))[day]
            context.log_event(events.generation_event(day, version, events.generation_metadata(read), provenance))
            journal.advance(MONTH.label(day), count)
            workbench.observer.generation_read(read)
    return failures


def _layers_asset(grain: Grain, name: str) -> dg.AssetsDefinition:
    """The multi-asset of all layers of one partitioning; of days, with the wind generation that they are made from."""
    assets = layer_assets(grain)
    sources = [WIND_GENERATION_SPEC] if grain is DAY else []

    @dg.multi_asset(
        name=name,
        specs=[*sources, *(asset.spec for asset in assets)],
        check_specs=specs_of([asset.key for asset in assets]),
        can_subset=True,
        partitions_def=PARTITIONS[grain],
        backfill_policy=RANGES,
        required_resource_keys=RESOURCES,
    )
    def converge_layers(context: dg.AssetExecutionContext, config: Pacing) -> Iterator[dg.AssetCheckResult]:
        with _at_work(context) as workbench:
            if not context.selected_asset_keys:
                yield from evaluate(workbench, context.selected_asset_check_keys, context.run.run_id)
                return
            selected = [asset for asset in assets if asset.key in context.selected_asset_keys]
            unread = _read_generation(context, workbench) if WIND_GENERATION in context.selected_asset_keys else {}
            failures: dict[date, str] = {}
            before = events.event_pointer(context.instance)
            works = works_of(workbench, selected, config, context.run)
            for done in works.run(_spans(grain, context.partition_keys)) if selected else ():
                if done.repair is not None:
                    for asset in selected:
                        # Rows of an upstream asset in this same step were read after its repair, not before.
                        logged = events.event_pointer(context.instance)
                        chosen = context.selected_asset_keys
                        pointers = {key: logged if key in chosen else before for key in asset.upstream}
                        provenance = events.Provenance(context.instance, pointers)
                        for event in repair_events(asset, done.repair, provenance):
                            context.log_event(event)
                    for reasons in done.repair.unfit.values():
                        failures |= reasons
                    workbench.observer.repaired(done.days, done.repair)
                failures |= {day: "; ".join(reasons) for day, reasons in done.failures.items()}
            for day, reason in unread.items():
                failures[day] = f"{reason}; {failures[day]}" if day in failures else reason
            for day, reason in failures.items():
                workbench.observer.failed(day, reason)
            yield from evaluate(workbench, context.selected_asset_check_keys)
            _fail_for(failures, len(context.partition_keys))

    return converge_layers


def _spans(grain: Grain, partition_keys: Sequence[str]) -> list[Days]:
    """The days of a run's partitions: contiguous spans of days, or whole months and years one by one."""
    if grain is not DAY:
        return [days_of(grain, key) for key in partition_keys]
    return contiguous([date.fromisoformat(key) for key in partition_keys])


def repair_events(asset: LayerAsset, done: Repair, provenance: events.Provenance) -> Iterator[dg.AssetMaterialization]:
    """The events of every partition of an asset that is right now."""
    unfit = {day.isoformat() for day in done.unfit[asset.layer.name]}
    for (layer, model, partition), evidence in done.evidence.items():
        if layer == asset.layer.name and model == asset.model and partition not in unfit:
            changes = done.changes_of(layer, model, partition)
            yield events.layer_event(asset, partition, evidence, changes, provenance)


def _fail_for(failures: dict[date, str], partitions: int) -> None:
    """Fails the step when days failed, naming each with its reason; the others are done."""
    if failures:
        summary = "; ".join(dict.fromkeys(reason for _, reason in sorted(failures.items())))
        raise dg.Failure(
            f"{len(failures)} of {partitions} partitions failed: {summary}",
            metadata={day.isoformat(): reason for day, reason in sorted(failures.items())},
            allow_retries=False,
        )


settlement_day_layers = _layers_asset(DAY, "settlement_day_layers")
month_layers = _layers_asset(MONTH, "month_layers")
year_layers = _layers_asset(YEAR, "year_layers")

ASSETS = [wind_bm_units, network_difficulty, wind_bids, settlement_day_layers, month_layers, year_layers]
