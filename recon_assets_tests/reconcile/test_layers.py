from datetime import date
from typing import Any

import pytest
from sqlalchemy import Double, Engine, Text, cast, literal, select, text
from sqlalchemy.types import TypeEngine

from recon_assets.database import transactions
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.mining import MODELS, MinerModel
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import Changes, converge
from recon_assets.reconcile.expected import curtailed_energy
from recon_assets.reconcile.layer import (
    DAY,
    MONTH,
    YEAR,
    Differs,
    Grain,
    beyond,
    distinct_from,
    in_decimals,
    is_first_of_key,
    is_key_unique,
)
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT, LAYERS
from recon_assets.reconcile.scope import Scope, writing
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.steps import (
    JUNE_6,
    NOW,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    scalar,
    state_of,
)

HALVING = date(2024, 4, 20)
RULE = CurtailmentRule.SO_FLAGGED


def record(
    engine: Engine, day: date, period: int, volume: float, *, price: float | None = -40.0, farm: str = "T_SGRWO-1"
) -> None:
    """A curtailment record as the old system left it, without proof of fetch."""
    with transactions.writing(engine) as connection:
        row = {"settlement_date": day, "settlement_period": period, "farm_id": farm, "volume": volume}
        connection.execute(curtailment_records.insert(), row | {"original_price": price, "payment": 17.0})


def bid(
    engine: Engine, period: int, sequence: int, volume: float, *, price: str = "-40", flags: str = "true, false"
) -> None:
    """A wind bid of 2025-06-06, stored as if it had been fetched."""
    execute(
        engine,
        "INSERT INTO wind_bids (settlement_date, settlement_period, sequence_number, bm_unit_id, acceptance_id,"
        " bid_offer_pair_id, volume, original_price, final_price, so_flag, cadl_flag)"
        f" VALUES ('2025-06-06', {period}, {sequence}, 'T_SGRWO-1', 4711, -1, {volume}, {price}, NULL, {flags})",
    )


def prove(engine: Engine, *periods: int) -> None:
    for period in periods:
        execute(
            engine,
            "INSERT INTO proof_of_fetch (settlement_date, settlement_period, fetched_at, stack_rows, wind_rows,"
            " wind_mwh, wind_gbp, unlisted_rows, unlisted_mwh, elexon_created_at, fingerprint) VALUES"
            f" ('2025-06-06', {period}, '{NOW.isoformat(sep=' ')[:19]}', 9, 9, 0, 0, 0, 0, NULL, '')",
        )


def converge_calculations(engine: Engine, day: date, models: dict[str, MinerModel] = MODELS) -> Changes:
    days = Days(day, day)
    with writing(engine, Scope(days, RULE, models)) as (connection, scope):
        return converge(connection, CALCULATIONS, scope)


def bitcoin_of(engine: Engine, *columns: str) -> dict[Any, float]:
    table = historical_bitcoin_calculations
    with transactions.reading(engine) as connection:
        rows = connection.execute(select(*(table.c[name] for name in columns), table.c.bitcoin_mined)).all()
    return {row[0] if len(columns) == 1 else tuple(row[:-1]): row[-1] for row in rows}


def records_of(engine: Engine, *columns: str) -> list[tuple[Any, ...]]:
    table = curtailment_records
    with transactions.reading(engine) as connection:
        return [
            tuple(row) for row in connection.execute(select(*(table.c[name] for name in columns)).order_by(table.c.id))
        ]


def converge_records(engine: Engine, rule: CurtailmentRule = RULE) -> Changes:
    days = Days(JUNE_6, JUNE_6)
    with writing(engine, Scope(days, rule)) as (connection, scope):
        return converge(connection, CURTAILMENT, scope)


