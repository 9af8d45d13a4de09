"""The parts of the reconciled state that sensors read by themselves.

test_difference.py has the whole of it.
"""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import FIRST_DAY, Days, all_kept_days
from recon_assets.reconcile.read_state import settlement_days, stale_summaries
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import last_proven_day, summed_days
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, execute, scalar, state_of

AROUND = Days(date(2025, 6, 5), date(2025, 6, 8))


def scope_of(days: Days) -> Scope:
    return Scope(days, CurtailmentRule.SO_FLAGGED)


@pytest.mark.parametrize(
    ("damage", "stale"),
    [
        ("DELETE FROM proof_of_fetch WHERE settlement_date = '2022-01-01'", {}),
        ("UPDATE daily_summaries SET total_payment = 0 WHERE summary_date = '2025-06-07'",
         {"daily_summaries": {"2025-06-07"}}),
        ("DELETE FROM bitcoin_monthly_summaries WHERE miner_model = 'S9'", {"bitcoin_monthly_summaries": {"2025-06"}}),
        ("UPDATE yearly_summaries SET year = '2024'", {"yearly_summaries": {"2025"}}),
        (
            "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06'",
            {
                "bitcoin_daily_summaries": {"2025-06-06"},
                "bitcoin_monthly_summaries": {"2025-06"},
                "bitcoin_yearly_summaries": {"2025"},
            },
        ),
    ],
    ids=["nothing", "a day", "a month", "a year", "calculations"],
)  # fmt: skip
def test_the_sums_that_are_not_right_are_those_of_the_whole_state(
    small_days: Engine, damage: str, stale: dict[str, set[str]]
) -> None:
    execute(small_days, damage)

    found = stale_summaries(small_days, scope_of(AROUND))

    assert found == state_of(small_days, AROUND).stale_summaries
    periods = {layer: {key.split()[0] for key in keys} for layer, keys in found.items() if keys}
    assert periods == stale


def test_the_state_of_days_is_that_of_the_whole_state(small_days: Engine) -> None:
    # given a day that was read in part, and one whose bids were damaged
    execute(
        small_days,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06' AND settlement_period IN (3, 48)",
        "UPDATE wind_bids SET volume = -1 WHERE settlement_date = '2025-06-07'",
    )

    found = settlement_days(small_days, scope_of(AROUND), NOW)

    state = state_of(small_days, AROUND)
    assert (found.days, found.unproven, found.contradicted) == (state.days, state.unproven, state.contradicted)
    assert found.days == {
        AROUND.first: DayState.NOT_INGESTED,
        JUNE_6: DayState.INCOMPLETE,
        JUNE_7: DayState.INCOMPLETE,
        AROUND.last: DayState.NOT_INGESTED,
    }
    assert found.unproven == {JUNE_6: (3, 48)}


def test_the_state_of_one_day_counts_nothing_of_the_days_around_it(small_days: Engine) -> None:
    # given sums of months and years, for which the days around it are read, too
    store(small_days, JUNE_6, (10, 20))
    of_day = "settlement_date = '2025-06-07'"

    state = state_of(small_days, Days(JUNE_7, JUNE_7))

    assert {day for day, _ in state.calculations} == {JUNE_7}
    assert state.total.faults == 0
    records = scalar(small_days, f"SELECT count(*) FROM curtailment_records WHERE {of_day}")
    assert state.curtailment_records == state.records.expected == records
    for model, bitcoin in state.bitcoin.items():
        mined = "SELECT sum(bitcoin_mined) FROM historical_bitcoin_calculations"
        stored = scalar(small_days, f"{mined} WHERE {of_day} AND miner_model = '{model}'")
        assert bitcoin == pytest.approx(stored, rel=1e-12, abs=0)
    assert state.generated == frozenset()


def test_long_histories_are_read_in_pieces_that_leave_nothing_out(small_days: Engine) -> None:
    # given pieces of half a year, the days in the last of them
    long = Days(date(2022, 1, 1), JUNE_7)

    states = settlement_days(small_days, scope_of(long), NOW).days

    assert len(states) == len(long)
    assert {day for day, state in states.items() if state is DayState.INGESTED} == set(SMALL_DAYS)
    execute(small_days, "DELETE FROM daily_summaries")
    assert stale_summaries(small_days, scope_of(long))["daily_summaries"] == {"2025-06-06", "2025-06-07"}


def test_a_period_that_is_not_due_is_not_lacking(small_days: Engine) -> None:
    for table in ("proof_of_fetch", "wind_bids"):
        execute(small_days, f"DELETE FROM {table} WHERE settlement_date = '2025-06-07' AND settlement_period > 24")

    at_noon = datetime(2025, 6, 7, 11, 10, tzinfo=UTC)
    found = settlement_days(small_days, scope_of(SMALL_DAYS), at_noon)

    assert (found.days[JUNE_7], found.unproven) == (DayState.INGESTED, {})
    assert settlement_days(small_days, scope_of(SMALL_DAYS), NOW).unproven == {JUNE_7: tuple(range(25, 49))}


KEPT = all_kept_days(FIRST_DAY, NOW)


def test_the_days_that_sums_are_made_of_are_those_with_anything_to_sum(small_days: Engine) -> None:
    def look() -> tuple[Days | None, date | None]:
        with transactions.reading(small_days) as connection:
            return summed_days(connection, KEPT), last_proven_day(connection)

    assert look() == (SMALL_DAYS, JUNE_7)

    # when there is wind generation before and after
    store(small_days, date(2022, 3, 4), (10, 20))
    store(small_days, date(2025, 7, 1), (10, 20))
    assert look() == (Days(date(2022, 3, 4), date(2025, 7, 1)), JUNE_7)

    # when nothing else is there
    for table in ("proof_of_fetch", "wind_bids", "curtailment_records", "historical_bitcoin_calculations"):
        execute(small_days, f"DELETE FROM {table}")
    assert look() == (Days(date(2022, 3, 4), date(2025, 7, 1)), None)
    execute(small_days, "DELETE FROM wind_generation_data")
    assert look() == (None, None)
