"""What is said of places that cannot be written."""

import os
from pathlib import Path

import pytest

from recon_assets.errors import ConfigurationError, DiskError
from recon_assets.folders import free_bytes, obstacle, require_writable, writing_to

FULL = Path("/dev/full")
"""Every write to it fails as on a full disk."""


def test_a_full_disk_is_named_with_the_file_and_the_free_space(tmp_path: Path) -> None:
    file = tmp_path / "auto.jsonl"
    file.symlink_to(FULL)

    with pytest.raises(DiskError) as raised, writing_to(file, "RECON_LOGS"):
        file.write_text("a line")

    said = str(raised.value)
    assert said.startswith(f"RECON_LOGS: {file} cannot be written: No space left on device (free: ")
    assert f" MB in {tmp_path}); " in said
    assert "\n" not in said
    assert raised.value.exit_code == 1


def test_a_place_that_is_no_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "logs"

    said = f"^RECON_LOGS: {folder} cannot be written: Not a directory; set RECON_LOGS to "
    with pytest.raises(ConfigurationError, match=said), writing_to(folder, "RECON_LOGS"):
        folder.mkdir()
    with pytest.raises(ConfigurationError, match=f"^RECON_LOGS: {folder} cannot be used: {tmp_path}/file is no folder"):
        require_writable(folder, "RECON_LOGS")


def test_a_folder_that_can_be_made_has_no_obstacle(tmp_path: Path) -> None:
    assert obstacle(tmp_path / "a" / "b") is None
    require_writable(tmp_path / "a" / "b", "RECON_LOGS")
    assert list(tmp_path.iterdir()) == []


def test_the_free_space_of_a_file_that_is_to_come_is_that_of_its_disk(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)

    assert abs(free_bytes(tmp_path / "a" / "b.db") - status.f_bavail * status.f_frsize) < 1e9
