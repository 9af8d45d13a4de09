from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from recon_assets.database.tables import network_difficulty
from recon_assets.database.transactions import writing
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.settlement_days import DayState, state_counts
from recon_assets.reconcile.state import State
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    SMALL_DAYS,
    change_recording,
    converge_layers,
    execute,
    ingest,
    scalar,
    state_of,
)

CALCULATIONS = "historical_bitcoin_calculations"
WIND = {unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind}
DAY_6 = "settlement_date = '2025-06-06'"
RECORD = (
    "INSERT INTO curtailment_records"
    " (settlement_date, settlement_period, farm_id, volume, payment, original_price, final_price, so_flag) VALUES"
)


def orphan(day: date, period: int, model: str = "S9", farm: str = "T_NOSUCH-1") -> str:
    columns = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
    return f"INSERT INTO {CALCULATIONS} ({columns}) VALUES ('{day}', {period}, '{farm}', '{model}', 0.5, 1e14)"


def calculations(limit: int, model: str) -> str:
    """The condition that names some calculations of a model, none of them tiny."""
    where = f"miner_model = '{model}' AND bitcoin_mined > 1e-5"
    return f"id IN (SELECT id FROM {CALCULATIONS} WHERE {where} ORDER BY id LIMIT {limit})"


def records(limit: int, period: int) -> str:
    """The condition that names some curtailment records of a period."""
    where = f"settlement_period = {period}"
    return f"id IN (SELECT id FROM curtailment_records WHERE {where} ORDER BY id LIMIT {limit})"


LOSE_ONE = f"DELETE FROM {CALCULATIONS} WHERE {calculations(1, 'S9')}"


def faults(state: State) -> dict[str, tuple[int, int, int, int]]:
    """Missing, orphaned, duplicated and wrong calculations of each model."""
    tallies = {model: state.of_model(model) for model in state.scope.models}
    return {name: (t.missing, t.surplus, t.duplicated, t.wrong) for name, t in tallies.items()}


def stale(state: State) -> dict[str, set[str]]:
    return {table: set(keys) for table, keys in state.stale_summaries.items() if keys}


NO_FAULT = {"S19J_PRO": (0, 0, 0, 0), "S9": (0, 0, 0, 0), "M20S": (0, 0, 0, 0)}


def test_days_that_were_ingested_and_converged_are_right(small_days: Engine) -> None:
    state = state_of(small_days, SMALL_DAYS)

    keys = "SELECT count(*) FROM (SELECT DISTINCT settlement_date, settlement_period, farm_id FROM"
    expected = scalar(small_days, f"{keys} curtailment_records) AS keys")
    assert state.is_right
    assert state.total == Tally(expected=3 * expected, actual=3 * expected)
    assert state.of_model("S9") == Tally(expected=expected, actual=expected)
    assert state.records == Tally(expected=94, actual=94)
    assert state.curtailment_records == 94
    assert faults(state) == NO_FAULT
    assert stale(state) == {}
    assert state.summary_faults == 0
    assert state.faulty_days == []
    assert state.total.completion_pct == 100
    assert state.days == {JUNE_6: DayState.INGESTED, JUNE_7: DayState.INGESTED}
    assert (state.latest_ingested, state.days_behind) == (JUNE_7, 0)
    mined = scalar(small_days, f"SELECT sum(bitcoin_mined) FROM {CALCULATIONS} WHERE miner_model = 'S9'")
    assert mined > 0
    assert state.bitcoin["S9"] == pytest.approx(mined, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ([f"DELETE FROM {CALCULATIONS} WHERE {calculations(3, 'S9')}"], {"S9": (3, 0, 0, 0)}),
        (
            [f"UPDATE {CALCULATIONS} SET bitcoin_mined = bitcoin_mined * 1.01 WHERE {calculations(4, 'M20S')}"],
            {"M20S": (0, 0, 0, 4)},
        ),
        (
            [f"UPDATE {CALCULATIONS} SET difficulty = difficulty * 1.01 WHERE {calculations(2, 'S19J_PRO')}"],
            {"S19J_PRO": (0, 0, 0, 2)},
        ),
        ([f"UPDATE {CALCULATIONS} SET difficulty = NULL WHERE {calculations(1, 'S9')}"], {"S9": (0, 0, 0, 1)}),
        # A farm without curtailment, and a farm in a period without curtailment.
        ([orphan(JUNE_7, 36), orphan(JUNE_7, 1, farm="T_TWSHW-1")], {"S9": (0, 2, 0, 0)}),
        # As many rows as there should be, and yet one is missing: counting would not tell.
        ([LOSE_ONE, orphan(JUNE_7, 36)], {"S9": (1, 1, 0, 0)}),
        # A model that nobody asked for is nobody's fault.
        ([orphan(JUNE_7, 36, model="S21")], {}),
    ],
    ids=["missing", "wrong value", "wrong difficulty", "no difficulty", "orphans", "one for another", "other model"],
)
def test_damaged_calculations_are_counted_by_kind_and_model(
    small_days: Engine, damage: list[str], found: dict[str, tuple[int, int, int, int]]
) -> None:
    execute(small_days, *damage)

    assert faults(state_of(small_days, SMALL_DAYS)) == NO_FAULT | found


