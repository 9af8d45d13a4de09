from datetime import date

import pytest
from sqlalchemy import Engine

from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.gaps import Gap, GapRange, calculation_gaps, ranges
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS, execute, state_of

ONE_ENGINE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: test_difference.py has the state on both engines."""
ALL = frozenset(MODELS)
S9 = frozenset({"S9"})
CALCULATIONS = "historical_bitcoin_calculations"


def gaps_of(engine: Engine, around: str = "") -> dict[date, Gap]:
    return calculation_gaps(state_of(engine, SMALL_DAYS), around)


@ONE_ENGINE
def test_where_everything_is_right_there_is_no_gap(small_days: Engine) -> None:
    assert gaps_of(small_days) == {}


@ONE_ENGINE
@pytest.mark.parametrize(
    ("damage", "records", "models"),
    [
        (f"DELETE FROM {CALCULATIONS} WHERE miner_model = 'S9' AND settlement_date = '2025-06-06'", False, S9),
        (f"UPDATE {CALCULATIONS} SET bitcoin_mined = 2 WHERE settlement_date = '2025-06-06'", False, ALL),
        ("DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'", True, ALL),
        ("UPDATE curtailment_records SET payment = 0 WHERE settlement_date = '2025-06-06'", True, ALL),
    ],
    ids=["missing", "wrong", "no records", "wrong records"],
)  # fmt: skip
def test_a_gap_is_what_of_a_day_is_not_right(
    small_days: Engine, damage: str, records: bool, models: frozenset[str]
) -> None:
    execute(small_days, damage)

    gaps = gaps_of(small_days)

    assert {day: (gap.records, gap.models) for day, gap in gaps.items()} == {JUNE_6: (records, models)}


@ONE_ENGINE
def test_a_day_whose_bids_are_not_those_that_were_fetched_is_none_to_calculate(small_days: Engine) -> None:
    execute(small_days, f"DELETE FROM {CALCULATIONS}")
    assert set(gaps_of(small_days)) == {JUNE_6, JUNE_7}

    execute(small_days, "UPDATE wind_bids SET volume = -1 WHERE settlement_date = '2025-06-06'")

    assert set(gaps_of(small_days)) == {JUNE_7}


@ONE_ENGINE
def test_sums_that_are_not_right_are_no_gap(small_days: Engine) -> None:
    execute(small_days, "DELETE FROM daily_summaries", "DELETE FROM bitcoin_daily_summaries")

    assert gaps_of(small_days) == {}


@ONE_ENGINE
def test_the_fingerprint_changes_with_the_gap_and_with_what_is_around_it(small_days: Engine) -> None:
    # given
    delete = f"DELETE FROM {CALCULATIONS} WHERE settlement_date = '2025-06-06' AND miner_model = 'S9' AND"
    execute(small_days, f"{delete} settlement_period = 5")
    (before,) = gaps_of(small_days).values()
    assert gaps_of(small_days) == {JUNE_6: before}

    # when the surroundings change, more rows go, rows are wrong, or another model's are missing
    seen = {before.fingerprint, gaps_of(small_days, "a trigger")[JUNE_6].fingerprint}
    for damage in (
        f"{delete} settlement_period = 7",
        f"UPDATE {CALCULATIONS} SET difficulty = 1 WHERE settlement_date = '2025-06-06' AND settlement_period = 11",
        f"DELETE FROM {CALCULATIONS} WHERE settlement_date = '2025-06-06' AND miner_model = 'M20S'",
    ):
        execute(small_days, damage)
        seen.add(gaps_of(small_days)[JUNE_6].fingerprint)

    # then
    assert len(seen) == 5


def gap(records: bool = False, models: frozenset[str] = ALL) -> Gap:
    return Gap(records, models, "")


def as_text(found: list[GapRange]) -> list[str]:
    return [f"{span.days} {'records ' if span.records else ''}{','.join(sorted(span.models))}" for span in found]


def test_days_in_a_row_that_lack_the_same_are_one_range_within_a_month_the_newest_first() -> None:
    days = [date(2025, 5, 30), date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2), date(2025, 6, 4)]

    found = ranges({day: gap(models=S9) for day in days}, days)

    assert as_text(found) == ["2025-06-04 S9", "2025-06-01..2025-06-02 S9", "2025-05-30..2025-05-31 S9"]


def test_days_that_lack_different_things_are_different_ranges() -> None:
    gaps = {
        date(2025, 6, 1): gap(models=S9),
        date(2025, 6, 2): gap(records=True),
        date(2025, 6, 3): gap(),
        date(2025, 6, 4): gap(models=S9),
        date(2025, 6, 5): gap(models=S9),
    }
    every = ",".join(sorted(MODELS))

    assert as_text(ranges(gaps, gaps)) == [
        "2025-06-04..2025-06-05 S9",
        f"2025-06-03 {every}",
        f"2025-06-02 records {every}",
        "2025-06-01 S9",
    ]


def test_only_days_that_were_asked_for_are_in_a_range() -> None:
    gaps = {day: gap() for day in Days.of_month("2025-06")}

    found = ranges(gaps, [date(2025, 6, 3), date(2025, 6, 1)])

    assert [str(span.days) for span in found] == ["2025-06-03", "2025-06-01"]
    assert ranges(gaps, []) == []
