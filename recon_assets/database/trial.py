"""Writes rows such as recon writes into the user's tables, and takes them back: does the database allow them?

A CHECK, a foreign key, a narrow unique key, a trigger or a sequence may forbid what the columns allow. Without the
trial every day of such a database would fail later. On PostgreSQL a sequence may skip a few numbers for it.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from recon_assets.database.kept_tables import PERIOD_COLUMNS, USER_TABLES
from recon_assets.domain.mining import MODELS
from recon_assets.errors import first_line

FARMS = ("T_RECONTR-1", "T_RECONTR-2")
"""As long as the longest BM unit's name, and no farm's."""
COUNTED = {"preserve_rowcount": True}
PERIODS = (49, 50)
"""The last of the day on which clocks go back."""
NEW = {"settlement_date": "2025-06-01", "summary_date": "2025-06-01", "year_month": "2025-06", "year": "2025"}
"""The periods of the rows for an empty table."""
AMOUNTS = (
    {"total_curtailed_energy": 1234.5, "total_payment": 98765.25},
    {"total_curtailed_energy": 1234.5, "total_payment": -98765.25},
    {"total_curtailed_energy": 0.0, "total_payment": 0.0, "total_wind_generation": 1.5},
)
"""Sums in a summary: farms that are paid, farms that pay, and a day without curtailment."""


def trial_refusals(connection: Connection) -> Iterator[str]:
    """The user's tables that refuse rows such as recon writes, with the reason; the tables must have our columns."""
    for table in USER_TABLES.values():
        reason = _refusal(connection, table)
        if reason is not None:
            yield f"table {table.name} refuses a row such as recon writes ({reason[0]}): {reason[1]}"


def _refusal(connection: Connection, table: Table) -> tuple[str, str] | None:
    savepoint = connection.begin_nested()
    try:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        (period,) = (column for column in table.columns if column.name in PERIOD_COLUMNS)
        newest = connection.execute(select(func.max(period, type_=period.type))).scalar()
        # The newest period of the user's: a partitioned table has a partition for it.
        for rows in _rows(table, newest if newest is not None else _parsed(NEW[period.name])):
            if "settlement_period" not in table.c:
                connection.execute(delete(table).where(period == rows[0][period.name]))
            for row in rows:
                if connection.execute(insert(table).values(row), execution_options=COUNTED).rowcount != 1:
                    return "a trigger or a rule left it out", "drop it"
        return None
    except DBAPIError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        mend = f"ALTER TABLE {table.name} DROP CONSTRAINT {constraint}" if constraint else "take away what forbids it"
        return first_line(error), mend
    finally:
        savepoint.rollback()


def _parsed(period: str) -> date | str:
    return date.fromisoformat(period) if len(period) == len("2025-06-01") else period


def _rows(table: Table, period: Any) -> Iterator[list[dict[str, Any]]]:
    """Rows that may all be there at once, in groups that may not."""
    if table.name == "curtailment_records":
        bid = {"so_flag": True, "cadl_flag": False, "acceptance_id": 2**31 - 1, "lead_party_name": "R" * 30}
        paid = {"volume": -12.345, "payment": 1000.5, "original_price": -81.045, "final_price": -81.045}
        free = {"volume": -12.345, "payment": None, "original_price": None, "final_price": None}
        pays = {"volume": -12.345, "payment": -1000.5, "original_price": 81.045, "final_price": 81.045}
        yield [
            {"settlement_date": period, "settlement_period": half_hour, "farm_id": farm, **bid, **amounts}
            | {"sequence_number": 1_000_000 + number, "bid_offer_pair_id": -1}
            for half_hour in PERIODS
            for number, (farm, amounts) in enumerate((farm, a) for farm in FARMS for a in (paid, free, pays))
        ]
    elif table.name == "historical_bitcoin_calculations":
        yield [
            {"settlement_date": period, "settlement_period": half_hour, "farm_id": farm, "miner_model": model}
            | {"bitcoin_mined": 0.000000000001, "difficulty": 113_757_508_810_853.0}
            for half_hour in PERIODS
            for farm in FARMS
            for model in MODELS
        ]
    elif table.name == "wind_generation_data":
        power = {"wind_onshore": 1.5, "wind_offshore": 0.0, "total_wind": 1.5, "data_source": "ELEXON"}
        yield [{"settlement_date": period, "settlement_period": half_hour, **power} for half_hour in PERIODS]
    else:
        (column,) = (column.name for column in table.columns if column.name in PERIOD_COLUMNS)
        if "miner_model" in table.c:
            yield [{column: period, "miner_model": model, "bitcoin_mined": 0.0} for model in MODELS]
        else:
            yield from ([{column: period, **amounts}] for amounts in AMOUNTS)