def test_bitcoin_in_the_period_of_the_halving_is_time_exact(engine: Engine) -> None:
    record(engine, HALVING, 3, -100.0)

    converge_calculations(engine, HALVING)

    # Block 840000 was found 567 s into the period: 31.5 % of it earned 6.25.
    subsidy = 0.315 * 6.25 + 0.685 * 3.125
    hashes_per_bitcoin = 86_388_558_925_171.02 * 2**32 / subsidy
    joules = 100 * 3.6e9
    assert bitcoin_of(engine, "miner_model") == {
        "S19J_PRO": pytest.approx(joules / 3050 * 100e12 / hashes_per_bitcoin, abs=5.1e-13),
        "S9": pytest.approx(joules / 1323 * 13.5e12 / hashes_per_bitcoin, abs=5.1e-13),
        "M20S": pytest.approx(joules / 3360 * 68e12 / hashes_per_bitcoin, abs=5.1e-13),
    }
    assert scalar(engine, "SELECT difficulty FROM historical_bitcoin_calculations LIMIT 1") == pytest.approx(
        86_388_558_925_171.02, rel=1e-12, abs=0
    )


def test_a_farm_has_one_calculation_a_period_over_all_its_acceptances(engine: Engine) -> None:
    record(engine, HALVING, 5, -1.5)
    record(engine, HALVING, 5, -2.5)
    record(engine, HALVING, 6, -4.0)
    record(engine, HALVING, 5, -4.0, farm="T_MOWEO-1")

    assert converge_calculations(engine, HALVING) == Changes(inserted=3 * 3)

    bitcoin = bitcoin_of(engine, "settlement_period", "farm_id", "miner_model")
    assert bitcoin[5, "T_SGRWO-1", "S9"] == bitcoin[5, "T_MOWEO-1", "S9"] == bitcoin[6, "T_SGRWO-1", "S9"] > 0


def test_volumes_of_either_sign_are_curtailed_energy_and_zero_is_none(engine: Engine) -> None:
    record(engine, HALVING, 5, -1.5)
    record(engine, HALVING, 5, 2.5)
    record(engine, HALVING, 6, 0.0)

    with transactions.reading(engine) as connection:
        energy = connection.execute(curtailed_energy(Scope(Days(HALVING, HALVING), RULE))).all()

    assert [tuple(row) for row in energy] == [(HALVING, 5, "T_SGRWO-1", 4.0)]


def test_a_new_model_adds_its_rows_and_leaves_the_others(engine: Engine) -> None:
    record(engine, HALVING, 5, -4.0)
    converge_calculations(engine, HALVING)
    before = bitcoin_of(engine, "miner_model")
    new = MinerModel("NEW", hashrate_th_s=200, power_w=3050)

    assert converge_calculations(engine, HALVING, {"NEW": new}) == Changes(inserted=1)

    after = bitcoin_of(engine, "miner_model")
    assert after == before | {"NEW": pytest.approx(2 * before["S19J_PRO"], abs=1.6e-12)}


def test_a_record_is_an_accepted_bid_with_its_payment_and_owner(engine: Engine) -> None:
    prove(engine, 7)
    bid(engine, 7, 1, -2.5, price="-43.79")
    owner = scalar(engine, "SELECT lead_party_name FROM wind_bm_units WHERE bm_unit_id = 'T_SGRWO-1'")

    assert converge_records(engine) == Changes(inserted=1)

    assert owner
    assert contents(engine, curtailment_records)["curtailment_records"] == {
        (JUNE_6, 7, "T_SGRWO-1", owner, -2.5, 109.475, -43.79, None, True, False, 1, 4711, -1): 1
    }


def test_a_record_that_is_corrected_has_all_of_its_bid_again(small_days: Engine) -> None:
    before = contents(small_days, curtailment_records)
    execute(
        small_days,
        "UPDATE curtailment_records SET volume = volume - 1, lead_party_name = 'Another', acceptance_id = 1,"
        " bid_offer_pair_id = 9 WHERE settlement_period = 7",
    )

    converge_layers(small_days, SMALL_DAYS)

    assert contents(small_days, curtailment_records) == before


def test_a_bid_above_zero_makes_the_farm_pay_and_one_without_a_price_says_nothing(engine: Engine) -> None:
    prove(engine, 7)
    bid(engine, 7, 1, -2.0, price="50")
    bid(engine, 7, 2, -2.0, price="NULL")

    converge_records(engine)

    assert records_of(engine, "sequence_number", "payment") == [(1, -100.0), (2, None)]


