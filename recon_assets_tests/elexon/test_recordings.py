import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ConfigurationError, ElexonError
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS


def test_a_folder_knows_its_days(recordings: Path) -> None:
    folder = RecordingSource(recordings)

    assert folder.span() == SMALL_DAYS
    assert folder.can_have(JUNE_6)
    assert not folder.can_have(JUNE_6.replace(day=5))


def test_what_is_not_recorded_is_an_absent_answer(recordings: Path) -> None:
    bodies = json.loads(gzip.decompress((recordings / "2025-06-06.json.gz").read_bytes()))
    rewrite(recordings, {"settlementDate": "2025-06-06", "stack_bid": {"7": bodies["stack_bid"]["7"]}})
    folder = RecordingSource(recordings)

    stack = folder.stack(JUNE_6, 7)
    assert stack is not None
    assert stack.content == bodies["stack_bid"]["7"]
    assert folder.stack(JUNE_6, 8) is None
    assert folder.system_prices(JUNE_6) is None
    assert folder.acceptance_volumes(JUNE_6) is None
    assert folder.stack(JUNE_6.replace(day=5), 7) is None
    assert folder.bm_units() is None


def rewrite(recordings: Path, content: object) -> None:
    (recordings / "2025-06-06.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))


def cut(recordings: Path) -> None:
    path = recordings / "2025-06-06.json.gz"
    path.write_bytes(path.read_bytes()[:2000])


def flip_a_bit(recordings: Path) -> None:
    path = recordings / "2025-06-06.json.gz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (cut, "is corrupt: "),
        (flip_a_bit, "is corrupt: "),
        (lambda folder: (folder / "2025-06-06.json.gz").write_bytes(b"not gzip"), "is corrupt: "),
        (lambda folder: (folder / "2025-06-06.json.gz").write_bytes(gzip.compress(b"not JSON")), "is corrupt: "),
        (lambda folder: (folder / "2025-06-06.json.gz").write_bytes(gzip.compress(b"\xff\xfe")), "is corrupt: "),
        (lambda folder: rewrite(folder, []), "is corrupt: it has no object 'stack_bid'"),
        (lambda folder: rewrite(folder, {"settlementDate": "2025-06-06"}), "is corrupt: it has no object 'stack_bid'"),
        (lambda folder: shutil.copy(folder / "2025-06-07.json.gz", folder / "2025-06-06.json.gz"), "is of 2025-06-07"),
    ],
    ids=["cut short", "bit flipped", "not gzip", "not JSON", "not text", "a list", "no stack", "another day"],
)
def test_a_corrupt_recording_is_named(recordings: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    spoil(recordings)
    folder = RecordingSource(recordings)

    with pytest.raises(ElexonError) as failure:
        folder.stack(JUNE_6, 7)

    assert str(failure.value).startswith(f"the recording {recordings / '2025-06-06.json.gz'} {complaint}")
    assert folder.stack(JUNE_7, 7) is not None


def test_a_corrupt_reference_list_is_named(recordings: Path) -> None:
    (recordings / "bmunits_all.json").write_text("[")

    with pytest.raises(ElexonError, match=r"bmunits_all\.json is corrupt"):
        RecordingSource(recordings).bm_units()


def test_a_folder_without_recordings_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")

    with pytest.raises(ConfigurationError, match=f"^ELEXON_API_URL: {tmp_path} holds no recording"):
        RecordingSource(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "notes.txt"])
def test_what_is_no_folder_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")

    with pytest.raises(ConfigurationError, match=f"^ELEXON_API_URL: {tmp_path / name} is not a folder"):
        RecordingSource(tmp_path / name)


def test_a_recording_of_no_day_is_a_wrong_setting(recordings: Path) -> None:
    shutil.copy(recordings / "2025-06-06.json.gz", recordings / "2025-06-31.json.gz")

    with pytest.raises(ConfigurationError, match=r"2025-06-31\.json\.gz is named after a day that does not exist$"):
        RecordingSource(recordings)
