"""Materialization events: one per partition, with metadata and a content fingerprint as its data version.

Dagster gives all partitions of a range run one data version. Here each partition has its own, so that re-reading an
unchanged day leaves everything downstream fresh. The events are therefore logged by hand, with the provenance tags from
which Dagster computes staleness: the code version, and for each upstream asset a data version and an event pointer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from sqlalchemy import Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.tables import proof_of_fetch, wind_bm_units, wind_generation_data
from recon_assets.domain.curtailment import fingerprint
from recon_assets.domain.difficulty import packaged_retargets
from recon_assets.domain.settlement import Days
from recon_assets.elexon.generation import TOLERATED_OF_GENERATION
from recon_assets.elexon.payloads import TOLERATED
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.ingest.reference import known_bm_units, stored_retargets
from recon_assets.orchestration.specs import WIND_BIDS, WIND_GENERATION, LayerAsset
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.content import Content
from recon_assets.reconcile.scope import Scope

CODE_VERSION = "1"
"""A constant: for an event without a code version, Dagster assumes no provenance and compares timestamps instead."""


Context = dg.AssetExecutionContext | dg.OpExecutionContext


def event_pointer(instance: dg.DagsterInstance) -> int:
    """The newest event now. Taken before rows are read, it makes any later upstream event count as newer."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def every_record(
    fetch: Callable[..., dg.EventRecordsResult], wanted: dg.AssetRecordsFilter
) -> Iterator[dg.EventLogRecord]:
    """Every event that an instance's `fetch_materializations` or `fetch_observations` finds, newest first."""
    cursor, more = None, True
    while more:
        page = fetch(wanted, limit=500, cursor=cursor)
        cursor, more = page.cursor, page.has_more
        yield from page.records


def log_events(context: Context, logged: Iterable[dg.AssetMaterialization]) -> None:
    """Logs events of one asset as a batch, where `context.log_event` would log them one by one.

    If DAGSTER_EVENT_BATCH_SIZE is set, a storage may write a batch at once: 93 events in 0.15 s on PostgreSQL.
    """
    op = context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context
    step, batch, materializations = op.get_step_execution_context(), str(uuid4()), list(logged)
    for number, materialization in enumerate(materializations, 1):
        place = DagsterEventBatchMetadata(batch, is_end=number == len(materializations))
        op._events.append(DagsterEvent.asset_materialization(step, materialization, place))


class Provenance:
    """What an event was made from: for each upstream asset, the event pointer taken before its rows were read."""

    def __init__(self, instance: dg.DagsterInstance, pointers: Mapping[dg.AssetKey, int]) -> None:
        self._tags = {"dagster/code_version": CODE_VERSION, "dagster/data_version_is_user_provided": "true"}
        for key, pointer in pointers.items():
            latest = instance.get_latest_materialization_event(key)
            tags = latest.asset_materialization.tags if latest and latest.asset_materialization else None
            name = key.to_user_string()
            self._tags[f"dagster/input_data_version/{name}"] = (tags or {}).get("dagster/data_version", "unknown")
            self._tags[f"dagster/input_event_pointer/{name}"] = str(pointer)

    def tags(self, version: str) -> dict[str, str]:
        """The tags of an event; `version` is the fingerprint of its content."""
        return {**self._tags, "dagster/data_version": version}


def layer_event(
    asset: LayerAsset, partition: str, contents: Content, changes: Changes | None, provenance: Provenance
) -> dg.AssetMaterialization:
    """The event of one partition of a layer; `changes` is None if nothing ran because the database proves it right."""
    done = {} if changes is None else {name: getattr(changes, name) for name in ("inserted", "corrected", "removed")}
    metadata = {"dagster/partition_row_count": contents.rows, **contents.totals, **done}
    return dg.AssetMaterialization(
        asset.key, partition=partition, metadata=metadata, tags=provenance.tags(contents.fingerprint)
    )


def reference_event(key: dg.AssetKey, version: str, rows: int) -> dg.AssetMaterialization:
    """The event of stored reference data that no run of this instance wrote."""
    tags = {"dagster/data_version": version, "dagster/data_version_is_user_provided": "true"}
    return dg.AssetMaterialization(key, metadata={"dagster/row_count": rows}, tags=tags)


def bids_event(
    day: date, version: str, metadata: Mapping[str, dg.MetadataValue[Any]], provenance: Provenance
) -> dg.AssetMaterialization:
    """The event of one day of wind bids."""
    return dg.AssetMaterialization(
        WIND_BIDS, partition=day.isoformat(), metadata=metadata, tags=provenance.tags(version)
    )