def test_the_rule_says_which_bids_are_records(engine: Engine) -> None:
    prove(engine, 7)
    bid(engine, 7, 1, -1.0, flags="true, false")
    bid(engine, 7, 2, -1.0, flags="false, true")
    bid(engine, 7, 3, -1.0, flags="false, false")
    bid(engine, 7, 4, 0.0)
    bid(engine, 7, 5, 1.0)

    converge_records(engine)
    assert records_of(engine, "sequence_number") == [(1,), (2,)]

    assert converge_records(engine, CurtailmentRule.ALL_BIDS) == Changes(inserted=1, kept=2)
    assert records_of(engine, "sequence_number") == [(1,), (2,), (3,)]


def test_bids_of_a_period_without_proof_are_no_records(engine: Engine) -> None:
    prove(engine, 7)
    bid(engine, 7, 1, -1.0)
    bid(engine, 8, 1, -1.0)

    converge_records(engine)

    assert records_of(engine, "settlement_period") == [(7,)]


def test_every_summary_is_the_sum_of_its_base_rows(engine: Engine) -> None:
    for day, volume in ((date(2024, 2, 29), -1.0), (date(2024, 3, 1), -2.0), (date(2024, 3, 31), 4.0)):
        record(engine, day, 5, volume)
        record(engine, day, 6, volume)

    for day in (date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 31)):
        converge_layers(engine, Days(day, day))

    energy = "SELECT total_curtailed_energy FROM"
    assert scalar(engine, f"{energy} daily_summaries WHERE summary_date = '2024-02-29'") == 2
    assert scalar(engine, f"{energy} daily_summaries WHERE summary_date = '2024-03-31'") == 8
    assert scalar(engine, f"{energy} monthly_summaries WHERE year_month = '2024-03'") == 12
    assert scalar(engine, f"{energy} yearly_summaries WHERE year = '2024'") == 14
    # The old payments (17 each) are not believed: volume x original price, positive to the farm.
    assert scalar(engine, "SELECT total_payment FROM yearly_summaries") == 14 * 40
    for table, count in (("daily", 9), ("monthly", 6), ("yearly", 3)):
        assert scalar(engine, f"SELECT count(*) FROM bitcoin_{table}_summaries") == count
        assert scalar(engine, f"SELECT sum(bitcoin_mined) FROM bitcoin_{table}_summaries") == pytest.approx(
            float(scalar(engine, "SELECT sum(bitcoin_mined) FROM historical_bitcoin_calculations")), rel=1e-12, abs=0
        )


ENERGY = (
    "total_curtailed_energy, total_payment, total_wind_generation, wind_onshore_generation, wind_offshore_generation"
)


def energy_of(engine: Engine, table: str, period: str) -> tuple[float | None, ...] | None:
    """The amounts of a summary of energy, in the order of ENERGY; None where there is no such row."""
    column = {"daily": "summary_date", "monthly": "year_month", "yearly": "year"}[table]
    with transactions.reading(engine) as connection:
        row = connection.execute(text(f"SELECT {ENERGY} FROM {table}_summaries WHERE {column} = '{period}'")).first()
    return None if row is None else tuple(None if amount is None else float(amount) for amount in row)


def test_the_generation_of_a_period_is_the_mwh_of_its_half_hours(engine: Engine) -> None:
    record(engine, date(2024, 2, 29), 5, -1.0)
    store(engine, date(2024, 2, 29), (10, 20), (30, 40))
    store(engine, date(2024, 3, 1), (1, 2))
    store(engine, date(2024, 3, 31), (0, 0))

    for day in (date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 31)):
        converge_layers(engine, Days(day, day))

    assert energy_of(engine, "daily", "2024-02-29") == (1, 40, 50, 20, 30)
    # Nothing is known of the curtailment of these days; a generation of 0 is known.
    assert energy_of(engine, "daily", "2024-03-01") == (None, None, 1.5, 0.5, 1)
    assert energy_of(engine, "daily", "2024-03-31") == (None, None, 0, 0, 0)
    assert energy_of(engine, "monthly", "2024-02") == (1, 40, 50, 20, 30)
    assert energy_of(engine, "monthly", "2024-03") == (None, None, 1.5, 0.5, 1)
    assert energy_of(engine, "yearly", "2024") == (1, 40, 51.5, 20.5, 31)
    assert state_of(engine, Days(date(2024, 2, 1), date(2024, 3, 31))).summary_faults == 0


