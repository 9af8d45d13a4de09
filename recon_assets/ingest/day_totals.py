"""Totals of what is stored of a settlement day, to compare before and after a change."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.amounts import VOLUME_MWH
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, wind_bids
from recon_assets.domain.curtailment import payment_gbp


@dataclass(frozen=True)
class Amounts:
    """Number of rows, and their sums: MWh (negative) and GBP (positive when paid to the farms)."""

    rows: int
    mwh: float
    gbp: float


@dataclass(frozen=True)
class DayTotals:
    """The totals of the bids and records of a day, and its bitcoin by miner model."""

    bids: Amounts
    records: Amounts
    bitcoin: dict[str, float]


def read_day_totals(engine: Engine, day: date) -> DayTotals:
    """The totals of a day as it is stored, from one snapshot; the sign of a record's volume is ignored."""
    bids, records, calculations = wind_bids.c, curtailment_records.c, historical_bitcoin_calculations.c
    total = select(calculations.miner_model, func.sum(calculations.bitcoin_mined))
    with transactions.reading(engine) as connection:
        bitcoin = connection.execute(
            total.where(calculations.settlement_date == day)
            .group_by(calculations.miner_model)
            .order_by(calculations.miner_model)
        )
        return DayTotals(
            bids=_amounts(connection, bids.volume, bids.original_price, bids.settlement_date == day),
            records=_amounts(connection, VOLUME_MWH, records.original_price, records.settlement_date == day),
            bitcoin={model: float(btc) for model, btc in bitcoin},
        )


def _amounts(
    connection: Connection, mwh: ColumnElement[float], price: ColumnElement[float], of_day: ColumnElement[bool]
) -> Amounts:
    sums = select(func.count(), func.sum(mwh), func.sum(payment_gbp(mwh, price))).where(of_day)
    rows, volume, payment = connection.execute(sums).one()
    return Amounts(rows, float(volume or 0), float(payment or 0))
