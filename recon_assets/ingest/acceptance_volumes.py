"""Compares bids with Elexon's acceptance volumes, which list a whole day in one request.

Acceptance volumes have no price and no flag, and they contain every accepted bid. They can be compared with bids, but
never with curtailment records.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from recon_assets.domain.settlement import MOST_PERIODS, day_starts_at, format_periods

TOLERANCE_MWH = 0.001
"""Elexon publishes volumes rounded to a kilowatt-hour; a sum of a few may be off in the last digit."""


UNITS_NAMED = 3
"""BM units that a reason names."""

SETTLED_AFTER = timedelta(days=2)
"""From the start of the day. Elexon runs the settlement again the next working day, and its lists are whole then."""


def last_accepted_period(volumes: pd.DataFrame, day: date, now: datetime) -> int:
    """The last settlement period that the volumes cover; 0 if the list is empty.

    A period without an accepted bid has no row. At the end of a list that may still grow, such a period looks the same
    as one that the list does not cover yet.
    """
    if volumes.empty:
        return 0
    is_settled = now >= day_starts_at(day) + SETTLED_AFTER
    return MOST_PERIODS if is_settled else int(volumes["settlement_period"].max())


@dataclass(frozen=True)
class VolumeGap:
    """A BM unit with different sums of accepted volumes and of bids in a settlement period; MWh, negative."""

    settlement_period: int
    bm_unit_id: str
    accepted_mwh: float
    bids_mwh: float


def unmeasured(volumes: pd.DataFrame, units: Collection[str]) -> list[tuple[int, str]]:
    """The settlement periods and units, of some units, that have an acceptance without a volume."""
    rows = volumes[volumes["volume"].isna() & volumes["bm_unit_id"].isin(units)]
    return sorted({(int(period), str(unit)) for period, unit in rows[["settlement_period", "bm_unit_id"]].to_numpy()})


def unnamed(volumes: pd.DataFrame) -> list[int]:
    """The settlement periods with a volume that may be of any unit, because its row has none."""
    rows = volumes[volumes["bm_unit_id"].isna() & (volumes["volume"] != 0)]
    return sorted({int(period) for period in rows["settlement_period"]})


def why_not_comparable(volumes: pd.DataFrame, units: Collection[str]) -> str | None:
    """What of some units the volumes cannot be compared for, and why; None if they can be compared throughout."""
    reasons = []
    if pairs := unmeasured(volumes, units):
        named = ", ".join(f"{unit} in period {period}" for period, unit in pairs[:UNITS_NAMED])
        reasons.append(f"no volume of {named}" + (f" and {len(pairs) - UNITS_NAMED} more" * (len(pairs) > UNITS_NAMED)))
    if periods := unnamed(volumes):
        reasons.append(f"volumes without a BM unit in period {format_periods(periods)}")
    return f"the acceptance volumes have {', and '.join(reasons)}; the rest was compared" if reasons else None


def volume_gaps(volumes: pd.DataFrame, bids: pd.DataFrame, units: Collection[str]) -> list[VolumeGap]:
    """Where volumes (payloads.VOLUMES) and bids (`settlement_period, bm_unit_id, volume`) of some units differ.

    Not where they cannot be compared: a unit of which a volume is null, and in a period with volumes without a unit one
    of which the bids hold more, because these volumes may be its own.
    """
    key = ["settlement_period", "bm_unit_id"]
    accepted, held = (frame[frame["bm_unit_id"].isin(units)].groupby(key)["volume"].sum() for frame in (volumes, bids))
    both = pd.concat({"accepted": accepted, "held": held}, axis=1).fillna(0.0).sort_index()
    apart = both[(both["accepted"] - both["held"]).abs() > TOLERANCE_MWH].reset_index()
    gaps = [VolumeGap(int(period), str(unit), float(mwh), float(held)) for period, unit, mwh, held in apart.to_numpy()]
    unknown, shared = unmeasured(volumes, units), unnamed(volumes)
    return [
        gap
        for gap in gaps
        if (gap.settlement_period, gap.bm_unit_id) not in unknown
        and not (gap.settlement_period in shared and gap.bids_mwh < gap.accepted_mwh)
    ]


def why_not_empty(volumes: pd.DataFrame, other: Collection[str], day: date, now: datetime) -> str | None:
    """Why the volumes do not prove that no wind unit had an accepted bid on the day; None if they do.

    `other` are the units that are known not to be wind. A list proves nothing while it may still grow, if it is empty,
    if any row lacks its unit or its volume, or if it has a volume of any unit that is wind or that may be.
    """
    if now < day_starts_at(day) + SETTLED_AFTER:
        return "the acceptance volumes of the day are not settled yet"
    if volumes.empty:
        return "the list of acceptance volumes is empty, and confirms nothing"
    for column, what in (("bm_unit_id", "BM unit"), ("volume", "volume")):
        if lacking := int(volumes[column].isna().sum()):
            return f"the acceptance volumes have no {what} in {lacking:,} of {len(volumes):,} rows, and prove nothing"
    units = volumes.loc[volumes["volume"] != 0, "bm_unit_id"]
    unknown = sorted(set(units) - set(other))
    if not unknown:
        return None
    named = ", ".join(map(str, unknown[:UNITS_NAMED])) + (", ..." if len(unknown) > UNITS_NAMED else "")
    return f"there are accepted volumes of {len(unknown):,} BM units that are wind or may be: {named}"
