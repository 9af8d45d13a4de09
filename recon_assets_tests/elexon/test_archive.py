import gzip
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.database.failures import failure_of
from recon_assets.database.tables import proof_of_fetch, wind_bids
from recon_assets.database.transactions import writing
from recon_assets.domain.bm_units import BmUnit
from recon_assets.elexon.archive import Archive, read_bodies
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.errors import DiskError, ElexonError, ReconError
from recon_assets.ingest.bids import ingest_day
from recon_assets.ingest.reference import store_bm_units
from recon_assets_tests.support.full import full_files
from recon_assets_tests.support.steps import JUNE_6, NOW, change_recording, contents, execute, scalar

ODD = ' {"data" : [ {"volume": -1.50, "note":"a \\u00e9 \\" }"} ],\n "metadata":{} }\n'
"""A body whose text another JSON writer would format differently."""
EMPTY = '{"data":[]}'


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def bodies_of(path: Path) -> dict[str, str]:
    return read_bodies(path.read_bytes())


def test_answers_are_kept_to_the_letter_in_the_format_of_a_recording(archive: Archive) -> None:
    kept = archive.keep(JUNE_6, {"stack_bid/10": ODD, "stack_bid/9": EMPTY, "system_prices": ODD}, NOW)

    assert kept.recording == archive.folder / "2025-06-06.json.gz"
    assert kept.earlier is None
    assert bodies_of(kept.recording) == {
        "stack_bid/9": EMPTY,
        "stack_bid/10": ODD.strip(),
        "system_prices": ODD.strip(),
    }
    recording = json.loads(gzip.decompress(kept.recording.read_bytes()))
    assert list(recording) == ["settlementDate", "stack_bid", "system_prices"]
    assert list(recording["stack_bid"]) == ["9", "10"]
    source = RecordingSource(archive.folder)
    body = source.stack(JUNE_6, 10)
    assert body
    assert body.content == json.loads(ODD)
    assert source.stack(JUNE_6, 8) is None


def test_whoever_may_read_files_of_this_user_may_read_recordings(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "any").touch()

    path = archive.keep(JUNE_6, {"stack_bid/1": ODD}, NOW).recording

    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_the_same_answers_again_write_nothing(archive: Archive) -> None:
    path = archive.keep(JUNE_6, {"stack_bid/10": ODD}, NOW).recording
    os.utime(path, (1, 1))

    kept = archive.keep(JUNE_6, {"stack_bid/10": ODD}, NOW + timedelta(days=1))

    assert (kept.recording, kept.earlier) == (path, None)
    assert path.stat().st_mtime == 1


def test_what_only_grows_has_no_earlier_version(archive: Archive) -> None:
    archive.keep(JUNE_6, {"stack_bid/1": ODD}, NOW)

    kept = archive.keep(JUNE_6, {"stack_bid/2": EMPTY}, NOW)

    assert kept.earlier is None
    assert bodies_of(kept.recording).keys() == {"stack_bid/1", "stack_bid/2"}


def test_what_differs_is_kept_beside_what_it_was(archive: Archive) -> None:
    archive.keep(JUNE_6, {"stack_bid/1": ODD, "stack_bid/2": ODD}, NOW)

    kept = archive.keep(JUNE_6, {"stack_bid/2": EMPTY}, datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))

    assert kept.earlier == archive.folder / "earlier" / "2025-06-06.until-20260203T040506.000000Z.json.gz"
    assert bodies_of(kept.earlier) == {"stack_bid/1": ODD.strip(), "stack_bid/2": ODD.strip()}
    assert bodies_of(kept.recording) == {"stack_bid/1": ODD.strip(), "stack_bid/2": EMPTY}
    # and it is no day of its own
    span = RecordingSource(archive.folder).span()
    assert span
    assert len(span) == 1


@pytest.mark.parametrize(
    "spoiled",
    [b"", b"not gzip", gzip.compress(b"{"), gzip.compress(b'{"stack_bid":[]}')],
    ids=["empty", "not gzip", "not JSON", "no stack"],
)
def test_a_corrupt_recording_is_set_aside_and_named(archive: Archive, spoiled: bytes) -> None:
    path = archive.keep(JUNE_6, {"stack_bid/1": ODD}, NOW).recording
    path.write_bytes(spoiled)

    with pytest.raises(ElexonError, match=r"2025-06-06\.json\.gz is corrupt"):
        RecordingSource(archive.folder).stack(JUNE_6, 1)
    kept = archive.keep(JUNE_6, {"stack_bid/2": EMPTY}, NOW)

    assert kept.was_corrupt
    assert kept.earlier
    assert kept.earlier.name.endswith(".corrupt.json.gz")
    assert kept.earlier.read_bytes() == spoiled
    assert bodies_of(kept.recording) == {"stack_bid/2": EMPTY}


