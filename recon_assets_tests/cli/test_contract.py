"""Recordings, stand-in and parsing conform to Elexon's own OpenAPI file.

No recording has wind-and-solar or indicative cashflows: these bodies are made from the examples of the schema.
"""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from recon_assets.domain.bm_units import BmUnit, packaged_bm_units, parse_bm_units
from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.payloads import COLUMNS, STACK, UNUSED, VOLUME_COLUMNS
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import ENDPOINTS, StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, FaultKind
from recon_assets.errors import ElexonError
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.support.openapi import OPERATIONS, Operation, Row, operation_of, telling
from recon_assets_tests.support.steps import JUNE, JUNE_6, NOW, change_recording

PACKAGED_UNITS = Path(str(files("recon_assets.data") / "bmunits_all.json"))
SETTLEMENT = "/balancing/settlement"
STACK_PATH = f"{SETTLEMENT}/stack/all/bid/{JUNE_6}/7"
PRICES_PATH = f"{SETTLEMENT}/system-prices/{JUNE_6}"
VOLUMES_PATH = f"{SETTLEMENT}/acceptance/volumes/all/bid/{JUNE_6}"
CASHFLOWS_PATH = f"{SETTLEMENT}/indicative/cashflows/all/bid/{JUNE_6}"
WIND_AND_SOLAR_PATH = f"/generation/actual/per-type/wind-and-solar?from={JUNE_6}&to={JUNE_6}T23:30Z"
UNITS_PATH = "/reference/bmunits/all"
PATHS = (STACK_PATH, PRICES_PATH, VOLUMES_PATH, CASHFLOWS_PATH, WIND_AND_SOLAR_PATH, UNITS_PATH)
"""One path of each endpoint that the stand-in knows."""

STACKS, PRICES, VOLUMES, CASHFLOWS, WIND_AND_SOLAR, UNITS = map(operation_of, PATHS)
RECORDINGS = sorted([*JUNE.glob("*.json.gz"), *CLOCK_CHANGES.glob("*.json.gz")])

TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": pd.api.types.is_integer_dtype,
    "number": pd.api.types.is_float_dtype,
    "boolean": pd.api.types.is_bool_dtype,
    "string": pd.api.types.is_string_dtype,
}
"""Whether a column can hold an OpenAPI type."""

FLAGS = {"soFlag", "cadlFlag"}
"""Nullable fields whose null is stored as false: they are flags."""

NAMING = {"settlementDate", "settlementPeriod"}
"""The fields that say which day and period a row is of."""

UNIT_FIELDS = {
    "elexonBmUnit": "bm_unit_id",
    "nationalGridBmUnit": "national_grid_bm_unit",
    "bmUnitName": "bm_unit_name",
    "leadPartyName": "lead_party_name",
    "fuelType": "fuel_type",
    "generationCapacity": "generation_capacity_mw",
}
"""Elexon's fields of a BM unit, and ours."""


# The recordings.


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name.partition(".")[0])
def test_a_recording_keeps_to_the_schema(recording: Path) -> None:
    bodies = json.loads(gzip.decompress(recording.read_bytes()))
    stacks = bodies["stack_bid"].values()

    assert [violation for body in stacks for violation in STACKS.violations(body | {"data": []})] == []
    rows = [row for body in stacks for row in body["data"]]
    assert STACKS.violations({"data": list(telling(rows))}) == []
    assert STACKS.lacking(rows) == set()

    volumes = bodies["acceptance_volumes_bid"]
    assert VOLUMES.violations(volumes | {"data": list(telling(volumes["data"]))}) == []
    assert VOLUMES.lacking(volumes["data"]) == set()

    # The recorded prices were rebuilt: of the fields that are never null, they have only these for certain.
    assert PRICES.violations(bodies["system_prices"]) == []
    assert [row for row in bodies["system_prices"]["data"] if NAMING - row.keys()] == []


