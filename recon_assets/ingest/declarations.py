"""A person's word on whether a BM unit is wind, with who said it and when. It is stronger than any list."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from recon_assets.database.tables import bm_unit_declarations
from recon_assets.ingest.archive_progress import search_again
from recon_assets.reconcile.wind_units import listed_as_other


@dataclass(frozen=True)
class Declaration:
    """Who declared a BM unit wind, or not wind, and when (`declared_at` is aware)."""

    bm_unit_id: str
    is_wind: bool
    declared_by: str
    declared_at: datetime
    note: str | None = None


def declare(connection: Connection, declaration: Declaration) -> None:
    """Stores a declaration in place of an earlier one of the same unit; under the lock of reference data."""
    unit, declared = declaration.bm_unit_id, bm_unit_declarations.c.bm_unit_id
    if declaration.is_wind and unit in connection.execute(listed_as_other()).scalars().all():
        search_again(connection)
    connection.execute(delete(bm_unit_declarations).where(declared == unit))
    connection.execute(insert(bm_unit_declarations), asdict(declaration))


def read_declarations(connection: Connection) -> Mapping[str, Declaration]:
    """All declarations, by BM unit."""
    rows = connection.execute(select(bm_unit_declarations)).mappings()
    return {row["bm_unit_id"]: Declaration(**row) for row in rows}