def test_duplicates_are_counted_where_the_database_allows_them(small_days: Engine) -> None:
    columns = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
    copy = f"INSERT INTO {CALCULATIONS} ({columns}) SELECT {columns} FROM {CALCULATIONS} WHERE"
    execute(small_days, f"DROP INDEX {CALCULATIONS}_key", f"{copy} {calculations(2, 'S9')}")
    execute(small_days, f"{copy} {calculations(1, 'S9')}")

    state = state_of(small_days, SMALL_DAYS)

    assert faults(state) == NO_FAULT | {"S9": (0, 0, 3, 0)}
    assert state.of_model("S9").completion_pct == 100
    assert not state.is_right


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        # The largest row, about a tenth of a bitcoin: 9e-8 of it is more than half a satoshi.
        ("bitcoin_mined = bitcoin_mined * (1 + 9e-8)", 0),
        ("bitcoin_mined = bitcoin_mined * (1 + 2e-7)", 1),
        ("bitcoin_mined = round(CAST(bitcoin_mined AS numeric), 8)", 0),
        ("difficulty = difficulty * (1 + 5e-10)", 0),
        ("difficulty = difficulty * (1 + 2e-9)", 1),
    ],
)
def test_a_large_value_may_differ_by_its_tolerance(small_days: Engine, change: str, wrong: int) -> None:
    largest = f"bitcoin_mined = (SELECT max(bitcoin_mined) FROM {CALCULATIONS})"
    assert scalar(small_days, f"SELECT max(bitcoin_mined) FROM {CALCULATIONS}") > 0.06
    execute(small_days, f"UPDATE {CALCULATIONS} SET {change} WHERE {largest}")

    assert state_of(small_days, SMALL_DAYS).total.wrong == wrong


@pytest.mark.parametrize(("satoshi", "wrong"), [(0.45, 0), (0.55, 1)])
def test_a_small_value_may_differ_by_half_a_satoshi(small_days: Engine, satoshi: float, wrong: int) -> None:
    smallest = f"bitcoin_mined = (SELECT min(bitcoin_mined) FROM {CALCULATIONS})"
    execute(small_days, f"UPDATE {CALCULATIONS} SET bitcoin_mined = bitcoin_mined + {satoshi}e-8 WHERE {smallest}")

    assert state_of(small_days, SMALL_DAYS).total.wrong == wrong


def test_damaged_records_are_counted_by_kind(small_days: Engine) -> None:
    execute(
        small_days,
        f"DELETE FROM curtailment_records WHERE {records(3, 36)}",
        f"UPDATE curtailment_records SET volume = volume - 1 WHERE {records(1, 5)}",
        f"UPDATE curtailment_records SET payment = -payment WHERE {records(2, 6)}",
        f"UPDATE curtailment_records SET so_flag = NULL WHERE {records(1, 7)}",
        f"UPDATE curtailment_records SET lead_party_name = 'renamed' WHERE {records(1, 8)}",
        f"{RECORD} ('2025-06-06', 48, 'T_SGRWO-1', -1, 40, -40, -40, true)",
    )

    state = state_of(small_days, SMALL_DAYS)

    assert state.records == Tally(expected=94, actual=91, surplus=1, wrong=4)
    assert state.records.missing == 3
    assert state.curtailment[JUNE_7] == Tally(expected=14, actual=11)
    assert state.faulty_days == [JUNE_6, JUNE_7]


