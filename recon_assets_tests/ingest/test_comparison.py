from typing import Any

import pandas as pd
import pytest

from recon_assets.ingest.comparison import Side, bids_apart, sums_apart

BID: dict[str, Any] = {
    "settlement_period": 7,
    "sequence_number": 1,
    "bm_unit_id": "T_SGRWO-1",
    "volume": -12.5,
    "original_price": -43.79,
    "final_price": None,
    "transmission_loss_multiplier": 0.99,
    "so_flag": True,
    "cadl_flag": False,
    "gbp": 547.375,
}


def frame(*bids: dict[str, Any]) -> pd.DataFrame:
    """Bids as they are read: BID, but for the values that are given."""
    return pd.DataFrame([BID | bid for bid in bids], columns=list(BID), dtype=object)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, None),
        ({"volume": -12.5 * (1 + 5e-10)}, None),
        ({"volume": -12.5 * (1 + 2e-9)}, "volume"),
        ({"original_price": -43.80}, "prices"),
        ({"original_price": None}, "prices"),
        ({"final_price": 0.0}, "prices"),
        ({"transmission_loss_multiplier": 0.99 * (1 + 2e-9)}, "prices"),
        ({"so_flag": False}, "flags"),
        ({"cadl_flag": True}, "flags"),
        ({"volume": -12.0, "so_flag": False}, "volume, flags"),
    ],
)
def test_a_bid_is_compared_to_the_digit(changed: dict[str, Any], what: str | None) -> None:
    for stored, published in ((frame({}), frame(changed)), (frame(changed), frame({}))):
        assert [found.what for found in bids_apart(stored, published)] == ([what] if what else [])


@pytest.mark.parametrize(
    ("mwh", "gbp", "what"),
    [
        (0.0009, 0.009, None),
        (0.0011, 0.0, "volume"),
        (-0.0011, 0.0, "volume"),
        (0.0, 0.011, "payment"),
        (0.0, -0.011, "payment"),
        (0.0011, 0.011, "volume, payment"),
    ],
)
def test_sums_of_a_farm_may_differ_by_a_kilowatt_hour_and_a_penny(mwh: float, gbp: float, what: str | None) -> None:
    right = frame({}, {"sequence_number": 2})
    stored = frame({"volume": 2 * -12.5 + mwh, "gbp": 2 * 547.375 + gbp})

    assert [found.what for found in sums_apart(Side.ADOPTED, stored, right)] == ([what] if what else [])
