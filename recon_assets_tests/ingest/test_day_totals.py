import pytest
from sqlalchemy import Engine

from recon_assets.ingest.day_totals import Amounts, read_day_totals
from recon_assets_tests.support.payloads import TOTALS
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, execute, scalar


def test_the_totals_of_a_day_are_its_own(small_days: Engine) -> None:
    found = read_day_totals(small_days, JUNE_6)

    for amounts, published in ((found.bids, "all_bids"), (found.records, "flagged")):
        right = TOTALS["2025-06-06"][published]
        assert amounts.rows == right["rows"]
        assert (amounts.mwh, amounts.gbp) == pytest.approx((right["mwh"], right["gbp"]), rel=1e-12, abs=0)
    mined = "SELECT sum(bitcoin_mined) FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06' AND"
    stored = {model: scalar(small_days, f"{mined} miner_model = '{model}'") for model in ("S19J_PRO", "S9", "M20S")}
    assert found.bitcoin == pytest.approx(stored, rel=1e-12, abs=0)


def test_records_of_either_sign_and_without_a_price_are_added_up(engine: Engine) -> None:
    execute(
        engine,
        "INSERT INTO curtailment_records (settlement_date, settlement_period, farm_id, volume, payment, original_price)"
        " VALUES ('2025-06-06', 3, 'T_SGRWO-1', 12, -600, -50), ('2025-06-06', 3, 'T_SGRWO-1', -3, 1, -10),"
        " ('2025-06-06', 4, 'T_SGRWO-1', -1, 1, NULL)",
    )

    assert read_day_totals(engine, JUNE_6).records == Amounts(rows=3, mwh=-16, gbp=630)
    assert read_day_totals(engine, JUNE_7).records == Amounts(rows=0, mwh=0, gbp=0)