@pytest.mark.parametrize("column", ["volume", "payment", "original_price", "final_price"])
def test_the_amounts_of_a_record_may_differ_by_a_billionth(small_days: Engine, column: str) -> None:
    largest = "volume = (SELECT min(volume) FROM curtailment_records)"

    for factor, wrong in (("(1 + 5e-10)", 0), ("(1 + 2e-9)", 1)):
        execute(small_days, f"UPDATE curtailment_records SET {column} = {column} * {factor} WHERE {largest}")
        assert state_of(small_days, SMALL_DAYS).records.wrong == wrong


DAILY, MONTHLY, YEARLY = "bitcoin_daily_summaries", "bitcoin_monthly_summaries", "bitcoin_yearly_summaries"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            [f"UPDATE {DAILY} SET bitcoin_mined = bitcoin_mined * 1.001 WHERE summary_date = '2025-06-06'"],
            {DAILY: {"2025-06-06 S19J_PRO", "2025-06-06 S9", "2025-06-06 M20S"}},
        ),
        ([f"UPDATE {DAILY} SET bitcoin_mined = bitcoin_mined * (1 + 1e-10)"], {}),
        (
            [f"UPDATE {DAILY} SET bitcoin_mined = bitcoin_mined * (1 + 3e-9) WHERE summary_date = '2025-06-07'"],
            {DAILY: {"2025-06-07 S19J_PRO", "2025-06-07 S9", "2025-06-07 M20S"}},
        ),
        ([f"DELETE FROM {MONTHLY} WHERE miner_model = 'S9'"], {MONTHLY: {"2025-06 S9"}}),
        (["UPDATE yearly_summaries SET total_payment = -total_payment"], {"yearly_summaries": {"2025"}}),
        (
            ["UPDATE daily_summaries SET total_curtailed_energy = 0"],
            {"daily_summaries": {"2025-06-06", "2025-06-07"}},
        ),
        (["UPDATE daily_summaries SET total_wind_generation = 5, wind_onshore_generation = NULL"], {}),
        # Rows without any base row: a day of the span, and a month outside of it that nobody asked for.
        (
            [
                f"INSERT INTO {DAILY} (summary_date, miner_model, bitcoin_mined) VALUES ('2025-06-05', 'S9', 0)",
                "INSERT INTO daily_summaries (summary_date, total_curtailed_energy) VALUES ('2025-06-05', 1)",
                "INSERT INTO monthly_summaries (year_month, total_curtailed_energy) VALUES ('2025-05', 1)",
            ],
            {DAILY: {"2025-06-05 S9"}, "daily_summaries": {"2025-06-05"}},
        ),
        # A calculation is gone: the rows of all three levels that hold it are stale, each once.
        ([LOSE_ONE], {DAILY: {"2025-06-06 S9"}, MONTHLY: {"2025-06 S9"}, YEARLY: {"2025 S9"}}),
        (
            ["DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'"],
            {"daily_summaries": {"2025-06-07"}, "monthly_summaries": {"2025-06"}, "yearly_summaries": {"2025"}},
        ),
    ],
    ids=[
        "day",
        "tolerance",
        "beyond",
        "no month",
        "year",
        "two days",
        "generation",
        "no base",
        "calculation",
        "records",
    ],
)
def test_stale_summaries_are_named(small_days: Engine, damage: list[str], found: dict[str, set[str]]) -> None:
    execute(small_days, *damage)

    state = state_of(small_days, Days(date(2025, 6, 5), JUNE_7))

    assert stale(state) == found
    assert state.summary_faults == sum(len(keys) for keys in found.values())