def test_there_are_recordings_of_june_and_of_both_clock_changes() -> None:
    assert len(RECORDINGS) == 32


def test_the_packaged_bm_units_keep_to_the_schema() -> None:
    units = json.loads(PACKAGED_UNITS.read_text(encoding="utf-8"))

    assert UNITS.violations(units) == []
    assert UNITS.lacking(units) == set()


# The stand-in.


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    """A stand-in that has something to answer on every path."""
    shutil.copy(PACKAGED_UNITS, recordings)
    noon = {"settlementDate": str(JUNE_6), "settlementPeriod": 27, "startTime": f"{JUNE_6}T12:00:00Z"}
    change_recording(
        recordings,
        JUNE_6,
        lambda bodies: bodies.update(
            wind_and_solar=WIND_AND_SOLAR.body_of([WIND_AND_SOLAR.made_row() | noon]),
            indicative_cashflows_bid=CASHFLOWS.body_of([CASHFLOWS.made_row() | noon]),
        ),
    )
    with StandInElexon(recordings) as server:
        yield server


def get(server: StandInElexon, path: str) -> requests.Response:
    return requests.get(server.url + path, timeout=5)


def content_type(response: requests.Response) -> str:
    return response.headers["Content-Type"].partition(";")[0]


def test_every_endpoint_of_the_stand_in_is_in_these_tests() -> None:
    bare = [path.partition("?")[0] for path in PATHS]

    assert [pattern for pattern in ENDPOINTS if not any(re.fullmatch(pattern, path) for path in bare)] == []


def test_the_stand_in_knows_every_endpoint_of_the_file_but_one() -> None:
    known = {operation_of(path) for path in PATHS}

    # Nobody asks for acceptance levels: the stack has the volumes.
    assert [operation.path for operation in OPERATIONS if operation not in known] == ["/datasets/BOALF/stream"]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_over_http_keeps_to_the_schema(server: StandInElexon, path: str) -> None:
    operation = operation_of(path)

    response = get(server, path)

    assert response.status_code == 200
    assert content_type(response) in operation.content_types
    assert operation.violations(response.json()) == []
    assert operation.rows_of(response.json())


@pytest.mark.parametrize("path", PATHS)
def test_what_elexon_may_leave_null_comes_as_null_and_nothing_else(server: StandInElexon, path: str) -> None:
    operation = operation_of(path)
    # Made rows have all fields, which recorded system prices have not.
    server.overrides[path.partition("?")[0]] = json.dumps(operation.body_of([operation.made_row()])).encode()
    server.faults.append(Fault("null_fields"))

    body = get(server, path).json()

    assert operation.violations(body) == []
    assert {name for name, value in operation.rows_of(body)[0].items() if value is not None} == operation.never_null


@pytest.mark.parametrize("kind", ["null_data", "empty_data", "duplicate_rows", "other_day", "other_period"])
def test_a_wrong_answer_that_elexon_could_give_keeps_to_the_schema(server: StandInElexon, kind: FaultKind) -> None:
    server.faults.append(Fault(kind))

    assert STACKS.violations(get(server, STACK_PATH).json()) == []


def test_fields_of_the_future_are_unknown_to_the_schema(server: StandInElexon) -> None:
    server.faults.append(Fault("unknown_fields"))

    assert "'fieldOfTheFuture' was unexpected" in STACKS.violations(get(server, STACK_PATH).json())[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [(path, status) for path in PATHS for status in sorted(operation_of(path).statuses - {200})],
)
def test_every_documented_refusal_can_be_had(server: StandInElexon, path: str, status: int) -> None:
    server.faults.append(Fault("too_many_requests") if status == 429 else Fault("server_error", status=status))

    response = get(server, path)

    assert response.status_code == status
    # The file gives refusals no body; a problem says what an ASP.NET service says by itself.
    assert content_type(response) == "application/problem+json"
    assert response.json()["status"] == status


