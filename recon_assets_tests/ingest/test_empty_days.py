"""A day without records is proven empty by one list of acceptance volumes, or not at all."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database.tables import curtailment_records
from recon_assets.database.transactions import reading
from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive, read_bodies
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.ingest.archived import search_archive
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.empty_days import prove_empty
from recon_assets.ingest.revisions import read_revisions
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets_tests.reconcile.test_apply import RULE, adopt
from recon_assets_tests.support.old_database import keep_units
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    change_recording,
    contents,
    execute,
    ingest,
    scalar,
    state_of,
)

DAY = Scope(Days(JUNE_6, JUNE_6), RULE)


@pytest.fixture
def calm(engine: Engine, recordings: Path) -> Engine:
    """An adopted database whose newest day is 2025-06-07; on the day before, Elexon lists no wind unit."""
    change_recording(recordings, JUNE_6, lambda content: keep_units(content, 0))
    adopt(engine, JUNE_7)
    return engine


def prove(engine: Engine, recordings: Path, now: datetime = NOW) -> IngestedDay | str:
    return prove_empty(engine, Elexon(RecordingSource(recordings)), DAY, now)


def volumes(content: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = content["acceptance_volumes_bid"]["data"]
    return rows


def test_one_request_proves_a_calm_day_and_is_archived(calm: Engine, recordings: Path, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    with StandInElexon(recordings) as server:
        elexon = Elexon(HttpSource(server.url, per_second=1000))
        found = prove_empty(calm, elexon, DAY, NOW, archive)

    assert isinstance(found, IngestedDay)
    assert (found.source, found.stack_rows, found.wind_rows, found.periods) == ("acceptance_volumes", None, 0, 48)
    assert len(server.requests) == 1
    assert list(read_bodies((archive.folder / "2025-06-06.json.gz").read_bytes())) == ["acceptance_volumes_bid"]
    proofs = "SELECT count(*) FROM proof_of_fetch WHERE source = 'acceptance_volumes' AND stack_rows IS NULL"
    assert scalar(calm, proofs) == 48
    assert state_of(calm, DAY.days).days == {JUNE_6: DayState.INGESTED}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: volumes(content).clear(), "is empty, and confirms nothing"),
        (
            lambda content: volumes(content)[0].update(bmUnit="T_SGRWO-1"),
            "1 BM units that are wind or may be: T_SGRWO",
        ),
        (lambda content: volumes(content)[0].update(bmUnit="T_NEWWO-1"), "wind or may be: T_NEWWO-1"),
        (
            lambda content: volumes(content)[0].update(bmUnit=None),
            "the acceptance volumes have no BM unit in 1 of 628 rows, and prove nothing",
        ),
        (
            lambda content: volumes(content)[0].update(totalVolumeAccepted=None),
            "the acceptance volumes have no volume in 1 of 628 rows, and prove nothing",
        ),
        (
            lambda content: [row.update(bmUnit=None, totalVolumeAccepted=0) for row in volumes(content)[:2]],
            "the acceptance volumes have no BM unit in 2 of 628 rows, and prove nothing",
        ),
        (lambda content: content.pop("acceptance_volumes_bid"), "there is no list of acceptance volumes"),
    ],
    ids=["empty", "wind", "unlisted", "no unit", "no volume", "no unit and no energy", "absent"],
)
def test_a_list_that_leaves_a_doubt_proves_nothing(calm: Engine, recordings: Path, change: Any, reason: str) -> None:
    change_recording(recordings, JUNE_6, change)

    found = prove(calm, recordings)

    assert isinstance(found, str)
    assert reason in found
    assert scalar(calm, "SELECT count(*) FROM proof_of_fetch") == 0


def test_a_list_that_may_still_grow_proves_nothing(calm: Engine, recordings: Path) -> None:
    found = prove(calm, recordings, now=datetime(2025, 6, 7, 12, tzinfo=UTC))

    assert found == "the acceptance volumes of the day are not settled yet"


def test_a_day_that_got_records_meanwhile_is_not_proven_empty(calm: Engine, recordings: Path) -> None:
    adopt(calm, JUNE_6)

    assert prove(calm, recordings) == "the day has records or proofs by now"
    assert contents(calm, curtailment_records)["curtailment_records"].total() == 6


def test_reading_a_day_that_was_proven_empty_is_no_revision(calm: Engine, recordings: Path) -> None:
    prove(calm, recordings)
    ingest(calm, [JUNE_6])

    with reading(calm) as connection:
        assert read_revisions(connection, DAY.days) == []
    assert scalar(calm, "SELECT count(*) FROM proof_of_fetch WHERE source = 'stack' AND stack_rows > 0") == 48
    assert scalar(calm, "SELECT count(*) FROM wind_bids WHERE settlement_date = '2025-06-06'") == 83


def test_a_proof_by_volumes_ends_when_a_unit_becomes_wind(calm: Engine, recordings: Path, tmp_path: Path) -> None:
    # given a unit that a person called not wind, and one that Elexon lists with another fuel
    columns = "bm_unit_id, is_wind, declared_by, declared_at"
    insertion = f"INSERT INTO bm_unit_declarations ({columns}) VALUES"
    execute(calm, f"{insertion} ('T_NEWWO-1', false, 'me', '2026-01-15 12:00:00')")
    change_recording(recordings, JUNE_6, lambda content: volumes(content)[0].update(bmUnit="T_NEWWO-1"))
    assert isinstance(prove(calm, recordings), IngestedDay)
    assert state_of(calm, DAY.days).new_wind_days == frozenset()

    # when the first becomes wind
    execute(calm, "UPDATE bm_unit_declarations SET is_wind = true")
    assert state_of(calm, DAY.days).new_wind_days == {JUNE_6}

    # and when the second does
    execute(calm, "UPDATE bm_unit_declarations SET is_wind = false", "DELETE FROM uncounted_bids")
    other = scalar(calm, "SELECT min(bm_unit_id) FROM other_bm_units WHERE fuel_type IS NOT NULL")
    change_recording(recordings, JUNE_6, lambda content: volumes(content)[1].update(bmUnit=other))
    execute(calm, f"{insertion} ('{other}', true, 'me', '2026-01-15 12:00:00')")
    search_archive(calm, Archive(recordings), NOW, lambda: True)
    assert state_of(calm, DAY.days).new_wind_days == {JUNE_6}
