"""Parses Elexon's bodies into frames: a bid stack and acceptance volumes.

A body that breaks Elexon's schema is an error. Oddities that can still be read are tolerated, and counted by kind.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from math import isfinite
from typing import Any

import pandas as pd
import pandera.pandas as pa

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

VOLUMES_UNUSED = frozenset(
    {
        "createdDateTime",
        "settlementDate",
        "startTime",
        "bmUnitType",
        "leadPartyName",
        "nationalGridBmUnit",
        "acceptanceDuration",
        "pairVolumes",
    }
)
"""The other known fields of an acceptance volume."""

VOLUMES = pa.DataFrameSchema(
    {
        "settlement_period": pa.Column("int64", pa.Check.in_range(1, 50)),
        "bm_unit_id": pa.Column("object", nullable=True),
        "acceptance_id": pa.Column("int64"),
        "volume": pa.Column("float64", nullable=True),
    },
    coerce=True,
    strict=True,
)
"""A day's accepted bid volumes: one row per settlement period, BM unit and acceptance, in MWh (negative). Elexon allows
null for unit and volume: a sum over them is not the sum of what was accepted."""

VOLUMES_KEY = ["settlement_period", "bm_unit_id", "acceptance_id"]

TOLERATED = (
    "repeated_rows",
    "null_flags",
    "unknown_fields",
    "mislabelled_answers",
    "null_answers",
    "null_units",
    "null_volumes",
)
"""Oddities that are tolerated: rows repeated exactly; null flags of an acceptance, which mean false; fields that
Elexon's schema does not have; JSON answers with another content type; answers whose `data` is null; acceptance volumes
without a BM unit, and without a volume."""

Fields = Mapping[tuple[type, ...], Mapping[str, bool]]
"""The types that the fields of a row may have -> field -> whether it may be null."""

FIELDS: Fields = {
    (int,): {"settlementPeriod": False, "sequenceNumber": False, "acceptanceId": True, "bidOfferPairId": True},
    (int, float): {"volume": False, "originalPrice": True, "finalPrice": True, "transmissionLossMultiplier": True},
    (str,): {"id": True, "createdDateTime": True},
    (bool,): {"soFlag": True, "cadlFlag": True},
}
"""The fields of a stack row that are read."""

VOLUME_FIELDS: Fields = {
    (int,): {"settlementPeriod": False, "acceptanceId": False},
    (int, float): {"totalVolumeAccepted": True},
    (str,): {"bmUnit": True},
}
"""The fields of an acceptance volume that are read."""


def rows_of(body: Body, day: date, period: int | None = None) -> list[dict[str, Any]]:
    """The rows in an envelope `{"data": [...]}`; null means no rows. ElexonError for another day or period."""
    rows = listed_rows(body)
    for row in rows:
        if row.get("settlementDate") != day.isoformat():
            raise ElexonError(f"the answer holds rows of {row.get('settlementDate')}")
        if period is not None and row.get("settlementPeriod") != period:
            raise ElexonError(f"the answer holds rows of settlement period {row.get('settlementPeriod')}")
    return rows


def listed_rows(body: Body) -> list[dict[str, Any]]:
    """The rows in an envelope, of whatever day. ElexonError when a settlement period is a text."""
    envelope = body.content
    if not isinstance(envelope, dict) or "data" not in envelope or not isinstance(envelope["data"], list | None):
        raise ElexonError("the answer has no list 'data'")
    rows: list[dict[str, Any]] = envelope["data"] or []
    for row in rows:
        if not isinstance(row, dict):
            raise ElexonError("the answer holds rows that are no objects")
        if isinstance(row.get("settlementPeriod"), str):
            raise ElexonError(f"the answer's settlementPeriod is {shown(row['settlementPeriod'])}")
    return rows


def shown(value: Any) -> str:
    """A value that is not of the type that it should be, for an error."""
    return f"the text {value!r}" if isinstance(value, str) else repr(value)


def stack_frame(day: date, rows: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, Counter[str]]:
    """Rows of a bid stack as a frame that follows STACK, and the oddities that were tolerated."""
    for row in rows:
        _check_types(row, FIELDS, COLUMNS, f"{day}: the bid stack")
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
    return checked(STACK, whole, f"{day}: the bid stack"), +tolerated


def _check_types(row: Mapping[str, Any], fields_by_type: Fields, columns: Mapping[str, str], what: str) -> None:
    """ElexonError when a field does not have the type of Elexon's schema; a frame would silently convert it."""
    for kinds, fields in fields_by_type.items():
        for field, is_nullable in fields.items():
            value = row.get(field)
            if is_nullable if value is None else type(value) in kinds and (type(value) is not float or isfinite(value)):
                continue
            raise ElexonError(f"{what} breaks Elexon's schema: {columns[field]} is {shown(value)}")


def volumes_frame(day: date, body: Body) -> tuple[pd.DataFrame, Counter[str]]:
    """A day's acceptance volumes as a frame that follows VOLUMES, and the oddities that were tolerated."""
    listed = rows_of(body, day)
    for row in listed:
        _check_types(row, VOLUME_FIELDS, VOLUME_COLUMNS, "the answer")
    rows = pd.DataFrame(listed, columns=list(VOLUME_COLUMNS), dtype=object).rename(columns=VOLUME_COLUMNS)
    frame = checked(VOLUMES, rows.drop_duplicates(), "the answer")
    named = frame[frame["bm_unit_id"].notna()]
    if (doubled := named.duplicated(VOLUMES_KEY)).any():
        period, unit, acceptance = named.loc[doubled, VOLUMES_KEY].iloc[0]
        raise ElexonError(
            f"the answer breaks Elexon's schema: acceptance {acceptance} of {unit} has two volumes in period {period}"
        )
    tolerated = Counter(
        repeated_rows=len(rows) - len(frame),
        unknown_fields=len(set().union(*listed) - VOLUME_COLUMNS.keys() - VOLUMES_UNUSED),
        mislabelled_answers=int(body.mislabelled),
        null_answers=int(body.content["data"] is None),
        null_units=int(frame["bm_unit_id"].isna().sum()),
        null_volumes=int(frame["volume"].isna().sum()),
    )
    return frame, +tolerated


def checked(schema: pa.DataFrameSchema, frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The frame after a schema has checked it; ElexonError of one line if it does not follow the schema."""
    try:
        valid: pd.DataFrame = schema.validate(frame)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        # pandera raises SchemaErrors for a failed conversion, and SchemaError for a failed check.
        first = error.schema_errors[0] if isinstance(error, pa.errors.SchemaErrors) else error
        raise ElexonError(f"{what} breaks Elexon's schema: {str(first).splitlines()[0]}") from error
    return valid
