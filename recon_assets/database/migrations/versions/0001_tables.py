"""Creates or adopts the user's tables, and creates the tables of this project.

A table that exists is adopted: missing columns are added as nullable, NOT NULLs that an insert of the listed columns
would break and keys that allow one acceptance per period are relaxed, and indexes are added. No row is changed. A
unique key is only added if the rows allow it; until then duplicates are counted, and removed when a day converges.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

AMOUNT = sa.Numeric(asdecimal=False).with_variant(sa.dialects.sqlite.REAL(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
NOW = sa.func.now()


def _summary(period: sa.Column) -> list[sa.Column]:
    return [
        period,
        *(
            sa.Column(name, AMOUNT)
            for name in (
                "total_curtailed_energy",
                "total_payment",
                "total_wind_generation",
                "wind_onshore_generation",
                "wind_offshore_generation",
            )
        ),
        sa.Column("created_at", sa.DateTime, server_default=NOW),
        sa.Column("last_updated", sa.DateTime, server_default=NOW),
        sa.Column("updated_at", sa.DateTime, server_default=NOW),
    ]


def _bitcoin_summary(period: sa.Column) -> list[sa.Column]:
    return [
        sa.Column("id", sa.Integer, primary_key=True),
        period,
        sa.Column("miner_model", sa.Text, nullable=False),
        sa.Column("bitcoin_mined", AMOUNT, nullable=False),
        sa.Column("created_at", sa.DateTime, server_default=NOW),
        sa.Column("updated_at", sa.DateTime, server_default=NOW),
    ]


def _settlement_period() -> list[sa.Column]:
    return [
        sa.Column("settlement_date", sa.Date, nullable=False),
        sa.Column("settlement_period", sa.Integer, nullable=False),
    ]


USER_TABLES = {
    "curtailment_records": [
        sa.Column("id", sa.Integer, primary_key=True),
        *_settlement_period(),
        sa.Column("farm_id", sa.Text, nullable=False),
        sa.Column("lead_party_name", sa.Text),
        sa.Column("volume", AMOUNT, nullable=False),
        sa.Column("payment", AMOUNT),
        sa.Column("original_price", AMOUNT),
        sa.Column("final_price", AMOUNT),
        sa.Column("so_flag", sa.Boolean),
        sa.Column("cadl_flag", sa.Boolean),
        sa.Column("created_at", sa.DateTime, server_default=NOW),
        sa.Column("sequence_number", sa.Integer),
        sa.Column("acceptance_id", sa.BigInteger),
        sa.Column("bid_offer_pair_id", sa.Integer),
    ],
    "historical_bitcoin_calculations": [
        sa.Column("id", sa.Integer, primary_key=True),
        *_settlement_period(),
        sa.Column("farm_id", sa.Text, nullable=False),
        sa.Column("miner_model", sa.Text, nullable=False),
        sa.Column("bitcoin_mined", AMOUNT, nullable=False),
        sa.Column("difficulty", AMOUNT),
        sa.Column("calculated_at", sa.DateTime, server_default=NOW),
    ],
    "bitcoin_daily_summaries": _bitcoin_summary(sa.Column("summary_date", sa.Date, nullable=False)),
    "bitcoin_monthly_summaries": _bitcoin_summary(sa.Column("year_month", sa.Text, nullable=False)),
    "bitcoin_yearly_summaries": _bitcoin_summary(sa.Column("year", sa.Text, nullable=False)),
    "daily_summaries": _summary(sa.Column("summary_date", sa.Date, primary_key=True)),
    "monthly_summaries": _summary(sa.Column("year_month", sa.Text, primary_key=True)),
    "yearly_summaries": _summary(sa.Column("year", sa.Text, primary_key=True)),
}

INDEXES = [
    ("curtailment_records", ["settlement_date", "settlement_period", "sequence_number"], True),
    ("curtailment_records", ["settlement_date", "settlement_period", "farm_id"], False),
    ("historical_bitcoin_calculations", ["settlement_date", "settlement_period", "farm_id", "miner_model"], True),
    ("bitcoin_daily_summaries", ["summary_date", "miner_model"], True),
    ("bitcoin_monthly_summaries", ["year_month", "miner_model"], True),
    ("bitcoin_yearly_summaries", ["year", "miner_model"], True),
]

TOO_NARROW = {"curtailment_records": {"settlement_date", "settlement_period", "farm_id"}}
"""Unique keys of some old databases that allow a farm one acceptance per period. Two are common."""

UNNAMED_KEY = {"uq": "uq_%(table_name)s_%(column_0_N_name)s"}
"""The name that Alembic gives to a key that has none in SQLite."""

OWN_TABLES = {
    "wind_bm_units": [
        sa.Column("bm_unit_id", sa.Text, primary_key=True),
        sa.Column("national_grid_bm_unit", sa.Text),
        sa.Column("bm_unit_name", sa.Text),
        sa.Column("lead_party_name", sa.Text),
        sa.Column("generation_capacity_mw", sa.Double),
        sa.Column("first_seen_at", INSTANT, nullable=False),
    ],
    "other_bm_units": [sa.Column("bm_unit_id", sa.Text, primary_key=True), sa.Column("fuel_type", sa.Text)],
    "network_difficulty": [
        sa.Column("height", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("time_exact", sa.Boolean, nullable=False),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("observed_at", INSTANT, nullable=False),
    ],
    "wind_bids": [
        *_settlement_period(),
        sa.Column("sequence_number", sa.Integer, nullable=False),
        sa.Column("bm_unit_id", sa.Text, nullable=False),
        sa.Column("acceptance_id", sa.BigInteger),
        sa.Column("bid_offer_pair_id", sa.Integer),
        sa.Column("volume", sa.Double, nullable=False),
        sa.Column("original_price", sa.Double),
        sa.Column("final_price", sa.Double),
        sa.Column("transmission_loss_multiplier", sa.Double),
        sa.Column("so_flag", sa.Boolean, nullable=False),
        sa.Column("cadl_flag", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("settlement_date", "settlement_period", "sequence_number"),
    ],
    "proof_of_fetch": [
        *_settlement_period(),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("stack_rows", sa.Integer, nullable=False),
        sa.Column("wind_rows", sa.Integer, nullable=False),
        sa.Column("wind_mwh", sa.Double, nullable=False),
        sa.Column("wind_gbp", sa.Double, nullable=False),
        sa.Column("unlisted_rows", sa.Integer, nullable=False),
        sa.Column("unlisted_mwh", sa.Double, nullable=False),
        sa.Column("elexon_created_at", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("settlement_date", "settlement_period"),
    ],
}


def upgrade() -> None:
    """Creates missing tables and adopts existing ones."""
    inspector = sa.inspect(op.get_bind())
    existing = set(inspector.get_table_names())
    for name, columns in USER_TABLES.items():
        if name in existing:
            _adopt(inspector, name, columns)
        else:
            op.create_table(name, *columns)
    for name, columns, unique in INDEXES:
        _ensure_index(name, columns, unique)
    for name, columns in OWN_TABLES.items():
        op.create_table(name, *columns)


def _adopt(inspector: sa.Inspector, name: str, columns: list[sa.Column]) -> None:
    """Adds the columns that an existing table lacks and relaxes the NOT NULLs that our inserts would break."""
    found = {column["name"]: column for column in inspector.get_columns(name)}
    wanted = {column.name: column for column in columns}
    written = {column.name for column in columns if not column.nullable}
    keys = [key for key in inspector.get_unique_constraints(name) if set(key["column_names"]) == TOO_NARROW.get(name)]
    for index in inspector.get_indexes(name):
        by_constraint = index.get("duplicates_constraint")
        if index["unique"] and not by_constraint and set(index["column_names"]) == TOO_NARROW.get(name):
            op.drop_index(index["name"], name)
    with op.batch_alter_table(name, naming_convention=UNNAMED_KEY) as batch:
        for key in keys:
            unnamed = UNNAMED_KEY["uq"] % {"table_name": name, "column_0_N_name": "_".join(key["column_names"])}
            batch.drop_constraint(key["name"] or unnamed, type_="unique")
        for column in columns:
            if column.name not in found:
                batch.add_column(sa.Column(column.name, column.type))
        for column_name, column in found.items():
            # A default does not apply to a column that our inserts name: a bid may have no price.
            named = column_name in wanted and wanted[column_name].server_default is None
            filled = column_name in written or (column["default"] is not None and not named) or column.get("identity")
            if not column["nullable"] and not filled:
                batch.alter_column(column_name, existing_type=column["type"], nullable=True)
    missing = [column for column in written if column not in found and wanted[column].primary_key]
    if missing:
        raise RuntimeError(f"the table {name} has no column {', '.join(missing)}: it cannot be adopted")


def _ensure_index(table: str, columns: list[str], unique: bool) -> None:
    """Adds an index on the columns unless there is one; it is unique unless duplicate rows forbid that."""
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    uniques = [index["column_names"] for index in inspector.get_indexes(table) if index["unique"]]
    uniques += [constraint["column_names"] for constraint in inspector.get_unique_constraints(table)]
    plain = [index["column_names"] for index in inspector.get_indexes(table)]
    if any(set(found) == set(columns) for found in uniques if found) or (not unique and columns in plain):
        return
    if unique:
        key = [sa.column(column) for column in columns]
        several = sa.select(*key).select_from(sa.table(table)).where(key[-1].is_not(None))
        unique = bind.execute(several.group_by(*key).having(sa.func.count() > 1).limit(1)).first() is None
    suffix = "farm" if columns[-1] == "farm_id" else "key"
    op.create_index(f"{table}_{suffix}", table, columns, unique=unique)
