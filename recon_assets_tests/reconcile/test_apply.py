from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, update

from recon_assets.database import transactions
from recon_assets.database.engine import open_engine
from recon_assets.database.schema import migrate
from recon_assets.database.tables import (
    curtailment_records,
    historical_bitcoin_calculations,
    metadata,
    network_difficulty,
)
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.ingest.reference import store_bm_units, store_retargets
from recon_assets.reconcile.apply import Changes, converge, converge_by, damaged_days
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layer import Layer
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT, DAILY_LAYERS, LAYERS, SUMMARIES
from recon_assets.reconcile.scope import Scope, reading, writing
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import build_old_database
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.payloads import (
    published_totals,
    published_totals_of_units,
    stored_totals,
    stored_totals_of_units,
)
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    JUNE_DAYS,
    NOW,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    ingest,
    scalar,
    state_of,
)

RULE, ALL_BIDS = CurtailmentRule.SO_FLAGGED, CurtailmentRule.ALL_BIDS
TABLE = "historical_bitcoin_calculations"
KEY = "settlement_date, settlement_period, farm_id, miner_model"
FLAGGED_ROWS, ALL_ROWS = 57_471, 59_842
"""Curtailment records of June 2025 under either rule."""
EACH_MODEL = 31_116
"""Settlement periods and farms with flagged curtailment in June 2025: the calculations of a miner model."""
TABLES = tuple(layer.table for layer in LAYERS)


def some(table: str, day: str, limit: int, model: str | None = None) -> str:
    """The condition that names the first rows of a day and model."""
    where = f"settlement_date = '{day}'" + (f" AND miner_model = '{model}'" if model else "")
    return f"id IN (SELECT id FROM {table} WHERE {where} ORDER BY id LIMIT {limit})"


def orphans(day: date, *periods: int, farm: str = "T_NOSUCH-1") -> str:
    rows = ", ".join(f"('{day}', {period}, '{farm}', 'S9', 0.5, 1e14)" for period in periods)
    return f"INSERT INTO {TABLE} ({KEY}, bitcoin_mined, difficulty) VALUES {rows}"


def converge_layer(engine: Engine, layer: Layer, days: Days) -> Changes:
    with writing(engine, Scope(days, RULE)) as (connection, scope):
        return converge(connection, layer, scope)


def changed(changes: dict[str, Changes]) -> dict[str, Changes]:
    """The tables that were changed."""
    return {table: made for table, made in changes.items() if made.total}


def test_june_has_its_published_totals_by_either_rule(june: Engine) -> None:
    assert stored_totals(june, "wind_bids WHERE volume < 0") == published_totals(JUNE_DAYS, ALL_BIDS)
    assert stored_totals(june, "curtailment_records") == published_totals(JUNE_DAYS, RULE)
    assert scalar(june, "SELECT count(*) FROM proof_of_fetch") == 30 * 48


def test_damage_to_june_is_counted_exactly_and_mended_exactly(june: Engine) -> None:
    before = contents(june, *TABLES)
    execute(
        june,
        # An adopted table may lack the unique key, and hold the same row twice.
        f"DROP INDEX {TABLE}_key",
        f"CREATE INDEX {TABLE}_key ON {TABLE} ({KEY})",
        f"INSERT INTO {TABLE} ({KEY}, bitcoin_mined, difficulty) SELECT {KEY}, bitcoin_mined, difficulty FROM {TABLE}"
        f" WHERE {some(TABLE, '2025-06-12', 4, 'S19J_PRO')}",
        f"DELETE FROM {TABLE} WHERE {some(TABLE, '2025-06-28', 10, 'S9')}",
        f"UPDATE {TABLE} SET bitcoin_mined = bitcoin_mined * 2 + 1 WHERE {some(TABLE, '2025-06-03', 7, 'M20S')}",
        f"UPDATE {TABLE} SET difficulty = difficulty * 1.5 WHERE {some(TABLE, '2025-06-04', 5, 'S19J_PRO')}",
        orphans(JUNE_7, 1, 2, 3),
        "DELETE FROM daily_summaries WHERE summary_date = '2025-06-15'",
        "UPDATE monthly_summaries SET total_payment = total_payment + 1",
    )

    state = state_of(june, JUNE_DAYS)

    assert state.of_model("S9") == Tally(expected=EACH_MODEL, actual=EACH_MODEL - 10, surplus=3)
    assert state.of_model("M20S") == Tally(expected=EACH_MODEL, actual=EACH_MODEL, wrong=7)
    assert state.of_model("S19J_PRO") == Tally(expected=EACH_MODEL, actual=EACH_MODEL, duplicated=4, wrong=5)
    assert {key for key, tally in state.calculations.items() if tally.faults} == {
        (date(2025, 6, 3), "M20S"),
        (date(2025, 6, 4), "S19J_PRO"),
        (date(2025, 6, 7), "S9"),
        (date(2025, 6, 12), "S19J_PRO"),
        (date(2025, 6, 28), "S9"),
    }
    # Four days of a model, each with its month and year, and the two energy rows.
    assert state.summary_faults == 4 + 3 + 3 + 1 + 1
    assert state.records.faults == 0

    made = converge_layers(june, JUNE_DAYS)

    assert changed(made) == {
        TABLE: Changes(inserted=10, corrected=12, removed=7, kept=3 * EACH_MODEL - 22),
        "daily_summaries": Changes(inserted=1, kept=29),
        "monthly_summaries": Changes(corrected=1),
    }
    assert contents(june, *TABLES) == before
    assert changed(converge_layers(june, JUNE_DAYS)) == {}


