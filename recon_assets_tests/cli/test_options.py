"""The periods that commands take."""

from datetime import date
from pathlib import Path

import pytest

from recon_assets.cli.options import Period
from recon_assets.errors import UsageError
from recon_assets.settings import Settings


def resolve(tmp_path: Path, first: date | None = None, last: date | None = None, month: str | None = None) -> str:
    settings = Settings.from_environment({}, tmp_path)
    return str(Period(first, last, month, None).resolve(settings, date(2025, 6, 1)))


@pytest.mark.parametrize("month", ["", " ", "2025-13"])
def test_an_empty_or_wrong_month_is_an_error_and_not_the_whole_history(tmp_path: Path, month: str) -> None:
    with pytest.raises(UsageError):
        resolve(tmp_path, month=month)


def test_an_empty_year_is_an_error() -> None:
    with pytest.raises(UsageError):
        Period(None, None, None, "")


def test_a_first_day_that_is_still_to_come_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9999-12-31 is still to come"):
        resolve(tmp_path, first=date(9999, 12, 31))


def test_a_last_day_that_is_still_to_come_means_today(tmp_path: Path) -> None:
    assert resolve(tmp_path, last=date(9999, 12, 31)) == resolve(tmp_path, date(2025, 6, 1), date(9999, 12, 31))