def test_without_generation_its_sums_are_null_and_an_ingested_calm_day_is_zero(engine: Engine) -> None:
    prove(engine, 7)

    converge_layers(engine, Days(JUNE_6, JUNE_6))

    for table, period in (("daily", "2025-06-06"), ("monthly", "2025-06"), ("yearly", "2025")):
        assert energy_of(engine, table, period) == (0, 0, None, None, None)
    store(engine, JUNE_6, (10, 20))
    converge_layers(engine, Days(JUNE_6, JUNE_6))
    for table, period in (("daily", "2025-06-06"), ("monthly", "2025-06"), ("yearly", "2025")):
        assert energy_of(engine, table, period) == (0, 0, 15, 5, 10)


def test_a_payment_is_zero_where_no_record_has_a_price_and_unknown_without_a_record(engine: Engine) -> None:
    record(engine, date(2024, 2, 29), 5, -1.0, price=None)
    store(engine, date(2024, 3, 1), (1, 2))

    converge_layers(engine, Days(date(2024, 2, 29), date(2024, 3, 1)))

    assert energy_of(engine, "daily", "2024-02-29") == (1, 0, None, None, None)
    assert energy_of(engine, "daily", "2024-03-01") == (None, None, 1.5, 0.5, 1)


def test_an_old_total_of_mw_is_mended_where_half_hours_are_stored_and_kept_where_none_is(engine: Engine) -> None:
    # given totals of an old database, twice too large
    record(engine, date(2024, 2, 29), 5, -1.0)
    record(engine, date(2024, 3, 1), 5, -1.0)
    store(engine, date(2024, 3, 1), (10, 20), (30, 40))
    columns = f"(summary_date, {ENERGY}) VALUES"
    execute(
        engine,
        f"INSERT INTO daily_summaries {columns} ('2024-02-29', 1, 40, 100, 40, NULL)",
        f"INSERT INTO daily_summaries {columns} ('2024-03-01', 1, 40, 100, 40, 60)",
        # of this day nothing at all is stored
        f"INSERT INTO daily_summaries {columns} ('2024-02-28', 7, 8, 100, 40, 60)",
    )
    days = Days(date(2024, 2, 28), date(2024, 3, 1))
    stale = state_of(engine, days).stale_summaries["daily_summaries"]

    # when
    changes = converge_layers(engine, days)["daily_summaries"]

    # then
    assert stale == {"2024-02-28", "2024-03-01"}
    assert changes == Changes(corrected=2, kept=1)
    assert energy_of(engine, "daily", "2024-02-29") == (1, 40, 100, 40, None)
    assert energy_of(engine, "daily", "2024-03-01") == (1, 40, 50, 20, 30)
    assert energy_of(engine, "daily", "2024-02-28") == (None, None, 100, 40, 60)
    assert state_of(engine, days).summary_faults == 0
    assert converge_layers(engine, days)["daily_summaries"] == Changes(kept=3)


def test_a_half_hour_that_is_there_twice_counts_once(engine: Engine) -> None:
    execute(engine, "DROP INDEX wind_generation_data_key")
    for half_hour in ((10, 20), (10, 20), (99, 99)):
        store(engine, JUNE_6, half_hour, first=7)

    converge_layers(engine, Days(JUNE_6, JUNE_6))

    assert energy_of(engine, "daily", "2025-06-06") == (None, None, 15, 5, 10)
    assert state_of(engine, Days(JUNE_6, JUNE_6)).summary_faults == 0


@pytest.mark.parametrize(
    ("grain", "label", "whole"),
    [
        (DAY, "2024-02-29", Days(date(2024, 2, 29), date(2024, 3, 2))),
        (MONTH, "2024-02", Days(date(2024, 2, 1), date(2024, 3, 31))),
        (YEAR, "2024", Days(date(2024, 1, 1), date(2024, 12, 31))),
    ],
)
def test_a_grain_names_and_widens_days(engine: Engine, grain: Grain, label: str, whole: Days) -> None:
    record(engine, date(2024, 2, 29), 5, -1.0)

    with transactions.reading(engine) as connection:
        in_the_database = connection.execute(select(grain.of(curtailment_records.c.settlement_date))).scalar_one()

    assert grain.label(date(2024, 2, 29)) == label
    assert str(in_the_database) == label
    assert grain.whole(Days(date(2024, 2, 29), date(2024, 3, 2))) == whole


