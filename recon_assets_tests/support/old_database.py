"""An old database of nine days, in three shapes, made from what a fresh ingest of the same days holds."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnClause, Connection, Engine, column, insert, inspect, select, table, text

from recon_assets.database import transactions
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.layers import LAYERS
from recon_assets_tests.support.steps import INVISIBLE, JUNE, change_recording, execute

NINE_DAYS = Days(date(2025, 6, 6), date(2025, 6, 14))
ALL_LOST, LATE_LOST, FARM_LOST, UNSEEN, CALM = (date(2025, 6, day) for day in (8, 10, 11, 9, 7))
"""All of a day was lost but its totals; of a day, what came after period 20; of a day, one farm; of a day, everything.
On the second day nothing was curtailed."""
BUSY_DAYS = (date(2025, 6, 12), date(2025, 6, 13))
UNITS_KEPT = 4
"""BM units of the busy days that the recordings keep."""
SHAPES = ("plain", "no keys", "strict")
Rows = dict[str, Counter[tuple[tuple[str, Any], ...]]]

PLAIN = {
    "curtailment_records": """id {serial}, settlement_date date NOT NULL, settlement_period int NOT NULL,
        farm_id text NOT NULL, lead_party_name text, volume numeric NOT NULL, payment numeric, original_price numeric,
        final_price numeric, so_flag boolean, cadl_flag boolean,
        created_at timestamp DEFAULT CURRENT_TIMESTAMP{extra}""",
    "historical_bitcoin_calculations": """id {serial}, settlement_date date NOT NULL, settlement_period int NOT NULL,
        farm_id text NOT NULL, miner_model text NOT NULL, bitcoin_mined numeric NOT NULL, difficulty numeric,
        calculated_at timestamp DEFAULT CURRENT_TIMESTAMP{extra}{key}""",
    **{
        name: f"""id {{serial}}, {period} NOT NULL, miner_model text NOT NULL, bitcoin_mined numeric NOT NULL,
        created_at timestamp DEFAULT CURRENT_TIMESTAMP, updated_at timestamp DEFAULT CURRENT_TIMESTAMP{{extra}}"""
        for name, period in (
            ("bitcoin_daily_summaries", "summary_date date"),
            ("bitcoin_monthly_summaries", "year_month text"),
            ("bitcoin_yearly_summaries", "year text"),
        )
    },
    **{
        name: f"""{period} PRIMARY KEY, total_curtailed_energy numeric, total_payment numeric,
        total_wind_generation numeric, wind_onshore_generation numeric, wind_offshore_generation numeric,
        created_at timestamp DEFAULT CURRENT_TIMESTAMP, last_updated timestamp DEFAULT CURRENT_TIMESTAMP"""
        for name, period in (
            ("daily_summaries", "summary_date date"),
            ("monthly_summaries", "year_month text"),
            ("yearly_summaries", "year text"),
        )
    },
}
KEY = ", UNIQUE (settlement_date, settlement_period, farm_id, miner_model)"
EXTRA = ", imported_by text NOT NULL"
FOREIGN_PROGRESS = "CREATE TABLE reconciliation_progress (run text PRIMARY KEY, note text)"


def record_nine_days(folder: Path) -> None:
    """Puts recordings of the nine days into a folder: the busiest of few units, one without wind."""
    for day in NINE_DAYS:
        shutil.copy(JUNE / f"{day}.json.gz", folder)
    for day in BUSY_DAYS:
        change_recording(folder, day, lambda content: keep_units(content, UNITS_KEPT))
    change_recording(folder, CALM, lambda content: keep_units(content, 0))


def keep_units(content: dict[str, Any], count: int) -> None:
    """Keeps so many wind units of a recording."""
    wind = {unit["elexonBmUnit"] for unit in _units() if unit.get("fuelType") == "WIND"}
    volumes = content["acceptance_volumes_bid"]["data"]
    kept = set(sorted({row["bmUnit"] for row in volumes} & wind)[:count])
    gone = wind - kept
    content["acceptance_volumes_bid"]["data"] = [row for row in volumes if row["bmUnit"] not in gone]
    for body in content["stack_bid"].values():
        body["data"] = [row for row in body["data"] if row["id"] not in gone]


def _units() -> list[dict[str, Any]]:
    units: list[dict[str, Any]] = json.loads((JUNE.parent / "bmunits_all.json").read_text(encoding="utf-8"))
    return units


def stored(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of the layers' tables, with all the columns that they have."""
    with transactions.reading(engine) as connection:
        return {layer.name: rows_of(connection, layer.name) for layer in LAYERS}


