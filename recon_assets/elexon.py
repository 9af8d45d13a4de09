"""What Elexon's answers mean: a settlement day's bid stack, its witness, the BM units.

Belongs here: parsing and believing. Does not: transport (sources.py), what counts as curtailment, the database.

Three answers are three values. A period is *published* (rows, or confirmed empty), *not yet published*, or the read
failed. 404 and an empty list alone tell nothing: the calendar says whether the period should be there, and the system
prices of the day, the witness, say whether it is published (a published GB period always has rows of other units).
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
import pandera.pandas as pa

from recon_assets.bm_units import BmUnit, parse_bm_units
from recon_assets.errors import ElexonError
from recon_assets.settlement import due_periods
from recon_assets.sources import Source

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
"""Elexon's field -> our column."""

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


@dataclass(frozen=True)
class SettlementStack:
    """A settlement day as Elexon published it.

    `rows` follows STACK; `published` are the periods that were read whole (some may be confirmed empty); `pending`
    are due periods that Elexon has not published yet; `repeated` counts rows that came twice to the letter.
    """

    settlement_date: date
    rows: pd.DataFrame
    published: Sequence[int]
    pending: Sequence[int]
    repeated: int


class Elexon:
    """Reads whole settlement days, their periods in parallel."""

    def __init__(self, source: Source, *, in_flight: int = 8) -> None:
        self.source = source
        self._in_flight = in_flight

    def bm_units(self) -> list[BmUnit] | None:
        """The current BM units; None when the source has no such list."""
        body = self.source.bm_units()
        return None if body is None else parse_bm_units(body)

    def settlement_stack(self, day: date, now: datetime, periods: Iterable[int] | None = None) -> SettlementStack:
        """The bid stack of a day's periods that are due by `now` (or of those named).

        ElexonError names every period that could not be read; nothing of the day is then to be believed.
        """
        wanted = list(periods if periods is not None else due_periods(day, now))
        pool = ThreadPoolExecutor(max_workers=self._in_flight)
        try:
            answers = dict(zip(wanted, pool.map(lambda period: self._period(day, period), wanted), strict=True))
        finally:
            # Ctrl-C does not wait for a server that hangs: with all its attempts that took two and a half minutes.
            pool.shutdown(wait=False, cancel_futures=True)
        failures = {period: answer for period, answer in answers.items() if isinstance(answer, ElexonError)}
        if failures:
            raise ElexonError(_blame(day, failures))
        bodies = {period: answer for period, answer in answers.items() if not isinstance(answer, ElexonError)}
        unsure = [period for period, rows in bodies.items() if not rows]
        witnessed = self._witnessed(day) if unsure else set()
        vanished = [period for period in unsure if bodies[period] is None and period in witnessed]
        if vanished:
            raise ElexonError(
                f"{day} settlement period {_spell(vanished)}: Elexon lists it as published but answers 404"
            )
        pending = [period for period in unsure if period not in witnessed]
        rows = [row for body in bodies.values() for row in body or []]
        frame, repeated = _stack_frame(day, rows)
        return SettlementStack(day, frame, [p for p in wanted if p not in pending], pending, repeated)

    def _period(self, day: date, period: int) -> list[dict[str, Any]] | ElexonError | None:
        """The rows of one period, None when absent; the error as a value, so that every failed period is named."""
        try:
            body = self.source.stack(day, period)
            return None if body is None else _rows_of(body, day, period)
        except ElexonError as error:
            return error

    def _witnessed(self, day: date) -> set[int | None]:
        """The periods that the system prices list as published; none when the day has no prices yet."""
        try:
            body = self.source.system_prices(day)
            return set() if body is None else {row.get("settlementPeriod") for row in _rows_of(body, day)}
        except ElexonError as error:
            raise ElexonError(f"{day} system prices: {error}") from error


def _rows_of(body: Any, day: date, period: int | None = None) -> list[dict[str, Any]]:
    """The rows in an envelope `{"data": [...]}`, null read as none; ElexonError when they are of another day."""
    if not isinstance(body, dict) or "data" not in body or not isinstance(body["data"], list | None):
        raise ElexonError("the answer has no list 'data'")
    rows: list[dict[str, Any]] = body["data"] or []
    for row in rows:
        if not isinstance(row, dict):
            raise ElexonError("the answer holds rows that are no objects")
        if row.get("settlementDate") != day.isoformat():
            raise ElexonError(f"the answer holds rows of {row.get('settlementDate')}")
        if period is not None and row.get("settlementPeriod") != period:
            raise ElexonError(f"the answer holds rows of settlement period {row.get('settlementPeriod')}")
    return rows


def _stack_frame(day: date, rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
    """The rows as a frame that follows STACK, and how many were dropped because they came twice to the letter."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).rename(columns=COLUMNS)
    flags = ["so_flag", "cadl_flag"]
    # A null flag means false (Elexon's schema makes both nullable).
    frame[flags] = frame[flags].eq(True)
    whole = frame.drop_duplicates()
    try:
        checked: pd.DataFrame = STACK.validate(whole)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        # What cannot be coerced comes as a collection of errors, whatever breaks a check as one.
        first = error.schema_errors[0] if isinstance(error, pa.errors.SchemaErrors) else error
        raise ElexonError(f"{day}: the bid stack breaks Elexon's schema: {str(first).splitlines()[0]}") from error
    return checked, len(frame) - len(whole)


def _blame(day: date, failures: dict[int, ElexonError]) -> str:
    reasons = {str(error): period for period, error in reversed(failures.items())}
    return f"{day} settlement period {_spell(failures)}: {'; '.join(reversed(reasons))}"


def _spell(periods: Iterable[int]) -> str:
    """Periods in the words of a message: `17` or `3, 4, 9`."""
    return ", ".join(str(period) for period in sorted(periods))
