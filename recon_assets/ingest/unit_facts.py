"""What is known of BM units: lists, declarations, uncounted bids and records. It only reads."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, select

from recon_assets.database.amounts import VOLUME_MWH
from recon_assets.database.tables import (
    bm_unit_declarations,
    curtailment_records,
    other_bm_units,
    proof_of_fetch,
    uncounted_bids,
    wind_bids,
    wind_bm_units,
)
from recon_assets.domain.bm_units import WIND, packaged_bm_units
from recon_assets.errors import UsageError
from recon_assets.ingest.declarations import Declaration, read_declarations
from recon_assets.ingest.reference import known_bm_units
from recon_assets.reconcile.wind_units import declared, wind_units


class Kind(StrEnum):
    """What is known of a BM unit: it is wind, it is not wind (other), or neither (unknown)."""

    WIND = "wind"
    UNKNOWN = "unknown"
    OTHER = "other"


@dataclass(frozen=True)
class Amount:
    """Rows of a unit, their MWh (negative) and the days that they are of."""

    rows: int = 0
    mwh: float = 0.0
    days: int = 0


@dataclass(frozen=True)
class Listed:
    """What a list says of a unit. Of units that are not wind only the fuel type is kept; None is not known."""

    fuel_type: str | None
    bm_unit_name: str | None = None
    national_grid_bm_unit: str | None = None
    lead_party_name: str | None = None
    generation_capacity_mw: float | None = None
    first_seen_at: datetime | None = None


@dataclass(frozen=True)
class Unit:
    """A unit. `listed` is None if it is in no list; `uncounted` are its accepted bids that are not counted; `unproven`
    are records of it without proof, if it is not known to be wind.
    """

    bm_unit_id: str
    kind: Kind
    listed: Listed | None
    declaration: Declaration | None
    uncounted: Amount = field(default_factory=Amount)
    unproven: Amount = field(default_factory=Amount)


@dataclass(frozen=True)
class UnitDetails:
    """A unit with its uncounted bids by day (number, MWh), its wind bids, and its curtailment records."""

    unit: Unit
    uncounted_days: Mapping[date, tuple[int, float]]
    bids: Amount
    records: Amount


def list_units(connection: Connection, *, farms: bool = True) -> list[Unit]:
    """Every unit of a list, a declaration or an uncounted bid; with `farms`, for which all records are read, also those
    of records without proof that are not known to be wind.
    """
    wind, other = known_bm_units(connection)
    listed, said = _listed(connection), read_declarations(connection)
    uncounted, unproven = _uncounted(connection), _unproven(connection) if farms else {}
    return [
        Unit(
            name,
            kind_of(name, wind, other),
            listed.get(name),
            said.get(name),
            uncounted.get(name, Amount()),
            unproven.get(name, Amount()),
        )
        for name in sorted({*listed, *said, *uncounted, *unproven})
    ]


def show_unit(connection: Connection, name: str) -> UnitDetails:
    """All that is known of one unit; UsageError if it occurs nowhere."""
    require_known(connection, name)
    unit = next((unit for unit in list_units(connection) if unit.bm_unit_id == name), None)
    if unit is None:  # only in a record with proof, or in the packaged list
        wind, other = known_bm_units(connection)
        unit = Unit(name, kind_of(name, wind, other), None, None)
    days, records = uncounted_bids.c, curtailment_records.c
    query = select(days.settlement_date, days.bids, days.mwh).where(days.bm_unit_id == name)
    rows = connection.execute(query.order_by(days.settlement_date))
    return UnitDetails(
        unit,
        {day: (bids, mwh) for day, bids, mwh in rows},
        _amount(connection, _sums(wind_bids, wind_bids.c.volume).where(wind_bids.c.bm_unit_id == name)),
        _amount(connection, _sums(curtailment_records, VOLUME_MWH).where(records.farm_id == name)),
    )


def require_known(connection: Connection, name: str) -> None:
    """UsageError if a name is in no list, declaration, bid or record; it names similar ones."""
    columns = (
        wind_bm_units.c.bm_unit_id,
        other_bm_units.c.bm_unit_id,
        bm_unit_declarations.c.bm_unit_id,
        uncounted_bids.c.bm_unit_id,
        wind_bids.c.bm_unit_id,
        curtailment_records.c.farm_id,
    )
    packaged = {unit.bm_unit_id for unit in packaged_bm_units()}
    if name in packaged or any(connection.scalar(select(exists().where(column == name))) for column in columns):
        return
    names = packaged.union(*(connection.execute(select(column)).scalars() for column in columns[:4]))
    # The cutoff lets through a forgotten prefix and a slip of a finger; capitals do not matter.
    by_capitals = {known.upper(): known for known in names}
    close = [by_capitals[found] for found in get_close_matches(name.upper(), by_capitals, n=3, cutoff=0.7)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"BM unit {name!r} is in no list, bid or record{hint}")


def unknown_farms(connection: Connection, day: date) -> list[tuple[str, int, float]]:
    """The farms of a day's records without proof that are not known to be wind and not declared not wind, each with
    its number of records and MWh (negative). A proof of the day from the bid stack would not have their bids.
    """
    records = curtailment_records.c
    return [
        (farm, rows, float(mwh))
        for farm, rows, mwh, _ in connection.execute(_of_unknown_farms().where(records.settlement_date == day))
    ]


def count_units(connection: Connection) -> dict[str, int]:
    """How many units are wind, unknown, and other, and how many of them are declared."""
    kinds = Counter(unit.kind for unit in list_units(connection, farms=False))
    said = connection.execute(select(func.count()).select_from(bm_unit_declarations)).scalar_one()
    return {**{f"{kind}_units": kinds[kind] for kind in Kind}, "declared_units": said}


def kind_of(name: str, wind: frozenset[str], other: frozenset[str]) -> Kind:
    """What a unit is, given the names of those that are wind and of those that are not."""
    return Kind.WIND if name in wind else Kind.OTHER if name in other else Kind.UNKNOWN


def _listed(connection: Connection) -> dict[str, Listed]:
    wind = wind_bm_units.c
    found = {unit: Listed(fuel) for unit, fuel in connection.execute(select(other_bm_units))}
    rows = connection.execute(
        select(
            wind.bm_unit_id,
            wind.bm_unit_name,
            wind.national_grid_bm_unit,
            wind.lead_party_name,
            wind.generation_capacity_mw,
            wind.first_seen_at,
        )
    )
    return found | {name: Listed(WIND, *said) for name, *said in rows}


def _uncounted(connection: Connection) -> dict[str, Amount]:
    stored = uncounted_bids.c
    sums = select(stored.bm_unit_id, func.sum(stored.bids), func.sum(stored.mwh), func.count())
    rows = connection.execute(sums.group_by(stored.bm_unit_id))
    return {name: Amount(int(bids), float(mwh), days) for name, bids, mwh, days in rows}


def _unproven(connection: Connection) -> dict[str, Amount]:
    rows = connection.execute(_of_unknown_farms())
    return {farm: Amount(count, float(mwh), days) for farm, count, mwh, days in rows}


def _of_unknown_farms() -> Select[Any]:
    """By farm: records without proof of farms neither wind nor declared not wind; their MWh and days."""
    records, proofs = curtailment_records.c, proof_of_fetch.c
    proven = exists().where(
        and_(proofs.settlement_date == records.settlement_date, proofs.settlement_period == records.settlement_period)
    )
    return (
        select(
            records.farm_id,
            func.count(),
            func.sum(VOLUME_MWH),
            func.count(records.settlement_date.distinct()),
        )
        .where(~proven, records.farm_id.not_in(wind_units()), records.farm_id.not_in(declared(wind=False)))
        .group_by(records.farm_id)
        .order_by(records.farm_id)
    )


def _sums(table: Any, volume: Any) -> Select[Any]:
    return select(func.count(), func.sum(volume), func.count(table.c.settlement_date.distinct())).select_from(table)


def _amount(connection: Connection, query: Select[Any]) -> Amount:
    rows, mwh, days = connection.execute(query).one()
    return Amount(rows, float(mwh or 0), days)
