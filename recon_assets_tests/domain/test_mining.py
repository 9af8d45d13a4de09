from datetime import date

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Double, Engine, column, select, values

from recon_assets.domain.difficulty import DifficultyHistory, packaged_retargets
from recon_assets.domain.mining import MODELS, MinerModel, bitcoin_mined, bitcoin_per_hash
from recon_assets_tests.support.rewards import reward_of

SUBSIDY_BTC = 3.125


def mined_by(model: MinerModel, mwh: float, difficulty: float, subsidy_btc: float = SUBSIDY_BTC) -> float:
    return float(bitcoin_mined(mwh, model.hashes_per_mwh, bitcoin_per_hash(difficulty, subsidy_btc)))


@pytest.mark.parametrize(("model", "bitcoin"), [("S19J_PRO", 33.80157547), ("M20S", 20.86442486), ("S9", 10.51987808)])
def test_the_golden_values_of_2025_03_11(model: str, bitcoin: float) -> None:
    mined = mined_by(MODELS[model], 44_140.93, 112_149_504_190_349)

    assert mined == pytest.approx(bitcoin, abs=5e-9)


def test_the_golden_value_of_2025_01_17_at_the_packaged_difficulty() -> None:
    reward = reward_of(DifficultyHistory(packaged_retargets()), date(2025, 1, 17), 24)

    mined = mined_by(MODELS["S19J_PRO"], 46_344.51, reward.difficulty)

    assert mined == pytest.approx(36.03445, abs=5e-6)


@given(st.floats(1e-3, 1e6), st.floats(1e12, 1e16), st.sampled_from([6.25, 3.125]))
def test_models_keep_their_ratio_on_any_row(mwh: float, difficulty: float, subsidy: float) -> None:
    mined = {name: mined_by(model, mwh, difficulty, subsidy) for name, model in MODELS.items()}

    assert mined["S19J_PRO"] / mined["S9"] == pytest.approx(3.2131147541, abs=5e-11)
    assert mined["M20S"] / mined["S9"] == pytest.approx(1.9833333333, abs=5e-11)


@pytest.mark.parametrize(("model", "joules_per_terahash"), [("S19J_PRO", 30.5), ("S9", 98), ("M20S", 840 / 17)])
def test_a_model_hashes_by_its_efficiency(model: str, joules_per_terahash: float) -> None:
    assert 3.6e9 / MODELS[model].hashes_per_mwh * 1e12 == pytest.approx(joules_per_terahash, rel=1e-12, abs=0)


def test_bitcoin_follows_energy_and_subsidy_and_not_whole_machines() -> None:
    machine = MinerModel("HUGE", hashrate_th_s=100, power_w=10e6)

    tenth_of_a_machine = mined_by(machine, 0.5, 1e14, SUBSIDY_BTC)

    assert tenth_of_a_machine == pytest.approx(mined_by(machine, 5, 1e14, SUBSIDY_BTC) / 10, rel=1e-12, abs=0)
    assert mined_by(machine, 0.5, 1e14, 2 * SUBSIDY_BTC) == pytest.approx(2 * tenth_of_a_machine, rel=1e-12, abs=0)
    assert mined_by(machine, 0.5, 2e14, SUBSIDY_BTC) == pytest.approx(tenth_of_a_machine / 2, rel=1e-12, abs=0)


def test_a_hash_at_difficulty_1_earns_a_subsidy_in_2_to_the_32() -> None:
    assert bitcoin_per_hash(1, 50) * 2**32 == 50


def test_the_formula_is_the_same_for_numbers_series_and_sql(engine: Engine) -> None:
    mwh, earned, hashes = (
        [44_140.93, 1.5],
        bitcoin_per_hash(112_149_504_190_349, SUBSIDY_BTC),
        MODELS["S9"].hashes_per_mwh,
    )
    numbers = [bitcoin_mined(one, hashes, earned) for one in mwh]
    energy = values(column("mwh", Double), name="given").data([(one,) for one in mwh]).cte("energy")

    assert bitcoin_mined(pd.Series(mwh), hashes, earned).tolist() == numbers
    with engine.connect() as connection:
        of_sql = connection.execute(select(bitcoin_mined(energy.c.mwh, hashes, earned)).order_by(energy.c.mwh.desc()))
        assert list(of_sql.scalars()) == numbers
