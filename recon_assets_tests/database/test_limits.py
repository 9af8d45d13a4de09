import pytest

from recon_assets.database.limits import DEFAULT_WORK_LIMITS, SHORTEST_TIMEOUT_SECONDS, WorkLimits


@pytest.mark.parametrize(("days", "seconds"), [(31, 30), (28, 30 * 28 / 31), (16, 30 * 16 / 31), (366, 30)])
def test_a_statement_has_its_share_of_what_a_month_has(days: int, seconds: float) -> None:
    assert DEFAULT_WORK_LIMITS.timeout_for(days) == pytest.approx(seconds, rel=1e-12, abs=0)


@pytest.mark.parametrize("days", [1, 5])
def test_however_little_it_is_about_it_has_the_shortest_time(days: int) -> None:
    assert DEFAULT_WORK_LIMITS.timeout_for(days) == SHORTEST_TIMEOUT_SECONDS


@pytest.mark.parametrize("days", [1, 31])
def test_it_never_has_more_than_is_given(days: int) -> None:
    assert WorkLimits(statement_timeout_seconds=0.3).timeout_for(days) == 0.3
