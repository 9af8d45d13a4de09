"""Parses Elexon's bodies into frames: a bid stack, acceptance volumes, wind generation.

A body that breaks Elexon's schema is an error. Oddities that can still be read are tolerated, and counted by kind.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from math import isfinite
from typing import Any

import pandas as pd
import pandera.pandas as pa

from recon_assets.domain.settlement import period_starts_at, periods_in
from recon_assets.elexon.source import Body
from recon_assets.errors import ElexonError

COLUMNS = {
    "settlementPeriod": "settlement_period",
    "sequenceNumber": "sequence_number",
    "id": "bm_unit_id",
    "acceptanceId": "acceptance_id",
    "bidOfferPairId": "bid_offer_pair_id",
    "volume": "volume",
    "originalPrice": "original_price",
    "finalPrice": "final_price",
    "transmissionLossMultiplier": "transmission_loss_multiplier",
    "soFlag": "so_flag",
    "cadlFlag": "cadl_flag",
    "createdDateTime": "created_at",
}
"""A stack row: Elexon's field -> our column."""

UNUSED = frozenset(
    {
        "settlementDate",
        "startTime",
        "storProviderFlag",
        "repricedIndicator",
        "reserveScarcityPrice",
        "dmatAdjustedVolume",
        "arbitrageAdjustedVolume",
        "nivAdjustedVolume",
        "parAdjustedVolume",
        "tlmAdjustedVolume",
        "tlmAdjustedCost",
    }
)
"""The other known fields of a stack row."""

STACK = pa.DataFrameSchema(
    {
        "settlement_period": pa.Column("int64", pa.Check.in_range(1, 50)),
        "sequence_number": pa.Column("int64", pa.Check.ge(0)),
        "bm_unit_id": pa.Column("object", nullable=True),
        "acceptance_id": pa.Column("Int64", nullable=True),
        "bid_offer_pair_id": pa.Column("Int64", nullable=True),
        "volume": pa.Column("float64"),
        "original_price": pa.Column("float64", nullable=True),
        "final_price": pa.Column("float64", nullable=True),
        "transmission_loss_multiplier": pa.Column("float64", nullable=True),
        "so_flag": pa.Column("bool"),
        "cadl_flag": pa.Column("bool"),
        "created_at": pa.Column("object", nullable=True),
    },
    unique=["settlement_period", "sequence_number"],
    coerce=True,
    strict=True,
)
"""A day's stack: one row per acceptance x bid-offer pair, volumes in MWh (bids negative), prices in GBP/MWh."""

VOLUME_COLUMNS = {
    "settlementPeriod": "settlement_period",
    "bmUnit": "bm_unit_id",
    "acceptanceId": "acceptance_id",
    "totalVolumeAccepted": "volume",
}
"""An acceptance volume: Elexon's field -> our column."""

VOLUMES = pa.DataFrameSchema(
    {
        "settlement_period": pa.Column("int64", pa.Check.in_range(1, 50)),
        "bm_unit_id": pa.Column("object"),
        "acceptance_id": pa.Column("int64"),
        "volume": pa.Column("float64"),
    },
    unique=["settlement_period", "bm_unit_id", "acceptance_id"],
    coerce=True,
    strict=True,
)
"""A day's accepted bid volumes: one row per settlement period, BM unit and acceptance, in MWh (negative)."""

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


TOLERATED = ("repeated_rows", "null_flags", "unknown_fields", "mislabelled_answers", "null_answers")
"""Oddities that are tolerated: rows repeated exactly; null flags of an acceptance, which mean false; fields that
Elexon's schema does not have; JSON answers with another content type; answers whose `data` is null."""


FIELDS: Mapping[tuple[type, ...], Mapping[str, bool]] = {
    (int,): {"settlementPeriod": False, "sequenceNumber": False, "acceptanceId": True, "bidOfferPairId": True},
    (int, float): {"volume": False, "originalPrice": True, "finalPrice": True, "transmissionLossMultiplier": True},
    (str,): {"id": True, "createdDateTime": True},
    (bool,): {"soFlag": True, "cadlFlag": True},
}
"""The types that the fields of a stack row may have -> field -> whether it may be null."""


