from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from recon_assets.database.tables import wind_bids
from recon_assets.database.transactions import reading
from recon_assets.errors import ElexonError
from recon_assets.ingest.plausibility import stored_rows
from recon_assets_tests.support.steps import JUNE_6, change_recording, execute, ingest, scalar

RECORDS = "FROM curtailment_records WHERE settlement_date = '2025-06-06'"


def stored(engine: Engine) -> dict[int, int]:
    with reading(engine) as connection:
        return stored_rows(connection, JUNE_6)


def without_volumes(content: dict[str, Any]) -> None:
    content.pop("acceptance_volumes_bid")


def test_of_a_proven_period_the_proof_says_how_many_bids_there_were(small_days: Engine) -> None:
    before = stored(small_days)
    assert (before[7], before[12], before[14], len(before)) == (5, 18, 0, 48)

    # Whatever somebody does to the bids.
    execute(small_days, "DELETE FROM wind_bids WHERE settlement_period = 7")

    assert stored(small_days) == before


def test_damage_is_mended_without_a_witness(small_days: Engine, recordings: Path) -> None:
    # given many bids of a period that nobody published
    columns = "settlement_date, settlement_period, bm_unit_id, volume, so_flag, cadl_flag"
    bids = f"SELECT {columns}, 500 + sequence_number + 100 * {{}} FROM wind_bids WHERE settlement_period = 12"
    for number in (1, 2, 3):
        execute(small_days, f"INSERT INTO wind_bids ({columns}, sequence_number) {bids.format(number)}")
        execute(small_days, f"DELETE FROM wind_bids WHERE sequence_number > {600 + 100 * number}")
    change_recording(recordings, JUNE_6, without_volumes)

    (ingested,) = ingest(small_days, [JUNE_6], recordings)

    assert ingested.changes.removed > 0
    assert ingested.wind_rows == 83


@pytest.fixture
def adopted(small_days: Engine) -> Engine:
    """A database with the records of the day, but neither its bids nor its proofs."""
    execute(small_days, "DELETE FROM wind_bids", "DELETE FROM proof_of_fetch")
    return small_days


def test_of_an_adopted_period_the_farms_count_and_not_its_duplicates(adopted: Engine, recordings: Path) -> None:
    before = stored(adopted)
    assert before[7] == scalar(adopted, f"SELECT count(DISTINCT farm_id) {RECORDS} AND settlement_period = 7") > 0
    assert 14 not in before

    # The old scripts stored some rows over and over.
    columns = "settlement_date, settlement_period, farm_id, lead_party_name, volume, payment, original_price"
    for _ in range(3):
        execute(adopted, f"INSERT INTO curtailment_records ({columns}) SELECT {columns} {RECORDS}")
    assert stored(adopted) == before

    change_recording(recordings, JUNE_6, without_volumes)
    assert ingest(adopted, [JUNE_6], recordings)[0].wind_rows == 83


def test_adopted_records_are_not_given_up_for_an_answer_that_nobody_confirms(adopted: Engine, recordings: Path) -> None:
    def lose(content: dict[str, Any]) -> None:
        rows = content["stack_bid"]["12"]["data"]
        rows[:] = [row for row in rows if row["volume"] > -0.5]

    change_recording(recordings, JUNE_6, lose)

    with pytest.raises(ElexonError, match=r"fewer than half of the stored bids in settlement period 12, and the acc"):
        ingest(adopted, [JUNE_6], recordings)

    assert scalar(adopted, f"SELECT count(*) {RECORDS}") == 80
    assert scalar(adopted, "SELECT count(*) FROM proof_of_fetch") == 0


@pytest.mark.parametrize(("left", "is_doubted"), [(9, False), (8, True)])
def test_an_answer_of_less_than_half_of_the_stored_bids_is_doubted_and_one_of_half_is_not(
    small_days: Engine, recordings: Path, left: int, is_doubted: bool
) -> None:
    # given 18 stored bids of period 12, and nothing that could confirm that there are fewer
    wind = set(of_period(small_days, 12))

    def shorten(content: dict[str, Any]) -> None:
        without_volumes(content)
        rows = content["stack_bid"]["12"]["data"]
        gone = [row for row in rows if row["id"] in wind][left:]
        rows[:] = [row for row in rows if row not in gone]

    change_recording(recordings, JUNE_6, shorten)

    if is_doubted:
        with pytest.raises(ElexonError, match="fewer than half of the stored bids in settlement period 12"):
            ingest(small_days, [JUNE_6], recordings)
    else:
        ingest(small_days, [JUNE_6], recordings)
    assert len(of_period(small_days, 12)) == (18 if is_doubted else left)


def of_period(engine: Engine, period: int) -> list[str]:
    """The BM units of the bids of a period of 2025-06-06."""
    bids = wind_bids.c
    query = select(bids.bm_unit_id).where(bids.settlement_date == JUNE_6, bids.settlement_period == period)
    with reading(engine) as connection:
        return list(connection.execute(query).scalars())


