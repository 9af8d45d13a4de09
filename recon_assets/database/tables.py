"""The definitions of the tables, for queries; migrations/ creates them.

Names and columns of the user's database are a contract. Additions are nullable columns or new tables.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    func,
)
from sqlalchemy.dialects.sqlite import REAL
from sqlalchemy.engine import Dialect

metadata = MetaData()

AMOUNT = Numeric(asdecimal=False).with_variant(REAL(), "sqlite")
"""MWh, GBP, BTC: numeric in the user's database, REAL on SQLite, float in Python."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, aware and in UTC in Python; SQLite keeps it as ISO text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database: aware, UTC."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


def _timestamp(name: str) -> Column[datetime]:
    return Column(name, DateTime, server_default=func.now())


curtailment_records = Table(
    "curtailment_records",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("settlement_date", Date, nullable=False),
    Column("settlement_period", Integer, nullable=False),
    Column("farm_id", Text, nullable=False),
    Column("lead_party_name", Text),
    Column("volume", AMOUNT, nullable=False),
    Column("payment", AMOUNT),
    Column("original_price", AMOUNT),
    Column("final_price", AMOUNT),
    Column("so_flag", Boolean),
    Column("cadl_flag", Boolean),
    _timestamp("created_at"),
    Column("sequence_number", Integer),
    Column("acceptance_id", BigInteger),
    Column("bid_offer_pair_id", Integer),
)
Index(
    "curtailment_records_key",
    curtailment_records.c.settlement_date,
    curtailment_records.c.settlement_period,
    curtailment_records.c.sequence_number,
    unique=True,
)
Index(
    "curtailment_records_farm",
    curtailment_records.c.settlement_date,
    curtailment_records.c.settlement_period,
    curtailment_records.c.farm_id,
)

historical_bitcoin_calculations = Table(
    "historical_bitcoin_calculations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("settlement_date", Date, nullable=False),
    Column("settlement_period", Integer, nullable=False),
    Column("farm_id", Text, nullable=False),
    Column("miner_model", Text, nullable=False),
    Column("bitcoin_mined", AMOUNT, nullable=False),
    Column("difficulty", AMOUNT),
    _timestamp("calculated_at"),
)
Index(
    "historical_bitcoin_calculations_key",
    historical_bitcoin_calculations.c.settlement_date,
    historical_bitcoin_calculations.c.settlement_period,
    historical_bitcoin_calculations.c.farm_id,
    historical_bitcoin_calculations.c.miner_model,
    unique=True,
)


def _bitcoin_summaries(name: str, period: Column[object]) -> Table:
    table = Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        period,
        Column("miner_model", Text, nullable=False),
        Column("bitcoin_mined", AMOUNT, nullable=False),
        _timestamp("created_at"),
        _timestamp("updated_at"),
    )
    Index(f"{name}_key", period, table.c.miner_model, unique=True)
    return table


bitcoin_daily_summaries = _bitcoin_summaries("bitcoin_daily_summaries", Column("summary_date", Date, nullable=False))
bitcoin_monthly_summaries = _bitcoin_summaries("bitcoin_monthly_summaries", Column("year_month", Text, nullable=False))
bitcoin_yearly_summaries = _bitcoin_summaries("bitcoin_yearly_summaries", Column("year", Text, nullable=False))


def _energy_summaries(name: str, period: Column[object]) -> Table:
    return Table(
        name,
        metadata,
        period,
        Column("total_curtailed_energy", AMOUNT),
        Column("total_payment", AMOUNT),
        Column("total_wind_generation", AMOUNT),
        Column("wind_onshore_generation", AMOUNT),
        Column("wind_offshore_generation", AMOUNT),
        _timestamp("created_at"),
        _timestamp("last_updated"),
        _timestamp("updated_at"),
    )


daily_summaries = _energy_summaries("daily_summaries", Column("summary_date", Date, primary_key=True))
monthly_summaries = _energy_summaries("monthly_summaries", Column("year_month", Text, primary_key=True))
yearly_summaries = _energy_summaries("yearly_summaries", Column("year", Text, primary_key=True))

wind_bm_units = Table(
    "wind_bm_units",
    metadata,
    Column("bm_unit_id", Text, primary_key=True),
    Column("national_grid_bm_unit", Text),
    Column("bm_unit_name", Text),
    Column("lead_party_name", Text),
    Column("generation_capacity_mw", Double),
    Column("first_seen_at", UtcDateTime, nullable=False),
)