def test_damage_to_the_records_of_june_is_counted_exactly_and_mended_exactly(june: Engine) -> None:
    before = contents(june, *TABLES)
    records = "curtailment_records"
    execute(
        june,
        f"DELETE FROM {records} WHERE {some(records, '2025-06-03', 6)}",
        f"UPDATE {records} SET volume = -volume WHERE {some(records, '2025-06-04', 2)}",
        f"UPDATE {records} SET payment = payment + 0.01 WHERE {some(records, '2025-06-05', 3)}",
        f"UPDATE {records} SET farm_id = 'T_NOSUCH-1' WHERE {some(records, '2025-06-12', 1)}",
        f"INSERT INTO {records} (settlement_date, settlement_period, farm_id, volume, final_price)"
        " VALUES ('2025-06-07', 40, 'T_SGRWO-1', -5, 0), ('2025-06-07', 41, 'T_SGRWO-1', -5, 0)",
    )

    state = state_of(june, JUNE_DAYS)

    assert {day.day: tally for day, tally in state.curtailment.items() if tally.faults} == {
        3: Tally(expected=4333, actual=4327),
        4: Tally(expected=4183, actual=4183, wrong=2),
        5: Tally(expected=1258, actual=1258, wrong=3),
        7: Tally(expected=14, actual=14, surplus=2),
        12: Tally(expected=3296, actual=3296, wrong=1),
    }
    assert state.contradicted == frozenset()

    made = converge_layers(june, JUNE_DAYS)

    # What was calculated from the records before they were damaged is right again without a touch.
    assert changed(made) == {records: Changes(inserted=6, corrected=6, removed=2, kept=FLAGGED_ROWS - 12)}
    assert contents(june, *TABLES) == before


def test_another_rule_rebuilds_june_from_its_bids_and_the_first_one_brings_it_back(june: Engine) -> None:
    before = contents(june, *TABLES)

    made = converge_layers(june, JUNE_DAYS, ALL_BIDS)

    assert made["curtailment_records"] == Changes(inserted=ALL_ROWS - FLAGGED_ROWS, kept=FLAGGED_ROWS)
    assert made[TABLE].inserted > 0
    assert made[TABLE].corrected > 0
    assert made[TABLE].removed == 0
    assert state_of(june, JUNE_DAYS, ALL_BIDS).is_right
    assert stored_totals(june, "curtailment_records") == published_totals(JUNE_DAYS, ALL_BIDS)
    assert stored_totals_of_units(june) == published_totals_of_units(JUNE_DAYS)

    assert converge_layers(june, JUNE_DAYS, RULE)["curtailment_records"].removed == ALL_ROWS - FLAGGED_ROWS
    assert contents(june, *TABLES) == before


def test_an_empty_layer_is_built_and_a_second_time_changes_nothing(engine: Engine) -> None:
    ingest(engine, SMALL_DAYS)

    first = converge_layers(engine, SMALL_DAYS)
    before = contents(engine, *metadata.tables.values())
    second = converge_layers(engine, SMALL_DAYS)

    assert first["curtailment_records"] == Changes(inserted=94)
    assert first["bitcoin_daily_summaries"] == Changes(inserted=6)
    assert first["daily_summaries"] == Changes(inserted=2)
    assert first["bitcoin_yearly_summaries"] == Changes(inserted=3)
    assert second == {table: Changes(kept=made.inserted) for table, made in first.items()}
    assert contents(engine, *metadata.tables.values()) == before


