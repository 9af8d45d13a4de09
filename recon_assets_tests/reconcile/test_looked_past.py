"""Rows that no layer speaks of are counted, named, and left as they are."""

from datetime import date

import pytest
from sqlalchemy import Engine, text

from recon_assets.database import transactions
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import BITCOIN_MONTHLY, DAILY_LAYERS, MONTHLY_LAYERS
from recon_assets.reconcile.looked_past import mend
from recon_assets.reconcile.scope import Scope
from recon_assets.reports.analysis import analysis_facts
from recon_assets_tests.orchestration.test_reconciliation import ALL_TABLES
from recon_assets_tests.reconcile.test_apply import RULE, TABLE
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    scalar,
    state_of,
)

SCOPE = Scope(SMALL_DAYS, RULE)


def respell(table: str, model: str, spelling: str, where: str = "1 = 1") -> str:
    return f"UPDATE {table} SET miner_model = '{spelling}' WHERE miner_model = '{model}' AND {where}"


def test_rows_in_another_spelling_are_unknown_and_the_days_are_left_alone(small_days: Engine) -> None:
    # given one day of a model in another spelling, and another model with a row less
    right = contents(small_days, *ALL_TABLES)
    (renamed,) = execute(small_days, respell(TABLE, "S19J_PRO", "s19j_pro", "settlement_date = '2025-06-06'"))
    gone = f"{TABLE} WHERE miner_model = 'S9' AND settlement_period = 10"
    lost = scalar(small_days, f"SELECT count(*) FROM {gone}")
    execute(small_days, f"DELETE FROM {gone}")

    # then
    state = state_of(small_days, SMALL_DAYS)
    assert state.unknown_models == {"s19j_pro": renamed}
    assert state.misnamed == {(JUNE_6, "S19J_PRO"): {"s19j_pro"}}
    assert state.of_model("S19J_PRO").missing == renamed
    assert not state.is_right

    # when
    made = converge_span(small_days, DAILY_LAYERS, SCOPE, NOW)

    # then the other models and days are right, and no row stands beside those of the other spelling
    assert made.changes_of(TABLE, "S9").inserted == lost
    assert made.changes_of(TABLE, "S19J_PRO").total == 0
    assert made.changes_of("bitcoin_daily_summaries", "S19J_PRO").total == 0
    assert not any(made.unfit.values())
    assert set(made.unfit_models) == {(TABLE, "S19J_PRO"), ("bitcoin_daily_summaries", "S19J_PRO")}
    (reason,) = made.unfit_models[TABLE, "S19J_PRO"].values()
    assert reason.startswith("2025-06-06: rows of S19J_PRO are stored as 's19j_pro', and none is inserted beside them")
    of_day = f"SELECT count(*) FROM {TABLE} WHERE settlement_date = '2025-06-06' AND miner_model = 'S19J_PRO'"
    assert scalar(small_days, of_day) == 0

    # and the statement that analyze shows makes everything right
    (fact,) = analysis_facts(state)["unknown_models"]
    assert (fact["table"], fact["miner_model"], fact["rows"]) == (TABLE, "s19j_pro", renamed)
    assert fact["mend"] == f"UPDATE {TABLE} SET miner_model = 'S19J_PRO' WHERE miner_model = 's19j_pro';"
    assert execute(small_days, fact["mend"]) == [renamed]
    assert state_of(small_days, SMALL_DAYS).is_right
    assert contents(small_days, *ALL_TABLES) == right


def test_a_summary_in_another_spelling_is_unknown_and_none_is_inserted_beside_it(small_days: Engine) -> None:
    right = contents(small_days, *ALL_TABLES)
    tables = ("bitcoin_daily_summaries", "bitcoin_monthly_summaries", "bitcoin_yearly_summaries")
    execute(small_days, *(respell(table, "S9", " s9") for table in tables))
    state = state_of(small_days, SMALL_DAYS)

    days = converge_span(small_days, DAILY_LAYERS, SCOPE, NOW)
    months = converge_span(small_days, MONTHLY_LAYERS, SCOPE.of(BITCOIN_MONTHLY.grain.whole(SMALL_DAYS)), NOW)

    assert state.unknown_models == {" s9": 2 + 1 + 1}
    assert not state.is_right
    assert [made.total for made in (*days.changes.values(), *months.changes.values()) if made.total] == []
    assert list(days.unfit_models["bitcoin_daily_summaries", "S9"]) == ["2025-06-06", "2025-06-07"]
    assert list(months.unfit_models["bitcoin_monthly_summaries", "S9"]) == ["2025-06"]
    execute(small_days, *(fact["mend"] for fact in analysis_facts(state)["unknown_models"]))
    assert contents(small_days, *ALL_TABLES) == right


def test_a_model_that_nobody_declared_is_named_and_hinders_nothing(small_days: Engine) -> None:
    execute(small_days, f"DELETE FROM {TABLE} WHERE miner_model = 'M20S'", respell(TABLE, "S9", "S21 Hydro"))
    count = scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE miner_model = 'S21 Hydro'")

    made = converge_layers(small_days, SMALL_DAYS)
    state = state_of(small_days, SMALL_DAYS)

    assert made[TABLE] == Changes(inserted=2 * count, kept=count)
    assert state.unknown_models == {"S21 Hydro": count}
    assert (state.total.faults, state.summary_faults, state.misnamed) == (0, 0, {})
    assert not state.is_right
    (fact,) = analysis_facts(state)["unknown_models"]
    assert "no such model is declared: declare it in recon_assets/domain/mining.py, or remove" in fact["mend"]


def test_only_rows_of_the_days_that_are_asked_for_count(small_days: Engine) -> None:
    execute(small_days, respell(TABLE, "S9", "s 9", "settlement_date = '2025-06-06'"))

    assert state_of(small_days, SMALL_DAYS).unknown_models
    assert state_of(small_days, type(SMALL_DAYS)(JUNE_7, JUNE_7)).unknown_models == {}


@pytest.mark.parametrize("spelling", ["s19j pro", "S19j-Pro", " S19J_PRO ", "it's"])
def test_a_statement_names_a_spelling_exactly_as_it_is_stored(small_days: Engine, spelling: str) -> None:
    with transactions.writing(small_days) as connection:
        rename = text(f"UPDATE {TABLE} SET miner_model = :spelling WHERE miner_model = 'S19J_PRO'")
        renamed = connection.execute(rename, {"spelling": spelling}).rowcount

    assert state_of(small_days, SMALL_DAYS).unknown_models == {spelling: renamed}
    if spelling != "it's":
        assert execute(small_days, mend(TABLE, spelling)) == [renamed]
        assert state_of(small_days, SMALL_DAYS).is_right


def test_a_day_without_a_fault_but_with_rows_of_another_spelling_is_a_finding(small_days: Engine) -> None:
    columns = "settlement_date, settlement_period, farm_id, bitcoin_mined, difficulty"
    copy = f"SELECT {columns}, 's9' FROM {TABLE} WHERE miner_model = 'S9' AND settlement_date = '2025-06-07'"
    execute(small_days, f"INSERT INTO {TABLE} ({columns}, miner_model) {copy}")

    (finding,) = analysis_facts(state_of(small_days, SMALL_DAYS))["findings"]

    assert (finding["from"], finding["to"]) == ("2025-06-07", str(date(2025, 6, 7)))
    assert finding["why"] == ["S9: looked past rows of 's9': rename them first"]
