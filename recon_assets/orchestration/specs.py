"""The declarations of the assets: key, upstream assets, group, description and columns of each."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Table

from recon_assets.database.tables import network_difficulty, wind_bids, wind_bm_units, wind_generation_data
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import LONDON
from recon_assets.orchestration.partitions import DAYS, PARTITIONS
from recon_assets.reconcile import layers as l
from recon_assets.reconcile.layer import DAY, Grain, Layer
from recon_assets.reconcile.layers import LAYERS

OWNERS = ["team:recon"]

FRESHNESS = dg.FreshnessPolicy.cron(
    deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=6), timezone=LONDON.key
)
"""Daily assets must be made between midnight and 6 in London, when yesterday is over; the daily check runs at 2."""
WIND_BM_UNITS = dg.AssetKey("wind_bm_units")
NETWORK_DIFFICULTY = dg.AssetKey("network_difficulty")
WIND_BIDS = dg.AssetKey("wind_bids")
WIND_GENERATION = dg.AssetKey("wind_generation_data")


@dataclass(frozen=True)
class LayerAsset:
    """A layer as an asset; the calculations have one asset for each miner model."""

    key: dg.AssetKey
    layer: Layer
    model: str | None
    upstream: Sequence[dg.AssetKey]
    group: str
    description: str

    @property
    def spec(self) -> dg.AssetSpec:
        """The declaration. Skippable, because the step itself logs an event with a data version per partition."""
        return dg.AssetSpec(
            key=self.key,
            deps=[dg.AssetDep(key, partition_mapping=_mapping(self.layer.grain)) for key in self.upstream],
            description=self.description,
            group_name=self.group,
            owners=OWNERS,
            kinds={"sql", "table"},
            metadata=table_metadata(self.layer.table),
            partitions_def=PARTITIONS[self.layer.grain],
            skippable=True,
            freshness_policy=FRESHNESS if self.layer.grain is DAY else None,
        )


def _mapping(grain: Grain) -> dg.PartitionMapping | None:
    """How the partitions of a grain depend on those below; None for Dagster's own way.

    The running month and year depend on days and months that are still to come, and have no partition yet. Without the
    permission Dagster would refuse a backfill of such a period together with what is below it.
    """
    if grain is DAY:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def calculations_key(model: str) -> dg.AssetKey:
    """The asset key of one miner model's calculations."""
    return dg.AssetKey([l.CALCULATIONS.name, model])


def table_metadata(table: Table) -> Mapping[str, object]:
    """The table's name and columns, as the UI shows them."""
    columns = [
        dg.TableColumn(
            column.name, str(column.type).lower(), constraints=dg.TableColumnConstraints(nullable=bool(column.nullable))
        )
        for column in table.columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns), "dagster/table_name": table.name}


_ABOUT: Mapping[Layer, tuple[str, Sequence[dg.AssetKey], str]] = {
    l.CURTAILMENT: (
        "curtailment",
        [WIND_BIDS],
        "Accepted wind bids that count as curtailment under CURTAILMENT_RULE, one row per accepted stack row. "
        "Volume in MWh (negative), payment in GBP (positive when paid to the farm).",
    ),
    l.BITCOIN_DAILY: (
        "bitcoin",
        [calculations_key(model) for model in MODELS],
        "Bitcoin per day and miner model: the sum of the day's calculations.",
    ),
    l.BITCOIN_MONTHLY: (
        "bitcoin",
        [dg.AssetKey(l.BITCOIN_DAILY.name)],
        "Bitcoin per month and miner model, summed from the calculations themselves.",
    ),
    l.BITCOIN_YEARLY: (
        "bitcoin",
        [dg.AssetKey(l.BITCOIN_MONTHLY.name)],
        "Bitcoin per year and miner model, summed from the calculations themselves.",
    ),
    l.ENERGY_DAILY: (
        "curtailment",
        [dg.AssetKey(l.CURTAILMENT.name), WIND_GENERATION],
        "Curtailed MWh (a positive amount), GBP, and MWh of wind generation per day. What is not known is NULL.",
    ),
    l.ENERGY_MONTHLY: (
        "curtailment",
        [dg.AssetKey(l.ENERGY_DAILY.name)],
        "Curtailed MWh, GBP and MWh of wind generation per month, summed from the half-hourly rows themselves.",
    ),
    l.ENERGY_YEARLY: (
        "curtailment",
        [dg.AssetKey(l.ENERGY_MONTHLY.name)],
        "Curtailed MWh, GBP and MWh of wind generation per year, summed from the half-hourly rows themselves.",
    ),
}


def _assets_of(layer: Layer) -> list[LayerAsset]:
    if layer is l.CALCULATIONS:
        below = [dg.AssetKey(l.CURTAILMENT.name), NETWORK_DIFFICULTY]
        return [
            LayerAsset(
                calculations_key(model.name),
                layer,
                model.name,
                below,
                "bitcoin",
                f"Bitcoin that {model.name} miners ({model.hashrate_th_s:g} TH/s, {model.power_w:g} W) could "
                "have mined with each farm's curtailed energy: one row per (settlement period, farm).",
            )
            for model in MODELS.values()
        ]
    group, upstream, description = _ABOUT[layer]
    return [LayerAsset(dg.AssetKey(layer.name), layer, None, upstream, group, description)]


LAYER_ASSETS: tuple[LayerAsset, ...] = tuple(asset for layer in LAYERS for asset in _assets_of(layer))
"""Every layer's asset, upstream first."""


def layer_assets(grain: Grain) -> list[LayerAsset]:
    """The layer assets of one partitioning, upstream first."""
    return [asset for asset in LAYER_ASSETS if asset.layer.grain is grain]


WIND_BM_UNITS_SPEC: dict[str, Any] = {
    "key": WIND_BM_UNITS,
    "group_name": "elexon",
    "owners": OWNERS,
    "kinds": {"python", "table"},
    "metadata": table_metadata(wind_bm_units),
    "description": "The BM units that are wind farms, with their lead party. Elexon's reference list joined to the "
    "packaged one: a unit that Elexon no longer lists stays.",
}
NETWORK_DIFFICULTY_SPEC: dict[str, Any] = {
    "key": NETWORK_DIFFICULTY,
    "group_name": "bitcoin",
    "owners": OWNERS,
    "kinds": {"python", "table"},
    "metadata": table_metadata(network_difficulty),
    "description": "Every difficulty retarget since 2017: the packaged table and mempool.space's live tail.",
}
WIND_BIDS_SPEC = dg.AssetSpec(
    key=WIND_BIDS,
    deps=[WIND_BM_UNITS],
    group_name="elexon",
    owners=OWNERS,
    kinds={"python", "table"},
    metadata=table_metadata(wind_bids),
    description="Every accepted bid of a wind unit as Elexon published it, flagged or not, with the proof that each "
    "settlement period was fetched whole.",
    partitions_def=DAYS,
    skippable=True,
    freshness_policy=FRESHNESS,
)
WIND_GENERATION_SPEC = dg.AssetSpec(
    key=WIND_GENERATION,
    group_name="elexon",
    owners=OWNERS,
    kinds={"python", "table"},
    metadata=table_metadata(wind_generation_data),
    description="The wind generation of each half-hour as Elexon published it (AGWS): average MW onshore, offshore and "
    "in all. A half-hour is there when both kinds are published; the newest publication wins.",
    partitions_def=DAYS,
    skippable=True,
    freshness_policy=FRESHNESS,
)
