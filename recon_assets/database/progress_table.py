"""The table of the progress of reconciliation, whose name depends on the database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, Table, Text, insert, inspect, update

from recon_assets.database.tables import AMOUNT

PROGRESS_TABLES = ("recon_progress", "reconciliation_progress")
"""The names of the progress table: ours, and the user's, which is left alone if it has other columns."""


def progress_table(name: str) -> Table:
    """The progress of reconciliation, a row per month; not in `metadata`, because its name depends on the database."""
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("time_period", Text, nullable=False, unique=True),
        Column("status", Text, nullable=False),
        Column("percentage_complete", AMOUNT),
        Column("last_updated", DateTime),
        Column("total_records", Integer),
        Column("processed_records", Integer),
        Column("error_details", Text),
        Column("failed_records", Integer),
        Column("timeouts", Integer),
        Column("phase", Text),
        Column("worker", Text),
        Column("started_at", DateTime),
    )


def stored_table(connection: Connection) -> Table:
    """The table of progress that the database has."""
    existing = inspect(connection).get_table_names()
    return progress_table(next(name for name in PROGRESS_TABLES if name in existing))


def put_row(connection: Connection, table: Table, month: str, is_known: bool, values: Mapping[str, Any]) -> None:
    """Writes the row of a month, which exists if it `is_known`."""
    if is_known:
        connection.execute(update(table).values(values).where(table.c.time_period == month))
    else:
        connection.execute(insert(table).values(time_period=month, **values))