def bids_metadata(day: IngestedDay) -> dict[str, dg.MetadataValue[Any]]:
    """The metadata of an ingested day, as the UI shows it."""
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "dagster/partition_row_count": dg.MetadataValue.int(day.wind_rows),
        "settlement_periods": dg.MetadataValue.int(day.periods),
        "pending_periods": dg.MetadataValue.text(", ".join(map(str, day.pending)) or "none"),
        "proven_by": dg.MetadataValue.text(day.source),
        **({} if day.stack_rows is None else {"stack_rows": dg.MetadataValue.int(day.stack_rows)}),
        "accepted_bid_mwh": dg.MetadataValue.float(day.wind_mwh),
        "accepted_bid_gbp": dg.MetadataValue.float(day.wind_gbp),
        "inserted": dg.MetadataValue.int(day.changes.inserted),
        "corrected": dg.MetadataValue.int(day.changes.corrected),
        "removed": dg.MetadataValue.int(day.changes.removed),
        **{name: dg.MetadataValue.int(day.tolerated.get(name, 0)) for name in TOLERATED},
        "unlisted_rows": dg.MetadataValue.int(day.unlisted_rows),
        "revision": dg.MetadataValue.text(str(day.revision or "none")),
    }
    if day.revision:
        metadata["elexon_created_at"] = dg.MetadataValue.text(day.revision.elexon_created_at or "not said")
    if day.kept:
        metadata["archive"] = dg.MetadataValue.path(day.kept.recording)
    if day.kept and day.kept.was_corrupt:
        metadata["archive_was_corrupt"] = dg.MetadataValue.bool(True)
    if day.kept and day.kept.earlier:
        metadata["archive_earlier"] = dg.MetadataValue.path(day.kept.earlier)
    if day.unlisted:
        lines = [f"| {unit} | {mwh:.3f} |" for unit, mwh in sorted(day.unlisted.items())]
        table = ["| BM unit not known to be wind or not | MWh |", "|---|---:|", *lines]
        metadata["unlisted_bm_units"] = dg.MetadataValue.md("\n".join(table))
    return metadata


def bids_versions(engine: Engine, scope: Scope) -> dict[date, str]:
    """The fingerprint of every day with a proof of fetch, from the fingerprints of its periods."""
    proofs = proof_of_fetch.c
    query = (
        select(proofs.settlement_date, proofs.settlement_period, proofs.fingerprint)
        .where(proofs.settlement_date.between(scope.days.first, scope.days.last))
        .order_by(proofs.settlement_date, proofs.settlement_period)
    )
    periods: dict[date, list[tuple[int, str]]] = {}
    with transactions.reading(engine) as connection:
        for day, period, content in connection.execute(query):
            periods.setdefault(day, []).append((period, content))
    return {day: fingerprint(content) for day, content in periods.items()}


def generation_event(
    day: date, version: str, metadata: Mapping[str, dg.MetadataValue[Any]], provenance: Provenance
) -> dg.AssetMaterialization:
    """The event of one day of wind generation."""
    return dg.AssetMaterialization(
        WIND_GENERATION, partition=day.isoformat(), metadata=metadata, tags=provenance.tags(version)
    )


def generation_metadata(day: GenerationDay) -> dict[str, dg.MetadataValue[Any]]:
    """The metadata of a day whose wind generation was read, as the UI shows it."""
    periods = {"pending_periods": day.pending, "periods_of_one_kind": day.halves, "periods_stored_newer": day.newer}
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "dagster/partition_row_count": dg.MetadataValue.int(day.half_hours),
        **{name: dg.MetadataValue.text(", ".join(map(str, found)) or "none") for name, found in periods.items()},
        "generated_mwh": dg.MetadataValue.float(day.total_mwh),
        "generated_onshore_mwh": dg.MetadataValue.float(day.onshore_mwh),
        "generated_offshore_mwh": dg.MetadataValue.float(day.offshore_mwh),
        "inserted": dg.MetadataValue.int(day.changes.inserted),
        "corrected": dg.MetadataValue.int(day.changes.corrected),
        **{name: dg.MetadataValue.int(day.tolerated.get(name, 0)) for name in TOLERATED_OF_GENERATION},
    }
    if day.kept:
        metadata["archive"] = dg.MetadataValue.path(day.kept.recording)
    return metadata


def generation_versions(engine: Engine, days: Days) -> dict[date, str]:
    """The fingerprint of every day with stored wind generation: of its MW, not of when they were published."""
    rows = wind_generation_data.c
    content = (rows.settlement_period, rows.wind_onshore, rows.wind_offshore, rows.total_wind)
    query = (
        select(rows.settlement_date, *content)
        .where(rows.settlement_date.between(days.first, days.last))
        .order_by(rows.settlement_date, rows.settlement_period, rows.id)
    )
    half_hours: dict[date, list[tuple[Any, ...]]] = {}
    with transactions.reading(engine) as connection:
        for day, *values in connection.execute(query):
            half_hours.setdefault(day, []).append(tuple(values))
    return {day: fingerprint(values) for day, values in half_hours.items()}


def bm_units_version(engine: Engine) -> tuple[str, int]:
    """The fingerprint of the names of all units that are wind, and how many are listed so."""
    with transactions.reading(engine) as connection:
        names, _ = known_bm_units(connection)
        rows = connection.execute(select(func.count()).select_from(wind_bm_units)).scalar_one()
    return fingerprint([name] for name in sorted(names)), rows


def difficulty_version(engine: Engine) -> tuple[str, int]:
    """The fingerprint of the stored epochs that the packaged table also lists, and how many epochs are stored.

    A new epoch changes no calculation before it, so it must not make any of them stale; a corrected start time must.
    """
    listed = {retarget.height for retarget in packaged_retargets()}
    with transactions.reading(engine) as connection:
        stored = stored_retargets(connection)
    content = ([entry.height, entry.starts_at, entry.difficulty] for entry in stored if entry.height in listed)
    return fingerprint(content), len(stored)
