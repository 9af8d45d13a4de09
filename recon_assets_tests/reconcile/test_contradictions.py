"""Bids that somebody changed by hand: their proof of fetch says so."""

import pytest
from sqlalchemy import Engine

from recon_assets.reconcile.settlement_days import DayState
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS, execute, state_of

DAY_6 = "settlement_date = '2025-06-06'"
LAST_BID = f"SELECT max(sequence_number) FROM wind_bids WHERE {DAY_6} AND settlement_period = 7"
ONE_BID = f"settlement_period = 7 AND sequence_number = ({LAST_BID})"
PRICES = f"SELECT {{}}(original_price) FROM wind_bids WHERE {DAY_6} AND settlement_period = 5"
TWO_BIDS = f"settlement_period = 5 AND original_price IN (({PRICES.format('min')}), ({PRICES.format('max')}))"


@pytest.mark.parametrize(
    "damage",
    [
        f"DELETE FROM wind_bids WHERE {DAY_6} AND settlement_period = 3 AND volume > -0.02",
        f"UPDATE wind_bids SET volume = volume - 0.001 WHERE {DAY_6} AND settlement_period = 5",
        f"UPDATE wind_bids SET original_price = -1 WHERE {DAY_6} AND settlement_period = 5",
        f"UPDATE wind_bids SET volume = volume + 0.004 WHERE {DAY_6} AND {ONE_BID}",
        f"UPDATE wind_bids SET volume = volume - 0.004, original_price = original_price * volume / (volume - 0.004)"
        f" WHERE {DAY_6} AND {ONE_BID}",
        f"UPDATE wind_bids SET original_price = original_price - 0.01 WHERE {DAY_6} AND {ONE_BID}",
        # The volumes of two bids of one settlement period exchanged, whose prices differ.
        f"UPDATE wind_bids SET volume = (SELECT sum(volume) FROM wind_bids AS pair WHERE {DAY_6} AND {TWO_BIDS})"
        f" - volume WHERE {DAY_6} AND {TWO_BIDS}",
        f"UPDATE wind_bids SET settlement_period = 48 WHERE {DAY_6} AND settlement_period = 3",
        "INSERT INTO wind_bids"
        " (settlement_date, settlement_period, sequence_number, bm_unit_id, volume, so_flag, cadl_flag)"
        " VALUES ('2025-06-06', 1, 9999, 'T_SGRWO-1', 0, true, false)",
        f"UPDATE proof_of_fetch SET wind_rows = wind_rows + 1 WHERE {DAY_6} AND settlement_period = 3",
    ],
    ids=[
        "deleted",
        "other volume",
        "other price",
        "4 kWh",
        "4 kWh at the same payment",
        "a penny",
        "exchanged",
        "moved",
        "inserted",
        "other proof",
    ],
)
def test_bids_that_are_not_those_fetched_contradict_their_proof(small_days: Engine, damage: str) -> None:
    assert execute(small_days, damage)[0] > 0

    state = state_of(small_days, SMALL_DAYS)

    assert state.contradicted == {JUNE_6}
    assert state.days == {JUNE_6: DayState.INCOMPLETE, JUNE_7: DayState.INGESTED}
    assert JUNE_6 not in state.curtailment, "nothing is to be expected of bids that are not believed"
    assert not state.is_right


def test_bids_in_another_order_do_not_contradict(small_days: Engine) -> None:
    execute(small_days, "UPDATE wind_bids SET sequence_number = 100000 - sequence_number")

    assert state_of(small_days, SMALL_DAYS).contradicted == frozenset()
