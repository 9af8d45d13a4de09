"""What an adopted day held is kept by its first proof, whatever the shape of its tables, and what changed is said."""

import json
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.database.kept_tables import superseded_tables
from recon_assets.database.tables import curtailment_records
from recon_assets.database.transactions import reading
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.errors import ReconError
from recon_assets.ingest.recovery import recoveries, uncounted_records
from recon_assets.ingest.revisions import read_revisions
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.reconcile.test_apply import RULE, adopt
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    change_recording,
    contents,
    converge_layers,
    execute,
    ingest,
    scalar,
)

COPIES = "superseded_curtailment_records"


@pytest.fixture
def adopted(engine: Engine) -> Engine:
    """Two adopted days of three records each, with calculations and totals."""
    adopt(engine, JUNE_6, JUNE_7)
    converge_layers(engine, SMALL_DAYS)
    return engine


def test_the_first_proof_of_an_adopted_day_keeps_what_it_held(adopted: Engine) -> None:
    old = contents(adopted, curtailment_records)["curtailment_records"]
    calculations = scalar(adopted, "SELECT count(*) FROM historical_bitcoin_calculations")

    found = ingest(adopted, [JUNE_6, JUNE_7])

    assert [day.is_recovered for day in found] == [True, True]
    kept = superseded_tables["curtailment_records"]
    assert scalar(adopted, f"SELECT count(*) FROM {COPIES} WHERE superseded_at IS NOT NULL") == 6
    assert sum(contents(adopted, kept)[COPIES].values()) == old.total()
    assert scalar(adopted, "SELECT count(*) FROM superseded_calculations") == calculations == 12
    for table, rows in (("daily", 2), ("monthly", 1), ("yearly", 1)):
        assert scalar(adopted, f"SELECT count(*) FROM superseded_{table}_summaries") == rows
        assert scalar(adopted, f"SELECT count(*) FROM superseded_bitcoin_{table}_summaries") == 3 * rows
    was = json.loads(scalar(adopted, "SELECT bitcoin FROM recovered_days WHERE settlement_date = '2025-06-06'"))
    assert set(was) == {"S19J_PRO", "S9", "M20S"}
    assert scalar(adopted, "SELECT curtailed_mwh FROM recovered_days WHERE settlement_date = '2025-06-06'") == 26


def test_reading_again_keeps_nothing_more_and_a_fresh_day_nothing_at_all(adopted: Engine) -> None:
    ingest(adopted, [JUNE_6])
    converge_layers(adopted, SMALL_DAYS)

    assert [day.is_recovered for day in ingest(adopted, [JUNE_6, date(2025, 6, 9)])] == [False, False]

    assert scalar(adopted, f"SELECT count(*) FROM {COPIES}") == 3
    assert scalar(adopted, "SELECT count(*) FROM recovered_days") == 1


def test_a_proof_that_is_rolled_back_keeps_nothing(adopted: Engine, recordings: Path) -> None:
    change_recording(recordings, JUNE_6, lambda content: content["stack_bid"].pop("7"))

    with pytest.raises(ReconError):
        ingest(adopted, [JUNE_6], recordings)

    assert scalar(adopted, f"SELECT count(*) FROM {COPIES}") == 0
    assert scalar(adopted, "SELECT count(*) FROM recovered_days") == 0


def test_what_was_recovered_is_said_by_month_and_is_no_revision(adopted: Engine) -> None:
    ingest(adopted, [JUNE_6, JUNE_7])
    converge_layers(adopted, SMALL_DAYS)

    with reading(adopted) as connection:
        (june,) = recoveries(connection, Scope(SMALL_DAYS, RULE), NOW)
        assert read_revisions(connection, SMALL_DAYS) == []

    assert (june.month, june.days, june.changed_days) == ("2025-06", 2, 2)
    assert (june.before.records, june.after.records) == (6, 94)
    assert june.before.curtailed_mwh == 52
    assert june.after.curtailed_mwh == pytest.approx(1023.4280612131196 + 58.13333300000001, rel=1e-12)
    assert june.after.payment_gbp == pytest.approx(81180.98356697519 + 1691.7653330000003, rel=1e-12)
    assert june.after.bitcoin["S9"] > 0


