"""Bids of units that nobody knows to be wind or not: kept by day, and counted once a unit turns out to be wind."""

import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database.transactions import reading, writing
from recon_assets.domain.bm_units import BmUnit
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.errors import ReconError
from recon_assets.ingest.archived import days_to_search, ingest_archived_day, search_archive
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets.ingest.declarations import Declaration, declare
from recon_assets.ingest.reference import store_bm_units
from recon_assets.ingest.uncounted import stored_uncounted
from recon_assets.ingest.unit_facts import unknown_farms
from recon_assets.ingest.verification import Finding, Method
from recon_assets.ingest.verify import verify_day
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.state import State
from recon_assets_tests.support.steps import (
    CHANGED_BY,
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    change_recording,
    execute,
    ingest,
    restate,
    scalar,
    state_of,
)

NEW = "T_NEWWF-1"
LATER = NOW + timedelta(days=1)
PERIODS = (4, 20, 30)


def unknown_bids(content: dict[str, Any]) -> None:
    """Adds a bid of a unit in no list to three settlement periods, in bid stack and acceptance volumes alike."""
    for number, period in enumerate(PERIODS, 1):
        bid = content["stack_bid"]["4"]["data"][0] | {
            "id": NEW,
            "settlementPeriod": period,
            "sequenceNumber": 900,
            "acceptanceId": 9000 + number,
            "volume": -10.0 * number,
            "soFlag": True,
        }
        content["stack_bid"][str(period)]["data"].append(bid)
        volume = content["acceptance_volumes_bid"]["data"][0] | {
            "settlementPeriod": period,
            "bmUnit": NEW,
            "acceptanceId": bid["acceptanceId"],
            "totalVolumeAccepted": bid["volume"],
        }
        content["acceptance_volumes_bid"]["data"].append(volume)


@pytest.fixture
def with_unknown(recordings: Path) -> Path:
    """The two small days; a unit in no list has three bids of 60 MWh on 2025-06-06."""
    change_recording(recordings, JUNE_6, unknown_bids)
    return recordings


def listed(fuel_type: str | None) -> BmUnit:
    return BmUnit(NEW, None, None, "Ann", fuel_type, 100.0)


def store(engine: Engine, unit: BmUnit) -> None:
    with writing(engine) as connection:
        store_bm_units(connection, [unit], NOW)


def say(engine: Engine, *, is_wind: bool, unit: str = NEW) -> None:
    with writing(engine) as connection:
        declare(connection, Declaration(unit, is_wind, "ann", NOW))


def uncounted(engine: Engine, day: date = JUNE_6) -> dict[str, tuple[int, float]]:
    with reading(engine) as connection:
        return {unit: (bids, round(mwh, 6)) for unit, (bids, mwh) in stored_uncounted(connection, day).items()}


def read_periods(engine: Engine, folder: Path, *periods: int) -> IngestedDay:
    return ingest_day(engine, Elexon(RecordingSource(folder)), JUNE_6, LATER, periods)


def read_over_http(engine: Engine, server: StandInElexon, archive: Archive, periods: Any = None) -> IngestedDay:
    return ingest_day(engine, over_http(server), JUNE_6, NOW, periods, archive=archive)


def over_http(server: StandInElexon) -> Elexon:
    return Elexon(HttpSource(server.url, per_second=1000))


def state(engine: Engine) -> State:
    return state_of(engine, SMALL_DAYS)


def test_a_unit_listed_without_a_fuel_type_is_counted_apart(engine: Engine, with_unknown: Path) -> None:
    store(engine, listed(None))

    (ingested,) = ingest(engine, [JUNE_6], with_unknown)

    assert (ingested.unlisted_rows, dict(ingested.unlisted)) == (3, {NEW: -60.0})
    assert scalar(engine, "SELECT sum(unlisted_rows) FROM proof_of_fetch") == 3
    assert scalar(engine, "SELECT sum(unlisted_mwh) FROM proof_of_fetch") == -60.0
    assert uncounted(engine) == {NEW: (3, -60.0)}


def test_a_unit_listed_with_another_fuel_is_not(engine: Engine, with_unknown: Path) -> None:
    store(engine, listed("CCGT"))

    (ingested,) = ingest(engine, [JUNE_6], with_unknown)

    assert (ingested.unlisted_rows, uncounted(engine)) == (0, {})


