"""Creates or adopts the table of the progress of reconciliation, with one row per month.

The user's `reconciliation_progress` is adopted if it has the columns that are written. Otherwise it is left alone, and
ours is called `recon_progress`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

THEIRS, OURS = "reconciliation_progress", "recon_progress"
KNOWN = [
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time_period", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("percentage_complete", sa.Numeric(asdecimal=False).with_variant(sa.dialects.sqlite.REAL(), "sqlite")),
    sa.Column("last_updated", sa.DateTime),
    sa.Column("total_records", sa.Integer),
    sa.Column("processed_records", sa.Integer),
    sa.Column("error_details", sa.Text),
]
NEW = [
    sa.Column("failed_records", sa.Integer),
    sa.Column("timeouts", sa.Integer),
    sa.Column("phase", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("started_at", sa.DateTime),
]


def upgrade() -> None:
    """Creates the table, or adds missing columns to the user's."""
    inspector = sa.inspect(op.get_bind())
    tables = inspector.get_table_names()
    if THEIRS not in tables:
        op.create_table(THEIRS, *KNOWN, *NEW)
        return
    columns = {column["name"]: column for column in inspector.get_columns(THEIRS)}
    foreign = {column.name for column in KNOWN} != set(columns) - {column.name for column in NEW}
    if foreign:
        op.create_table(OURS, *KNOWN, *NEW)
        return
    for column in NEW:
        if column.name not in columns:
            op.add_column(THEIRS, column)
