"""The work that the steps of assets and jobs share: reading days, converging layers, and logging the events."""

import os
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial

import dagster as dg
import psutil
from sqlalchemy.exc import DBAPIError

from recon_assets.database.failures import again_when_lost, failure_of
from recon_assets.database.work_log import Phase
from recon_assets.domain.settlement import Days, due_periods
from recon_assets.domain.words import plural
from recon_assets.errors import ReconError, SourceDownError, UnpublishedError
from recon_assets.ingest.archived import ingest_archived_day
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets.ingest.empty_days import prove_empty
from recon_assets.ingest.generation import read_wind_generation
from recon_assets.orchestration import events
from recon_assets.orchestration.active_runs import FROM_ARCHIVE
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.run_config import ConvergeConfig, span_runner_of, work_log_of
from recon_assets.orchestration.specs import WIND_BM_UNITS, LayerAsset
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.layer import MONTH
from recon_assets.reconcile.read_state import settlement_days
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState


def process_tags() -> dict[str, str]:
    """Tags that name this process, so that a run whose process is gone is recognised."""
    started = psutil.Process().create_time()
    return {
        "recon/host": socket.gethostname(),
        "recon/pid": str(os.getpid()),
        "recon/process_started": f"{started:.2f}",
    }


@contextmanager
def at_work(context: events.Context) -> Iterator[ReconResource]:
    """The resource of a step. Tags the run with its process; a ReconError becomes one line in the UI."""
    context.instance.add_run_tags(context.run.run_id, {**process_tags(), "recon/run": context.run.run_id})
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    resource.logs.append(context.log.warning)
    try:
        yield resource
    except ReconError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    finally:
        resource.logs.pop()


def read_days(
    context: events.Context,
    resource: ReconResource,
    days: Sequence[date],
    periods: range | None = None,
    *,
    by_volumes: bool = False,
) -> tuple[list[dg.AssetMaterialization], dict[date, str]]:
    """Reads days (or some settlement periods of them) from Elexon; a day that fails does not stop the others.

    If the source goes down, the rest fails without a request, and the reason is said once.

    With `by_volumes`, days without a record or proof in an adopted database are first asked for by their acceptance
    volumes, which may prove them empty in one request. Days with evidence of lost records are read at once.

    Returns the events that were logged, one for each day that was read, and the reasons of the days that failed.
    """
    failures: dict[date, str] = {}
    unread: list[date] = []
    logged: list[dg.AssetMaterialization] = []
    work_log = work_log_of(resource, context.run)
    due = {day: len(periods or due_periods(day, resource.now())) for day in days}
    months = dict.fromkeys((MONTH.label(day) for day in days), 0)
    for day, count in due.items():
        months[MONTH.label(day)] += count
    may_be_empty = _days_without_records(resource, days) if by_volumes else frozenset()
    with work_log.working(Phase.READING, months, days):
        for day in days:
            provenance = events.Provenance(context.instance, {WIND_BM_UNITS: events.event_pointer(context.instance)})
            scope = replace(resource.scope(Days(day, day)), run_id=context.run.run_id)
            read = partial(_read_day, context, resource, scope, periods, may_be_empty=day in may_be_empty)
            try:
                ingested = again_when_lost(partial(resource.patiently, read))
            except (ReconError, DBAPIError) as error:
                reason = _reason_of(day, error)
                if isinstance(error, SourceDownError):
                    unread.append(day)
                else:
                    resource.observer.failed(day, reason)
                if reason not in failures.values():
                    context.log.error(reason)
                failures[day] = reason
                work_log.fail(MONTH.label(day), due[day], reason, [day])
                continue
            version = events.bids_versions(resource.engine, resource.scope(Days(day, day)))[day]
            event = events.bids_event(day, version, events.bids_metadata(ingested), provenance)
            context.log_event(event)
            logged.append(event)
            if ingested.unlisted:
                context.log.warning(
                    f"{day}: accepted bids of BM units that are not known to be wind or not: "
                    f"{', '.join(sorted(ingested.unlisted))}"
                )
            if ingested.kept and ingested.kept.was_corrupt:
                context.log.warning(
                    f"{day}: the archived recording was corrupt, and is kept as {ingested.kept.earlier}"
                )
            if ingested.revision:
                context.log.warning(f"{day} has changed since it was last read: {ingested.revision}")
            work_log.advance(MONTH.label(day), due[day])
            resource.observer.ingested(ingested)
    if unread:
        resource.observer.unread(unread, failures[unread[0]])
    return logged, failures


def _days_without_records(resource: ReconResource, days: Sequence[date]) -> frozenset[date]:
    """The days of an adopted database that hold nothing, and no evidence of lost records."""
    if not days:
        return frozenset()
    found = settlement_days(resource.engine, resource.scope(Days(min(days), max(days))), resource.now())
    return frozenset(found.days_in(DayState.ADOPTED_EMPTY)) - found.lost.keys()


