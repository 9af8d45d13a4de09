"""Parses Elexon's body of wind and solar generation (AGWS) into a frame.

It is not documented whether `to` of the request is included, so that the answer may hold rows of the next day.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from math import isfinite
from typing import Any

import pandas as pd
import pandera.pandas as pa

from recon_assets.domain.settlement import day_starts_at, period_starts_at, periods_in
from recon_assets.elexon.payloads import checked, listed_rows
from recon_assets.elexon.source import Body
from recon_assets.errors import ElexonError

WIND_TYPES = {"Wind Onshore": "wind_onshore", "Wind Offshore": "wind_offshore"}
"""Elexon's psrType -> our column."""

GENERATION = pa.DataFrameSchema(
    {
        "settlement_period": pa.Column("int64", unique=True),
        "wind_onshore": pa.Column("float64"),
        "wind_offshore": pa.Column("float64"),
        "published_at": pa.Column("object"),
    },
    coerce=True,
    strict=True,
)
"""A day's wind generation: one row per settlement period that has both kinds, in average MW; `published_at` (an aware
datetime) is the newer publication of the two."""

OTHER_TYPES = frozenset({"Solar"})
"""The other known values of psrType."""

TOLERATED_OF_GENERATION = ("other_days", "unknown_kinds")
"""Rows that are left out: those that start on another day, and those of a kind that is not known (or null)."""


def rows_of_the_day(day: date, body: Body) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows that start within the day and are wind's, and how many others there are, by kind.

    ElexonError when a row starts within the day and is said to be another day's.
    """
    first, end = day_starts_at(day), day_starts_at(day + timedelta(days=1))
    rows, others = [], Counter[str]()
    for row in listed_rows(body):
        if not first <= _instant(row, "startTime") < end:
            others["other_days"] += 1
        elif row.get("settlementDate") != day.isoformat():
            raise ElexonError(f"the answer holds rows of {row.get('settlementDate')}")
        elif row.get("psrType") in WIND_TYPES:
            rows.append(row)
        else:
            others["unknown_kinds"] += row.get("psrType") not in OTHER_TYPES
    return rows, +others


def generation_frame(day: date, body: Body) -> tuple[pd.DataFrame, list[int]]:
    """A day's wind generation as a frame that follows GENERATION, with the newest publication of each half-hour; and
    the settlement periods that lack one of the two kinds. ElexonError, without the day, when a row is invalid.
    """
    newest: dict[tuple[int, str], tuple[datetime, set[float]]] = {}
    for row in rows_of_the_day(day, body)[0]:
        column = WIND_TYPES[row["psrType"]]
        period, quantity = row.get("settlementPeriod"), row.get("quantity")
        if not isinstance(period, int) or not 1 <= period <= periods_in(day):
            raise ElexonError(f"the answer has a settlement period {period}")
        if isinstance(quantity, bool) or not isinstance(quantity, int | float) or not isfinite(quantity):
            raise ElexonError(f"settlement period {period} has {quantity!r}, which is no number of MW")
        if _instant(row, "startTime") != period_starts_at(day, period):
            raise ElexonError(f"settlement period {period} does not start at {row['startTime']}")
        published = _instant(row, "publishTime")
        held = newest.get((period, column))
        if held is None or published > held[0]:
            newest[period, column] = (published, {float(quantity)})
        elif published == held[0]:
            held[1].add(float(quantity))
    for (period, _), (published, quantities) in newest.items():
        if len(quantities) > 1:
            raise ElexonError(f"settlement period {period} has two values that were published at {published}")
    kinds = list(WIND_TYPES.values())
    periods = sorted({period for period, _ in newest})
    whole = [period for period in periods if all((period, kind) in newest for kind in kinds)]
    rows = [
        {
            "settlement_period": period,
            **{kind: min(newest[period, kind][1]) for kind in kinds},
            "published_at": max(newest[period, kind][0] for kind in kinds),
        }
        for period in whole
    ]
    frame = pd.DataFrame(rows, columns=["settlement_period", *kinds, "published_at"], dtype=object)
    return checked(GENERATION, frame, "the answer"), sorted(set(periods) - set(whole))


def _instant(row: Mapping[str, Any], field: str) -> datetime:
    try:
        instant = datetime.fromisoformat(row[field])
    except (KeyError, TypeError, ValueError):
        raise ElexonError(f"the answer has a {field} that is no time: {row.get(field)!r}") from None
    if instant.tzinfo is None:
        raise ElexonError(f"the answer has a {field} without a time zone: {row[field]}")
    return instant