@pytest.mark.parametrize("left_out", WIND_AND_SOLAR.required_in_query)
def test_a_query_without_what_it_must_have_is_refused(server: StandInElexon, left_out: str) -> None:
    given = "&".join(f"{name}={value}" for name, value in WIND_AND_SOLAR.required_in_query.items() if name != left_out)

    response = get(server, f"{WIND_AND_SOLAR.path}?{given}")

    assert response.status_code == 400
    assert response.status_code in WIND_AND_SOLAR.statuses


def test_the_query_that_the_file_gives_as_an_example_is_understood(server: StandInElexon) -> None:
    asked = WIND_AND_SOLAR.required_in_query
    days = [date.fromisoformat(text) for text in asked.values()]
    row = WIND_AND_SOLAR.made_row() | {"startTime": f"{days[0]}T00:00:00Z"}
    day = {"settlementDate": str(days[0]), "stack_bid": {}, "wind_and_solar": WIND_AND_SOLAR.body_of([row])}
    (server.recordings / f"{days[0]}.json.gz").write_bytes(gzip.compress(json.dumps(day).encode()))

    response = get(server, f"{WIND_AND_SOLAR.path}?{'&'.join(f'{name}={value}' for name, value in asked.items())}")

    assert response.status_code == 200
    assert response.json()["data"] == [row]


@pytest.mark.parametrize("path", [path.replace("2025-06-06", "2024-06-06") for path in PATHS if path != UNITS_PATH])
def test_what_is_not_there_is_answered_as_the_live_api_does_and_the_file_does_not_say(
    server: StandInElexon, path: str
) -> None:
    assert get(server, path).status_code == 404
    assert 404 not in operation_of(path).statuses


# The parsing.


def parsed(recordings: Path, rows: list[Row] | None = None) -> SettlementStack:
    """The recorded day, or period 7 with other rows, as it is read."""
    if rows is None:
        return Elexon(RecordingSource(recordings)).settlement_stack(JUNE_6, NOW)
    change_recording(recordings, JUNE_6, lambda bodies: bodies["stack_bid"].update({"7": STACKS.body_of(rows)}))
    return Elexon(RecordingSource(recordings)).settlement_stack(JUNE_6, NOW, [7])


def made_row(**changed: Any) -> Row:
    """A row made from the schema, of period 7."""
    return STACKS.made_row() | {"settlementDate": str(JUNE_6), "settlementPeriod": 7} | changed


def written_back(stack: SettlementStack) -> list[Row]:
    """The parsed rows under Elexon's names."""
    frame = stack.rows.rename(columns={ours: elexons for elexons, ours in COLUMNS.items()}).astype(object)
    rows = frame.where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def as_kept(row: Row) -> Row:
    """What parsing keeps of a row."""
    return {name: bool(row[name]) if name in FLAGS else row[name] for name in COLUMNS}


def test_all_that_is_asked_for_is_in_the_file(server: StandInElexon) -> None:
    server.faults.append(Fault("empty_data", "/7/"))  # so that system prices and acceptance volumes are asked
    elexon = Elexon(HttpSource(server.url, per_second=1000))

    elexon.settlement_stack(JUNE_6, NOW, [6, 7])
    elexon.acceptance_volumes(JUNE_6)
    elexon.wind_generation(JUNE_6)
    elexon.bm_units()

    asked = {operation_of(request.path) for request in server.requests}
    assert asked == {STACKS, PRICES, VOLUMES, WIND_AND_SOLAR, UNITS}


def test_every_field_that_is_read_is_elexons_and_its_column_can_hold_it(recordings: Path) -> None:
    frame = parsed(recordings).rows

    assert COLUMNS.keys() | UNUSED == STACKS.fields.keys()
    assert COLUMNS.keys() & UNUSED == set()
    assert VOLUME_COLUMNS.keys() - VOLUMES.fields.keys() == set()
    assert set(COLUMNS.values()) == set(STACK.columns) == set(frame.columns)
    assert [
        name for name, column in COLUMNS.items() if not TYPES[STACKS.fields[name]["type"]](frame[column].dtype)
    ] == []


