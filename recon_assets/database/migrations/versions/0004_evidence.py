"""Keeps what a proof replaces, what people say of BM units, and the settings that belong to the database.

`superseded_*` tables have the columns that the user's tables have now, whatever their types and constraints.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INSTANT = sa.DateTime(timezone=True)
PERIODS = {
    "curtailment_records": "settlement_date",
    "historical_bitcoin_calculations": "settlement_date",
    "bitcoin_daily_summaries": "summary_date",
    "bitcoin_monthly_summaries": "year_month",
    "bitcoin_yearly_summaries": "year",
    "daily_summaries": "summary_date",
    "monthly_summaries": "year_month",
    "yearly_summaries": "year",
}


def upgrade() -> None:
    """Creates the new tables, and lets a proof have a source other than the bid stack."""
    with op.batch_alter_table("proof_of_fetch") as batch:
        batch.add_column(sa.Column("source", sa.Text, nullable=False, server_default="stack"))
        batch.alter_column("stack_rows", existing_type=sa.Integer, nullable=True)
    op.create_table(
        "recovered_days",
        sa.Column("settlement_date", sa.Date, primary_key=True),
        sa.Column("proven_at", INSTANT, nullable=False),
        sa.Column("proven_by", sa.Text),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("curtailed_mwh", sa.Double, nullable=False),
        sa.Column("payment_gbp", sa.Double, nullable=False),
        sa.Column("bitcoin", sa.Text, nullable=False),
    )
    op.create_table(
        "bm_unit_declarations",
        sa.Column("bm_unit_id", sa.Text, primary_key=True),
        sa.Column("is_wind", sa.Boolean, nullable=False),
        sa.Column("declared_by", sa.Text, nullable=False),
        sa.Column("declared_at", INSTANT, nullable=False),
        sa.Column("note", sa.Text),
    )
    op.create_table(
        "uncounted_bids",
        sa.Column("settlement_date", sa.Date, primary_key=True),
        sa.Column("bm_unit_id", sa.Text, primary_key=True),
        sa.Column("bids", sa.Integer, nullable=False),
        sa.Column("mwh", sa.Double, nullable=False),
    )
    op.create_table(
        "recon_settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    inspector = sa.inspect(op.get_bind())
    for table, period in PERIODS.items():
        name = f"superseded_{table.removeprefix('historical_bitcoin_')}"
        op.create_table(
            name,
            *(sa.Column(column["name"], _existing(column["type"])) for column in inspector.get_columns(table)),
            sa.Column("superseded_at", INSTANT, nullable=False),
            sa.Column("superseded_by", sa.Text),
        )
        op.create_index(f"{name}_period", name, [period])


def _existing(type_: sa.types.TypeEngine) -> sa.types.TypeEngine:
    """A type of the user's own (an enum or a domain) that is there already, so that it is not created again."""
    if hasattr(type_, "create_type"):
        type_.create_type = False
    return type_
