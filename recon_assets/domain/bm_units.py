"""Reads which BM units are wind farms, and who leads them, from Elexon's reference list or the packaged one.

Source: Elexon `GET /reference/bmunits/all`, a bare array of BM units; every field may be null. It lists only current
units, so that the stored list grows by union and never shrinks.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from typing import Any

from recon_assets.errors import ElexonError

WIND = "WIND"

TEXTS = ("elexonBmUnit", "nationalGridBmUnit", "bmUnitName", "leadPartyName", "fuelType")
"""The fields that are read and are text or null."""

PACKAGED_LIST = "packaged list of October 2025"


@dataclass(frozen=True)
class BmUnit:
    """A BM unit, identified by its Elexon name, for example `T_SGRWO-1`."""

    bm_unit_id: str
    national_grid_bm_unit: str | None
    bm_unit_name: str | None
    lead_party_name: str | None
    fuel_type: str | None
    generation_capacity_mw: float | None

    @property
    def is_wind(self) -> bool:
        """Whether Elexon says that the unit's fuel is wind."""
        return self.fuel_type == WIND


def parse_bm_units(body: Any) -> list[BmUnit]:
    """The BM units of a reference answer, without those that have no Elexon name; ElexonError for any other body."""
    if not isinstance(body, list) or not all(isinstance(row, dict) for row in body):
        raise ElexonError("the BM unit reference is not an array of units")
    for row in body:
        for name in TEXTS:
            if not isinstance(row.get(name), str | None):
                raise ElexonError(f"the BM unit reference holds a {name} that is no text: {row[name]!r}")
    units = [
        BmUnit(
            bm_unit_id=row["elexonBmUnit"],
            national_grid_bm_unit=row.get("nationalGridBmUnit"),
            bm_unit_name=row.get("bmUnitName"),
            lead_party_name=row.get("leadPartyName"),
            fuel_type=row.get("fuelType"),
            generation_capacity_mw=_capacity(row.get("generationCapacity")),
        )
        for row in body
        if row.get("elexonBmUnit")
    ]
    if not any(unit.is_wind for unit in units):
        raise ElexonError("the BM unit reference lists no wind unit: it is not believed")
    return units


def packaged_bm_units() -> list[BmUnit]:
    """The packaged list, as Elexon returned it in October 2025: all wind units and some others."""
    return parse_bm_units(json.loads((files("recon_assets.data") / "bmunits_all.json").read_text(encoding="utf-8")))


def _capacity(text: Any) -> float | None:
    try:
        capacity = float(text) if text else None
    except (TypeError, ValueError):
        capacity = float("nan")
    if capacity is not None and not isfinite(capacity):
        raise ElexonError(f"the BM unit reference holds a generationCapacity that is no number: {text!r}")
    return capacity


def is_bm_unit(stack_id: object) -> bool:
    """Whether the id of a stack row names a BM unit: a null or a bare number is an action outside the BM.

    >>> is_bm_unit("T_SGRWO-1"), is_bm_unit("1"), is_bm_unit(None)
    (True, False, False)
    """
    return isinstance(stack_id, str) and not stack_id.isdigit()