def test_records_of_a_farm_in_no_list_are_not_replaced_before_somebody_says_what_it_is(adopted: Engine) -> None:
    execute(adopted, "UPDATE curtailment_records SET farm_id = 'T_OLDNAME-1' WHERE settlement_date = '2025-06-06'")
    before = contents(adopted, curtailment_records)

    message = r"2025-06-06: stays adopted.*T_OLDNAME-1 \(3 records, 26.000 MWh\).*recon units declare T_OLDNAME-1"
    with pytest.raises(ReconError, match=message):
        ingest(adopted, [JUNE_6])
    assert contents(adopted, curtailment_records) == before
    assert scalar(adopted, "SELECT count(*) FROM proof_of_fetch") == 0

    declared = "('T_OLDNAME-1', false, 'me', '2026-01-15 12:00:00')"
    execute(
        adopted, f"INSERT INTO bm_unit_declarations (bm_unit_id, is_wind, declared_by, declared_at) VALUES {declared}"
    )
    assert ingest(adopted, [JUNE_6])[0].is_recovered


def test_old_records_that_the_rule_does_not_count_are_counted(engine: Engine) -> None:
    # given one old record that is flagged in Elexon's stack, and two that are not
    ingest(engine, [JUNE_6])
    columns = "settlement_date, settlement_period, farm_id, volume, original_price"
    of_bids = "SELECT settlement_date, settlement_period, bm_unit_id, volume, original_price FROM wind_bids"
    execute(
        engine,
        f"INSERT INTO {COPIES} ({columns}, superseded_at) SELECT *, '2026-01-15 12:00:00.000000' FROM ({of_bids}"
        " WHERE (so_flag OR cadl_flag) ORDER BY settlement_period LIMIT 1) AS one",
        f"INSERT INTO {COPIES} ({columns}, superseded_at) VALUES"
        " ('2025-06-06', 1, 'T_NOBID-1', -1, -40, '2026-01-15 12:00:00.000000')",
        "UPDATE wind_bids SET so_flag = false, cadl_flag = false WHERE settlement_period > 6",
        f"INSERT INTO {COPIES} ({columns}, superseded_at) SELECT *, '2026-01-15 12:00:00.000000' FROM ({of_bids}"
        " WHERE settlement_period > 6 ORDER BY settlement_period, bm_unit_id LIMIT 2) AS two",
    )

    with reading(engine) as connection:
        assert uncounted_records(connection, SMALL_DAYS, RULE, NOW) == (4, 2)
        assert uncounted_records(connection, SMALL_DAYS, CurtailmentRule.ALL_BIDS, NOW) == (4, 0)


def test_an_old_record_without_a_number_counts_as_nothing_before(adopted: Engine) -> None:
    no_number = "'NaN'" if adopted.dialect.name == "postgresql" else "9e999"
    execute(adopted, f"UPDATE curtailment_records SET volume = {no_number} WHERE settlement_date = '2025-06-06'")

    ingest(adopted, [JUNE_6])

    assert scalar(adopted, "SELECT curtailed_mwh FROM recovered_days") == 0
    assert scalar(adopted, f"SELECT count(*) FROM {COPIES}") == 3


def test_a_day_that_is_proven_again_is_kept_again_whatever_ids_its_rows_have(adopted: Engine) -> None:
    copied = f"SELECT count(*) FROM {COPIES} WHERE settlement_date = '2025-06-07'"
    execute(
        adopted,
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'",
        "UPDATE curtailment_records SET id = id + 100",
        f"INSERT INTO {COPIES} (id, settlement_date, settlement_period, superseded_at)"
        " SELECT id, '2025-06-05', 1, '2026-01-15 12:00:00' FROM curtailment_records",
    )

    ingest(adopted, [JUNE_7])

    assert scalar(adopted, copied) == 3