other_bm_units = Table(
    "other_bm_units",
    metadata,
    Column("bm_unit_id", Text, primary_key=True),
    Column("fuel_type", Text),
)
"""Units that Elexon lists without calling them wind. A fuel type of NULL says nothing: the unit may be wind."""

bm_unit_declarations = Table(
    "bm_unit_declarations",
    metadata,
    Column("bm_unit_id", Text, primary_key=True),
    Column("is_wind", Boolean, nullable=False),
    Column("declared_by", Text, nullable=False),
    Column("declared_at", UtcDateTime, nullable=False),
    Column("note", Text),
)
"""A person's word on whether a BM unit is wind. It is stronger than any list."""

uncounted_bids = Table(
    "uncounted_bids",
    metadata,
    Column("settlement_date", Date, primary_key=True),
    Column("bm_unit_id", Text, primary_key=True),
    Column("bids", Integer, nullable=False),
    Column("mwh", Double, nullable=False),
)
"""Accepted bids of units that nobody knows to be wind or not, by day: their number and MWh (negative). The rows of a
unit that becomes wind later name the days to read again."""

recon_settings = Table(
    "recon_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Settings that belong to the database, because two processes must not differ in them."""

network_difficulty = Table(
    "network_difficulty",
    metadata,
    Column("height", Integer, primary_key=True, autoincrement=False),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("time_exact", Boolean, nullable=False),
    Column("difficulty", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("observed_at", UtcDateTime, nullable=False),
)

wind_bids = Table(
    "wind_bids",
    metadata,
    Column("settlement_date", Date, primary_key=True),
    Column("settlement_period", Integer, primary_key=True),
    Column("sequence_number", Integer, primary_key=True),
    Column("bm_unit_id", Text, nullable=False),
    Column("acceptance_id", BigInteger),
    Column("bid_offer_pair_id", Integer),
    Column("volume", Double, nullable=False),
    Column("original_price", Double),
    Column("final_price", Double),
    Column("transmission_loss_multiplier", Double),
    Column("so_flag", Boolean, nullable=False),
    Column("cadl_flag", Boolean, nullable=False),
)
"""Every accepted bid of a wind unit as published: volume in MWh (negative), prices in GBP/MWh."""

STACK, ACCEPTANCE_VOLUMES = "stack", "acceptance_volumes"
"""The sources of a proof of fetch: the bid stack of the period, or the acceptance volumes of a day without any wind."""

proof_of_fetch = Table(
    "proof_of_fetch",
    metadata,
    Column("settlement_date", Date, primary_key=True),
    Column("settlement_period", Integer, primary_key=True),
    Column("fetched_at", UtcDateTime, nullable=False),
    Column("source", Text, nullable=False, server_default=STACK),
    Column("stack_rows", Integer),
    Column("wind_rows", Integer, nullable=False),
    Column("wind_mwh", Double, nullable=False),
    Column("wind_gbp", Double, nullable=False),
    Column("unlisted_rows", Integer, nullable=False),
    Column("unlisted_mwh", Double, nullable=False),
    Column("elexon_created_at", Text),
    Column("fingerprint", Text, nullable=False),
)
"""One row per settlement period that was read whole, or that acceptance volumes prove to be without wind bids; their
`stack_rows` are not known. Row count and sums show whether the bids are still the same."""

settlement_revisions = Table(
    "settlement_revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("settlement_date", Date, nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
    Column("settlement_periods", Text, nullable=False),
    Column("rows_added", Integer, nullable=False),
    Column("rows_removed", Integer, nullable=False),
    Column("rows_changed", Integer, nullable=False),
    Column("mwh_before", Double, nullable=False),
    Column("mwh_after", Double, nullable=False),
    Column("gbp_before", Double, nullable=False),
    Column("gbp_after", Double, nullable=False),
    Column("elexon_created_at_before", Text),
    Column("elexon_created_at", Text),
)
"""A row each time that reading a day again changed its bids; amounts are those of the periods that changed."""
Index("settlement_revisions_day", settlement_revisions.c.settlement_date)

wind_generation_data = Table(
    "wind_generation_data",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("settlement_date", Date, nullable=False),
    Column("settlement_period", Integer, nullable=False),
    Column("wind_onshore", AMOUNT, nullable=False),
    Column("wind_offshore", AMOUNT, nullable=False),
    Column("total_wind", AMOUNT, nullable=False),
    _timestamp("last_updated"),
    Column("data_source", Text),
    Column("published_at", UtcDateTime),
)
"""Average MW of each settlement period, as published; MWh are half of it."""
Index(
    "wind_generation_data_key",
    wind_generation_data.c.settlement_date,
    wind_generation_data.c.settlement_period,
    unique=True,
)
