"""The witness of a day's volumes: Elexon's acceptance volumes, a whole day in one request.

Belongs here: comparing them with bids. Does not: what follows from a gap (belief.py, verify.py). They have no price and
no flag, and they count every accepted bid: they are comparable with bids, never with curtailment records.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from recon_assets.domain.settlement import MOST_PERIODS, day_starts_at

TOLERANCE_MWH = 0.001
"""Elexon publishes volumes to a kilowatt-hour; sums of a few of them may be off by the last digit."""


SETTLED_AFTER = timedelta(days=2)
"""From the day's beginning: Elexon runs a day's settlement again the next working day, and its lists are whole then."""


def last_accepted_period(volumes: pd.DataFrame, day: date, now: datetime) -> int:
    """The last settlement period that the volumes speak of, 0 where the list is empty.

    A period of which nothing was accepted has no row. At the end of a list that may still grow it cannot be told from
    one that the list has not come to.
    """
    if volumes.empty:
        return 0
    is_settled = now >= day_starts_at(day) + SETTLED_AFTER
    return MOST_PERIODS if is_settled else int(volumes["settlement_period"].max())


@dataclass(frozen=True)
class VolumeGap:
    """A BM unit whose accepted bids in a settlement period add up to something else; MWh, negative."""

    settlement_period: int
    bm_unit_id: str
    accepted_mwh: float
    bids_mwh: float


def volume_gaps(volumes: pd.DataFrame, bids: pd.DataFrame, units: Collection[str]) -> list[VolumeGap]:
    """Where the volumes (published.VOLUMES) and bids (`settlement_period, bm_unit_id, volume`) of some units differ."""
    key = ["settlement_period", "bm_unit_id"]
    witnessed, held = (frame[frame["bm_unit_id"].isin(units)].groupby(key)["volume"].sum() for frame in (volumes, bids))
    both = pd.concat({"witnessed": witnessed, "held": held}, axis=1).fillna(0.0).sort_index()
    apart = both[(both["witnessed"] - both["held"]).abs() > TOLERANCE_MWH].reset_index()
    return [VolumeGap(int(period), str(unit), float(mwh), float(held)) for period, unit, mwh, held in apart.to_numpy()]
