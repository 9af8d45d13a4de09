from typing import Any

import pytest

from recon_assets.domain.bm_units import BmUnit, is_bm_unit, packaged_bm_units, parse_bm_units
from recon_assets.errors import ElexonError

SEAGREEN: dict[str, Any] = {
    "nationalGridBmUnit": "SGRWO-1",
    "elexonBmUnit": "T_SGRWO-1",
    "bmUnitName": "Seagreen 1",
    "leadPartyName": "Seagreen Wind Energy",
    "fuelType": "WIND",
    "generationCapacity": "360.000",
}
GAS = {"elexonBmUnit": "T_PEHE-1", "fuelType": "CCGT"}


def test_a_unit_is_read_with_its_capacity_in_mw() -> None:
    assert parse_bm_units([SEAGREEN]) == [
        BmUnit("T_SGRWO-1", "SGRWO-1", "Seagreen 1", "Seagreen Wind Energy", "WIND", 360.0)
    ]


def test_every_field_but_the_elexon_name_may_be_null() -> None:
    nothing_known = dict.fromkeys(SEAGREEN) | {"elexonBmUnit": "E_NEW-1"}

    units = parse_bm_units([SEAGREEN, nothing_known])

    assert units[1] == BmUnit("E_NEW-1", None, None, None, None, None)
    assert not units[1].is_wind


def test_a_unit_without_an_elexon_name_is_left_out() -> None:
    assert [unit.bm_unit_id for unit in parse_bm_units([SEAGREEN, SEAGREEN | {"elexonBmUnit": None}, GAS])] == [
        "T_SGRWO-1",
        "T_PEHE-1",
    ]


def test_wind_is_what_elexon_calls_wind() -> None:
    assert [unit.is_wind for unit in parse_bm_units([SEAGREEN, GAS])] == [True, False]


@pytest.mark.parametrize("body", [{"data": [SEAGREEN]}, None, "WIND", [SEAGREEN, 7]])
def test_a_body_that_is_no_array_of_units_is_an_error(body: Any) -> None:
    with pytest.raises(ElexonError, match="not an array of units"):
        parse_bm_units(body)


@pytest.mark.parametrize("body", [[], [GAS]])
def test_a_list_without_wind_is_not_believed(body: Any) -> None:
    with pytest.raises(ElexonError, match="no wind unit"):
        parse_bm_units(body)


def test_a_capacity_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ElexonError, match="generationCapacity that is no number: 'plenty'"):
        parse_bm_units([SEAGREEN | {"generationCapacity": "plenty"}])


@pytest.mark.parametrize("capacity", ["NaN", "inf", float("nan")])
def test_a_capacity_that_is_not_finite_is_an_error(capacity: Any) -> None:
    with pytest.raises(ElexonError, match="generationCapacity that is no number"):
        parse_bm_units([SEAGREEN | {"generationCapacity": capacity}])


@pytest.mark.parametrize("field", ["elexonBmUnit", "nationalGridBmUnit", "bmUnitName", "leadPartyName", "fuelType"])
def test_a_name_that_is_no_text_is_an_error_that_names_the_field(field: str) -> None:
    with pytest.raises(ElexonError, match=f"holds a {field} that is no text: 7"):
        parse_bm_units([SEAGREEN, SEAGREEN | {field: 7}])


def test_a_field_or_a_fuel_that_is_not_known_does_no_harm() -> None:
    units = parse_bm_units([SEAGREEN, GAS | {"fuelType": "FUSION", "news": {}}])

    assert [unit.is_wind for unit in units] == [True, False]


def test_the_packaged_list_knows_the_wind_farms() -> None:
    units = {unit.bm_unit_id: unit for unit in packaged_bm_units()}

    assert units["T_SGRWO-1"].is_wind
    assert sum(unit.is_wind for unit in units.values()) > 200
    assert not all(unit.is_wind for unit in units.values())


@pytest.mark.parametrize(
    ("stack_id", "named"),
    [("T_SGRWO-1", True), ("2__PENEC001", True), ("1", False), ("4711", False), (1, False), (None, False)],
)
def test_an_id_that_is_null_or_a_number_is_no_bm_unit(stack_id: object, named: bool) -> None:
    assert is_bm_unit(stack_id) is named
