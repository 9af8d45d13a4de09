"""Finds where two frames of bids or records of a day differ, by settlement period and farm."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from recon_assets.ingest.acceptance_volumes import TOLERANCE_MWH

TOLERANCE_GBP = 0.01
TOLERANCE_RELATIVE = 1e-9
"""For the values of a single bid, which must equal what Elexon publishes."""

PRICES = ("original_price", "final_price", "transmission_loss_multiplier")
FLAGS = ("so_flag", "cadl_flag")


class Side(StrEnum):
    """The two things that differ."""

    BIDS = "bids and Elexon"
    RECORDS = "records and bids"
    ADOPTED = "adopted records and Elexon"


@dataclass(frozen=True)
class Difference:
    """A farm in a settlement period: the stored and the right MWh (negative) and GBP, and what differs (rows, volume,
    prices, flags). GBP are None when the comparison is with acceptance volumes, which have no prices.
    """

    settlement_period: int
    farm_id: str
    side: Side
    stored_mwh: float
    right_mwh: float
    stored_gbp: float | None
    right_gbp: float | None
    what: str


def of_periods(frame: pd.DataFrame, periods: Collection[int]) -> pd.DataFrame:
    """The rows of some settlement periods."""
    return frame[frame["settlement_period"].isin(list(periods))]


def sums_apart(side: Side, stored: pd.DataFrame, right: pd.DataFrame) -> list[Difference]:
    """Where MWh or GBP of a farm in a settlement period differ; the frames have `settlement_period, bm_unit_id, volume,
    gbp`. The number of rows is not compared: old databases hold one row where two are right.
    """
    both = _sums(stored, right)
    apart = {
        "volume": (both["stored_mwh"] - both["right_mwh"]).abs() > TOLERANCE_MWH,
        "payment": (both["stored_gbp"] - both["right_gbp"]).abs() > TOLERANCE_GBP,
    }
    return [
        _difference(int(period), str(farm), side, row, {what: bool(mask[period, farm]) for what, mask in apart.items()})
        for (period, farm), row in zip(both.index, both.to_dict("records"), strict=True)
        if any(mask[period, farm] for mask in apart.values())
    ]


def sums_of(
    side: Side, stored: pd.DataFrame, right: pd.DataFrame, apart: Mapping[tuple[int, str], Mapping[str, bool]]
) -> list[Difference]:
    """The sums of both sides for farms and settlement periods that are known to differ; `apart` says in what."""
    both = _sums(stored, right)
    sums = dict(zip(both.index, both.to_dict("records"), strict=True))
    return [_difference(*key, side, sums[key], what) for key, what in sorted(apart.items())]


def _sums(stored: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """MWh and GBP of both sides per settlement period and farm; 0 if one side has no row."""
    sums = {}
    for name, frame in (("stored", stored), ("right", right)):
        values = frame.assign(volume=frame["volume"].astype(float), gbp=frame["gbp"].astype(float))
        sums[name] = values.groupby(["settlement_period", "bm_unit_id"]).agg(mwh=("volume", "sum"), gbp=("gbp", "sum"))
    both = pd.concat(sums, axis=1).fillna(0.0)
    both.columns = both.columns.map("_".join)
    return both


def bids_apart(stored: pd.DataFrame, published: pd.DataFrame) -> list[Difference]:
    """Farms and settlement periods in which any value of a bid differs, with the sums of both sides."""
    key = ["settlement_period", "sequence_number"]
    both = stored.merge(published, how="outer", on=key, suffixes=("_stored", "_right"), indicator="found_in")
    rows = both["found_in"] != "both"
    marks = pd.DataFrame(
        {
            "rows": rows,
            "volume": ~rows & _numbers_differ(both, "volume"),
            "prices": ~rows & _any(_numbers_differ(both, name) for name in PRICES),
            "flags": ~rows & _any(both[f"{name}_stored"] != both[f"{name}_right"] for name in FLAGS),
            "farm": ~rows & (both["bm_unit_id_stored"] != both["bm_unit_id_right"]),
        }
    )
    differing = both[marks.any(axis=1)]
    farms = {
        (int(row["settlement_period"]), str(row[f"bm_unit_id_{side}"]))
        for row in differing.to_dict("records")
        for side in ("stored", "right")
        if isinstance(row[f"bm_unit_id_{side}"], str)
    }
    differences = []
    for period, farm in sorted(farms):
        sums = {
            f"{side}_{name}": float(of_farm[column].astype(float).sum())
            for side, frame in (("stored", stored), ("right", published))
            for of_farm in [frame[(frame["settlement_period"] == period) & (frame["bm_unit_id"] == farm)]]
            for name, column in (("mwh", "volume"), ("gbp", "gbp"))
        }
        of_both = (both["settlement_period"] == period) & (
            (both["bm_unit_id_stored"] == farm) | (both["bm_unit_id_right"] == farm)
        )
        apart = {str(name): bool(mark) for name, mark in marks[of_both].any().items()}
        differences.append(_difference(period, farm, Side.BIDS, sums, apart))
    return differences


def _numbers_differ(both: pd.DataFrame, name: str) -> "pd.Series[bool]":
    stored, right = (pd.to_numeric(both[f"{name}_{side}"]).astype(float) for side in ("stored", "right"))
    apart = (stored - right).abs() > TOLERANCE_RELATIVE * right.abs()
    return apart | (stored.isna() != right.isna())


def _any(masks: Iterable[Any]) -> "pd.Series[bool]":
    any_of_them: pd.Series[bool] = pd.concat(list(masks), axis=1).any(axis=1)
    return any_of_them


def _difference(period: int, farm: str, side: Side, sums: Mapping[Any, float], apart: Mapping[str, bool]) -> Difference:
    return Difference(
        settlement_period=period,
        farm_id=farm,
        side=side,
        stored_mwh=float(sums["stored_mwh"]),
        right_mwh=float(sums["right_mwh"]),
        stored_gbp=float(sums["stored_gbp"]),
        right_gbp=float(sums["right_gbp"]),
        what=", ".join(name for name, differs in apart.items() if differs),
    )
