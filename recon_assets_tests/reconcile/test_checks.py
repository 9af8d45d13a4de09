from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days, day_starts_at
from recon_assets.orchestration.checks import CHECKS
from recon_assets.reconcile.check_inputs import CheckInputs
from recon_assets.reconcile.checks import WORST_DAYS_SHOWN, CheckResult
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, execute, ingest, scalar

CALCULATIONS = "historical_bitcoin_calculations"
DAY_6 = "settlement_date = '2025-06-06'"
S9 = f"{CALCULATIONS}/S9"
OF_S9_AMONG_OTHERS = (
    f"{DAY_6} AND miner_model = 'S9' AND settlement_period = (SELECT MIN(settlement_period) FROM (SELECT"
    f" settlement_period FROM {CALCULATIONS} WHERE {DAY_6} GROUP BY settlement_period HAVING COUNT(*) > 3) several)"
)
COLUMNS = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"


def results(engine: Engine, days: Days = SMALL_DAYS, now: datetime = NOW) -> dict[str, CheckResult]:
    """Every result, under 'asset:check'; the same whether the state is read at once or in parts."""
    scope = Scope(days, CurtailmentRule.SO_FLAGGED)
    at_once, in_parts = CheckInputs(engine, scope, now), CheckInputs(engine, scope, now, whole=False)
    found = {f"{key.asset_key.to_user_string()}:{key.name}": check(at_once) for key, check in CHECKS.items()}
    assert [check(in_parts) for check in CHECKS.values()] == list(found.values())
    return found


def failing(engine: Engine) -> set[str]:
    return {name for name, result in results(engine).items() if not result.holds}


def one(table: str, where: str) -> str:
    return f"id = (SELECT MIN(id) FROM {table} WHERE {where})"


def test_of_right_days_every_verdict_holds(small_days: Engine) -> None:
    found = results(small_days)

    assert {name for name, result in found.items() if not result.holds} == set()
    assert found[f"{S9}:every_expected_row_exists"].counts["expected"] > 0
    assert found["curtailment_records:records_equal_bids"].counts["records"] > 0


ABOVE_S9 = {
    "bitcoin_daily_summaries:days_equal_their_rows",
    "bitcoin_monthly_summaries:months_equal_their_days",
    "bitcoin_yearly_summaries:years_equal_their_months",
}
ABOVE_RECORDS = {
    "daily_summaries:days_equal_their_rows",
    "monthly_summaries:months_equal_their_days",
    "yearly_summaries:years_equal_their_months",
}
OF_MODELS = {f"{CALCULATIONS}/{model}" for model in ("S19J_PRO", "S9", "M20S")}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        pytest.param(
            f"DELETE FROM {CALCULATIONS} WHERE {one(CALCULATIONS, OF_S9_AMONG_OTHERS)}",
            {f"{S9}:every_expected_row_exists", "bitcoin_daily_summaries:models_have_equal_counts", *ABOVE_S9},
            id="a missing row",
        ),
        pytest.param(
            f"DELETE FROM {CALCULATIONS} WHERE {DAY_6} AND miner_model = 'S9' AND settlement_period ="
            f" (SELECT MIN(settlement_period) FROM {CALCULATIONS} WHERE {DAY_6})",
            {
                f"{S9}:every_expected_row_exists",
                "bitcoin_daily_summaries:models_have_equal_counts",
                "bitcoin_daily_summaries:settlement_periods_match",
                *ABOVE_S9,
            },
            id="a missing settlement period",
        ),
        pytest.param(
            f"UPDATE {CALCULATIONS} SET difficulty = difficulty * 1.1"
            f" WHERE {one(CALCULATIONS, DAY_6 + ' AND miner_model = ' + repr('S9'))}",
            {f"{S9}:every_value_is_right"},
            id="a wrong difficulty",
        ),
        pytest.param(
            f"INSERT INTO {CALCULATIONS} ({COLUMNS}) VALUES ('2025-06-06', 49, 'T_NOSUCH-1', 'S9', 0.5, 1e14)",
            {
                f"{S9}:no_orphan_no_duplicate",
                "bitcoin_daily_summaries:models_have_equal_counts",
                "bitcoin_daily_summaries:settlement_periods_match",
                *ABOVE_S9,
            },
            id="an orphan in a period that the day does not have",
        ),
        pytest.param(
            f"UPDATE curtailment_records SET payment = payment + 1 WHERE {one('curtailment_records', DAY_6)}",
            {
                "curtailment_records:records_equal_bids",
                "curtailment_records:payments_follow_volume_and_price",
            },
            id="a wrong payment",
        ),
        pytest.param(
            "UPDATE curtailment_records SET so_flag = NOT so_flag",
            {"curtailment_records:records_equal_bids"},
            id="a wrong flag",
        ),
        pytest.param(
            f"DELETE FROM curtailment_records WHERE {DAY_6} AND settlement_period ="
            f" (SELECT MIN(settlement_period) FROM curtailment_records WHERE {DAY_6})",
            {
                "curtailment_records:records_equal_bids",
                "bitcoin_daily_summaries:settlement_periods_match",
                *(f"{asset}:no_orphan_no_duplicate" for asset in OF_MODELS),
                *ABOVE_RECORDS,
            },
            id="records of a settlement period are missing",
        ),
        pytest.param(
            "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = 0 WHERE miner_model = 'S9'",
            {"bitcoin_monthly_summaries:months_equal_their_days"},
            id="a stale month of bitcoin",
        ),
        pytest.param(
            "DELETE FROM yearly_summaries", {"yearly_summaries:years_equal_their_months"}, id="no year of energy"
        ),
        pytest.param(
            "UPDATE daily_summaries SET total_payment = 1 WHERE summary_date = '2025-06-06'",
            {"daily_summaries:days_equal_their_rows"},
            id="a stale day of energy",
        ),
    ],
)
def test_each_kind_of_damage_breaks_its_own_checks(small_days: Engine, statement: str, broken: set[str]) -> None:
    execute(small_days, statement)

    assert failing(small_days) == broken


