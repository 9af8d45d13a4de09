from datetime import UTC, date, datetime

import pandas as pd
import pytest

from recon_assets.domain.settlement import MOST_PERIODS
from recon_assets.ingest.acceptance_volumes import VolumeGap, last_accepted_period, volume_gaps

FARM, OTHER_FARM, GAS = "T_SGRWO-1", "T_MOWEO-1", "T_PEHE-1"
DAY = date(2025, 6, 6)


def frame(*rows: tuple[int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["settlement_period", "bm_unit_id", "volume"])


@pytest.mark.parametrize(("apart", "is_gap"), [(0.0009, False), (-0.0009, False), (0.0011, True), (-0.0011, True)])
def test_sums_may_differ_by_a_kilowatt_hour_and_no_more(apart: float, is_gap: bool) -> None:
    volumes, bids = frame((7, FARM, -10.0), (7, FARM, -2.5)), frame((7, FARM, -12.5 + apart))

    assert bool(volume_gaps(volumes, bids, {FARM})) is is_gap


def test_a_unit_that_one_side_does_not_have_differs_by_all_of_its_energy_and_other_units_do_not_count() -> None:
    volumes = frame((7, FARM, -1.0), (8, FARM, -3.0), (8, GAS, -50.0))
    bids = frame((7, FARM, -1.0), (9, OTHER_FARM, -2.0), (9, GAS, -60.0))

    assert volume_gaps(volumes, bids, {FARM, OTHER_FARM}) == [
        VolumeGap(8, FARM, accepted_mwh=-3.0, bids_mwh=0.0),
        VolumeGap(9, OTHER_FARM, accepted_mwh=0.0, bids_mwh=-2.0),
    ]


def test_a_list_reaches_to_its_last_period_until_the_day_is_settled() -> None:
    volumes = frame((3, FARM, -1.0), (14, GAS, -1.0), (9, FARM, -1.0))

    assert last_accepted_period(volumes, DAY, datetime(2025, 6, 7, 22, 59, 59, tzinfo=UTC)) == 14
    assert last_accepted_period(volumes, DAY, datetime(2025, 6, 7, 23, tzinfo=UTC)) == MOST_PERIODS
    assert last_accepted_period(frame(), DAY, datetime(2026, 1, 1, tzinfo=UTC)) == 0
