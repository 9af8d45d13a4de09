from math import isclose

import pytest
from sqlalchemy import Engine

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.content import Content, ContentKey, read_contents
from recon_assets.reconcile.layers import BITCOIN_DAILY, CALCULATIONS, CURTAILMENT, ENERGY_DAILY
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS, execute, scalar

LAYERS = (CURTAILMENT, CALCULATIONS, BITCOIN_DAILY, ENERGY_DAILY)
OF_6 = "settlement_date = '2025-06-06'"


def gathered(engine: Engine, days: Days = SMALL_DAYS) -> dict[ContentKey, Content]:
    return read_contents(engine, LAYERS, Scope(days, CurtailmentRule.SO_FLAGGED))


def changed(engine: Engine, statement: str) -> set[ContentKey]:
    """The partitions whose fingerprint differs after a statement."""
    before = gathered(engine)
    execute(engine, statement)
    after = gathered(engine)
    assert before.keys() == after.keys()
    return {key for key in before if before[key].fingerprint != after[key].fingerprint}


def test_rows_and_totals_are_those_of_the_tables(small_days: Engine) -> None:
    found = gathered(small_days)

    for day in SMALL_DAYS:
        of_day = f"settlement_date = '{day}'"
        records = found["curtailment_records", None, str(day)]
        assert records.rows == scalar(small_days, f"SELECT count(*) FROM curtailment_records WHERE {of_day}")
        mwh = scalar(small_days, f"SELECT sum(volume) FROM curtailment_records WHERE {of_day}")
        assert isclose(records.totals["volume_mwh"], float(mwh), rel_tol=1e-12)
        for model in MODELS:
            of_model = f"{of_day} AND miner_model = '{model}'"
            calculations = found["historical_bitcoin_calculations", model, str(day)]
            table = "historical_bitcoin_calculations"
            assert calculations.rows == scalar(small_days, f"SELECT count(*) FROM {table} WHERE {of_model}") > 0
            bitcoin = scalar(small_days, f"SELECT sum(bitcoin_mined) FROM {table} WHERE {of_model}")
            assert isclose(calculations.totals["bitcoin_mined"], float(bitcoin), rel_tol=1e-12)


@pytest.mark.parametrize(
    "column",
    ["settlement_period = 50", "farm_id = 'T_OTHER-1'", "bitcoin_mined = bitcoin_mined + 1e-9", "difficulty = NULL"],
)
def test_one_changed_value_changes_the_fingerprint_of_its_day_and_model_alone(small_days: Engine, column: str) -> None:
    table = "historical_bitcoin_calculations"
    one = f"(SELECT min(id) FROM {table} WHERE {OF_6} AND miner_model = 'S9')"

    assert changed(small_days, f"UPDATE {table} SET {column} WHERE id = {one}") == {(table, "S9", str(JUNE_6))}


@pytest.mark.parametrize("column", ["volume", "payment", "original_price", "final_price"])
def test_one_changed_amount_changes_the_fingerprint_of_the_records_of_its_day(small_days: Engine, column: str) -> None:
    one = f"(SELECT min(id) FROM curtailment_records WHERE {OF_6})"
    update = f"UPDATE curtailment_records SET {column} = {column} - 0.001 WHERE id = {one}"

    assert changed(small_days, update) == {("curtailment_records", None, str(JUNE_6))}


def test_two_values_that_are_exchanged_change_the_fingerprint(small_days: Engine) -> None:
    table = "historical_bitcoin_calculations"
    ends = f"(SELECT min(id) FROM {table} WHERE {OF_6}), (SELECT max(id) FROM {table} WHERE {OF_6})"
    total = f"(SELECT sum(bitcoin_mined) FROM {table} WHERE id IN ({ends}))"
    before = scalar(small_days, f"SELECT sum(bitcoin_mined) FROM {table}")

    touched = changed(small_days, f"UPDATE {table} SET bitcoin_mined = {total} - bitcoin_mined WHERE id IN ({ends})")

    assert isclose(float(scalar(small_days, f"SELECT sum(bitcoin_mined) FROM {table}")), float(before), rel_tol=1e-12)
    assert {day for _, _, day in touched} == {str(JUNE_6)}
    assert touched


def test_what_is_not_compared_changes_no_fingerprint(small_days: Engine) -> None:
    assert changed(small_days, "UPDATE curtailment_records SET lead_party_name = 'Another'") == set()
    assert changed(small_days, "UPDATE historical_bitcoin_calculations SET calculated_at = NULL") == set()


def test_a_period_without_rows_has_evidence_too(small_days: Engine) -> None:
    execute(small_days, f"DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '{JUNE_7}'")

    found = gathered(small_days)["historical_bitcoin_calculations", "S9", str(JUNE_7)]

    assert (found.rows, found.totals) == (0, {"bitcoin_mined": 0.0})


def test_a_generation_that_nobody_has_read_has_no_total(small_days: Engine) -> None:
    assert set(gathered(small_days)["daily_summaries", None, str(JUNE_6)].totals) == {"curtailed_mwh", "payment_gbp"}