def test_a_proof_that_is_missing_or_contradicted_is_an_error_when_it_is_old(small_days: Engine) -> None:
    # given: a period of one day without proof, bids of the other that are not those fetched
    execute(
        small_days,
        f"DELETE FROM proof_of_fetch WHERE {DAY_6} AND settlement_period = 48",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-07'",
    )

    # when
    result = results(small_days)["wind_bids:every_period_has_proof"]

    # then
    assert (result.holds, result.is_warning) == (False, False)
    assert result.counts["contradicted_days"] >= 1
    assert {worst_day["settlement_date"] for worst_day in result.worst_days} == {"2025-06-06", "2025-06-07"}
    # Dagster shows them as one table, and refuses rows of different columns.
    assert len({frozenset(worst_day) for worst_day in result.worst_days}) == 1


def test_a_day_that_was_read_when_other_units_counted_as_wind_fails_its_check(small_days: Engine) -> None:
    execute(
        small_days,
        "INSERT INTO uncounted_bids (settlement_date, bm_unit_id, bids, mwh) VALUES ('2025-06-06', 'T_SGRWO-1', 2, -5)",
    )

    result = results(small_days)["wind_bids:every_period_has_proof"]

    assert (result.holds, result.is_warning, result.counts["days_with_new_wind_units"]) == (False, False, 1)
    (worst,) = result.worst_days
    assert (worst["settlement_date"], worst["new_wind_units"]) == ("2025-06-06", 1)


