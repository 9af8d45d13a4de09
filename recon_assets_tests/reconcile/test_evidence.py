"""Evidence of lost records: found, and neither changed nor removed before the day is proven."""

from datetime import date

import pytest
from sqlalchemy import Engine

from recon_assets.database.transactions import reading
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.evidence import Lost
from recon_assets.reconcile.layers import BITCOIN_MONTHLY, CALCULATIONS, DAILY_LAYERS, ENERGY_MONTHLY, MONTHLY_LAYERS
from recon_assets.reconcile.plan import Order, plan
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import Conclusion, default_first_day
from recon_assets_tests.reconcile.test_apply import RULE, orphans
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    contents,
    execute,
    ingest,
    scalar,
    state_of,
)

JUNE_5 = date(2025, 6, 5)
THREE_DAYS = Days(JUNE_5, JUNE_7)


@pytest.fixture
def old(small_days: Engine) -> Engine:
    """Two adopted days, right in all layers, and before them a day of which nothing is stored."""
    execute(
        small_days,
        "DELETE FROM proof_of_fetch",
        "DELETE FROM wind_bids",
        "UPDATE curtailment_records SET sequence_number = NULL, acceptance_id = NULL",
    )
    return small_days


def lost(engine: Engine, days: Days = SMALL_DAYS) -> dict[str, Lost]:
    state = state_of(engine, days)
    return {**{str(day): found for day, found in state.lost.items()}, **state.lost_periods}


def test_adopted_days_that_agree_with_their_totals_are_right_as_far_as_known(old: Engine) -> None:
    state = state_of(old, SMALL_DAYS)

    assert (state.conclusion, state.is_right, state.unproven_days) == (
        Conclusion.RIGHT_AS_FAR_AS_KNOWN,
        False,
        [JUNE_6, JUNE_7],
    )
    assert (lost(old), state.days_to_read) == ({}, [])


def test_a_day_without_a_record_before_the_newest_adopted_one_is_not_right(old: Engine) -> None:
    state = state_of(old, THREE_DAYS)

    assert (state.conclusion, state.days_to_read) == (Conclusion.NOT_RIGHT, [JUNE_5])


def test_records_outside_the_kept_days_make_no_gap(old: Engine) -> None:
    columns = "settlement_date, settlement_period, farm_id, volume, payment, original_price"
    execute(old, "DELETE FROM curtailment_records")
    execute(
        old,
        f"INSERT INTO curtailment_records ({columns}) VALUES ('2019-03-01', 1, 'T_SGRWO-1', -1, 40, -40)",
        f"INSERT INTO curtailment_records ({columns}) VALUES ('2031-03-01', 1, 'T_SGRWO-1', -1, 40, -40)",
    )

    assert {found.value for found in state_of(old, SMALL_DAYS).days.values()} == {"not_ingested"}


@pytest.mark.parametrize(
    ("damage", "found", "to_read"),
    [
        # everything but the totals
        (("records", "calculations"), "a total of 58.133 MWh over 0.000 MWh of records", [JUNE_7]),
        # what was after the first settlement periods
        (("late",), "a total of 58.133 MWh over 16.550 MWh of records", [JUNE_7]),
        # the records alone, and no total
        (("records", "totals"), "24 calculations without a record", [JUNE_6, JUNE_7]),
        # everything but the totals of bitcoin
        (
            ("records", "calculations", "energy"),
            "totals of bitcoin (M20S 0.02426858, S19J_PRO 0.03931651, S9 0.01223626) that no calculations support",
            [JUNE_6, JUNE_7],
        ),
    ],
)
def test_what_is_above_the_records_is_evidence(
    old: Engine, damage: tuple[str, ...], found: str, to_read: list[date]
) -> None:
    wheres = {
        "records": ["DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'"],
        "calculations": ["DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-07'"],
        "late": [
            f"DELETE FROM {table} WHERE settlement_date = '2025-06-07' AND settlement_period > 37"
            for table in ("curtailment_records", "historical_bitcoin_calculations")
        ],
        "totals": ["DELETE FROM daily_summaries", "DELETE FROM bitcoin_daily_summaries"],
        "energy": ["DELETE FROM daily_summaries"],
    }
    execute(old, *(statement for name in damage for statement in wheres[name]))

    state = state_of(old, SMALL_DAYS)

    assert state.conclusion is Conclusion.NOT_RIGHT
    assert set(state.lost) == {JUNE_7}
    assert found in str(state.lost[JUNE_7])
    # The total of the month is above its records, too. If the day does not explain that, any other day may.
    assert state.days_to_read == to_read