def _read_day(
    context: events.Context, resource: ReconResource, scope: Scope, periods: range | None, *, may_be_empty: bool
) -> IngestedDay:
    """Reads the only day of the scope: from the archive if the run says so, or proves it empty if that is possible."""
    engine, elexon, now, archive = resource.engine, resource.elexon, resource.now(), resource.archive
    day = scope.days.first
    if FROM_ARCHIVE in context.run.tags:
        return ingest_archived_day(engine, elexon, day, now, archive, context.log.warning)
    if may_be_empty:
        proven = prove_empty(engine, elexon, scope, now, archive)
        if isinstance(proven, IngestedDay):
            return proven
        context.log.info(f"{day} is read whole: {proven}")
    return ingest_day(engine, elexon, day, now, periods, archive, scope)


def read_generation(
    context: events.Context, resource: ReconResource, days: Sequence[date], *, is_alone: bool
) -> dict[date, str]:
    """Reads the wind generation of each day; a day that fails does not stop the others. Returns why days failed.

    A day without published generation fails only if nothing else was asked for (`is_alone`): the layers are right
    without it.
    """
    failures: dict[date, str] = {}
    work_log, provenance = work_log_of(resource, context.run), events.Provenance(context.instance, {})
    periods = {day: len(due_periods(day, resource.now())) for day in days}
    months: dict[str, int] = {}
    for day, count in periods.items():
        months[MONTH.label(day)] = months.get(MONTH.label(day), 0) + count
    with work_log.working(Phase.READING, months, days):
        for day, count in periods.items():
            try:
                source = (resource.engine, resource.elexon, day, resource.now(), resource.archive)
                read = again_when_lost(partial(resource.patiently, partial(read_wind_generation, *source)))
            except (ReconError, DBAPIError) as error:
                if isinstance(error, UnpublishedError) and not is_alone:
                    context.log.warning(str(error))
                    work_log.advance(MONTH.label(day), count)
                else:
                    reason = _reason_of(day, error)
                    if reason not in failures.values():
                        context.log.error(reason)
                    failures[day] = reason
                    work_log.fail(MONTH.label(day), count, reason, [day])
                continue
            version = events.generation_versions(resource.engine, Days(day, day))[day]
            context.log_event(events.generation_event(day, version, events.generation_metadata(read), provenance))
            work_log.advance(MONTH.label(day), count)
            resource.observer.generation_read(read)
    return failures


def _reason_of(day: date, error: ReconError | DBAPIError) -> str:
    """Why a day could not be read; an error that would hit every other day too is raised again."""
    failure = failure_of(error)
    if failure.is_everywhere:
        raise error
    return failure.reason if isinstance(error, ReconError) else f"{day}: {failure.reason}"


def converge_spans(
    context: events.Context,
    resource: ReconResource,
    assets: Sequence[LayerAsset],
    spans: Sequence[Days],
    run_config: ConvergeConfig,
) -> dict[date, str]:
    """Converges assets of one partitioning, bottom up, and logs an event per partition; returns why days failed."""
    chosen: Collection[dg.AssetKey] = {asset.key for asset in assets}
    failures: dict[date, str] = {}
    before = events.event_pointer(context.instance)
    for done in span_runner_of(resource, assets, run_config, context.run).run(spans):
        if done.converged is not None:
            for asset in assets:
                # An upstream asset of this same step was converged, and its event logged, before its rows were read.
                logged = events.event_pointer(context.instance)
                pointers = {key: logged if key in chosen else before for key in asset.upstream}
                provenance = events.Provenance(context.instance, pointers)
                events.log_events(context, converged_events(asset, done.converged, provenance))
            for reasons in done.converged.unfit.values():
                failures |= reasons
            for of_periods in done.converged.unfit_models.values():
                failures |= {_first_day(period): reason for period, reason in of_periods.items()}
            resource.observer.converged(done.days, done.converged)
        failures |= {day: "; ".join(reasons) for day, reasons in done.failures.items()}
    for day, reason in failures.items():
        resource.observer.failed(day, reason)
    return failures


def _first_day(period: str) -> date:
    """The first day of a day, month or year of summaries."""
    return date.fromisoformat(period + "0000-01-01"[len(period) :])


def converged_events(
    asset: LayerAsset, done: ConvergedSpan, provenance: events.Provenance
) -> Iterator[dg.AssetMaterialization]:
    """An event for each partition of an asset that is right now."""
    unfit = {asset.layer.grain.label(day) for day in done.unfit[asset.layer.name]}
    for (name, of_model), periods in done.unfit_models.items():
        if name == asset.layer.name and asset.model in (None, of_model):
            unfit |= set(periods)
    for (layer, model, partition), contents in done.contents.items():
        if layer == asset.layer.name and model == asset.model and partition not in unfit:
            changes = done.changes_of(layer, model, partition)
            yield events.layer_event(asset, partition, contents, changes, provenance)


def fail_for(failures: dict[date, str], partitions: int) -> None:
    """Fails the step if days failed, and names each with its reason; the other days are done."""
    if failures:
        summary = "; ".join(dict.fromkeys(reason for _, reason in sorted(failures.items())))
        raise dg.Failure(
            f"{len(failures)} of {plural(partitions, 'partition')} failed: {summary}",
            metadata={day.isoformat(): reason for day, reason in sorted(failures.items())},
            allow_retries=False,
        )