STORE = "INSERT INTO wind_generation_data (settlement_date, settlement_period, wind_onshore, wind_offshore, total_wind)"
SUMS = ("monthly 2025-06", "yearly 2025")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ([], []),
        # More wind, and wind on a day of which nothing else is known.
        ([f"{STORE} VALUES ('2025-06-06', 9, 1, 1, 2)"], ["daily 2025-06-06", *SUMS]),
        ([f"{STORE} VALUES ('2025-06-05', 9, 1, 1, 2)"], ["daily 2025-06-05", *SUMS]),
        (["UPDATE daily_summaries SET wind_onshore_generation = wind_onshore_generation * (1 + 1e-10)"], []),
        (
            ["UPDATE daily_summaries SET wind_onshore_generation = wind_onshore_generation * (1 + 1e-8)"],
            ["daily 2025-06-06"],
        ),
        (["UPDATE yearly_summaries SET total_wind_generation = NULL"], ["yearly 2025"]),
        # Nothing is known of the generation of this day.
        (["UPDATE daily_summaries SET total_wind_generation = 0 WHERE summary_date = '2025-06-07'"], []),
        # All half-hours are gone: what was summed is neither confirmed nor denied.
        (["DELETE FROM wind_generation_data"], []),
    ],
    ids=["none", "more", "alone", "tolerance", "wrong", "lost", "unknown", "no rows"],
)
def test_sums_of_generation_are_compared_where_half_hours_are_stored(
    small_days: Engine, damage: list[str], found: list[str]
) -> None:
    # given
    store(small_days, JUNE_6, (1000.5, 3000.25), (1001.5, 3001.25))
    converge_layers(small_days, SMALL_DAYS)
    execute(small_days, *damage)

    # when
    state = state_of(small_days, Days(date(2025, 6, 5), JUNE_7))

    # then
    tables = ("daily", "monthly", "yearly")
    assert {f"{name} {key}" for name in tables for key in state.stale_summaries[f"{name}_summaries"]} == set(found)
    # and the repair, which sums by itself, agrees with the state
    converge_layers(small_days, Days(date(2025, 6, 5), JUNE_7))
    assert state_of(small_days, Days(date(2025, 6, 5), JUNE_7)).summary_faults == 0


def test_months_and_years_are_judged_whole_whatever_days_are_asked_for(small_days: Engine) -> None:
    assert stale(state_of(small_days, Days(JUNE_7, JUNE_7))) == {}

    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE settlement_date = '2025-06-06' AND miner_model = 'S9'")

    assert stale(state_of(small_days, Days(JUNE_7, JUNE_7))) == {
        "bitcoin_monthly_summaries": {"2025-06 S9"},
        "bitcoin_yearly_summaries": {"2025 S9"},
    }


def test_a_day_without_wind_bids_has_summaries_of_zero(engine: Engine, recordings: Path) -> None:
    def calm(content: dict[str, Any]) -> None:
        for body in content["stack_bid"].values():
            body["data"] = [row for row in body["data"] if row["id"] not in WIND]

    change_recording(recordings, JUNE_7, calm)
    ingest(engine, SMALL_DAYS, recordings)
    converge_layers(engine, SMALL_DAYS)

    state = state_of(engine, SMALL_DAYS)

    day = "summary_date = '2025-06-07'"
    assert scalar(engine, f"SELECT count(*) FROM bitcoin_daily_summaries WHERE {day} AND bitcoin_mined = 0") == 3
    energy = f"SELECT count(*) FROM daily_summaries WHERE {day} AND total_curtailed_energy = 0 AND total_payment = 0"
    assert scalar(engine, energy) == 1
    assert state.is_right
    assert state.of_day(JUNE_7) == Tally()
    execute(engine, f"DELETE FROM daily_summaries WHERE {day}", f"UPDATE {DAILY} SET bitcoin_mined = 7 WHERE {day}")
    assert state_of(engine, SMALL_DAYS).summary_faults == 4


def test_every_day_has_its_state(engine: Engine) -> None:
    ingest(engine, [JUNE_7])
    ingest(engine, [JUNE_6])
    execute(
        engine,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06' AND settlement_period = 48",
        f"{RECORD} ('2025-06-02', 7, 'T_SGRWO-1', 1, 40, -40, -40, true)",
        f"{RECORD} ('2025-06-05', 7, 'T_SGRWO-1', -1, 0, -40, 0, true)",
    )

    state = state_of(engine, Days(date(2025, 6, 1), date(2025, 6, 8)))

    assert {day.day: found.value for day, found in state.days.items()} == {
        1: "adopted_empty",
        2: "adopted",
        3: "adopted_empty",
        4: "adopted_empty",
        5: "adopted",
        6: "incomplete",
        7: "ingested",
        8: "not_ingested",
    }
    assert state_counts(state.days.values()) == {
        "ingested": 1,
        "incomplete": 1,
        "not_ingested": 1,
        "adopted": 2,
        "adopted_empty": 3,
    }
    assert state.unready_days == [JUNE_6, date(2025, 6, 8)]
    assert state.days_to_read == [date(2025, 6, day) for day in (1, 3, 4, 6, 8)]
    assert state.unproven_days == [date(2025, 6, day) for day in (1, 2, 3, 4, 5)]
    assert (state.latest_ingested, state.days_behind) == (JUNE_7, 1)
    assert not state.is_right


