"""Every fault of Elexon or the network, through real HTTP: a day ends exactly right or untouched.

Untouched means that every table and the archive are as before, and the reason names the day. Right means row for row
what a server without faults gives. A day is never stored in part, short or twice.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, select

from recon_assets.database.tables import metadata, proof_of_fetch, settlement_revisions, wind_bids
from recon_assets.database.transactions import reading
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, FaultKind
from recon_assets.errors import ReconError
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets_tests.support.steps import JUNE_6, change_recording, contents, ingest

STACK = "/balancing/settlement/stack/all/bid/2025-06-06"
PERIODS = 14
MORNING = datetime(2025, 6, 6, 6, 15, tzinfo=UTC)
"""14 settlement periods are due by then, with all 83 wind bids of the day."""
WINDY, CALM = 7, 14
"""The first row of period 7 is a wind unit's; period 14 has no wind bid, and its first row is another unit's."""

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The transaction is tested on both engines; the work before it does not depend on the engine."""

PASSES: list[FaultKind] = ["reset", "stall", "short_body", "too_many_requests", "server_error", "html", "truncated"]
"""Faults that another attempt may not meet."""

HARMLESS: dict[FaultKind, tuple[str, int]] = {
    "wrong_content_type": ("mislabelled_answers", 1),
    "duplicate_rows": ("repeated_rows", 22),
    "unknown_fields": ("unknown_fields", 1),
}
"""Faults that are tolerated, and their count in the windy period."""

FATAL: dict[FaultKind, str] = {
    "reset": "settlement period 7: http.*reset by peer",
    "stall": "settlement period 7: http.*timed out",
    "short_body": "settlement period 7: http.*more expected",
    "too_many_requests": r"settlement period 7: http.*HTTP 429 \(after 2 attempts\)",
    "server_error": r"settlement period 7: http.*HTTP 503 \(after 2 attempts\)",
    "html": "settlement period 7: http.*the answer is no JSON, and labelled text/html",
    "truncated": "settlement period 7: http.*the answer is no JSON",
    "not_found": "settlement period 7: Elexon lists it as published but answers 404",
    "other_day": "settlement period 7: the answer holds rows of 2025-06-07",
    "other_period": "settlement period 7: the answer holds rows of settlement period 6",
    "null_data": "Elexon's answer has no row at all in settlement period 7.*the acceptance volumes contradict it",
    "empty_data": "Elexon's answer has no row at all in settlement period 7.*the acceptance volumes contradict it",
    "null_fields": "Elexon's answer has bids without a BM unit in settlement period 7.*volumes contradict it",
}
"""Faults that must leave the day as it was if they last, and the reason given."""

FATAL_ON_BOTH: list[FaultKind] = ["server_error", "null_fields"]
"""One fault that shows while reading, and one that shows only against the stored bids and the acceptance volumes."""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def read(engine: Engine, stand_in: StandInElexon, archive: Archive) -> IngestedDay:
    # A stall is waited out; the first answer of a server takes a while on a busy machine.
    patience = 0.5 if any(fault.kind == "stall" for fault in stand_in.faults) else 10
    source = HttpSource(stand_in.url, per_second=1000, attempts=2, timeout_seconds=patience, backoff_seconds=0.01)
    return ingest_day(engine, Elexon(source), JUNE_6, MORNING, archive=archive)


def everything(engine: Engine, archive: Archive) -> dict[str, Any]:
    """Every row of every table, and every file of the archive."""
    files = {path.name: path.read_bytes() for path in archive.folder.glob("**/*.gz")}
    return {**contents(engine, *metadata.tables.values()), "files": files}


def restate(content: dict[str, Any]) -> None:
    """Makes Elexon say something else of period 7 than it did, in the stack and in the acceptance volumes."""
    bid = content["stack_bid"][str(WINDY)]["data"][0]
    bid["volume"] -= 3.0
    for row in content["acceptance_volumes_bid"]["data"]:
        if (row["settlementPeriod"], row["bmUnit"], row["acceptanceId"]) == (WINDY, bid["id"], bid["acceptanceId"]):
            row["totalVolumeAccepted"] -= 3.0


def test_every_fault_of_the_server_is_expected_here() -> None:
    assert {*FATAL, *HARMLESS} == set(get_args(FaultKind))
    assert set(PASSES) < set(FATAL)


@pytest.mark.parametrize("is_stored", [False, True], ids=["first reading", "restated"])
@pytest.mark.parametrize(
    ("database_url", "kind"),
    [*(("sqlite", kind) for kind in FATAL), *(("postgresql", kind) for kind in FATAL_ON_BOTH)],
    indirect=["database_url"],
)
def test_a_lasting_fault_leaves_the_day_untouched_with_the_reason(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path, kind: FaultKind, is_stored: bool
) -> None:
    # given
    if is_stored:
        read(engine, stand_in, archive)
        change_recording(recordings, JUNE_6, restate)
    before = everything(engine, archive)
    stand_in.faults.append(Fault(kind, f"{STACK}/{WINDY}/", seconds=1))

    # when
    with pytest.raises(ReconError, match=f"^2025-06-06:? .*{FATAL[kind]}") as failure:
        read(engine, stand_in, archive)

    # then
    assert "\n" not in str(failure.value)
    assert everything(engine, archive) == before

    # and when it is over, the day is right
    stand_in.faults.clear()
    ingested = read(engine, stand_in, archive)
    assert ingested.wind_rows == 83
    assert (ingested.revision is not None) == is_stored
    right = contents(engine, wind_bids, proof_of_fetch)
    assert ingest(engine, [JUNE_6], recordings, MORNING)[0].changes.total == 0
    assert contents(engine, wind_bids, proof_of_fetch) == right


