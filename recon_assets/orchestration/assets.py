"""The Dagster assets: each gets its inputs, calls the domain, and logs what is stored.

The layers of one partitioning are one multi-asset that can be subset. A run walks them bottom up, a month of days in
one transaction, so that all miner models of a month come from the same records. The wind generation is read in the
step of the daily layers: as a step of its own it would block them on days for which Elexon has none.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Any

import dagster as dg

from recon_assets.database import transactions
from recon_assets.domain.bm_units import PACKAGED_LIST, packaged_bm_units
from recon_assets.domain.settlement import Days, contiguous
from recon_assets.domain.words import plural
from recon_assets.errors import ReconError
from recon_assets.ingest import reference
from recon_assets.ingest.reference import read_tail, store_bm_units, store_retargets
from recon_assets.ingest.unit_facts import count_units
from recon_assets.orchestration import events
from recon_assets.orchestration.archive_search import search_a_while
from recon_assets.orchestration.checks import evaluate, specs_of
from recon_assets.orchestration.partitions import DAYS, DAYS_A_RUN, PARTITIONS, days_of
from recon_assets.orchestration.pools import DATABASE, ELEXON
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.run_config import ConvergeConfig, DifficultyConfig
from recon_assets.orchestration.specs import (
    NETWORK_DIFFICULTY_SPEC,
    WIND_BIDS,
    WIND_BIDS_SPEC,
    WIND_BM_UNITS_SPEC,
    WIND_GENERATION,
    WIND_GENERATION_SPEC,
    layer_assets,
)
from recon_assets.orchestration.steps import at_work, converge_spans, fail_for, read_days, read_generation
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain
from recon_assets.reconcile.scope import difficulty_history

RESOURCES = {RESOURCE_KEY}
RANGES = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_A_RUN)


@dg.asset(**WIND_BM_UNITS_SPEC, required_resource_keys=RESOURCES, pool=ELEXON)
def wind_bm_units(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Joins Elexon's reference list to what is stored."""
    with at_work(context) as resource:
        # First the packaged list, which is enough to read days, whatever Elexon answers.
        with reference.writing(resource.engine) as connection:
            changed = store_bm_units(connection, packaged_bm_units(), resource.now())
        try:
            listed = resource.patiently(resource.elexon.bm_units)
        except ReconError:
            search_a_while(context, resource)  # which needs no source
            raise
        units, received = listed or ([], None)
        if resource.archive and received:
            resource.archive.keep_reference(received)
        with reference.writing(resource.engine) as connection:
            changed += store_bm_units(connection, units, resource.now())
        found = search_a_while(context, resource)
        version, rows = events.bm_units_version(resource.engine)
        with transactions.reading(resource.engine) as connection:
            counts = count_units(connection)
        in_use = list_in_use(resource, is_listed=listed is not None)
        if listed is None and resource.archive:
            resource.observer.noted(f"{resource.elexon.source.name} has no list of BM units (404); in use: {in_use}")
            context.log.warning(f"{resource.elexon.source.name} has no list of BM units (404); in use: {in_use}")
        source = "packaged list alone" if listed is None else f"packaged list and {resource.elexon.source.name}"
        about = {"source": source, "list_in_use": in_use}
        return dg.MaterializeResult(
            metadata={"dagster/row_count": rows, "changed": changed, **about, **counts, **found},
            data_version=dg.DataVersion(version),
        )


def list_in_use(resource: ReconResource, *, is_listed: bool) -> str:
    """The lists of BM units that are in use, and how old the newest one of Elexon is."""
    if is_listed:
        return f"Elexon's list of {resource.now():%Y-%m-%d %H:%MZ} and the {PACKAGED_LIST}"
    seen = resource.archive.reference_seen_at() if resource.archive else None
    if seen is None:
        return f"the {PACKAGED_LIST}, and what was stored before"
    days = (resource.now() - seen).days
    return f"Elexon's list of {seen:%Y-%m-%d %H:%MZ}, {plural(days, 'day')} old, and the {PACKAGED_LIST}"