def test_a_number_is_wrong_beyond_both_tolerances(engine: Engine) -> None:
    wrong: dict[tuple[float | None, float | None], bool] = {
        (1.0, 1.0): False,
        (1.0 + 2e-7, 1.0): True,
        (1.0 - 2e-7, 1.0): True,
        (-1.0, 1.0): True,
        (0.0, 0.0): False,
        # Within the relative tolerance alone, then within the absolute one alone.
        (1.0 + 5e-8, 1.0): False,
        (1e-6 + 4e-9, 1e-6): False,
        (1e-6 + 6e-9, 1e-6): True,
        (None, 1.0): True,
        (1.0, None): True,
        (None, None): False,
    }
    rule = beyond(relative=1e-7, absolute=5e-9)

    assert {pair: owned(engine, rule, Double(), *pair) for pair in wrong} == wrong


def test_a_value_half_way_between_two_satoshis_is_right_in_a_column_of_8_decimals(engine: Engine) -> None:
    # Rounded half up, as numeric(18, 8) does. In floating point some of these are more than 5e-9 off.
    half_way = {round(n * 1e-8 + 5e-9, 12): round(n * 1e-8 + 1e-8, 8) for n in range(100_000, 100_050)}
    assert any(rounded - exact > 5e-9 for exact, rounded in half_way.items())
    rule = CALCULATIONS.compared["bitcoin_mined"]

    assert not any(owned(engine, rule, Double(), rounded, exact) for exact, rounded in half_way.items())
    assert owned(engine, rule, Double(), 0.00100001, 0.001)


def test_a_text_is_wrong_when_it_is_another(engine: Engine) -> None:
    wrong: dict[tuple[str | None, str | None], bool] = {
        ("a", "a"): False,
        ("a", "b"): True,
        (None, "a"): True,
        ("a", None): True,
        (None, None): False,
    }

    assert {pair: owned(engine, distinct_from, Text(), *pair) for pair in wrong} == wrong


def owned(engine: Engine, rule: Differs, kind: TypeEngine[Any], stored: object, expected: object) -> bool:
    with transactions.reading(engine) as connection:
        query = select(rule(cast(literal(stored), kind), cast(literal(expected), kind)))
        return bool(connection.execute(query).scalar_one())


def test_a_fresh_schema_forbids_two_rows_of_a_key(engine: Engine) -> None:
    with transactions.reading(engine) as connection:
        assert [is_key_unique(connection, layer) for layer in LAYERS] == [True] * len(LAYERS)

    execute(engine, "DROP INDEX historical_bitcoin_calculations_key")

    with transactions.reading(engine) as connection:
        assert not is_key_unique(connection, CALCULATIONS)


def test_of_several_rows_of_a_key_the_oldest_is_the_first(engine: Engine) -> None:
    execute(engine, "DROP INDEX historical_bitcoin_calculations_key")
    row = "INSERT INTO historical_bitcoin_calculations"
    row += " (settlement_date, settlement_period, miner_model, farm_id, bitcoin_mined) VALUES ('2025-06-06', 7, 'S9',"
    for farm, bitcoin in (("A", 1), ("B", 2), ("A", 3), ("A", 4)):
        execute(engine, f"{row} '{farm}', {bitcoin})")

    with transactions.reading(engine) as connection:
        table = historical_bitcoin_calculations
        firsts = connection.execute(select(table.c.bitcoin_mined).where(is_first_of_key(CALCULATIONS)))
        assert sorted(firsts.scalars()) == [1, 2]


@pytest.mark.parametrize(
    "value", [0.0, 1e-12, 4.9e-13, 5.1e-13, 0.1234567890123456, 33.80157546654321, 4_503.123456789012]
)
def test_an_amount_is_rounded_once_to_12_decimals(engine: Engine, value: float) -> None:
    with transactions.reading(engine) as connection:
        rounded = connection.execute(select(in_decimals(literal(value, Double), 12))).scalar_one()

    # To the last bit: a double of some thousands has no 12 decimals.
    assert float(rounded) == pytest.approx(round(value, 12), rel=2**-52, abs=0)