def test_a_recorded_day_written_back_is_what_was_published(recordings: Path) -> None:
    bodies = json.loads(gzip.decompress((recordings / f"{JUNE_6}.json.gz").read_bytes()))
    published = [row for body in bodies["stack_bid"].values() for row in body["data"]]

    rows = written_back(parsed(recordings))

    assert STACKS.violations(STACKS.body_of(rows)) == []
    assert rows == [as_kept(row) for row in published]


def test_rows_at_the_edges_of_the_schema_written_back_are_what_was_published(recordings: Path) -> None:
    published = [
        made_row(sequenceNumber=1),
        # No float holds this number.
        made_row(sequenceNumber=2, acceptanceId=2**53 + 1),
        {name: None if name in STACKS.nullable else value for name, value in made_row(sequenceNumber=3).items()},
        # JSON writes a whole number without a point.
        made_row(sequenceNumber=2**31 - 1, volume=-7, originalPrice=0, finalPrice=-1),
    ]
    assert STACKS.violations(STACKS.body_of(published)) == []

    rows = written_back(parsed(recordings, published))

    assert STACKS.violations(STACKS.body_of(rows)) == []
    assert rows == [as_kept(row) for row in published]


@pytest.mark.parametrize("absent", [False, True], ids=["null", "absent"])
@pytest.mark.parametrize("name", sorted(STACKS.nullable & COLUMNS.keys()))
def test_a_nullable_field_may_be_null(recordings: Path, name: str, absent: bool) -> None:
    row = made_row(**{name: None})
    sent = {field: value for field, value in row.items() if field != name or not absent}

    assert written_back(parsed(recordings, [sent])) == [as_kept(row)]


@pytest.mark.parametrize("absent", [False, True], ids=["null", "absent"])
@pytest.mark.parametrize("name", sorted(STACKS.never_null & (COLUMNS.keys() | NAMING)))
def test_a_field_that_is_never_null_must_be_there(recordings: Path, name: str, absent: bool) -> None:
    row = made_row(**{name: None})
    sent = {field: value for field, value in row.items() if field != name or not absent}

    with pytest.raises(ElexonError):
        parsed(recordings, [sent])


def test_what_names_the_period_of_a_row_is_never_null() -> None:
    assert NAMING - STACKS.never_null == set()
    assert NAMING - PRICES.never_null == set()


def test_every_field_of_a_bm_unit_is_elexons() -> None:
    assert set(UNIT_FIELDS.values()) == {field.name for field in fields(BmUnit)}
    assert UNIT_FIELDS.keys() - UNITS.fields.keys() == set()


def test_the_packaged_bm_units_written_back_are_what_was_published() -> None:
    published = json.loads(PACKAGED_UNITS.read_text(encoding="utf-8"))

    rows = [{name: getattr(unit, ours) for name, ours in UNIT_FIELDS.items()} for unit in packaged_bm_units()]
    for row in rows:
        if row["generationCapacity"] is not None:
            row["generationCapacity"] = f"{row['generationCapacity']:.3f}"  # the one field that becomes a number

    assert UNITS.violations(rows) == []
    assert rows == [{name: unit[name] for name in UNIT_FIELDS} for unit in published if unit["elexonBmUnit"]]


@pytest.mark.parametrize("absent", [False, True], ids=["null", "absent"])
@pytest.mark.parametrize("name", sorted(UNIT_FIELDS.keys() - {"elexonBmUnit"}))
def test_a_nullable_field_of_a_bm_unit_may_be_null(name: str, absent: bool) -> None:
    known = UNITS.made_row() | {"fuelType": "WIND", "generationCapacity": "1.000"}
    unit = {field: value for field, value in (known | {name: None}).items() if field != name or not absent}

    read = parse_bm_units([known, unit])

    assert [getattr(one, UNIT_FIELDS[name]) is None for one in read] == [False, True]