def calm_without_rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[dict[str, Any]], None]:
    """No row of period 14, in which no wind unit was turned down, and acceptance volumes that are changed."""

    def spoil(content: dict[str, Any]) -> None:
        content["stack_bid"]["14"]["data"] = []
        change(content["acceptance_volumes_bid"]["data"])

    return spoil


def of(rows: list[dict[str, Any]], period: int) -> dict[str, Any]:
    return next(row for row in rows if row["settlementPeriod"] == period)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (lambda rows: of(rows, 7).update(totalVolumeAccepted=None), {"null_volumes": 1}),
        (lambda rows: of(rows, 7).update(bmUnit=None), {"null_units": 1}),
        (lambda rows: of(rows, 14).update(totalVolumeAccepted=None), {"null_volumes": 1}),
        (lambda rows: of(rows, 14).update(bmUnit=None, totalVolumeAccepted=0), {"null_units": 1}),
        (lambda rows: of(rows, 7).update(news=1), {"unknown_fields": 1}),
    ],
    ids=["volume elsewhere", "unit elsewhere", "volume of another unit", "no energy", "a new field"],
)
def test_nulls_that_leave_no_doubt_are_tolerated_and_counted(
    engine: Engine, recordings: Path, change: Callable[[list[dict[str, Any]]], object], count: dict[str, int]
) -> None:
    change_recording(recordings, JUNE_6, calm_without_rows(change))

    (ingested,) = ingest(engine, [JUNE_6], recordings)

    assert ingested.wind_rows == 83
    assert ingested.tolerated == {"null_flags": 1, **count}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: of(rows, 14).update(bmUnit=None), "the acceptance volumes lack the BM unit in period 14"),
        (
            lambda rows: of(rows, 14).update(bmUnit="T_SGRWO-1", totalVolumeAccepted=None),
            "the acceptance volumes lack the volume of T_SGRWO-1 in period 14",
        ),
    ],
)
def test_nulls_in_a_doubted_period_confirm_nothing(
    engine: Engine, recordings: Path, change: Callable[[list[dict[str, Any]]], object], reason: str
) -> None:
    change_recording(recordings, JUNE_6, calm_without_rows(change))

    with pytest.raises(ElexonError, match=f"no row at all in settlement period 14, and {reason}; the day stays"):
        ingest(engine, [JUNE_6], recordings)

    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 0


def test_a_null_volume_of_a_bid_that_came_is_not_compared(small_days: Engine, recordings: Path) -> None:
    # given one of 18 stored bids of period 12, whose volume is null, and other volumes that agree
    wind = set(of_period(small_days, 12))

    def shorten(content: dict[str, Any]) -> None:
        rows, volumes = content["stack_bid"]["12"]["data"], content["acceptance_volumes_bid"]["data"]
        kept = next(row for row in rows if row["id"] in wind)
        rows[:] = [row for row in rows if row["id"] not in wind or row is kept]
        volumes[:] = [
            row for row in volumes if row["settlementPeriod"] != 12 or row["bmUnit"] not in wind - {kept["id"]}
        ]
        for row in volumes:
            if (row["settlementPeriod"], row["bmUnit"]) == (12, kept["id"]):
                row["totalVolumeAccepted"] = None

    change_recording(recordings, JUNE_6, shorten)

    assert ingest(small_days, [JUNE_6], recordings)[0].tolerated["null_volumes"] >= 1
    assert len(of_period(small_days, 12)) == 1


NOON, SETTLED = datetime(2025, 6, 6, 12, tzinfo=UTC), datetime(2025, 6, 7, 23, tzinfo=UTC)
"""While the list of acceptance volumes grows, and two days after the day began, from when on it is whole."""


@pytest.mark.parametrize(
    ("reach", "now", "is_confirmed"),
    [(14, NOON, True), (13, NOON, False), (13, SETTLED - timedelta(seconds=1), False), (13, SETTLED, True)],
)
def test_a_growing_list_of_volumes_confirms_up_to_its_last_period_and_a_settled_one_the_whole_day(
    engine: Engine, recordings: Path, reach: int, now: datetime, is_confirmed: bool
) -> None:
    # given no row of a calm period, and a list that ends there or before
    def cut(content: dict[str, Any]) -> None:
        content["stack_bid"]["14"]["data"] = []
        volumes = content["acceptance_volumes_bid"]["data"]
        volumes[:] = [row for row in volumes if row["settlementPeriod"] <= reach]

    change_recording(recordings, JUNE_6, cut)

    if is_confirmed:
        assert ingest(engine, [JUNE_6], recordings, now)[0].wind_rows == 83
        return
    with pytest.raises(ElexonError, match="the acceptance volumes do not reach to period 14"):
        ingest(engine, [JUNE_6], recordings, now)