def test_a_total_of_a_month_is_evidence_of_a_day_of_which_nothing_is_left(old: Engine) -> None:
    execute(
        old,
        *(f"DELETE FROM {table} WHERE settlement_date = '2025-06-06'" for table in BASE),
        *(f"DELETE FROM {table} WHERE summary_date = '2025-06-06'" for table in TOTALS),
    )

    assert {period: str(found) for period, found in lost(old).items()} == {
        "2025-06": "a total of 1,081.561 MWh over 58.133 MWh of records",
        "2025": "a total of 1,081.561 MWh over 58.133 MWh of records",
    }


BASE = ("curtailment_records", "historical_bitcoin_calculations")
TOTALS = ("daily_summaries", "bitcoin_daily_summaries")


def test_a_total_below_the_records_or_off_by_rounding_is_no_evidence(old: Engine) -> None:
    execute(
        old,
        "UPDATE daily_summaries SET total_curtailed_energy = 1 WHERE summary_date = '2025-06-06'",
        "UPDATE daily_summaries SET total_curtailed_energy = total_curtailed_energy + 0.009"
        " WHERE summary_date = '2025-06-07'",
    )

    assert lost(old) == {}


def test_of_a_day_that_lost_records_nothing_is_changed_but_what_is_missing_is_added(old: Engine) -> None:
    tables = [layer.table for layer in (*DAILY_LAYERS, *MONTHLY_LAYERS)]
    execute(
        old,
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07' AND settlement_period > 37",
        "UPDATE historical_bitcoin_calculations SET bitcoin_mined = 1 WHERE settlement_date = '2025-06-07'",
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-07' AND miner_model = 'S9'"
        " AND settlement_period <= 37",
    )
    before = contents(old, *tables)

    made = converge_span(old, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)
    june = converge_span(old, MONTHLY_LAYERS, Scope(Days.of_month("2025-06"), RULE), NOW)

    after = contents(old, *tables)
    calculations = before.pop("historical_bitcoin_calculations")
    added = after.pop("historical_bitcoin_calculations") - calculations
    assert after == before
    assert added.total() == made.changes_of("historical_bitcoin_calculations").total > 0
    assert JUNE_6 not in made.unfit["bitcoin_daily_summaries"]
    assert "records seem to be lost" in made.unfit["daily_summaries"][JUNE_7]
    for layer in (BITCOIN_MONTHLY, ENERGY_MONTHLY):
        assert june.unfit[layer.name][date(2025, 6, 1)].startswith("2025-06: records seem to be lost")


def test_orphans_of_a_proven_day_are_removed_and_those_of_an_unproven_one_kept(small_days: Engine) -> None:
    execute(small_days, orphans(JUNE_5, 1, 2), orphans(JUNE_7, 1))

    converge_span(small_days, DAILY_LAYERS, Scope(THREE_DAYS, RULE), NOW)

    kept = "SELECT count(*) FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-05'"
    assert scalar(small_days, kept) == 2
    assert state_of(small_days, SMALL_DAYS).total.surplus == 0


def test_days_that_lost_records_come_first_then_days_to_ask_for_then_the_suspected_ones(old: Engine) -> None:
    execute(old, "UPDATE daily_summaries SET total_curtailed_energy = 9999 WHERE summary_date = '2025-06-06'")
    execute(old, "UPDATE monthly_summaries SET total_curtailed_energy = 1")
    execute(old, "UPDATE yearly_summaries SET total_curtailed_energy = 1")
    days = Days(date(2025, 6, 4), JUNE_7)
    state = state_of(old, days)

    work = plan(state, lambda day: True, NOW)
    assert (work.chunks, work.by_volumes) == ([[JUNE_6], [date(2025, 6, 4), JUNE_5]], [date(2025, 6, 4), JUNE_5])
    assert (work.ingest, work.requests) == ([date(2025, 6, 4), JUNE_5, JUNE_6], 2 + 48)

    work = plan(state, lambda day: True, NOW, Order(suspicion={JUNE_7: 5.0}), prove=True)
    assert work.chunks == [[JUNE_6], [date(2025, 6, 4), JUNE_5], [JUNE_7]]
    assert plan(state, lambda day: True, NOW, Order(limit=1), prove=True).ingest == [JUNE_6]

    work = plan(state, lambda day: day == JUNE_7, NOW, prove=True)
    assert (work.ingest, work.out_of_reach) == ([JUNE_7], [date(2025, 6, 4), JUNE_5, JUNE_6])


