"""Which BM units are wind now, as SQL, and the stored days that were read when others counted as wind.

A person's declaration is stronger than any list. A unit that Elexon lists without a fuel type is unknown, because four
fifths of the live list have none, new wind farms among them.
"""

from datetime import date
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Select, select, union

from recon_assets.database.tables import bm_unit_declarations, other_bm_units, uncounted_bids, wind_bids, wind_bm_units
from recon_assets.domain.settlement import Days


def wind_units() -> CompoundSelect[Any]:
    """The names of the units that are wind: those declared so, and those listed so without a word against it."""
    listed = wind_bm_units.c.bm_unit_id
    return union(select(listed).where(listed.not_in(declared(wind=False))), declared(wind=True))


def other_units() -> CompoundSelect[Any]:
    """The names of the units known not to be wind: those declared so, and those listed with another fuel."""
    return union(listed_as_other(), declared(wind=False))


def listed_as_other() -> Select[Any]:
    """The names of the units that Elexon lists with another fuel, and that nobody has declared wind."""
    listed = other_bm_units.c.bm_unit_id
    return select(listed).where(
        other_bm_units.c.fuel_type.is_not(None),
        listed.not_in(select(wind_bm_units.c.bm_unit_id)),
        listed.not_in(declared(wind=True)),
    )


def declared(*, wind: bool) -> Select[Any]:
    """The names of the units that a person has declared wind, or not wind."""
    return select(bm_unit_declarations.c.bm_unit_id).where(bm_unit_declarations.c.is_wind.is_(wind))


def new_wind_days(connection: Connection, days: Days) -> frozenset[date]:
    """The days that hold uncounted bids of a unit that is wind now, or wind bids of one that is declared not wind."""
    uncounted, bids = uncounted_bids.c, wind_bids.c
    found = select(uncounted.settlement_date).where(
        uncounted.settlement_date.between(days.first, days.last), uncounted.bm_unit_id.in_(wind_units())
    )
    changed = frozenset(connection.execute(found.distinct()).scalars())
    dismissed = connection.execute(declared(wind=False)).scalars().all()
    if not dismissed:
        return changed  # reading all bids takes long, and few people ever dismiss a unit
    counted = select(bids.settlement_date).where(
        bids.settlement_date.between(days.first, days.last), bids.bm_unit_id.in_(dismissed)
    )
    return changed.union(connection.execute(counted.distinct()).scalars())