@dg.asset(**NETWORK_DIFFICULTY_SPEC, required_resource_keys=RESOURCES)
def network_difficulty(context: dg.AssetExecutionContext, config: DifficultyConfig) -> dg.MaterializeResult[Any]:
    """Joins the packaged table and mempool.space's tail to what is stored."""
    with at_work(context) as resource:
        url = None if config.packaged_only else resource.settings.mempool_api_url
        with reference.writing(resource.engine) as connection:
            changed = store_retargets(connection)
        if url is not None:
            tail = read_tail(url, resource.now())
            with reference.writing(resource.engine) as connection:
                changed += store_retargets(connection, tail)
        version, rows = events.difficulty_version(resource.engine)
        with transactions.reading(resource.engine) as connection:
            known_until = difficulty_history(connection).known_until
        source = "packaged table alone" if url is None else f"packaged table and {url}"
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": rows,
                "changed": changed,
                "source": source,
                "known_until": dg.MetadataValue.timestamp(known_until),
            },
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
    pool=ELEXON,
)
def wind_bids(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Reads each day whole from Elexon; a day that fails does not stop the others."""
    with at_work(context) as resource:
        if not context.selected_asset_keys:
            yield from evaluate(resource, context.selected_asset_check_keys, context.run)
            return
        days = [date.fromisoformat(key) for key in context.partition_keys]
        logged, failures = read_days(context, resource, days, by_volumes=True)
        yield from evaluate(resource, _checks_now(context))
        fail_for(failures, len(context.partition_keys))
        if set(context.op_execution_context.job_def.graph.node_dict) != {WIND_BIDS.to_user_string()}:
            # Downstream steps only run if this one yields. For the yield, Dagster adds events with one data version for
            # the whole range, so each day's own version is logged again after them.
            yield dg.MaterializeResult(asset_key=WIND_BIDS)
            for event in logged:
                context.log_event(event)


def _layers_asset(grain: Grain, name: str) -> dg.AssetsDefinition:
    """The multi-asset of all layers of one partitioning; the daily one also reads the wind generation."""
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
        pool=DATABASE,
    )
    def converge_layers(context: dg.AssetExecutionContext, config: ConvergeConfig) -> Iterator[dg.AssetCheckResult]:
        with at_work(context) as resource:
            if not context.selected_asset_keys:
                yield from evaluate(resource, context.selected_asset_check_keys, context.run)
                return
            selected = [asset for asset in assets if asset.key in context.selected_asset_keys]
            days = [date.fromisoformat(key) for key in context.partition_keys] if grain is DAY else []
            is_alone = context.selected_asset_keys == {WIND_GENERATION}
            reads = WIND_GENERATION in context.selected_asset_keys
            unread = read_generation(context, resource, days, is_alone=is_alone) if reads else {}
            spans = _spans(grain, context.partition_keys)
            failures = converge_spans(context, resource, selected, spans, config) if selected else {}
            for day, reason in unread.items():
                failures[day] = f"{reason}; {failures[day]}" if day in failures else reason
                resource.observer.failed(day, failures[day])
            yield from evaluate(resource, _checks_now(context))
            fail_for(failures, len(context.partition_keys))

    return converge_layers


def _checks_now(context: dg.AssetExecutionContext) -> AbstractSet[dg.AssetCheckKey]:
    """The checks that a run evaluates after its work.

    A backfill evaluates none, because each of its runs would read the whole history; the audit sensor has the checks
    evaluated once, when the backfill is over.
    """
    return frozenset() if "dagster/backfill" in context.run.tags else context.selected_asset_check_keys


def _spans(grain: Grain, partition_keys: Sequence[str]) -> list[Days]:
    """The days of a run's partitions: contiguous spans of days, or whole months and years one by one."""
    if grain is not DAY:
        return [days_of(grain, key) for key in partition_keys]
    return contiguous([date.fromisoformat(key) for key in partition_keys])


settlement_day_layers = _layers_asset(DAY, "settlement_day_layers")
month_layers = _layers_asset(MONTH, "month_layers")
year_layers = _layers_asset(YEAR, "year_layers")

ASSETS = [wind_bm_units, network_difficulty, wind_bids, settlement_day_layers, month_layers, year_layers]