def test_the_totals_that_are_evidence_are_summed_again_when_their_days_have_been_read(old: Engine) -> None:
    execute(old, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'")
    state = state_of(old, SMALL_DAYS)
    assert plan(state, lambda day: False, NOW).months == []
    assert plan(state, lambda day: True, NOW).months == ["2025-06"]

    ingest(old, SMALL_DAYS)
    converge_span(old, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert lost(old) == {}
    assert plan(state_of(old, SMALL_DAYS), lambda day: True, NOW).is_empty


def test_reading_another_day_of_the_month_does_not_end_the_evidence(old: Engine) -> None:
    execute(old, "UPDATE monthly_summaries SET total_curtailed_energy = 99999")
    months = Scope(Days.of_month("2025-06"), RULE)
    before = lost(old)["2025-06"]

    ingest(old, [date(2025, 6, 20)])
    converge_span(old, DAILY_LAYERS, Scope(Days(date(2025, 6, 20), date(2025, 6, 20)), RULE), NOW)
    converge_span(old, MONTHLY_LAYERS, months, NOW)

    assert lost(old)["2025-06"].claimed_mwh == before.claimed_mwh == 99999
    assert scalar(old, "SELECT total_curtailed_energy FROM superseded_monthly_summaries") == 99999


@pytest.mark.parametrize("first", [JUNE_7, JUNE_6])
def test_a_database_stays_an_old_one_when_its_days_are_proven(old: Engine, first: date) -> None:
    ingest(old, [first, JUNE_6, JUNE_7])

    state = state_of(old, Days(date(2025, 5, 1), JUNE_7))

    assert state.conclusion is Conclusion.NOT_RIGHT
    assert state.days[JUNE_5] is DayState.ADOPTED_EMPTY
    with reading(old) as connection:
        kept = Days(date(2022, 1, 1), JUNE_7)
        assert default_first_day(connection, kept) == kept.first


@pytest.mark.parametrize("month", ["2023-05", "2025-07"])
def test_totals_of_a_month_without_any_row_are_kept_as_evidence(old: Engine, month: str) -> None:
    execute(
        old,
        f"INSERT INTO bitcoin_monthly_summaries (year_month, miner_model, bitcoin_mined) VALUES ('{month}', 'S9', 42)",
        f"INSERT INTO monthly_summaries (year_month, total_curtailed_energy) VALUES ('{month}', 112260)",
    )

    state = state_of(old, Days.of_month(month))
    made = converge_span(old, MONTHLY_LAYERS, Scope(Days.of_month(month), RULE), NOW)

    assert str(state.lost_periods[month]) == "a total of 112,260.000 MWh over 0.000 MWh of records"
    assert dict(state.lost_periods[month].claimed_btc) == {"S9": 42}
    assert not made.changes
    assert plan(state, lambda day: False, NOW).months == []
    # and of other months that says nothing
    assert month not in state_of(old, SMALL_DAYS).lost_periods


def test_calculations_of_a_month_that_lost_records_are_not_changed(old: Engine) -> None:
    execute(
        old,
        "UPDATE monthly_summaries SET total_curtailed_energy = 99999",
        "UPDATE historical_bitcoin_calculations SET bitcoin_mined = bitcoin_mined * 2",
    )
    before = contents(old, CALCULATIONS.table)

    converge_span(old, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert contents(old, CALCULATIONS.table) == before


def test_an_unproven_day_of_a_month_that_lost_records_is_not_said_to_be_right(old: Engine) -> None:
    assert state_of(old, SMALL_DAYS).right_periods(CALCULATIONS) == {JUNE_6.isoformat(), JUNE_7.isoformat()}

    execute(old, "UPDATE monthly_summaries SET total_curtailed_energy = 99999")
    ingest(old, [JUNE_6])
    converge_span(old, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert state_of(old, SMALL_DAYS).right_periods(CALCULATIONS) == {JUNE_6.isoformat()}


def test_a_total_that_is_no_number_is_no_evidence(old: Engine) -> None:
    infinite = "'Infinity'" if old.dialect.name == "postgresql" else "9e999"
    execute(
        old,
        *(
            f"UPDATE {name}_summaries SET total_curtailed_energy = {infinite}"
            for name in ("daily", "monthly", "yearly")
        ),
    )

    assert lost(old) == {}
    assert state_of(old, SMALL_DAYS).summary_faults > 0