@pytest.mark.parametrize("how", ["listed", "declared"])
def test_a_unit_that_becomes_wind_later_makes_its_days_wrong_until_they_are_read_again(
    engine: Engine, with_unknown: Path, how: str
) -> None:
    # given
    ingest(engine, SMALL_DAYS, with_unknown)
    assert not state(engine).new_wind_days

    # when
    if how == "listed":
        store(engine, listed("WIND"))
    else:
        say(engine, is_wind=True)

    # then
    assert state(engine).new_wind_days == state(engine).only_new_wind_days == {JUNE_6}
    assert state(engine).unready_days == [JUNE_6]
    assert not state(engine).is_right

    # and after it was read again, nothing says that Elexon has changed anything
    (again,) = ingest(engine, [JUNE_6], with_unknown, LATER)
    assert again.changes.inserted == 3
    assert again.revision is None
    assert scalar(engine, "SELECT count(*) FROM settlement_revisions") == 0
    assert scalar(engine, f"SELECT sum(volume) FROM wind_bids WHERE bm_unit_id = '{NEW}'") == -60.0
    assert scalar(engine, "SELECT sum(unlisted_rows) FROM proof_of_fetch") == 0
    assert (uncounted(engine), state(engine).new_wind_days) == ({}, frozenset())


def test_what_elexon_changed_meanwhile_is_a_revision_of_the_other_units_alone(
    engine: Engine, with_unknown: Path
) -> None:
    ingest(engine, [JUNE_6], with_unknown)
    say(engine, is_wind=True)

    change_recording(with_unknown, JUNE_6, restate)
    (again,) = ingest(engine, [JUNE_6], with_unknown, LATER)

    assert again.revision
    assert again.revision.settlement_periods == "7"
    assert again.revision.mwh_after - again.revision.mwh_before == pytest.approx(CHANGED_BY)


def test_a_unit_dismissed_by_a_person_no_longer_counts_and_counts_again_when_that_is_taken_back(
    engine: Engine, with_unknown: Path
) -> None:
    # given
    say(engine, is_wind=True)
    ingest(engine, [JUNE_6], with_unknown)
    assert not state(engine).new_wind_days

    # when
    say(engine, is_wind=False)
    assert state(engine).new_wind_days == {JUNE_6}
    (again,) = ingest(engine, [JUNE_6], with_unknown, LATER)

    # then
    assert (again.changes.removed, again.revision, again.unlisted_rows) == (3, None, 0)
    assert not state(engine).new_wind_days
    say(engine, is_wind=True)
    assert state(engine).new_wind_days == {JUNE_6}


@pytest.mark.parametrize("periods", [(4,), (4, 20), (1, 2)])
def test_some_periods_read_again_leave_the_sums_of_the_day_right(
    engine: Engine, with_unknown: Path, periods: tuple[int, ...]
) -> None:
    ingest(engine, [JUNE_6], with_unknown)

    change_recording(with_unknown, JUNE_6, lambda body: body["stack_bid"]["4"]["data"][-1].update(volume=-11.0))
    read_periods(engine, with_unknown, *periods)

    assert scalar(engine, "SELECT sum(unlisted_mwh) FROM proof_of_fetch") == (-61.0 if 4 in periods else -60.0)
    assert uncounted(engine)[NEW][0] == 3


def test_some_periods_read_again_of_a_unit_that_is_wind_now_leave_the_others_to_be_read(
    engine: Engine, with_unknown: Path
) -> None:
    ingest(engine, SMALL_DAYS, with_unknown)
    say(engine, is_wind=True)

    done = read_periods(engine, with_unknown, 4)

    assert (done.changes.inserted, done.revision) == (1, None)
    assert uncounted(engine) == {NEW: (2, -50.0)}
    assert state(engine).new_wind_days == {JUNE_6}

    # and reading the rest is no revision either
    (again,) = ingest(engine, [JUNE_6], with_unknown, LATER)
    assert (again.changes.inserted, again.revision, uncounted(engine)) == (2, None, {})


