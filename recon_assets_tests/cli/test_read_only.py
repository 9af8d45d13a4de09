"""Reading commands on an SQLite file that may only be read."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets_tests.cli.test_writes_nothing import SMALL, assert_nothing_is_written, everything
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.permissions import protected

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def recon(tmp_path: Path, recordings: Path, small_days: Engine) -> Command:
    """The command in the folder of a database of two days, in WAL mode as recon leaves it."""
    here = tmp_path / "here"
    here.mkdir()
    assert small_days.url.database
    shutil.copy(small_days.url.database, here / "recon.db")
    recon = Command(here, DATABASE_URL="sqlite:///recon.db", ELEXON_API_URL=recordings.as_uri())
    recon.obeys_permissions = True
    return recon


def leave_log(recon: Command, tmp_path: Path) -> None:
    """Leaves what a killed process does: a write-ahead log with a change that is not in the file."""
    writer = sqlite3.connect(recon.folder / "recon.db")
    writer.execute("DELETE FROM bitcoin_monthly_summaries")
    writer.commit()
    shutil.copytree(recon.folder, tmp_path / "copy")
    writer.close()
    shutil.rmtree(recon.folder)
    shutil.copytree(tmp_path / "copy", recon.folder)


def files(recon: Command) -> list[Path]:
    return list(recon.folder.iterdir())


def test_every_reading_command_reads_a_file_in_a_folder_that_cannot_be_written(recon: Command) -> None:
    with protected(*files(recon), recon.folder):
        assert_nothing_is_written(recon, lambda: everything(recon.folder), {1})
        status = recon("status", *SMALL, "--format", "json")

    assert (status.exit_code, status.facts["conclusion"]) == (0, "right")


@pytest.mark.parametrize("name", ["recon.db", "."])
def test_a_reader_leaves_no_file_that_would_stop_the_owner(recon: Command, name: str) -> None:
    """Of one of the two that may be written alone."""
    before = everything(recon.folder)

    with protected(recon.folder / name):
        assert recon("status", *SMALL).exit_code == 0

    assert everything(recon.folder) == before


def test_what_a_killed_process_left_beside_the_file_is_read(recon: Command, tmp_path: Path) -> None:
    leave_log(recon, tmp_path)

    with protected(*files(recon), recon.folder):
        status = recon("status", *SMALL, "--format", "json")

    assert status.facts["stale_summaries"] == 3


def test_a_log_that_cannot_be_read_is_never_passed_over(recon: Command, tmp_path: Path) -> None:
    leave_log(recon, tmp_path)
    (recon.folder / "recon.db-shm").unlink()

    with protected(*files(recon), recon.folder):
        status = recon("status", *SMALL)
        doctor = recon("doctor", "--format", "json")

    assert status.exit_code == 2
    assert status.complaint.startswith("Error: DATABASE_URL: cannot connect to sqlite:///")
    assert "recon.db-wal holds changes that cannot be read where nothing may be written: " in status.complaint
    assert "copy both files to a folder of yours" in status.complaint
    assert "recon.db-wal holds changes" in doctor.facts["database"]["error"]


def test_a_file_that_is_not_in_wal_mode_is_read_with_its_locks(recon: Command) -> None:
    connection = sqlite3.connect(recon.folder / "recon.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    # when a writer holds the file
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with protected(*files(recon), recon.folder):
            ended = recon("units", "show", "T_SGRWO-1")
    finally:
        connection.close()

    assert "database is locked" in ended.complaint