def test_changes_are_told_by_group(small_days: Engine) -> None:
    execute(
        small_days,
        f"DELETE FROM {TABLE} WHERE {some(TABLE, '2025-06-07', 2, 'S9')}",
        f"UPDATE {TABLE} SET difficulty = 1 WHERE {some(TABLE, '2025-06-06', 3, 'M20S')}",
        orphans(JUNE_7, 1),
    )
    with writing(small_days, Scope(SMALL_DAYS, RULE)) as (connection, scope):
        made = converge_by(connection, CALCULATIONS, scope, "settlement_date", "miner_model")

    assert {group: (c.inserted, c.corrected, c.removed) for group, c in made.items() if c.total} == {
        (JUNE_7, "S9"): (2, 0, 1),
        (JUNE_6, "M20S"): (0, 3, 0),
    }


def test_right_rows_keep_their_ids_and_timestamps(small_days: Engine) -> None:
    old = "'2001-01-01 00:00:00'"
    execute(small_days, f"UPDATE {TABLE} SET calculated_at = {old}")
    execute(small_days, f"UPDATE {TABLE} SET difficulty = 1 WHERE {some(TABLE, '2025-06-06', 3, 'M20S')}")
    ids = scalar(small_days, f"SELECT sum(id) FROM {TABLE}")

    converge_layers(small_days, SMALL_DAYS)

    assert scalar(small_days, f"SELECT sum(id) FROM {TABLE}") == ids
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE calculated_at > {old}") == 3


def test_of_duplicates_the_oldest_is_kept_and_corrected(small_days: Engine) -> None:
    execute(
        small_days,
        f"DROP INDEX {TABLE}_key",
        f"UPDATE {TABLE} SET bitcoin_mined = 9 WHERE {some(TABLE, '2025-06-07', 1, 'S9')}",
        f"INSERT INTO {TABLE} ({KEY}, bitcoin_mined, difficulty) SELECT {KEY}, bitcoin_mined, difficulty FROM {TABLE}"
        f" WHERE {some(TABLE, '2025-06-07', 1, 'S9')}",
    )
    newest = scalar(small_days, f"SELECT max(id) FROM {TABLE}")

    made = converge_layer(small_days, CALCULATIONS, SMALL_DAYS)

    assert (made.inserted, made.corrected, made.removed) == (0, 1, 1)
    assert scalar(small_days, f"SELECT max(id) FROM {TABLE}") < newest
    assert state_of(small_days, SMALL_DAYS).total.faults == 0


def adopt(engine: Engine, *days: date) -> None:
    """Records as an old database holds them: volumes of either sign, payments of either sign, twice, no proof."""
    columns = "settlement_date, settlement_period, farm_id, volume, payment, original_price, final_price, so_flag"
    for day in days:
        execute(
            engine,
            f"INSERT INTO curtailment_records ({columns}) VALUES ('{day}', 7, 'T_SGRWO-1', 12.5, -500, -40, -40, true),"
            f" ('{day}', 7, 'T_SGRWO-1', -12.5, 500, -40, -40, true), ('{day}', 8, 'T_SGRWO-1', -1, 3, -40, 0, NULL)",
        )


def test_adopted_records_are_left_alone_and_calculated(small_days: Engine) -> None:
    day = date(2025, 6, 5)
    adopt(small_days, day)
    before = contents(small_days, curtailment_records)

    made = converge_layers(small_days, Days(day, JUNE_7))

    assert contents(small_days, curtailment_records) == before
    assert made["curtailment_records"] == Changes(kept=94)
    assert made[TABLE].inserted == 2 * 3
    energy = f"SELECT total_curtailed_energy FROM daily_summaries WHERE summary_date = '{day}'"
    assert scalar(small_days, energy) == 26
    assert scalar(small_days, energy.replace("total_curtailed_energy", "total_payment")) == 26 * 40