def rows_of(body: Body, day: date, period: int | None = None) -> list[dict[str, Any]]:
    """The rows in an envelope `{"data": [...]}`; null means no rows. ElexonError for another day or period."""
    envelope = body.content
    if not isinstance(envelope, dict) or "data" not in envelope or not isinstance(envelope["data"], list | None):
        raise ElexonError("the answer has no list 'data'")
    rows: list[dict[str, Any]] = envelope["data"] or []
    for row in rows:
        if not isinstance(row, dict):
            raise ElexonError("the answer holds rows that are no objects")
        if row.get("settlementDate") != day.isoformat():
            raise ElexonError(f"the answer holds rows of {row.get('settlementDate')}")
        if period is not None and row.get("settlementPeriod") != period:
            raise ElexonError(f"the answer holds rows of settlement period {row.get('settlementPeriod')}")
    return rows


def stack_frame(day: date, rows: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, Counter[str]]:
    """Rows of a bid stack as a frame that follows STACK, and the oddities that were tolerated."""
    for row in rows:
        _check_types(day, row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).rename(columns=COLUMNS)
    flags = ["so_flag", "cadl_flag"]
    tolerated = Counter(
        null_flags=int(frame.loc[frame["acceptance_id"].notna(), flags].isna().to_numpy().sum()),
        unknown_fields=len(set().union(*rows) - COLUMNS.keys() - UNUSED),
    )
    # A null flag means false (Elexon's schema makes both nullable).
    frame[flags] = frame[flags].eq(True)
    whole = frame.drop_duplicates()
    tolerated["repeated_rows"] = len(frame) - len(whole)
    return _checked(STACK, whole, f"{day}: the bid stack"), +tolerated


def _check_types(day: date, row: Mapping[str, Any]) -> None:
    """ElexonError when a field does not have the type of Elexon's schema; a frame would silently convert it."""
    for kinds, fields in FIELDS.items():
        for field, is_nullable in fields.items():
            value = row.get(field)
            if is_nullable if value is None else type(value) in kinds and (type(value) is not float or isfinite(value)):
                continue
            raise ElexonError(f"{day}: the bid stack breaks Elexon's schema: {COLUMNS[field]} is {value!r}")


def volumes_frame(day: date, body: Body) -> pd.DataFrame:
    """A day's acceptance volumes as a frame that follows VOLUMES; ElexonError when a row lacks its unit or volume."""
    listed = rows_of(body, day)
    for row in listed:
        volume, unit = row.get("totalVolumeAccepted"), row.get("bmUnit")
        for name, value, fits in (
            ("volume", volume, type(volume) in (int, float) and isfinite(volume or 0)),
            ("bm_unit_id", unit, isinstance(unit, str)),
        ):
            if not fits:
                raise ElexonError(f"the answer breaks Elexon's schema: {name} is {value!r}")
    rows = pd.DataFrame(listed, columns=list(VOLUME_COLUMNS), dtype=object).rename(columns=VOLUME_COLUMNS)
    return _checked(VOLUMES, rows.drop_duplicates(), "the answer")


def generation_frame(day: date, body: Body) -> tuple[pd.DataFrame, list[int]]:
    """A day's wind generation as a frame that follows GENERATION, with the newest publication of each half-hour; and
    the settlement periods that lack one of the two kinds. ElexonError, without the day, when a row is invalid.
    """
    newest: dict[tuple[int, str], tuple[datetime, set[float]]] = {}
    for row in rows_of(body, day):
        column = WIND_TYPES.get(str(row.get("psrType")))
        if column is None:
            continue
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
    return _checked(GENERATION, frame, "the answer"), sorted(set(periods) - set(whole))


def _instant(row: Mapping[str, Any], field: str) -> datetime:
    try:
        instant = datetime.fromisoformat(row[field])
    except (KeyError, TypeError, ValueError):
        raise ElexonError(f"the answer has a {field} that is no time: {row.get(field)!r}") from None
    if instant.tzinfo is None:
        raise ElexonError(f"the answer has a {field} without a time zone: {row[field]}")
    return instant


def _checked(schema: pa.DataFrameSchema, frame: pd.DataFrame, what: str) -> pd.DataFrame:
    try:
        checked: pd.DataFrame = schema.validate(frame)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        # pandera raises SchemaErrors for a failed conversion, and SchemaError for a failed check.
        first = error.schema_errors[0] if isinstance(error, pa.errors.SchemaErrors) else error
        raise ElexonError(f"{what} breaks Elexon's schema: {str(first).splitlines()[0]}") from error
    return checked