@ON_SQLITE
@pytest.mark.parametrize("kind", PASSES)
def test_a_fault_that_passes_leaves_no_trace(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path, kind: FaultKind
) -> None:
    stand_in.faults += [Fault(kind, f"{STACK}/{period}/", times=1, seconds=1) for period in (1, WINDY, CALM)]

    ingested = read(engine, stand_in, archive)

    assert len(stand_in.requests) == PERIODS + 3
    assert ingested.tolerated == {"null_flags": 1}
    assert ingest(engine, [JUNE_6], recordings, MORNING)[0].changes.total == 0


@ON_SQLITE
@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_tolerated_is_counted_and_the_day_is_right(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path, kind: FaultKind
) -> None:
    stand_in.faults.append(Fault(kind, f"{STACK}/{WINDY}/"))

    ingested = read(engine, stand_in, archive)

    name, count = HARMLESS[kind]
    assert ingested.tolerated[name] == count
    assert len(stand_in.requests) == PERIODS
    assert ingest(engine, [JUNE_6], recordings, MORNING)[0].changes.total == 0


@ON_SQLITE
@pytest.mark.parametrize("kind", ["null_data", "empty_data", "null_fields"])
def test_an_odd_answer_that_the_witness_confirms_is_right(
    engine: Engine, stand_in: StandInElexon, archive: Archive, kind: FaultKind
) -> None:
    # A calm period: no wind bid is lost with its rows, and the acceptance volumes say so.
    stand_in.faults.append(Fault(kind, f"{STACK}/{CALM}/"))

    ingested = read(engine, stand_in, archive)

    assert ingested.wind_rows == 83
    assert ingested.periods == PERIODS
    # The system prices are asked, too, where an answer is empty.
    assert len(stand_in.requests) == PERIODS + (1 if kind == "null_fields" else 2)
    if kind == "null_data":
        assert ingested.tolerated["null_answers"] == 1


WITNESS_FAULTS: dict[FaultKind, str] = {
    "reset": "reset by peer",
    "server_error": "HTTP 503",
    "html": "no JSON",
    "truncated": "no JSON",
    "not_found": "there is no list of acceptance volumes that could confirm it; the day stays as it was",
    "other_day": "rows of 2025-06-07",
    "null_data": "the acceptance volumes do not reach to period 14",
    "empty_data": "the acceptance volumes do not reach to period 14",
}


@ON_SQLITE
def test_a_witness_with_a_null_elsewhere_confirms_what_it_says(
    engine: Engine, stand_in: StandInElexon, archive: Archive
) -> None:
    # The first row, of which unit and volume are null, is of another period.
    stand_in.faults.append(Fault("empty_data", f"{STACK}/{CALM}/"))
    stand_in.faults.append(Fault("null_fields", "/acceptance/volumes/"))

    ingested = read(engine, stand_in, archive)

    assert ingested.wind_rows == 83
    assert (ingested.tolerated["null_units"], ingested.tolerated["null_volumes"]) == (1, 1)


@ON_SQLITE
@pytest.mark.parametrize("kind", WITNESS_FAULTS)
def test_a_witness_that_misbehaves_confirms_nothing(
    engine: Engine, stand_in: StandInElexon, archive: Archive, kind: FaultKind
) -> None:
    before = everything(engine, archive)
    stand_in.faults.append(Fault("empty_data", f"{STACK}/{CALM}/"))
    stand_in.faults.append(Fault(kind, "/acceptance/volumes/"))

    with pytest.raises(ReconError, match=f"^2025-06-06:? .*{WITNESS_FAULTS[kind]}"):
        read(engine, stand_in, archive)

    assert everything(engine, archive) == before


def test_a_stored_period_that_is_withdrawn_leaves_the_day_as_it_was(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path
) -> None:
    read(engine, stand_in, archive)
    before = everything(engine, archive)

    def withdraw(content: dict[str, Any]) -> None:
        restate(content)
        del content["stack_bid"][str(CALM)]
        prices = content["system_prices"]["data"]
        prices[:] = [row for row in prices if row["settlementPeriod"] != CALM]

    change_recording(recordings, JUNE_6, withdraw)

    with pytest.raises(ReconError, match=r"^2025-06-06 settlement period 14: stored, but Elexon does not list it"):
        read(engine, stand_in, archive)

    assert everything(engine, archive) == before


def test_a_much_shorter_answer_that_the_witness_confirms_is_a_revision(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path
) -> None:
    # given 18 wind bids of period 12 of which Elexon takes all back
    read(engine, stand_in, archive)
    with reading(engine) as connection:
        query = select(wind_bids.c.bm_unit_id).where(wind_bids.c.settlement_period == 12)
        units = set(connection.execute(query).scalars())

    def take_back(content: dict[str, Any]) -> None:
        for body in (content["stack_bid"]["12"], content["acceptance_volumes_bid"]):
            body["data"] = [
                row
                for row in body["data"]
                if row["settlementPeriod"] != 12 or (row.get("id") or row.get("bmUnit")) not in units
            ]

    change_recording(recordings, JUNE_6, take_back)

    # when
    ingested = read(engine, stand_in, archive)

    # then
    assert ingested.wind_rows == 83 - 18
    assert ingested.revision
    assert (ingested.revision.rows_removed, ingested.revision.settlement_periods) == (18, "12")
    assert len(contents(engine, settlement_revisions)["settlement_revisions"]) == 1