def test_an_adopted_database_is_made_right_in_its_own_columns(settings: Settings) -> None:
    # given: the old database, whose records are 25 MWh on the first day (twice the same row) and 3 MWh on the second
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    migrate(engine)
    before = contents(engine, curtailment_records)
    days = Days(date(2023, 6, 1), date(2023, 6, 2))
    assert state_of(engine, days).of_model("S9") == Tally(expected=2, actual=1, duplicated=1, wrong=1)

    made = converge_layers(engine, days)

    assert contents(engine, curtailment_records) == before
    assert made[TABLE] == Changes(inserted=5, corrected=1, removed=1)
    state = state_of(engine, days)
    assert (state.total.faults, state.summary_faults) == (0, 0)
    assert set(state.days.values()) == {DayState.ADOPTED}
    assert scalar(engine, "SELECT total_curtailed_energy FROM yearly_summaries") == 28
    assert scalar(engine, "SELECT total_payment FROM monthly_summaries") == 28 * 40
    assert changed(converge_layers(engine, days)) == {}
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("amount", "word"),
    [("double precision", "text"), ("numeric(20, 4)", "varchar(20)"), ("numeric", "varchar")],
)
def test_an_adopted_database_is_made_right_in_the_types_that_it_has(settings: Settings, amount: str, word: str) -> None:
    # given the old tables with other types of amounts and names
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    names = {"farm_id": word, "miner_model": word, "year_month": word, "year": word, "lead_party_name": "varchar(50)"}
    amounts = dict.fromkeys(
        ("volume", "payment", "original_price", "final_price", "difficulty", "total_curtailed_energy", "total_payment"),
        amount,
    ) | {"bitcoin_mined": amount.replace("20, 4", "18, 8")}
    for table in TABLES:
        held = {column["name"] for column in inspect(engine).get_columns(table.name)}
        for name, kind in (names | amounts).items():
            if name in held:
                execute(engine, f"ALTER TABLE {table.name} ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}")
    migrate(engine)
    with transactions.writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), NOW)
        store_retargets(connection)
    old_days, new_days = Days(date(2023, 6, 1), date(2023, 6, 2)), SMALL_DAYS
    ingest(engine, new_days)

    # when
    for days in (old_days, new_days):
        assert changed(converge_layers(engine, days))

    # then
    for days in (old_days, new_days):
        state = state_of(engine, days)
        assert (state.total.faults, state.records.faults, state.summary_faults) == (0, 0, 0)
        assert changed(converge_layers(engine, days)) == {}
    engine.dispose()


def test_a_re_read_of_an_adopted_day_replaces_its_records(engine: Engine) -> None:
    adopt(engine, JUNE_6, JUNE_7)
    ingest(engine, [JUNE_6])

    made = converge_layers(engine, SMALL_DAYS)

    assert made["curtailment_records"] == Changes(inserted=80, removed=3)
    assert scalar(engine, "SELECT count(*) FROM curtailment_records WHERE settlement_date = '2025-06-07'") == 3


def test_orphans_of_a_day_without_records_and_proof_are_kept_as_evidence(small_days: Engine) -> None:
    lost = date(2025, 6, 5)
    execute(small_days, orphans(lost, 1, 2), orphans(JUNE_7, 1))

    with writing(small_days, Scope(Days(lost, JUNE_7), RULE)) as (connection, scope):
        made = converge_by(connection, CALCULATIONS, scope, "settlement_date")

    assert {day: changes.removed for (day,), changes in made.items()} == {lost: 0, JUNE_6: 0, JUNE_7: 1}
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE settlement_date = '2025-06-05'") == 2
    assert state_of(small_days, Days(lost, JUNE_7)).total == Tally(
        expected=state_of(small_days, SMALL_DAYS).total.expected,
        actual=state_of(small_days, SMALL_DAYS).total.actual,
        surplus=2,
    )


def test_a_day_whose_records_are_missing_is_damaged(small_days: Engine) -> None:
    def damaged() -> frozenset[date]:
        with reading(small_days, Scope(SMALL_DAYS, RULE)) as (connection, scope):
            return damaged_days(connection, scope)

    assert damaged() == frozenset()
    execute(small_days, f"DELETE FROM curtailment_records WHERE {some('curtailment_records', '2025-06-07', 1)}")
    assert damaged() == {JUNE_7}


