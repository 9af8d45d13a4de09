"""Disks that are really full: every place that recon writes to, filled at several moments, then made larger."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from recon_assets.database.engine import open_engine_to_read
from recon_assets.database.transactions import reading
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.errors import DiskError
from recon_assets_tests.support.command import Command, Ended
from recon_assets_tests.support.content import all_hold, partitions
from recon_assets_tests.support.steps import JUNE

SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
NO_ROOM = ("database or disk is full", "disk I/O error", "No space left on device")
PLACES = {
    "DATABASE_URL": (50, 300, 450),
    "DAGSTER_HOME": (50, 300, 600, 1000),
    "RECON_ARCHIVE": (20, 40),
    "RECON_LOGS": (0,),
    "RECON_REPORTS": (0,),
}
"""The sizes in kB with which each is too small; found by trying, so that each stops the work at another step."""


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own in a folder; with 0 kB it is one that is full already."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes or 4}k", "tmpfs", folder], check=True)
    try:
        if not kilobytes:
            (folder / "in the way").write_bytes(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_room(folder: Path) -> None:
    """Makes the file system large enough."""
    subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)


def assert_named(ended: Ended, variable: str, folder: Path) -> None:
    """The one line names the variable, the file and the free space; nothing else is printed."""
    assert ended.exit_code == 1, ended
    assert ended.complaint.startswith(f"Error: {variable}: {folder}/"), ended.stderr
    assert any(reason in ended.complaint for reason in NO_ROOM), ended.stderr
    assert f"(free: 0.0 MB in {folder}" in ended.complaint
    assert "make room, and the same command does the rest" in ended.complaint


@pytest.mark.parametrize(("variable", "kilobytes"), [(name, size) for name, sizes in PLACES.items() for size in sizes])
def test_a_full_disk_is_named_and_with_room_the_same_command_does_the_rest(
    tmp_path: Path, stand_in: StandInElexon, variable: str, kilobytes: int
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with disk(tmp_path / "disk", kilobytes) as folder:
        places = {name: str(tmp_path / name) for name in PLACES} | {variable: str(folder / "place")}
        places["DATABASE_URL"] = f"sqlite:///{places['DATABASE_URL']}/recon.db"
        is_read = variable == "RECON_ARCHIVE"
        source = stand_in.url if is_read else JUNE.as_uri()
        recon = Command(here, **places, ELEXON_API_URL=source, MEMPOOL_API_URL="none")
        words = {
            "RECON_LOGS": ("auto", *SMALL),
            "RECON_REPORTS": ("daily-check",),
        }.get(variable, ("reconcile", *SMALL))

        # when
        ended = recon(*words)

        # then
        assert_named(ended, variable, folder)

        # and when
        make_room(folder)
        again = recon(*words)

        # then
        assert (again.exit_code, again.stderr) == (0, ""), again
        if variable != "RECON_REPORTS":
            assert recon("status", *SMALL).exit_code == 0
            with recon.dagster() as instance:
                assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_folder_of_temporary_files_is_named(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite sorts there what does not fit into memory, also for a command that reads."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    large = text(f"{numbers} SELECT hex(randomblob(1000)) AS x FROM n ORDER BY x")

    with disk(tmp_path / "disk", 0) as folder, reading(open_engine_to_read(engine.url)) as connection:
        monkeypatch.setenv("SQLITE_TMPDIR", str(folder))
        # SQLite reads the variable when a process uses it for the first time.
        connection.exec_driver_sql(f"PRAGMA temp_store_directory = '{folder}'")
        with pytest.raises(DiskError, match=rf"database or disk is full .free: .* and 0\.0 MB in {folder}\)"):
            connection.execute(large).all()
        connection.exec_driver_sql("PRAGMA temp_store_directory = ''")
