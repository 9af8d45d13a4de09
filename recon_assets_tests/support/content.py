"""Reads what the database and Dagster hold, in forms that tests can compare."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.dagster_run import RunRecord
from sqlalchemy import Engine, select

from recon_assets.database import transactions
from recon_assets.database.tables import metadata
from recon_assets.definitions import defs
from recon_assets.elexon.stand_in import SeenRequest
from recon_assets.orchestration.specs import LAYER_ASSETS, WIND_BIDS, WIND_GENERATION

PARTITIONED = [WIND_BIDS, *(asset.key for asset in LAYER_ASSETS)]
WITH_GENERATION = [WIND_GENERATION, *PARTITIONED]
"""The tables that a reconciliation fills. Wind generation is read separately, and most recordings have none."""
DATA_VERSION = "dagster/data_version"


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, ids and timestamps included."""
    with transactions.reading(engine) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def partitions(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """The partitions of every partitioned asset that Dagster knows to be materialized."""
    return {key.to_user_string(): set(instance.get_materialized_partitions(key)) for key in PARTITIONED}


def all_hold(days: Iterable[str]) -> dict[str, set[str]]:
    """The result of `partitions` if everything of these days, their months and years is there."""
    days = set(days)
    lengths = {asset.key: asset.layer.grain.length for asset in LAYER_ASSETS}
    return {key.to_user_string(): {day[: lengths.get(key, 10)] for day in days} for key in PARTITIONED}


def events(instance: dg.DagsterInstance, asset: str) -> list[dg.AssetMaterialization]:
    """Every materialization of an asset, oldest first."""
    found = instance.fetch_materializations(dg.AssetKey.from_user_string(asset), limit=1000, ascending=True)
    return [record.asset_materialization for record in found.records if record.asset_materialization]


def latest(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> dg.AssetMaterialization:
    """The latest materialization of a partition, or of an asset without any."""
    return [event for event in events(instance, asset) if event.partition == partition][-1]


def figures(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> dict[str, Any]:
    """The metadata that the UI shows of a partition, as plain values."""
    return {name: value.value for name, value in latest(instance, asset, partition).metadata.items()}


def data_versions(instance: dg.DagsterInstance) -> dict[tuple[str, str | None], str]:
    """The data version of every materialized partition."""
    return {
        (key.to_user_string(), event.partition): (event.tags or {})[DATA_VERSION]
        for key in WITH_GENERATION
        for event in events(instance, key.to_user_string())
    }


def out_of_date(instance: dg.DagsterInstance) -> set[tuple[str, str | None]]:
    """Every materialized (asset, partition) that Dagster's UI marks as stale."""
    resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
    return {
        (key.to_user_string(), partition)
        for key in defs.resolve_all_asset_keys()
        for partition in (
            sorted(instance.get_materialized_partitions(key)) if key in [WIND_GENERATION, *PARTITIONED] else [None]
        )
        if resolver.get_status(key, partition).value == "STALE"
    }


def stacks_asked(requests: Iterable[SeenRequest]) -> Counter[str]:
    """How many bid stacks were asked of each day."""
    paths = (re.search(r"/stack/all/bid/(.*)/", request.path) for request in requests)
    return Counter(path[1] for path in paths if path)


def runs(instance: dg.DagsterInstance) -> list[RunRecord]:
    """Every run, oldest first."""
    return list(instance.get_run_records(ascending=True))
