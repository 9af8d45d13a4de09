from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from recon_assets.database.tables import wind_bids
from recon_assets.database.transactions import reading
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.revisions import Revision, read_revisions
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, change_recording, execute, ingest

WIND = {unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind}
LATER = NOW + timedelta(days=1)


def revisions(engine: Engine) -> list[Revision]:
    with reading(engine) as connection:
        return list(read_revisions(connection, SMALL_DAYS))


def restate(content: dict[str, Any]) -> None:
    """Changes the first of three wind bids of period 3 and removes the last; adds one to period 7."""
    first, *_, last = content["stack_bid"]["3"]["data"]
    first["volume"] -= 5.0
    content["stack_bid"]["3"]["data"].remove(last)
    rows = content["stack_bid"]["7"]["data"]
    rows.append(rows[0] | {"sequenceNumber": 999, "volume": -1.0, "originalPrice": -60.0})
    for period, hour in (("3", 7), ("7", 8)):
        for row in content["stack_bid"][period]["data"]:
            row["createdDateTime"] = f"2026-01-16T0{hour}:00:00Z"


def test_what_changed_of_a_day_is_noted_when_it_is_read_again(engine: Engine, recordings: Path) -> None:
    # given
    ingest(engine, SMALL_DAYS, recordings)
    before = sums(engine, (3, 7))
    change_recording(recordings, JUNE_6, restate)

    # when
    six, seven = ingest(engine, SMALL_DAYS, recordings, LATER)

    # then
    after = sums(engine, (3, 7))
    assert seven.revision is None
    assert revisions(engine) == [six.revision]
    (noted,) = revisions(engine)
    assert (noted.settlement_date, noted.read_at, noted.settlement_periods) == (JUNE_6, LATER, "3, 7")
    assert (noted.rows_added, noted.rows_removed, noted.rows_changed) == (1, 1, 1)
    assert (noted.mwh_before, noted.gbp_before) == pytest.approx(before, rel=1e-12, abs=0)
    assert (noted.mwh_after, noted.gbp_after) == pytest.approx(after, rel=1e-12, abs=0)
    assert before[0] != after[0]
    assert noted.elexon_created_at_before == "2025-06-07T09:34:56Z"
    assert noted.elexon_created_at == "2026-01-16T08:00:00Z"


def sums(engine: Engine, periods: Iterable[int]) -> tuple[float, float]:
    """MWh and GBP of the wind bids of some periods of the 6th."""
    bids = wind_bids.c
    query = select(func.sum(bids.volume), func.sum(bids.volume * bids.original_price))
    with reading(engine) as connection:
        of_day = query.where(bids.settlement_date == JUNE_6, bids.settlement_period.in_(list(periods)))
        mwh, gbp = connection.execute(of_day).one()
    return float(mwh), float(gbp)


def test_the_newest_reading_comes_first(engine: Engine, recordings: Path) -> None:
    ingest(engine, SMALL_DAYS, recordings)
    # given a reading of one day, and later one of both
    for number, (hours, day) in enumerate(((0, JUNE_7), (1, JUNE_6), (1, JUNE_7))):
        change_recording(recordings, day, partial(spoil, number))
        ingest(engine, [day], recordings, LATER + timedelta(hours=hours))

    assert [revision.settlement_date for revision in revisions(engine)] == [JUNE_7, JUNE_6, JUNE_7]
    assert [revision.rows_changed for revision in revisions(engine)] == [1, 1, 1]


def spoil(number: int, content: dict[str, Any]) -> None:
    bids = [row for body in content["stack_bid"].values() for row in body["data"] if row["id"] in WIND]
    bids[0]["volume"] = -50.0 - number


def read_again(engine: Engine, day: date = JUNE_6) -> IngestedDay:
    (ingested,) = ingest(engine, [day], now=LATER)
    return ingested


def test_an_unchanged_day_is_no_revision(engine: Engine) -> None:
    ingest(engine, [JUNE_6])

    assert read_again(engine).revision is None
    assert revisions(engine) == []


def test_damage_that_is_mended_by_reading_again_is_no_revision(engine: Engine) -> None:
    ingest(engine, [JUNE_6])
    execute(engine, "UPDATE wind_bids SET volume = volume - 1 WHERE settlement_period = 3")
    execute(engine, "DELETE FROM wind_bids WHERE settlement_period = 4")

    ingested = read_again(engine)

    assert (ingested.changes.corrected, ingested.changes.inserted) == (3, 4)
    assert ingested.revision is None


def test_a_day_that_is_completed_is_no_revision(engine: Engine) -> None:
    ingest(engine, [JUNE_6], now=NOW.replace(year=2025, month=6, day=6, hour=1, minute=50))

    assert read_again(engine).changes.inserted > 0
    assert revisions(engine) == []