def rows_of(connection: Connection, name: str, *left_out: str) -> list[dict[str, Any]]:
    """Every row of a table, with all the columns that it has."""
    names = [known["name"] for known in inspect(connection).get_columns(name) if known["name"] not in left_out]
    columns: list[ColumnClause[Any]] = [column(known) for known in names]
    return [dict(row) for row in connection.execute(select(*columns).select_from(table(name))).mappings()]


def visible(rows: Mapping[str, Sequence[Mapping[str, Any]]], *left_out: str) -> Rows:
    """Rows without ids and timestamps, amounts to nine digits, so that those of two databases compare."""
    return {
        name: Counter(
            tuple((key, _shown(value)) for key, value in sorted(row.items()) if key not in {*INVISIBLE, *left_out})
            for row in of_table
        )
        for name, of_table in rows.items()
    }


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | date):
        return str(value)
    return f"{float(value):.9g}"


def make_old(engine: Engine, fresh: Mapping[str, Sequence[Mapping[str, Any]]], shape: str) -> None:
    """Replaces everything in a database by the old tables of a shape, which hold the fresh rows as such a system would.

    Of the day UNSEEN nothing is left at all.
    """
    is_postgres = engine.dialect.name == "postgresql"
    with transactions.writing(engine) as connection:
        for name in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {name}" + (" CASCADE" if is_postgres else "")))
        serial = "serial PRIMARY KEY" if is_postgres else "integer PRIMARY KEY"
        parts = {"serial": serial, "extra": EXTRA if shape == "strict" else "", "key": KEY if shape == "plain" else ""}
        for name, columns in PLAIN.items():
            connection.execute(text(f"CREATE TABLE {name} ({columns.format(**parts)})"))
        if shape == "strict":
            connection.execute(text(FOREIGN_PROGRESS))
        for name, rows in _old_rows(fresh, shape).items():
            known = {found["name"] for found in inspect(connection).get_columns(name)} - {"id"}
            given = [{key: value for key, value in row.items() if key in known} for row in rows]
            if shape == "strict" and "imported_by" in known:
                given = [row | {"imported_by": "cron"} for row in given]
            if given:
                connection.execute(insert(table(name, *map(column, given[0]))), given)


def _old_rows(fresh: Mapping[str, Sequence[Mapping[str, Any]]], shape: str) -> dict[str, list[dict[str, Any]]]:
    rows = {name: [dict(row) for row in of_table] for name, of_table in fresh.items()}
    for name, of_table in rows.items():
        rows[name] = [
            row for row in of_table if str(row.get("settlement_date", row.get("summary_date"))) != str(UNSEEN)
        ]
    if shape == "strict":
        for number, record in enumerate(rows["curtailment_records"]):
            record["volume"] = -record["volume"]
            record["payment"] = record["payment"] * (-1) ** number
    if shape == "no keys":
        # Nothing is known of the month but what its days say.
        for grain in ("monthly", "yearly"):
            rows[f"{grain}_summaries"] = rows[f"bitcoin_{grain}_summaries"] = []
        # One calculation for each acceptance, so that several rows have the same key.
        shares: dict[tuple[Any, ...], list[float]] = {}
        for record in rows["curtailment_records"]:
            key = tuple(record[name] for name in ("settlement_date", "settlement_period", "farm_id"))
            shares.setdefault(key, []).append(record["volume"])
        rows["historical_bitcoin_calculations"] = [
            {**row, "bitcoin_mined": float(row["bitcoin_mined"]) * float(part) / float(sum(parts))}
            for row in rows["historical_bitcoin_calculations"]
            for parts in [shares[row["settlement_date"], row["settlement_period"], row["farm_id"]]]
            for part in parts
        ]
    return rows


def lose(engine: Engine, shape: str) -> str:
    """Deletes records as the old system lost them, and the calculations with them; returns the farm that is gone.

    In the strict shape the calculations of the farm stay, without a record.
    """
    with transactions.reading(engine) as connection:
        farm = connection.execute(
            text(f"SELECT min(farm_id) FROM curtailment_records WHERE settlement_date = '{FARM_LOST}'")
        ).scalar_one()
    lost = (
        f"settlement_date = '{ALL_LOST}'",
        f"settlement_date = '{LATE_LOST}' AND settlement_period > 20",
        f"settlement_date = '{FARM_LOST}' AND farm_id = '{farm}'",
    )
    tables = ("curtailment_records", "historical_bitcoin_calculations")
    kept = [(tables[1], lost[2])] if shape == "strict" else []
    execute(
        engine,
        *(f"DELETE FROM {name} WHERE {where}" for name in tables for where in lost if (name, where) not in kept),
    )
    return str(farm)
