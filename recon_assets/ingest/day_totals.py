"""What is stored of a settlement day, in a few figures: for before and after."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, wind_bids


@dataclass(frozen=True)
class Amounts:
    """Rows with what they add up to: MWh (negative) and GBP (positive when paid to the farms)."""

    rows: int
    mwh: float
    gbp: float


@dataclass(frozen=True)
class DayTotals:
    """The bids and the records of a day, and its bitcoin by miner model."""

    bids: Amounts
    records: Amounts
    bitcoin: dict[str, float]


def read_day_totals(engine: Engine, day: date) -> DayTotals:
    """The figures of a day as it is stored, from one snapshot; volumes of either sign are read."""
    bids, records, calculations = wind_bids.c, curtailment_records.c, historical_bitcoin_calculations.c
    mwh = -func.abs(records.volume)
    total = select(calculations.miner_model, func.sum(calculations.bitcoin_mined))
    with transactions.reading(engine) as connection:
        bitcoin = connection.execute(
            total.where(calculations.settlement_date == day)
            .group_by(calculations.miner_model)
            .order_by(calculations.miner_model)
        )
        return DayTotals(
            bids=_amounts(connection, bids.volume, bids.original_price, bids.settlement_date == day),
            records=_amounts(connection, mwh, records.original_price, records.settlement_date == day),
            bitcoin={model: float(btc) for model, btc in bitcoin},
        )


def _amounts(
    connection: Connection, mwh: ColumnElement[float], price: ColumnElement[float], of_day: ColumnElement[bool]
) -> Amounts:
    sums = select(func.count(), func.sum(mwh), func.sum(mwh * price)).where(of_day)
    rows, volume, payment = connection.execute(sums).one()
    return Amounts(rows, float(volume or 0), float(payment or 0))
