"""The table of the progress of reconciliation, whose name depends on the database."""

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text

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
