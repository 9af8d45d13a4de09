"""Stores reference data that changes seldom: BM units and difficulty retargets.

Both grow by union and never shrink.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import requests
from sqlalchemy import Connection, Engine, Table, bindparam, insert, select, update

from recon_assets.database import transactions
from recon_assets.database.tables import network_difficulty, other_bm_units, wind_bm_units
from recon_assets.domain.adjustments import parse_adjustments, with_tail
from recon_assets.domain.bm_units import BmUnit
from recon_assets.domain.difficulty import Retarget, with_packaged
from recon_assets.errors import ReconError
from recon_assets.ingest.archive_progress import search_again
from recon_assets.reconcile.wind_units import listed_as_other, other_units, wind_units

REFERENCE_LOCK = date.max - timedelta(days=1)
"""No settlement day has this date. Its lock keeps writers apart: of two that both find a unit or a retarget missing,
PostgreSQL would refuse the second one's insert as a duplicate."""


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction under the lock of the reference data; it commits at the end."""
    with transactions.writing(engine, [REFERENCE_LOCK]) as connection:
        yield connection


def store_bm_units(connection: Connection, units: Iterable[BmUnit], now: datetime) -> int:
    """Adds units and updates known ones; returns the number of rows changed. A unit that was wind stays wind, and one
    that had a fuel type keeps it if the list has none any more.
    """
    listed: dict[str, BmUnit] = {}
    for unit in units:
        # A unit may stand there twice: its wind entry counts, and then one that has a fuel type.
        if unit.bm_unit_id not in listed or _says_more(unit, listed[unit.bm_unit_id]):
            listed[unit.bm_unit_id] = unit
    wind = [
        {
            "bm_unit_id": unit.bm_unit_id,
            "national_grid_bm_unit": unit.national_grid_bm_unit,
            "bm_unit_name": unit.bm_unit_name,
            "lead_party_name": unit.lead_party_name,
            "generation_capacity_mw": unit.generation_capacity_mw,
            "first_seen_at": now,
        }
        for unit in listed.values()
        if unit.is_wind
    ]
    fuels = select(other_bm_units.c.bm_unit_id, other_bm_units.c.fuel_type)
    known: dict[str, str | None] = {unit: fuel for unit, fuel in connection.execute(fuels)}
    other = [
        {"bm_unit_id": unit.bm_unit_id, "fuel_type": unit.fuel_type or known.get(unit.bm_unit_id)}
        for unit in listed.values()
        if not unit.is_wind
    ]
    _search_if_turned_wind(connection, {unit.bm_unit_id for unit in listed.values() if unit.is_wind})
    changed = _upsert(connection, wind_bm_units, wind, keep=("first_seen_at",))
    return changed + _upsert(connection, other_bm_units, other)


def _search_if_turned_wind(connection: Connection, wind: set[str]) -> None:
    """Has the archive searched again if a unit was known not to be wind and is listed as wind now."""
    if not wind.isdisjoint(connection.execute(listed_as_other()).scalars()):
        search_again(connection)


def known_bm_units(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the wind units, and of the units known not to be wind, declarations included. Any other is unknown,
    also one that Elexon lists without a fuel type.
    """
    wind, other = (frozenset(connection.execute(query).scalars()) for query in (wind_units(), other_units()))
    return wind, other


def _says_more(unit: BmUnit, than: BmUnit) -> bool:
    return (unit.is_wind, unit.fuel_type is not None) > (than.is_wind, than.fuel_type is not None)


def stored_retargets(connection: Connection) -> list[Retarget]:
    """The retargets that the database holds."""
    return [Retarget(**row) for row in connection.execute(select(network_difficulty)).mappings()]


def store_retargets(connection: Connection, tail: Sequence[Retarget] = ()) -> int:
    """Merges the packaged table and a live tail into what is stored; returns the number of rows changed.

    ReconError if the tail is cut off or damaged, or contradicts what is known; nothing is changed then.
    """
    merged = with_tail(with_packaged(stored_retargets(connection)), tail)
    columns = network_difficulty.c.keys()
    rows = [{name: getattr(retarget, name) for name in columns} for retarget in merged]
    return _upsert(connection, network_difficulty, rows)


def read_tail(mempool_api_url: str, now: datetime, *, timeout_seconds: float = 30) -> list[Retarget]:
    """The live tail from mempool.space; ReconError, with MEMPOOL_API_URL in it, when it cannot be read."""
    url = f"{mempool_api_url}/v1/mining/difficulty-adjustments/all"
    try:
        response = requests.get(url, timeout=timeout_seconds)
        response.raise_for_status()
        return parse_adjustments(response.json(), now)
    except (requests.RequestException, ReconError) as error:
        reason = type(error).__name__ if isinstance(error, requests.ConnectionError) else str(error)
        raise ReconError(f"MEMPOOL_API_URL: no difficulty from {url}: {reason}") from error


def _upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keep: Sequence[str] = ()) -> int:
    """Inserts new rows and updates changed ones; the columns `keep` of a known row stay as they are."""
    (key,) = table.primary_key.columns.keys()
    stored = {row[key]: dict(row) for row in connection.execute(select(table)).mappings()}
    new = [row for row in rows if row[key] not in stored]
    kept = {row[key]: {name: stored[row[key]][name] for name in keep} for row in rows if row[key] in stored}
    changed = [row | kept[row[key]] for row in rows if row[key] in stored and stored[row[key]] != row | kept[row[key]]]
    if new:
        connection.execute(insert(table), new)
    if changed:
        columns: dict[str, Any] = {
            column.name: bindparam(f"new_{column.name}") for column in table.c if column.name != key
        }
        statement = update(table).where(table.c[key] == bindparam("row_key")).values(columns)
        connection.execute(
            statement, [{"row_key": row[key], **{f"new_{name}": row[name] for name in columns}} for row in changed]
        )
    return len(new) + len(changed)