def test_a_running_day_is_ingested_when_its_due_periods_are(engine: Engine) -> None:
    now = datetime(2025, 6, 6, 12, tzinfo=UTC)
    ingest(engine, [JUNE_6], now=now)

    assert state_of(engine, Days(JUNE_6, JUNE_6), now=now).days == {JUNE_6: DayState.INGESTED}
    later = datetime(2025, 6, 6, 12, 15, tzinfo=UTC)
    assert state_of(engine, Days(JUNE_6, JUNE_6), now=later).days == {JUNE_6: DayState.INCOMPLETE}


def test_without_any_data_every_day_is_behind(engine: Engine) -> None:
    state = state_of(engine, SMALL_DAYS)

    assert (state.latest_ingested, state.days_behind) == (None, 2)
    assert state.total == Tally()
    assert not state.is_right


def know_difficulty_up_to(engine: Engine, instant: datetime) -> None:
    """Says that the difficulty was last read at an instant. Rows that are gone would come from the packaged table."""
    with writing(engine) as connection:
        connection.execute(update(network_difficulty).values(observed_at=instant))


def test_where_the_difficulty_is_not_known_calculations_are_expected_and_not_right(small_days: Engine) -> None:
    # Known through period 10 of 2025-06-06, which ends at 04:00Z.
    know_difficulty_up_to(small_days, datetime(2025, 6, 6, 4, tzinfo=UTC))
    later = "NOT (settlement_date = '2025-06-06' AND settlement_period <= 10)"
    before = state_of(small_days, SMALL_DAYS).total
    unknown = scalar(small_days, f"SELECT count(*) FROM {CALCULATIONS} WHERE {later}")
    assert 0 < unknown < before.expected

    assert before == Tally(expected=before.expected, actual=before.expected, wrong=unknown)
    assert before.completion_pct < 100

    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE {later}")
    after = state_of(small_days, SMALL_DAYS).total
    assert after == Tally(expected=before.expected, actual=before.expected - unknown)
    assert after.missing == unknown


def test_without_any_stored_difficulty_the_packaged_one_gives_the_same_verdict(small_days: Engine) -> None:
    before = state_of(small_days, SMALL_DAYS)
    execute(small_days, "DELETE FROM network_difficulty")

    after = state_of(small_days, SMALL_DAYS)

    assert after == before
    assert after.is_right


def test_a_stored_difficulty_replaces_the_packaged_one(small_days: Engine) -> None:
    execute(small_days, "UPDATE network_difficulty SET difficulty = difficulty * 1.01 WHERE height = 899136")

    total = state_of(small_days, SMALL_DAYS).total

    assert total.wrong == total.actual == total.expected > 0
    assert total.completion_pct == 0


@pytest.mark.parametrize(
    ("tally", "percent"),
    [
        (Tally(expected=93_348, actual=93_348), 100.0),
        (Tally(expected=93_348, actual=93_347), 99.99),
        (Tally(expected=93_348, actual=93_348, wrong=1), 99.99),
        (Tally(expected=1_514_223, actual=1_514_222), 99.99),
        (Tally(expected=1_514_223, actual=984_547), 65.01),
        (Tally(expected=3, actual=2), 66.66),
        (Tally(expected=3, actual=3, wrong=3), 0.0),
        (Tally(expected=2, actual=2, surplus=5, duplicated=5), 100.0),
        (Tally(), 100.0),
    ],
)
def test_completion_is_rounded_down(tally: Tally, percent: float) -> None:
    assert tally.completion_pct == percent


def test_tallies_add_up_and_count_every_fault_once() -> None:
    whole = sum((Tally(10, 7, 1, 2, 3), Tally(5, 5, 4, 0, 1)), Tally())

    assert whole == Tally(expected=15, actual=12, surplus=5, duplicated=2, wrong=4)
    assert whole.missing == 3
    assert whole.faults == 3 + 5 + 2 + 4


def test_faulty_days_are_those_of_any_daily_layer(small_days: Engine) -> None:
    execute(
        small_days,
        orphan(date(2025, 6, 8), 1),
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07' AND settlement_period = 36",
        "INSERT INTO daily_summaries (summary_date) VALUES ('2025-06-09')",
        "DELETE FROM bitcoin_monthly_summaries",
    )

    state = state_of(small_days, Days(date(2025, 6, 5), date(2025, 6, 10)))

    assert [day.day for day in state.faulty_days] == [7, 8, 9]