def test_periods_read_over_http_take_the_others_from_the_archive_or_keep_what_is_known(
    engine: Engine, with_unknown: Path, stand_in: StandInElexon, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    read_over_http(engine, stand_in, archive)
    asked = len(stand_in.requests)

    read_over_http(engine, stand_in, archive, [4])
    assert uncounted(engine) == {NEW: (3, -60.0)}
    assert len(stand_in.requests) == asked + 1

    shutil.rmtree(archive.folder)
    say(engine, is_wind=True)
    read_over_http(engine, stand_in, archive, [4])
    assert uncounted(engine) == {NEW: (3, -60.0)}  # two of them, but the day is named all the same


def archived(engine: Engine, server: StandInElexon, archive: Archive, warnings: list[str]) -> IngestedDay:
    return ingest_archived_day(engine, over_http(server), JUNE_6, LATER, archive, warnings.append)


def test_a_day_is_read_again_from_the_archive_without_a_request(
    engine: Engine, with_unknown: Path, stand_in: StandInElexon, tmp_path: Path
) -> None:
    archive, warnings = Archive(tmp_path / "archive"), list[str]()
    read_over_http(engine, stand_in, archive)
    say(engine, is_wind=True)
    asked = len(stand_in.requests)

    again = archived(engine, stand_in, archive, warnings)

    assert (again.changes.inserted, again.revision, uncounted(engine)) == (3, None, {})
    assert (len(stand_in.requests), warnings) == (asked, [])


@pytest.mark.parametrize("spoilt", ["gone", "corrupt", "another", "in part"])
def test_a_day_that_the_archive_does_not_have_as_it_was_stored_is_read_from_elexon(
    engine: Engine, with_unknown: Path, stand_in: StandInElexon, tmp_path: Path, spoilt: str
) -> None:
    archive, warnings = Archive(tmp_path / "archive"), list[str]()
    read_over_http(engine, stand_in, archive)
    say(engine, is_wind=True)
    asked = len(stand_in.requests)
    recording = archive.recording(JUNE_6)
    if spoilt == "gone":
        recording.unlink()
    elif spoilt == "corrupt":
        recording.write_bytes(b"not gzip")
    elif spoilt == "another":
        change_recording(archive.folder, JUNE_6, lambda body: body["stack_bid"]["7"]["data"][0].update(volume=-9.0))
    else:
        change_recording(archive.folder, JUNE_6, lambda body: body["stack_bid"].pop("7"))

    again = archived(engine, stand_in, archive, warnings)

    assert (again.changes.inserted, again.changes.corrected, again.revision) == (3, 3, None)
    assert len(stand_in.requests) >= asked + 48
    assert bool(warnings) == (spoilt != "gone")
    assert all("instead of the archive" in warning for warning in warnings)


def search(engine: Engine, archive: Archive, most: int = 100) -> tuple[int, int, int]:
    left = iter(range(most))
    found = search_archive(engine, archive, NOW, lambda: next(left, None) is not None)
    return found.searched, found.left, len(found.unreadable)


def to_search(engine: Engine, archive: Archive) -> list[date]:
    with reading(engine) as connection:
        return days_to_search(connection, archive)


def test_days_stored_before_are_searched_in_the_archive_once_a_part_at_a_time(
    engine: Engine, with_unknown: Path
) -> None:
    # given a database and an archive as an older version left them
    ingest(engine, SMALL_DAYS, with_unknown)
    execute(engine, "DELETE FROM uncounted_bids")
    archive = Archive(with_unknown)
    store(engine, listed("WIND"))
    assert not state(engine).new_wind_days
    assert to_search(engine, archive) == [JUNE_7, JUNE_6]

    # when
    assert search(engine, archive, most=1) == (1, 1, 0)
    assert to_search(engine, archive) == [JUNE_6]
    assert search(engine, archive) == (1, 0, 0)

    # then
    assert uncounted(engine) == {NEW: (3, -60.0)}
    assert state(engine).new_wind_days == {JUNE_6}
    assert scalar(engine, "SELECT value FROM recon_settings WHERE name = 'uncounted_bids_from_archive'") == "done"
    assert search(engine, archive) == (0, 0, 0)


def test_a_recording_that_cannot_be_read_does_not_stop_the_search(engine: Engine, with_unknown: Path) -> None:
    ingest(engine, SMALL_DAYS, with_unknown)
    execute(engine, "DELETE FROM uncounted_bids")
    (with_unknown / f"{JUNE_7}.json.gz").write_bytes(b"not gzip")

    assert search(engine, Archive(with_unknown)) == (2, 0, 1)

    assert uncounted(engine) == {NEW: (3, -60.0)}


def test_an_archive_that_has_none_of_the_stored_days_is_searched_when_it_is_there(
    engine: Engine, with_unknown: Path, tmp_path: Path
) -> None:
    ingest(engine, SMALL_DAYS, with_unknown)
    execute(engine, "DELETE FROM uncounted_bids")

    assert search(engine, Archive(tmp_path / "elsewhere")) == (0, 0, 0)

    assert search(engine, Archive(with_unknown)) == (2, 0, 0)
    assert uncounted(engine) == {NEW: (3, -60.0)}


def test_an_empty_database_has_nothing_to_search(engine: Engine, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")

    assert search(engine, archive) == (0, 0, 0)

    assert not archive.folder.exists()
    assert scalar(engine, "SELECT value FROM recon_settings WHERE name LIKE 'uncounted%'") == "done"


@pytest.mark.parametrize("how", ["listed", "declared"])
def test_a_unit_that_was_known_not_to_be_wind_has_the_archive_searched_again(
    engine: Engine, with_unknown: Path, how: str
) -> None:
    store(engine, listed("OTHER"))
    ingest(engine, SMALL_DAYS, with_unknown)
    archive = Archive(with_unknown)
    search(engine, archive)
    assert uncounted(engine) == {}

    if how == "listed":
        store(engine, listed("WIND"))
        store(engine, replace(listed("WIND"), lead_party_name="Bob"))
    else:
        say(engine, is_wind=True)

    assert search(engine, archive) == (2, 0, 0)
    assert state(engine).new_wind_days == {JUNE_6}


@pytest.mark.parametrize("method", [Method.WITNESS, Method.FULL, Method.FIXED, Method.RANDOM, Method.PROGRESSIVE])
def test_a_verification_uses_the_units_of_now(engine: Engine, with_unknown: Path, method: Method) -> None:
    change_recording(with_unknown, JUNE_6, unknown_in_every_period)
    ingest(engine, [JUNE_6], with_unknown)
    scope = Scope(Days(JUNE_6, JUNE_6), CurtailmentRule.SO_FLAGGED)

    def differences() -> tuple[Finding, set[str]]:
        found = verify_day(engine, Elexon(RecordingSource(with_unknown)), scope, LATER, method, seed=1)
        bids = {difference.farm_id for difference in found.differences if difference.side.value == "bids and Elexon"}
        return found.finding, bids

    assert differences()[1] == set()
    say(engine, is_wind=True)
    assert differences() == (Finding.DIFFERS, {NEW})


def unknown_in_every_period(content: dict[str, Any]) -> None:
    template = content["acceptance_volumes_bid"]["data"][0]
    for period, body in content["stack_bid"].items():
        bid = next(row for row in body["data"] if row["id"]) | {"id": NEW, "sequenceNumber": 950, "volume": -1.0}
        body["data"].append(bid | {"acceptanceId": 7000 + int(period)})
        content["acceptance_volumes_bid"]["data"].append(
            template
            | {
                "settlementPeriod": int(period),
                "bmUnit": NEW,
                "acceptanceId": 7000 + int(period),
                "totalVolumeAccepted": -1.0,
            }
        )


def test_farms_of_adopted_records_that_are_not_known_to_be_wind_are_found(small_days: Engine) -> None:
    # given records of an old database, one farm of which is in no list
    execute(
        small_days,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06'",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06'",
        "UPDATE curtailment_records SET farm_id = 'T_GONE-1', volume = abs(volume)"
        " WHERE settlement_date = '2025-06-06' AND settlement_period = 4",
        "UPDATE curtailment_records SET farm_id = 'T_PROVEN-1' WHERE settlement_date = '2025-06-07'",
    )
    gone = "FROM curtailment_records WHERE farm_id = 'T_GONE-1'"
    rows, mwh = scalar(small_days, f"SELECT count(*) {gone}"), scalar(small_days, f"SELECT -sum(volume) {gone}")

    def found() -> list[tuple[str, int, float]]:
        with reading(small_days) as connection:
            assert unknown_farms(connection, JUNE_7) == []
            return unknown_farms(connection, JUNE_6)

    ((farm, count, found_mwh),) = found()
    assert (farm, count) == ("T_GONE-1", rows)
    assert found_mwh == pytest.approx(mwh)
    assert rows > 0
    say(small_days, is_wind=False, unit="T_GONE-1")
    assert found() == []
    say(small_days, is_wind=True, unit="T_GONE-1")
    assert found() == []


def test_an_archive_that_has_nothing_of_what_is_asked_is_an_error_where_it_must_be_the_same(
    engine: Engine, with_unknown: Path
) -> None:
    ingest(engine, [JUNE_6], with_unknown)
    change_recording(with_unknown, JUNE_6, lambda body: body["stack_bid"]["7"]["data"][0].update(volume=-9.0))

    with pytest.raises(ReconError, match="does not have the bids that were stored"):
        ingest_day(engine, Elexon(RecordingSource(with_unknown)), JUNE_6, LATER, only_same=True)

    assert scalar(engine, "SELECT count(*) FROM settlement_revisions") == 0
