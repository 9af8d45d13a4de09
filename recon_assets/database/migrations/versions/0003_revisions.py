"""Creates the table of Elexon's revisions, and creates or adopts the table of wind generation.

A `wind_generation_data` that exists is adopted: missing columns are added as nullable, the NOT NULL of other columns
that an insert does not name is relaxed, and the unique key is added if the rows allow it. No row is changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

AMOUNT = sa.Numeric(asdecimal=False).with_variant(sa.dialects.sqlite.REAL(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
GENERATION = "wind_generation_data"
HALF_HOUR = ["settlement_date", "settlement_period"]


def upgrade() -> None:
    """Creates both tables, or adds missing columns to the user's."""
    op.create_table(
        "settlement_revisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("settlement_date", sa.Date, nullable=False),
        sa.Column("read_at", INSTANT, nullable=False),
        sa.Column("settlement_periods", sa.Text, nullable=False),
        sa.Column("rows_added", sa.Integer, nullable=False),
        sa.Column("rows_removed", sa.Integer, nullable=False),
        sa.Column("rows_changed", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("mwh_before", "mwh_after")),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("gbp_before", "gbp_after")),
        sa.Column("elexon_created_at_before", sa.Text),
        sa.Column("elexon_created_at", sa.Text),
    )
    op.create_index("settlement_revisions_day", "settlement_revisions", ["settlement_date"])
    columns = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("settlement_date", sa.Date, nullable=False),
        sa.Column("settlement_period", sa.Integer, nullable=False),
        *(sa.Column(name, AMOUNT, nullable=False) for name in ("wind_onshore", "wind_offshore", "total_wind")),
        sa.Column("last_updated", sa.DateTime, server_default=sa.func.now()),
        sa.Column("data_source", sa.Text),
        sa.Column("published_at", INSTANT),
    ]
    inspector = sa.inspect(op.get_bind())
    if GENERATION not in inspector.get_table_names():
        op.create_table(GENERATION, *columns)
        op.create_index(f"{GENERATION}_key", GENERATION, HALF_HOUR, unique=True)
        return
    _adopt(inspector, columns)


def _adopt(inspector: sa.Inspector, columns: list[sa.Column]) -> None:
    found = {column["name"]: column for column in inspector.get_columns(GENERATION)}
    absent = [name for name in ("id", *HALF_HOUR) if name not in found]
    if absent:
        raise RuntimeError(f"the table {GENERATION} has no column {', '.join(absent)}: it cannot be adopted")
    with op.batch_alter_table(GENERATION) as batch:
        for column in columns:
            if column.name not in found:
                batch.add_column(sa.Column(column.name, column.type))
        for name, column in found.items():
            written = {known.name for known in columns if not known.nullable}
            if name not in written and not column["nullable"] and column["default"] is None:
                batch.alter_column(name, existing_type=column["type"], nullable=True)
    keys = [index["column_names"] for index in inspector.get_indexes(GENERATION) if index["unique"]]
    keys += [constraint["column_names"] for constraint in inspector.get_unique_constraints(GENERATION)]
    if HALF_HOUR not in [sorted(filter(None, key)) for key in keys]:
        half_hour = [sa.column(name) for name in HALF_HOUR]
        several = sa.select(*half_hour).select_from(sa.table(GENERATION)).group_by(*half_hour)
        twice = op.get_bind().execute(several.having(sa.func.count() > 1).limit(1)).first() is not None
        op.create_index(f"{GENERATION}_key", GENERATION, HALF_HOUR, unique=not twice)