def test_days_of_an_old_database_are_a_warning_until_they_are_proven_and_an_error_without_records(
    small_days: Engine,
) -> None:
    execute(small_days, "DELETE FROM proof_of_fetch", "DELETE FROM wind_bids")

    adopted = results(small_days)["wind_bids:every_period_has_proof"]
    wider = results(small_days, Days(JUNE_6 - timedelta(days=1), JUNE_7))["wind_bids:every_period_has_proof"]
    execute(small_days, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'")
    lost = results(small_days)["wind_bids:every_period_has_proof"]

    assert (adopted.holds, adopted.is_warning, adopted.counts["adopted_days_without_proof"]) == (False, True, 2)
    assert (wider.is_warning, wider.counts["adopted_days_without_records"]) == (False, 1)
    assert (lost.is_warning, lost.counts["days_with_lost_records"]) == (False, 1)


def test_a_day_that_is_published_as_it_goes_is_only_a_warning(engine: Engine) -> None:
    # given: the morning of a day was read in time, and it is noon
    morning = day_starts_at(JUNE_6) + timedelta(hours=8)
    ingest(engine, [JUNE_6], now=morning)

    # when
    noon = results(engine, Days(JUNE_6, JUNE_6), morning + timedelta(hours=4))["wind_bids:every_period_has_proof"]

    # then
    assert (noon.holds, noon.is_warning) == (False, True)
    assert noon.counts["incomplete_days"] == 1


@pytest.mark.parametrize(("days_later", "is_warning"), [(1, True), (2, False)])
def test_a_day_that_is_not_whole_is_a_warning_until_the_day_after_is_over(
    engine: Engine, days_later: int, is_warning: bool
) -> None:
    ingest(engine, [JUNE_6], now=day_starts_at(JUNE_6) + timedelta(hours=8))

    late = day_starts_at(JUNE_6 + timedelta(days=days_later)) + timedelta(hours=12)
    found = results(engine, Days(JUNE_6, JUNE_6), late)["wind_bids:every_period_has_proof"]

    assert (found.holds, found.is_warning) == (False, is_warning)


def test_of_days_that_are_equally_bad_the_newest_comes_first(small_days: Engine) -> None:
    ids = f"SELECT min(id) FROM {CALCULATIONS} WHERE miner_model = 'S9' GROUP BY settlement_date"
    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE id IN ({ids})")

    found = results(small_days)[f"{S9}:every_expected_row_exists"]

    assert [(worst["settlement_date"], worst["missing"]) for worst in found.worst_days] == [
        ("2025-06-07", 1),
        ("2025-06-06", 1),
    ]


def test_a_day_that_was_never_read_between_others_is_a_warning(small_days: Engine) -> None:
    result = results(small_days, Days(JUNE_6 - timedelta(days=1), JUNE_7))["wind_bids:every_period_has_proof"]

    assert (result.holds, result.is_warning) == (False, True)
    assert result.counts["not_ingested_days"] == 1


def test_signs_of_an_old_database_are_counted_and_no_error(engine: Engine) -> None:
    # given records without proof, with a payment of the wrong sign
    execute(
        engine,
        "INSERT INTO curtailment_records (settlement_date, settlement_period, farm_id, volume, payment, original_price)"
        " VALUES ('2025-06-06', 3, 'T_SGRWO-1', 12, -600, -50)",
    )

    # when
    result = results(engine)["curtailment_records:payments_follow_volume_and_price"]

    # then
    assert result.holds
    assert result.counts == {"dates": 0, "records": 0, "adopted_records": 1}


def test_the_worst_dates_come_first_and_are_not_too_many(small_days: Engine) -> None:
    # given more days than are named, each with some of the records of one and no calculation
    later = [JUNE_7 + timedelta(days=n) for n in range(1, WORST_DAYS_SHOWN + 6)]
    columns = "settlement_period, farm_id, sequence_number, volume, payment, original_price"
    execute(
        small_days,
        *(
            f"INSERT INTO curtailment_records (settlement_date, {columns}) SELECT '{day}', {columns}"
            f" FROM curtailment_records WHERE settlement_date = '2025-06-06' AND settlement_period <= {3 + n * 5 % 9}"
            for n, day in enumerate(later)
        ),
    )
    keys = "SELECT DISTINCT settlement_date, settlement_period, farm_id FROM curtailment_records"

    # when
    result = results(small_days, Days(JUNE_6, later[-1]), datetime(2026, 1, 1, tzinfo=UTC))[
        f"{S9}:every_expected_row_exists"
    ]

    # then
    missing = [int(worst_day["missing"]) for worst_day in result.worst_days]
    assert missing == sorted(missing, reverse=True)
    assert min(missing) < max(missing)
    assert len(missing) == WORST_DAYS_SHOWN
    assert result.counts["missing"] == scalar(
        small_days, f"SELECT COUNT(*) FROM ({keys} WHERE settlement_date > '2025-06-07') AS of_later_days"
    )
