"""Declares BM units: checks the name, stores the word, and tells which days must be read again because of it."""

from datetime import date

from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.settlement import Days
from recon_assets.ingest.declarations import Declaration, declare
from recon_assets.ingest.reference import known_bm_units, store_bm_units, writing
from recon_assets.ingest.unit_facts import Kind, kind_of, require_known
from recon_assets.reconcile.wind_units import new_wind_days


def declare_unit(engine: Engine, said: Declaration, *, force: bool = False) -> Kind:
    """Stores a declaration; returns what the unit was before. UsageError if its name occurs nowhere, unless `force`."""
    with writing(engine) as connection:
        # In an empty database a single declared unit must not look like all wind units that there are.
        store_bm_units(connection, packaged_bm_units(), said.declared_at)
        if not force:
            require_known(connection, said.bm_unit_id)
        before = kind_of(said.bm_unit_id, *known_bm_units(connection))
        declare(connection, said)
    return before


def unit_now(engine: Engine, unit: str) -> tuple[Kind, list[date]]:
    """What a unit is now, and all stored days that were read when other units counted as wind."""
    with transactions.reading(engine) as connection:
        days = new_wind_days(connection, Days(date.min, date.max))
        return kind_of(unit, *known_bm_units(connection)), sorted(days)
