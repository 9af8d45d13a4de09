"""Rows before the first kept day or after today are counted, and stretch nothing."""

from datetime import date

import pytest
from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.domain.settlement import FIRST_DAY, Days, all_kept_days
from recon_assets.reconcile.layers import LAYERS
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import default_first_day, first_day, last_day, summed_days
from recon_assets_tests.reconcile.test_apply import RULE
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, execute, scalar, state_of

KEPT = all_kept_days(FIRST_DAY, NOW)
RECORD = (
    "INSERT INTO curtailment_records (settlement_date, settlement_period, farm_id, volume, original_price, final_price)"
    " VALUES ('{}', 1, 'T_SGRWO-1', -5, -40, 0)"
)
CALCULATION = (
    "INSERT INTO historical_bitcoin_calculations (settlement_date, settlement_period, farm_id, miner_model,"
    " bitcoin_mined, difficulty) VALUES ('{}', 1, 'T_SGRWO-1', 'S9', 1, 1)"
)
GENERATION = (
    "INSERT INTO wind_generation_data (settlement_date, settlement_period, wind_onshore, wind_offshore, total_wind)"
    " VALUES ('{}', 1, 1, 1, 2)"
)
OUTSIDE = ("2019-03-04", "2031-05-06")


def store_outside(engine: Engine) -> None:
    """Rows of 2019 and 2031, in every table of the user."""
    execute(
        engine,
        *(statement.format(day) for statement in (RECORD, CALCULATION, GENERATION) for day in OUTSIDE),
        *(
            f"INSERT INTO bitcoin_{name} ({column}, miner_model, bitcoin_mined) VALUES ('{day[:length]}', 'S9', 1)"
            for name, column, length in (
                ("daily_summaries", "summary_date", 10), ("monthly_summaries", "year_month", 7),
                ("yearly_summaries", "year", 4),
            )
            for day in OUTSIDE
        ),
        *(
            f"INSERT INTO {name} ({column}, total_curtailed_energy) VALUES ('{day[:length]}', 1)"
            for name, column, length in (
                ("daily_summaries", "summary_date", 10), ("monthly_summaries", "year_month", 7),
                ("yearly_summaries", "year", 4),
            )
            for day in OUTSIDE
        ),
    )  # fmt: skip


def test_rows_outside_the_kept_days_are_counted_and_everything_is_right(small_days: Engine) -> None:
    before = state_of(small_days, SMALL_DAYS)
    store_outside(small_days)

    after = state_of(small_days, SMALL_DAYS)

    assert after.outside_days == {layer.name: 2 for layer in LAYERS} | {"wind_generation_data": 2}
    assert after.is_right
    assert (after.days, after.calculations, after.days_behind) == (before.days, before.calculations, 0)


def test_they_stretch_no_period(small_days: Engine) -> None:
    store_outside(small_days)

    with transactions.reading(small_days) as connection:
        assert (first_day(connection, KEPT), last_day(connection, KEPT)) == (JUNE_6, JUNE_7)
        assert summed_days(connection, KEPT) == SMALL_DAYS
        assert default_first_day(connection, KEPT) == JUNE_6


def test_they_adopt_no_day_between_them(small_days: Engine) -> None:
    store_outside(small_days)

    days = Days(date(2025, 6, 5), date(2025, 6, 8))

    assert state_of(small_days, days).days_in(DayState.ADOPTED_EMPTY) == []


def test_on_an_adopted_database_a_command_begins_at_the_first_kept_day(small_days: Engine) -> None:
    execute(small_days, RECORD.format("2023-05-06"))

    with transactions.reading(small_days) as connection:
        assert default_first_day(connection, KEPT) == FIRST_DAY
        assert first_day(connection, KEPT) == date(2023, 5, 6)
        assert default_first_day(connection, all_kept_days(date(2024, 1, 1), NOW)) == JUNE_6


@pytest.mark.parametrize(("first", "outside"), [(date(2022, 1, 1), 0), (date(2026, 1, 1), 2)])
def test_the_first_kept_day_says_what_is_outside(small_days: Engine, first: date, outside: int) -> None:
    scope = Scope(Days(date(2026, 1, 1), date(2026, 1, 2)), RULE, first_day=first)

    found = reconciled_state(small_days, scope, NOW).outside_days

    assert found.get("daily_summaries", 0) == outside
    if outside:
        assert found["curtailment_records"] == scalar(small_days, "SELECT count(*) FROM curtailment_records")