@pytest.mark.parametrize("nameless", [{"elexonBmUnit": None}, {}], ids=["null", "absent"])
def test_a_bm_unit_may_have_no_name_and_is_then_left_out(nameless: Row) -> None:
    # No row of the stack can be told to be of it.
    named = UNITS.made_row() | {"fuelType": "WIND", "generationCapacity": "1.000"}
    unit = {name: value for name, value in named.items() if name != "elexonBmUnit"} | nameless

    assert [one.bm_unit_id for one in parse_bm_units([named, unit])] == ["A"]


# The validator.


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_a_row_made_from_the_schema_keeps_to_it(operation: Operation) -> None:
    assert operation.violations(operation.body_of([operation.made_row()])) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_a_spoiled_field_of_any_endpoint_is_found(operation: Operation) -> None:
    def found(**changed: Any) -> bool:
        return operation.violations(operation.body_of([operation.made_row() | changed])) != []

    dated = {name for name, schema in operation.fields.items() if schema.get("format") in ("date", "date-time")}

    assert {name for name in operation.fields if found(**{name: ["a list"]})} == set(operation.fields)
    assert {name for name in operation.fields if found(**{name: None})} == operation.never_null
    assert {name for name in dated if found(**{name: "06/06/2025"})} == dated
    assert {name for name in dated if found(**{name: "2025-02-30T00:00:00Z"})} == dated
    assert found(fieldOfTheFuture=1)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda body: body["data"][1].update(volume="-5.2"), "data/1/volume: "),
        (lambda body: body["data"][1].update(volume=None), "data/1/volume: "),
        (lambda body: body["data"][1].update(sequenceNumber=1.5), "data/1/sequenceNumber: "),
        (lambda body: body["data"][1].update(sequenceNumber=2**31), "data/1/sequenceNumber: "),
        (lambda body: body["data"][1].update(acceptanceId=2**63), "data/1/acceptanceId: "),
        (lambda body: body["data"][1].update(soFlag="T"), "data/1/soFlag: "),
        (lambda body: body["data"][1].update(settlementDate="2025-6-6"), "data/1/settlementDate: "),
        (lambda body: body["data"][1].update(startTime="2025-06-06T02:00:00"), "data/1/startTime: "),
        (lambda body: body["data"][1].update(createdDateTime="2025-06-06 09:52:19Z"), "data/1/createdDateTime: "),
        (lambda body: body["data"][1].update(bmUnit="T_SGRWO-1"), "data/1: "),
        (lambda body: body["data"].append(None), "data/"),
        (lambda body: body.update(data={}), "data: "),
        (lambda body: body.update(metadata=None), "metadata: "),
        (lambda body: body.update(rows=[]), ": "),
    ],
)
def test_a_spoiled_body_is_refused_where_it_is_spoiled(
    recordings: Path, spoil: Callable[[dict[str, Any]], object], place: str
) -> None:
    body = json.loads(gzip.decompress((recordings / f"{JUNE_6}.json.gz").read_bytes()))["stack_bid"]["7"]
    assert STACKS.violations(body) == []

    spoil(body)

    assert [violation for violation in STACKS.violations(body) if violation.startswith(place)] != []


@pytest.mark.parametrize(
    "spoiled",
    [
        {"volume": "-5.2"},
        {"volume": None},
        {"sequenceNumber": 2**31},
        {"createdDateTime": "2025-02-30T00:00:00Z"},
        {"soFlag": 1},
        {"fieldOfTheFuture": 1},
    ],
)
def test_a_violation_among_many_rows_is_among_those_that_tell(spoiled: Row) -> None:
    rows = [made_row(sequenceNumber=number) for number in range(1, 100)]
    rows[70] |= spoiled

    kept = list(telling(rows))

    assert kept == [rows[0], rows[70]]
    assert STACKS.violations(STACKS.body_of(kept)) != []
