import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recon_assets.errors import DiskError
from recon_assets.orchestration.logs import BYTES_A_FILE, FILES_KEPT, open_log


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def test_a_second_time_the_log_goes_on(tmp_path: Path) -> None:
    for number in (1, 2):
        with open_log(tmp_path, "auto") as log:
            log.info("finished", extra={"number": number})

    assert [line["number"] for line in lines_of(tmp_path / "auto.jsonl")] == [1, 2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("the disk is full"), "the disk is full"), (KeyboardInterrupt(), "KeyboardInterrupt")],
)
def test_what_ends_the_work_is_written_down_and_raised(tmp_path: Path, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), open_log(tmp_path, "auto"):
        raise error

    (line,) = lines_of(tmp_path / "auto.jsonl")
    assert (line["level"], line["event"], line["reason"]) == ("ERROR", "ended", reason)


def test_a_full_file_is_followed_by_another_and_no_line_is_torn(tmp_path: Path) -> None:
    # given lines of which a file holds two and a half
    long = "x" * (BYTES_A_FILE * 2 // 5)

    # when
    with open_log(tmp_path, "auto") as log:
        for number in range(3 + 2 * FILES_KEPT):
            log.info("read", extra={"number": number, "long": long})

    # then every file is within the size and whole, and the oldest is gone
    files = [tmp_path / "auto.jsonl", *(tmp_path / f"auto.jsonl.{n + 1}" for n in range(FILES_KEPT))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= BYTES_A_FILE for file in files)
    numbers = [[line["number"] for line in lines_of(file)] for file in files]
    assert numbers == [[12], *([n, n + 1] for n in range(10, 0, -2))]


def test_a_full_disk_ends_the_work_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own handler prints a traceback, and goes on without a log."""
    (tmp_path / "auto.jsonl").symlink_to("/dev/full")

    def work() -> None:
        with open_log(tmp_path, "auto") as log:
            log.info("planned")
            raise AssertionError("the work goes on")

    with pytest.raises(DiskError, match=f"^RECON_LOGS: {tmp_path}/auto.jsonl cannot be written: No space left on "):
        work()
    assert capsys.readouterr().err == ""


def test_what_ends_the_work_is_raised_even_if_it_cannot_be_written_down(tmp_path: Path) -> None:
    (tmp_path / "auto.jsonl").symlink_to("/dev/full")

    with pytest.raises(ValueError, match="no such day"), open_log(tmp_path, "auto"):
        raise ValueError("no such day")
