import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from recon_assets.errors import DiskError
from recon_assets.reports.daily import REPORTS_KEPT, write_report

DAY = date(2026, 1, 15)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_report_is_a_file_of_its_day_in_a_folder_that_need_not_be_there(tmp_path: Path) -> None:
    written = write_report(tmp_path / "state" / "reports", DAY, {"next": []})

    assert written == tmp_path / "state" / "reports" / "2026-01-15.json"
    assert json.loads(written.read_text()) == {"next": []}
    assert names(written.parent) == ["2026-01-15.json"]


def test_a_later_report_of_the_same_day_takes_its_place(tmp_path: Path) -> None:
    write_report(tmp_path, DAY, {"runs": 1})

    assert json.loads(write_report(tmp_path, DAY, {"runs": 2}).read_text()) == {"runs": 2}
    assert names(tmp_path) == ["2026-01-15.json"]


def test_only_the_newest_reports_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    others = ["2026-01-01.json.bak", "2026.json", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")

    for n in range(5):
        write_report(tmp_path, DAY + timedelta(days=n), {}, kept=3)

    assert names(tmp_path) == sorted([*others, "2026-01-17.json", "2026-01-18.json", "2026-01-19.json"])


def test_a_quarter_of_a_year_is_kept_where_nothing_else_is_said(tmp_path: Path) -> None:
    for n in range(REPORTS_KEPT + 2):
        write_report(tmp_path, DAY + timedelta(days=n), {})

    assert len(names(tmp_path)) == REPORTS_KEPT == 90
    assert names(tmp_path)[0] == "2026-01-17.json"


def test_on_a_full_disk_the_file_is_named_and_the_earlier_report_stays(tmp_path: Path) -> None:
    written = write_report(tmp_path, DAY, {"runs": 1})
    (tmp_path / "2026-01-15.tmp").symlink_to("/dev/full")

    with pytest.raises(DiskError, match=f"^RECON_REPORTS: {written} cannot be written: No space left "):
        write_report(tmp_path, DAY, {"runs": 2})

    assert json.loads(written.read_text()) == {"runs": 1}
    assert names(tmp_path) == ["2026-01-15.json"]
