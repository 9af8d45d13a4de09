"""NaN and infinities, which both databases can hold: such rows are never right, and spoil nothing else."""

import json
from math import isfinite
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets.reports.analysis import analysis_facts
from recon_assets.reports.state import state_facts
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

RECORDS = "curtailment_records"


def no_numbers(engine: Engine) -> list[str]:
    """The values that are no numbers, as SQL; SQLite stores NaN as NULL."""
    return ["9e999", "-9e999"] if engine.dialect.name == "sqlite" else ["'NaN'", "'Infinity'", "'-Infinity'"]


def assert_finite(facts: Any) -> None:
    """Facts can be written as JSON."""
    json.dumps(facts, allow_nan=False)


def one(table: str, where: str = "1 = 1") -> str:
    return f"id = (SELECT min(id) FROM {table} WHERE {where})"


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (TABLE, "bitcoin_mined"), (TABLE, "difficulty"), (RECORDS, "volume"), (RECORDS, "payment"),
        (RECORDS, "original_price"), (RECORDS, "final_price"), ("bitcoin_daily_summaries", "bitcoin_mined"),
        ("bitcoin_monthly_summaries", "bitcoin_mined"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_number_is_wrong_and_mended(small_days: Engine, table: str, column: str) -> None:
    right, before = contents(small_days, *ALL_TABLES), state_of(small_days, SMALL_DAYS)
    for value in no_numbers(small_days):
        execute(small_days, f"UPDATE {table} SET {column} = {value} WHERE {one(table)}")

        state = state_of(small_days, SMALL_DAYS)

        assert not state.is_right
        assert state.total.wrong + state.records.wrong + state.summary_faults >= 1
        if table == TABLE:
            assert (state.total.wrong, state.records.faults) == (1, 0)
        assert_finite(state_facts(state))
        assert_finite(analysis_facts(state))
        if column == "bitcoin_mined" and table == TABLE:
            assert state.bitcoin["S9"] == pytest.approx(before.bitcoin["S9"], rel=0.5, abs=0)
        converge_layers(small_days, SMALL_DAYS)
        assert contents(small_days, *ALL_TABLES) == right
        assert state_of(small_days, SMALL_DAYS).is_right


@pytest.mark.parametrize("column", ["total_curtailed_energy", "total_payment", "total_wind_generation"])
def test_a_summary_of_energy_that_is_no_number_never_crashes(small_days: Engine, column: str) -> None:
    for value in no_numbers(small_days):
        execute(small_days, f"UPDATE daily_summaries SET {column} = {value}")

        state = state_of(small_days, SMALL_DAYS)

        assert_finite(state_facts(state))
        if column != "total_wind_generation":  # without a row of generation, all that is known of it is the summary
            assert len(state.stale_summaries["daily_summaries"]) == 2


def adopt(engine: Engine, column: str, value: str) -> None:
    """Makes 2025-06-06 a day of an old database, one of whose records is no number."""
    first = one(RECORDS, "settlement_date = '2025-06-06'")
    execute(
        engine,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06'",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06'",
        f"UPDATE {RECORDS} SET {column} = {value} WHERE {first}",
    )


@pytest.mark.parametrize("column", ["volume", "original_price", "final_price"])
def test_an_adopted_record_that_is_no_number_is_named_with_what_to_do(small_days: Engine, column: str) -> None:
    name = f"SELECT min(id) FROM {RECORDS} WHERE settlement_date = '2025-06-06'"
    of_other_day = state_of(small_days, Days(JUNE_7, JUNE_7))
    for value in no_numbers(small_days):
        adopt(small_days, column, value)

        state = state_of(small_days, SMALL_DAYS)

        assert not state.is_right
        assert state.faulty_days == [JUNE_6]
        (finding,) = analysis_facts(state)["findings"]
        (why,) = [why for why in finding["why"] if "NaN" in why]
        assert why.startswith("volume or price is NaN or Infinity: period ")
        assert f"(id {int(scalar(small_days, name))})" in why
        assert finding["mend"] == "recon reingest 2025-06-06"
        assert_finite(state_facts(state))
        alone = state_of(small_days, Days(JUNE_7, JUNE_7))
        assert (alone.calculations, alone.bitcoin) == (of_other_day.calculations, of_other_day.bitcoin)
        assert alone.faulty_days == []


def test_calculations_of_an_unknown_volume_are_left_as_they_are(small_days: Engine) -> None:
    rows = f"SELECT count(*) FROM {TABLE}"
    stored = scalar(small_days, rows)
    for value in no_numbers(small_days):
        adopt(small_days, "volume", value)
        execute(small_days, f"DELETE FROM {TABLE} WHERE settlement_date = '2025-06-07' AND miner_model = 'S9'")

        made = converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

        assert "NaN or Infinity as its volume: run 'recon reingest 2025-06-06'" in made.unfit[TABLE][JUNE_6]
        assert list(made.unfit[TABLE]) == [JUNE_6]
        assert scalar(small_days, rows) == stored
        total = "SELECT total_curtailed_energy FROM daily_summaries WHERE summary_date = '2025-06-06'"
        assert isfinite(scalar(small_days, total))
