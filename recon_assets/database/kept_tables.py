"""The tables that keep what a proof replaces, and the tables of an old database that they are copies of."""

from sqlalchemy import Column, Date, Double, Index, Integer, Table, Text

from recon_assets.database.tables import (
    UtcDateTime,
    bitcoin_daily_summaries,
    bitcoin_monthly_summaries,
    bitcoin_yearly_summaries,
    curtailment_records,
    daily_summaries,
    historical_bitcoin_calculations,
    metadata,
    monthly_summaries,
    wind_generation_data,
    yearly_summaries,
)

recovered_days = Table(
    "recovered_days",
    metadata,
    Column("settlement_date", Date, primary_key=True),
    Column("proven_at", UtcDateTime, nullable=False),
    Column("proven_by", Text),
    Column("records", Integer, nullable=False),
    Column("curtailed_mwh", Double, nullable=False),
    Column("payment_gbp", Double, nullable=False),
    Column("bitcoin", Text, nullable=False),
)
"""An adopted day as it was before its first proof: records, MWh, GBP, and BTC by miner model as a JSON object."""


def _superseded(table: Table) -> Table:
    kept = Table(
        f"superseded_{table.name.removeprefix('historical_bitcoin_')}",
        metadata,
        *(Column(column.name, column.type) for column in table.columns),
        Column("superseded_at", UtcDateTime, nullable=False),
        Column("superseded_by", Text),
    )
    Index(f"{kept.name}_period", next(column for column in kept.columns if column.name in PERIOD_COLUMNS))
    return kept


PERIOD_COLUMNS = ("settlement_date", "summary_date", "year_month", "year")

superseded_tables = {
    table.name: _superseded(table)
    for table in (
        curtailment_records,
        historical_bitcoin_calculations,
        bitcoin_daily_summaries,
        bitcoin_monthly_summaries,
        bitcoin_yearly_summaries,
        daily_summaries,
        monthly_summaries,
        yearly_summaries,
    )
}
"""By the name of a table: rows of it as they were before a proof of their day replaced them, with the time and the
Dagster run. In an adopted database they also have the columns that only its own tables have."""

USER_TABLES = {name: metadata.tables[name] for name in (*superseded_tables, wind_generation_data.name)}
"""Tables of an old database that recon adopts and writes, by name."""