def test_days_left_out_are_neither_filled_nor_emptied(small_days: Engine) -> None:
    execute(small_days, "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06'")
    execute(small_days, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'")
    with writing(small_days, Scope(SMALL_DAYS, RULE)) as (connection, scope):
        made = converge(connection, CURTAILMENT, scope.excluding(frozenset([JUNE_6])))

    assert made == Changes(inserted=14)
    assert scalar(small_days, "SELECT count(*) FROM curtailment_records WHERE settlement_date = '2025-06-06'") == 80


def rows_of(engine: Engine) -> dict[str, Any]:
    return contents(engine, curtailment_records, historical_bitcoin_calculations)


def test_a_repair_leaves_days_of_contradicted_bids_as_they_are_and_says_so(small_days: Engine) -> None:
    before = rows_of(small_days)
    execute(small_days, "DELETE FROM wind_bids WHERE settlement_date = '2025-06-06'")

    made = converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert rows_of(small_days) == before
    assert list(made.unfit["curtailment_records"]) == [JUNE_6]
    assert "run 'recon date 2025-06-06' to read them again" in made.unfit["curtailment_records"][JUNE_6]


def test_a_repair_restores_records_before_it_judges_calculations(small_days: Engine) -> None:
    before = rows_of(small_days)
    execute(small_days, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'")

    waiting = converge_span(small_days, [CALCULATIONS], Scope(SMALL_DAYS, RULE), NOW)
    assert list(waiting.unfit[TABLE]) == [JUNE_6]
    assert waiting.changes_of(TABLE).total == 0

    converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)
    assert rows_of(small_days) == before


def test_one_repair_makes_every_layer_of_days_from_their_bids(small_days: Engine) -> None:
    tables = [layer.table for layer in DAILY_LAYERS]
    before = contents(small_days, *tables)
    execute(small_days, *(f"DELETE FROM {table.name}" for table in tables))

    made = converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert contents(small_days, *tables) == before
    assert not any(made.unfit.values())


def test_calculations_of_a_day_of_contradicted_bids_are_made_from_its_records(small_days: Engine) -> None:
    # given a bid that nobody published: of it a record is missing, which nobody is to believe
    before = rows_of(small_days)
    columns = "settlement_date, settlement_period, bm_unit_id, volume, so_flag, cadl_flag"
    bid = f"INSERT INTO wind_bids ({columns}, sequence_number) SELECT {columns}, 999 FROM wind_bids"
    execute(small_days, f"{bid} WHERE settlement_date = '2025-06-06' AND settlement_period = 4 LIMIT 1")
    execute(small_days, f"DELETE FROM {TABLE} WHERE settlement_date = '2025-06-06'")

    made = converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert (list(made.unfit["curtailment_records"]), made.unfit[TABLE]) == ([JUNE_6], {})
    assert rows_of(small_days) == before


def test_a_day_that_was_never_read_is_fit_for_the_sums_of_its_wind_generation_alone(small_days: Engine) -> None:
    store(small_days, date(2025, 6, 5), (10, 20))

    made = converge_span(small_days, DAILY_LAYERS, Scope(Days(date(2025, 6, 4), JUNE_7), RULE), NOW)

    unread = [date(2025, 6, 4), date(2025, 6, 5)]
    unfit = {name: sorted(days) for name, days in made.unfit.items()}
    assert unfit == {layer.name: unread for layer in DAILY_LAYERS} | {"daily_summaries": unread[:1]}
    assert made.changes_of("daily_summaries", period="2025-06-05") == Changes(inserted=1)


def test_a_repair_without_a_known_difficulty_writes_nothing_of_the_day_and_names_it(small_days: Engine) -> None:
    with transactions.writing(small_days) as connection:
        known_until = datetime(2025, 6, 7, 12, tzinfo=UTC)
        connection.execute(update(network_difficulty).values(observed_at=known_until))
    execute(small_days, f"DELETE FROM {TABLE}")

    made = converge_span(small_days, DAILY_LAYERS, Scope(SMALL_DAYS, RULE), NOW)

    assert list(made.unfit[TABLE]) == [JUNE_7]
    assert "the network difficulty of 2025-06-07 is not known" in made.unfit[TABLE][JUNE_7]
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE settlement_date = '2025-06-06'") > 0
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE settlement_date = '2025-06-07'") == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite's columns keep what they are given
def test_columns_that_keep_fewer_decimals_become_right_and_stay_so(small_days: Engine) -> None:
    # given an old database's columns, in which the smallest sums lose more than the tolerance
    summaries = [layer.name for layer in SUMMARIES if "miner_model" in layer.key]
    for table in (TABLE, *summaries):
        execute(small_days, f"ALTER TABLE {table} ALTER COLUMN bitcoin_mined TYPE numeric(18, 8)")
    converge_layers(small_days, SMALL_DAYS)
    kept = rows_of(small_days)

    # when
    again = converge_layers(small_days, SMALL_DAYS)

    # then
    assert {name: changes for name, changes in again.items() if changes.total} == {}
    assert rows_of(small_days) == kept
    assert state_of(small_days, SMALL_DAYS).is_right

    # and what is off by more than the column's own rounding is still wrong
    execute(small_days, f"UPDATE {summaries[0]} SET bitcoin_mined = bitcoin_mined + 0.00000002")
    assert len(state_of(small_days, SMALL_DAYS).stale_summaries[summaries[0]]) == 6