def test_a_write_that_fails_leaves_the_recording_as_it_was(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive.keep(JUNE_6, {"stack_bid/1": ODD}, NOW).recording
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(
        ReconError, match=f"^RECON_ARCHIVE: {archive.folder} cannot be written: No space left on device"
    ):
        archive.keep(JUNE_6, {"stack_bid/2": EMPTY}, NOW)

    assert path.read_bytes() == before
    assert [found.name for found in archive.folder.iterdir() if found.name.endswith(".tmp")] == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ReconError, match=f"^RECON_ARCHIVE: {tmp_path / 'file' / 'archive'} cannot be written"):
        Archive(tmp_path / "file" / "archive").keep(JUNE_6, {"stack_bid/1": ODD}, NOW)


def test_several_writers_of_one_day_lose_nothing(archive: Archive) -> None:
    def keep(period: int) -> None:
        Archive(archive.folder).keep(JUNE_6, {f"stack_bid/{period}": EMPTY}, NOW)

    writers = [threading.Thread(target=keep, args=(period,)) for period in range(1, 21)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(bodies_of(archive.folder / "2025-06-06.json.gz")) == 20


def read(engine: Engine, server: StandInElexon, archive: Archive) -> None:
    ingest_day(engine, Elexon(HttpSource(server.url, per_second=1000)), JUNE_6, NOW, archive=archive)


def test_an_archived_day_is_rebuilt_without_a_request(
    engine: Engine, stand_in: StandInElexon, archive: Archive
) -> None:
    # given
    read(engine, stand_in, archive)
    before = contents(engine, wind_bids, proof_of_fetch)
    execute(engine, "DELETE FROM wind_bids", "DELETE FROM proof_of_fetch")
    asked = len(stand_in.requests)

    # when
    ingest_day(engine, Elexon(RecordingSource(archive.folder)), JUNE_6, NOW)

    # then
    assert contents(engine, wind_bids, proof_of_fetch) == before
    assert len(stand_in.requests) == asked == 48


def test_a_unit_that_turns_out_to_be_wind_is_found_in_the_archive(
    engine: Engine, stand_in: StandInElexon, archive: Archive
) -> None:
    # given a unit whose bids of the day were not stored, because it was not known to be a wind farm
    read(engine, stand_in, archive)
    assert scalar(engine, "SELECT count(*) FROM wind_bids WHERE bm_unit_id = 'T_STAY-3'") == 0
    unit = BmUnit("T_STAY-3", None, None, None, fuel_type="WIND", generation_capacity_mw=None)
    with writing(engine) as connection:
        store_bm_units(connection, [unit], NOW)

    # when
    again = ingest_day(engine, Elexon(RecordingSource(archive.folder)), JUNE_6, NOW)

    # then
    assert scalar(engine, "SELECT count(*) FROM wind_bids WHERE bm_unit_id = 'T_STAY-3'") > 0
    assert again.changes.inserted > 0
    assert again.revision
    assert again.revision.elexon_created_at == again.revision.elexon_created_at_before


def test_a_revised_day_keeps_what_was_published_before(
    engine: Engine, stand_in: StandInElexon, archive: Archive, recordings: Path
) -> None:
    read(engine, stand_in, archive)
    before = contents(engine, wind_bids)
    change_recording(recordings, JUNE_6, lambda content: content["stack_bid"]["7"]["data"][0].update(volume=-9.0))
    read(engine, stand_in, archive)
    (earlier,) = (archive.folder / "earlier").iterdir()

    # What was in force then can be read again.
    earlier.rename(archive.folder / "2025-06-06.json.gz")
    ingest_day(engine, Elexon(RecordingSource(archive.folder)), JUNE_6, NOW)

    assert contents(engine, wind_bids) == before


def test_a_full_disk_ends_the_reading_of_days_and_names_the_file(
    engine: Engine, stand_in: StandInElexon, archive: Archive
) -> None:
    read(engine, stand_in, archive)
    before = contents(engine, wind_bids, proof_of_fetch)
    execute(engine, "DELETE FROM wind_bids", "DELETE FROM proof_of_fetch")
    file = archive.recording(JUNE_6)
    kept = file.read_bytes()
    file.unlink()

    with full_files(10_000), pytest.raises(DiskError) as raised:
        read(engine, stand_in, archive)

    said = str(raised.value)
    assert said.startswith(f"RECON_ARCHIVE: {archive.folder} cannot be written: File too large: {file} (free: ")
    assert failure_of(raised.value).is_everywhere
    # The archive comes first: no row was stored without the answer that it is from.
    assert sum(contents(engine, wind_bids)["wind_bids"].values()) == 0
    assert not list(archive.folder.glob("*.gz"))
    # and
    read(engine, stand_in, archive)
    assert contents(engine, wind_bids, proof_of_fetch) == before
    assert file.read_bytes() == kept
