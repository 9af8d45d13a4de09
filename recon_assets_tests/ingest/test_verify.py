import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database.tables import metadata
from recon_assets.database.transactions import writing
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ElexonError, ReconError
from recon_assets.ingest.comparison import Side
from recon_assets.ingest.reference import store_bm_units
from recon_assets.ingest.verification import Finding, Method, Verification
from recon_assets.ingest.verify import FIXED_PERIODS, verify_day
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    change_recording,
    contents,
    converge_layers,
    execute,
    ingest,
    scalar,
)

WIND = {unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind}
REQUESTS = {Method.WITNESS: 1, Method.FIXED: 5, Method.PROGRESSIVE: 5, Method.RANDOM: 10, Method.FULL: 48}
ALL = tuple(range(1, 49))
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Reading from the database is tested on both engines; the comparison does not depend on the engine."""


@pytest.fixture
def server(stand_in: StandInElexon) -> StandInElexon:
    return stand_in


def verify(
    engine: Engine,
    server: StandInElexon,
    method: Method = Method.WITNESS,
    *,
    seed: int = 1,
    rule: CurtailmentRule = CurtailmentRule.SO_FLAGGED,
    now: datetime = NOW,
    day: date = JUNE_6,
) -> Verification:
    source = HttpSource(server.url, per_second=1000, attempts=1)
    return verify_day(engine, Elexon(source), Scope(Days(day, day), rule), now, method, seed)


def wind_rows(content: dict[str, Any], period: int) -> list[dict[str, Any]]:
    return [row for row in content["stack_bid"][str(period)]["data"] if row["id"] in WIND]


def restate(folder: Path, period: int, **fields: Any) -> dict[str, Any]:
    """Changes the first wind bid of a period, in the stack and in the acceptance volumes; the bid as it was."""
    before: dict[str, Any] = {}

    def change(content: dict[str, Any]) -> None:
        bid = wind_rows(content, period)[0]
        before.update(bid)
        bid.update(fields)
        for row in content["acceptance_volumes_bid"]["data"]:
            if (row["settlementPeriod"], row["bmUnit"], row["acceptanceId"]) == (
                period,
                bid["id"],
                bid["acceptanceId"],
            ):
                row["totalVolumeAccepted"] = bid["volume"]

    change_recording(folder, JUNE_6, change)
    return before


@pytest.mark.parametrize("method", Method)
def test_an_unchanged_day_agrees_by_every_method_and_is_not_touched(
    small_days: Engine, server: StandInElexon, method: Method
) -> None:
    before = contents(small_days, *metadata.tables.values())

    found = verify(small_days, server, method)

    assert (found.finding, found.differences, found.mended_by) == (Finding.AGREES, [], None)
    assert found.state is DayState.INGESTED
    assert found.requests == len(server.requests) == REQUESTS[method]
    assert found.found_within is None
    assert contents(small_days, *metadata.tables.values()) == before


def test_unflagged_bids_are_no_difference_under_the_flagged_rule(small_days: Engine, server: StandInElexon) -> None:
    assert scalar(small_days, "SELECT count(*) FROM wind_bids WHERE NOT so_flag AND NOT cadl_flag") == 3
    assert scalar(small_days, "SELECT count(*) FROM curtailment_records WHERE settlement_date = '2025-06-06'") == 80

    assert verify(small_days, server).finding is Finding.AGREES
    # Under the other rule the records lack these three.
    found = verify(small_days, server, rule=CurtailmentRule.ALL_BIDS)
    assert {difference.side for difference in found.differences} == {Side.RECORDS}
    assert found.mended_by == "recon date 2025-06-06"


@ON_SQLITE
@pytest.mark.parametrize("period", [3, 7, 12])
def test_the_witness_finds_a_restated_volume_in_any_period(
    small_days: Engine, server: StandInElexon, recordings: Path, period: int
) -> None:
    bid = restate(recordings, period, volume=-99.0)

    found = verify(small_days, server)

    (difference,) = found.differences
    assert (difference.settlement_period, difference.farm_id, difference.what) == (period, bid["id"], "volume")
    assert difference.side is Side.BIDS
    assert difference.right_mwh - difference.stored_mwh == pytest.approx(-99.0 - bid["volume"], rel=1e-12, abs=0)
    assert (difference.stored_gbp, difference.right_gbp) == (None, None)
    assert (found.finding, found.mended_by) == (Finding.DIFFERS, "recon reingest 2025-06-06")
    assert found.requests == found.found_within == len(server.requests) == 1


@ON_SQLITE
@pytest.mark.parametrize("period", [12])
def test_the_progressive_method_finds_a_difference_in_a_sampled_period_within_five_requests(
    small_days: Engine, server: StandInElexon, recordings: Path, period: int
) -> None:
    restate(recordings, period, volume=-99.0)

    found = verify(small_days, server, Method.PROGRESSIVE)

    assert found.finding is Finding.DIFFERS
    assert found.found_within == 5
    assert found.requests == len(server.requests) == 15
    assert {*FIXED_PERIODS, 48} < set(found.periods)
    assert len(found.periods) == 15


@ON_SQLITE
@pytest.mark.parametrize("method", [Method.FIXED, Method.PROGRESSIVE])
def test_a_difference_outside_the_sample_is_not_seen_and_that_is_said(
    small_days: Engine, server: StandInElexon, recordings: Path, method: Method
) -> None:
    restate(recordings, 7, volume=-99.0)

    found = verify(small_days, server, method)

    assert found.finding is Finding.AGREES
    assert "the other settlement periods" in found.unseen


@ON_SQLITE
@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"originalPrice": -1.0}, "prices"),
        ({"finalPrice": -1.0}, "prices"),
        ({"transmissionLossMultiplier": 0.5}, "prices"),
        ({"soFlag": False, "cadlFlag": False}, "flags"),
        ({"id": "T_SGRWO-1"}, "farm"),
    ],
)
def test_the_full_method_sees_what_the_witness_cannot(
    small_days: Engine, server: StandInElexon, recordings: Path, fields: dict[str, Any], what: str
) -> None:
    bid = restate(recordings, 7, **fields)

    found = verify(small_days, server, Method.FULL)

    farms = {bid["id"], fields.get("id", bid["id"])}
    assert {(each.settlement_period, each.farm_id, each.what) for each in found.differences} == {
        (7, farm, what) for farm in farms
    }
    if what in ("prices", "flags"):
        (difference,) = found.differences
        assert difference.stored_mwh == difference.right_mwh
        assert (difference.stored_gbp == difference.right_gbp) == ("originalPrice" not in fields)
        assert verify(small_days, server, Method.WITNESS).finding is Finding.AGREES


@ON_SQLITE
def test_a_bid_that_came_or_went_is_a_difference_of_rows(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["stack_bid"]["3"]["data"].remove(wind_rows(content, 3)[0])
        rows = content["stack_bid"]["7"]["data"]
        rows.append(wind_rows(content, 7)[0] | {"sequenceNumber": 900, "volume": -2.0})

    change_recording(recordings, JUNE_6, change)

    found = verify(small_days, server, Method.FULL)

    assert [(each.settlement_period, each.what) for each in found.differences] == [(3, "rows"), (7, "rows")]
    gone, come = found.differences
    assert gone.right_mwh > gone.stored_mwh
    assert come.right_mwh == pytest.approx(come.stored_mwh - 2.0, rel=1e-12, abs=0)


@ON_SQLITE
@pytest.mark.parametrize(("day", "last"), [(date(2025, 3, 30), 46), (date(2025, 10, 26), 50)])
def test_the_last_period_of_a_clock_change_is_among_the_five(engine: Engine, day: date, last: int) -> None:
    ingest(engine, [day], CLOCK_CHANGES)
    elexon = Elexon(RecordingSource(CLOCK_CHANGES))
    scope = Scope(Days(day, day), CurtailmentRule.ALL_BIDS)

    periods = {method: verify_day(engine, elexon, scope, NOW, method).periods for method in Method}

    assert set(periods[Method.FIXED]) == {1, 12, 24, 36, last}
    assert set(periods[Method.FULL]) == set(periods[Method.WITNESS]) == set(range(1, last + 1))


@ON_SQLITE
def test_a_seed_draws_the_same_periods_again(small_days: Engine, server: StandInElexon) -> None:
    first, again, other = (verify(small_days, server, Method.RANDOM, seed=seed) for seed in (7, 7, 8))

    assert first.periods == again.periods == sorted(random.Random(7).sample(ALL, 10))
    assert other.periods != first.periods
    assert (first.seed, other.seed) == (7, 8)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("DELETE FROM curtailment_records WHERE settlement_period = 7", "rows"),
        ("UPDATE curtailment_records SET volume = volume - 5 WHERE settlement_period = 7", "values"),
        ("UPDATE curtailment_records SET original_price = -1 WHERE settlement_period = 7", "values"),
        ("UPDATE curtailment_records SET so_flag = NOT so_flag WHERE settlement_period = 7", "values"),
    ],
)
@pytest.mark.parametrize("method", [Method.WITNESS, Method.FIXED])
def test_records_that_are_not_as_the_bids_say_are_mended_without_reading(
    small_days: Engine, server: StandInElexon, damage: str, what: str, method: Method
) -> None:
    execute(small_days, damage)

    found = verify(small_days, server, method)

    assert {(each.settlement_period, each.side, each.what) for each in found.differences} == {(7, Side.RECORDS, what)}
    assert found.mended_by == "recon date 2025-06-06"
    assert not found.must_be_read


def test_bids_that_were_damaged_are_to_be_read_again(small_days: Engine, server: StandInElexon) -> None:
    execute(small_days, "DELETE FROM wind_bids WHERE settlement_period = 7 AND settlement_date = '2025-06-06'")

    found = verify(small_days, server)

    assert found.is_contradicted
    assert {each.side for each in found.differences} == {Side.BIDS, Side.RECORDS}
    assert found.mended_by == "recon reingest 2025-06-06"


@ON_SQLITE
@pytest.mark.parametrize("method", Method)
def test_a_day_that_was_never_read_takes_no_request(engine: Engine, server: StandInElexon, method: Method) -> None:
    found = verify(engine, server, method)

    assert (found.finding, found.mended_by) == (Finding.NOT_STORED, "recon date 2025-06-06")
    assert server.requests == []


@pytest.mark.parametrize("method", [Method.WITNESS, Method.FULL])
def test_published_periods_that_are_not_stored_are_named(engine: Engine, server: StandInElexon, method: Method) -> None:
    ingest(engine, [JUNE_6], now=datetime(2025, 6, 6, 12, tzinfo=UTC))

    found = verify(engine, server, method)

    assert found.unread == list(range(26, 49))
    assert found.finding is Finding.NOT_STORED
    assert found.mended_by == "recon date 2025-06-06"


@pytest.fixture
def adopted(small_days: Engine) -> Engine:
    """A database in which the records of the days are there, and neither bids, proofs nor BM units."""
    execute(small_days, "DELETE FROM wind_bids", "DELETE FROM proof_of_fetch", "DELETE FROM wind_bm_units")
    return small_days


def test_an_adopted_day_is_not_comparable_by_witness(adopted: Engine, server: StandInElexon) -> None:
    found = verify(adopted, server)

    assert found.state is DayState.ADOPTED
    assert (found.finding, found.differences) == (Finding.NOT_COMPARABLE, [])
    assert found.mended_by == "recon verify 2025-06-06 --method full"


def test_an_adopted_day_is_compared_by_its_records_under_the_rule(adopted: Engine, server: StandInElexon) -> None:
    assert verify(adopted, server, Method.FULL).finding is Finding.AGREES

    # Old volumes of either sign and old payments are read as everywhere.
    execute(adopted, "UPDATE curtailment_records SET volume = -volume, payment = -payment WHERE settlement_period = 7")
    assert verify(adopted, server, Method.FULL).finding is Finding.AGREES

    execute(adopted, "DELETE FROM curtailment_records WHERE settlement_period = 7")
    found = verify(adopted, server, Method.FULL)
    assert {(each.settlement_period, each.side) for each in found.differences} == {(7, Side.ADOPTED)}
    assert found.mended_by == "recon reingest 2025-06-06"


def test_an_adopted_day_without_records_agrees_when_nothing_was_accepted(
    adopted: Engine, server: StandInElexon, recordings: Path
) -> None:
    execute(
        adopted,
        "UPDATE curtailment_records SET settlement_date = '2025-06-05' WHERE settlement_date = '2025-06-06'",
    )
    assert verify(adopted, server).finding is Finding.NOT_COMPARABLE

    def calm(content: dict[str, Any]) -> None:
        rows = content["acceptance_volumes_bid"]["data"]
        rows[:] = [row for row in rows if row["bmUnit"] not in WIND]

    change_recording(recordings, JUNE_6, calm)
    found = verify(adopted, server)
    assert (found.state, found.finding) == (DayState.ADOPTED_EMPTY, Finding.AGREES)


@ON_SQLITE
def test_without_acceptance_volumes_the_witness_says_nothing(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    change_recording(recordings, JUNE_6, lambda content: content.pop("acceptance_volumes_bid"))

    with pytest.raises(ElexonError, match=r"^2025-06-06: there is no list of acceptance volumes of this day"):
        verify(small_days, server)
    assert verify(small_days, server, Method.FULL).finding is Finding.AGREES


def listed_up_to(last: int) -> Callable[[dict[str, Any]], None]:
    def cut(content: dict[str, Any]) -> None:
        rows = content["acceptance_volumes_bid"]["data"]
        rows[:] = [row for row in rows if row["settlementPeriod"] <= last]

    return cut


EVENING = datetime(2025, 6, 6, 23, 30, tzinfo=UTC)
"""All periods of the 6th are due, and its lists may still grow."""


@ON_SQLITE
def test_what_the_list_of_volumes_has_not_come_to_is_not_compared(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    change_recording(recordings, JUNE_6, listed_up_to(11))

    found = verify(small_days, server, now=EVENING)

    assert (found.finding, found.differences) == (Finding.NOT_COMPARABLE, [])
    assert (list(found.periods), list(found.unpublished)) == ([*range(1, 12)], [*range(12, 49)])
    # Of a day that was settled, what is not listed was not accepted.
    settled = verify(small_days, server)
    assert {difference.settlement_period for difference in settled.differences} == {12}


@pytest.mark.parametrize("is_adopted", [False, True])
@ON_SQLITE
def test_an_empty_list_of_volumes_confirms_nothing(
    adopted: Engine, server: StandInElexon, recordings: Path, is_adopted: bool
) -> None:
    if is_adopted:
        execute(adopted, "UPDATE curtailment_records SET settlement_date = '2025-06-05' WHERE settlement_period < 12")
        execute(adopted, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'")
    else:
        execute(adopted, "DELETE FROM curtailment_records")
        ingest_again(adopted)
    change_recording(recordings, JUNE_6, listed_up_to(0))

    with pytest.raises(ElexonError, match=r"^2025-06-06: the list of acceptance volumes of this day is empty"):
        verify(adopted, server)


def ingest_again(engine: Engine) -> None:
    with writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), NOW)
    ingest(engine, [JUNE_6])


@ON_SQLITE
def test_a_day_of_which_due_periods_are_not_published_yet_does_not_agree(
    engine: Engine, server: StandInElexon, recordings: Path
) -> None:
    ingest(engine, [JUNE_6], now=datetime(2025, 6, 6, 12, tzinfo=UTC))
    converge_layers(engine, Days(JUNE_6, JUNE_6))
    change_recording(recordings, JUNE_6, listed_up_to(25))

    found = verify(engine, server, now=EVENING)

    assert found.state is DayState.INCOMPLETE
    assert (found.finding, found.mended_by) == (Finding.NOT_COMPARABLE, "recon date 2025-06-06")


@ON_SQLITE
def test_a_stored_period_that_elexon_withdrew_is_not_comparable(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    def withdraw(content: dict[str, Any]) -> None:
        del content["stack_bid"]["48"]
        prices = content["system_prices"]["data"]
        prices[:] = [row for row in prices if row["settlementPeriod"] != 48]

    change_recording(recordings, JUNE_6, withdraw)

    found = verify(small_days, server, Method.FIXED)

    assert found.unpublished == [48]
    assert found.finding is Finding.NOT_COMPARABLE


@ON_SQLITE
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda server: server.faults.append(Fault("server_error", "/acceptance/")), "HTTP 503"),
        (lambda server: server.overrides.update(volumes_with(bmUnit=7)), "breaks Elexon's schema: .*bm_unit_id"),
        (
            lambda server: server.overrides.update(volumes_with(totalVolumeAccepted="-1")),
            "schema: volume is the text '-1'",
        ),
        (
            lambda server: server.overrides.update(volumes_with(settlementPeriod="7")),
            "settlementPeriod is the text '7'",
        ),
        (lambda server: server.overrides.update(volumes_with(acceptanceId="1")), "acceptance_id is the text '1'"),
        (lambda server: server.overrides.update(volumes_with(acceptanceId=None)), "acceptance_id is None"),
        (lambda server: server.overrides.update(volumes_with(settlementDate="2025-06-07")), "rows of 2025-06-07"),
    ],
    ids=["server error", "unit", "volume", "period", "acceptance", "no acceptance", "other day"],
)
def test_a_witness_that_cannot_be_read_is_an_error(
    small_days: Engine, server: StandInElexon, spoil: Callable[[StandInElexon], None], reason: str
) -> None:
    spoil(server)

    with pytest.raises(ElexonError, match=f"^2025-06-06 acceptance volumes: .*{reason}"):
        verify(small_days, server)


def spoil_volumes(folder: Path, wind: bool, **fields: Any) -> dict[str, Any]:
    """Changes the first acceptance volume of period 7 that is of a wind unit, or of none; as it was."""
    before: dict[str, Any] = {}

    def change(content: dict[str, Any]) -> None:
        rows = content["acceptance_volumes_bid"]["data"]
        row = next(row for row in rows if row["settlementPeriod"] == 7 and (row["bmUnit"] in WIND) is wind)
        before.update(row)
        row.update(fields)

    change_recording(folder, JUNE_6, change)
    return before


@ON_SQLITE
def test_a_wind_unit_whose_volume_is_null_is_not_comparable_and_the_rest_is_compared(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    unit = spoil_volumes(recordings, True, totalVolumeAccepted=None)["bmUnit"]

    found = verify(small_days, server)

    assert (found.finding, found.differences) == (Finding.NOT_COMPARABLE, [])
    assert found.not_comparable == (
        f"the acceptance volumes have no volume of {unit} in period 7; the rest was compared"
    )
    assert found.mended_by == "recon verify 2025-06-06 --method full"
    bid = restate(recordings, 12, volume=-99.0)
    (difference,) = verify(small_days, server).differences
    assert (difference.settlement_period, difference.farm_id) == (12, bid["id"])


@ON_SQLITE
def test_a_volume_without_a_unit_may_be_any_ones(small_days: Engine, server: StandInElexon, recordings: Path) -> None:
    unit = spoil_volumes(recordings, True, bmUnit=None)["bmUnit"]

    found = verify(small_days, server)

    assert (found.finding, found.differences) == (Finding.NOT_COMPARABLE, [])
    assert found.not_comparable == (
        "the acceptance volumes have volumes without a BM unit in period 7; the rest was compared"
    )
    # It does not hide that Elexon lists more of the unit than is stored.
    execute(small_days, f"DELETE FROM wind_bids WHERE bm_unit_id <> '{unit}' AND settlement_period = 7")
    assert {found.settlement_period for found in verify(small_days, server).differences} == {7}


@ON_SQLITE
def test_a_null_volume_of_another_unit_is_counted_and_the_day_agrees(
    small_days: Engine, server: StandInElexon, recordings: Path
) -> None:
    spoil_volumes(recordings, False, totalVolumeAccepted=None)

    assert verify(small_days, server).finding is Finding.AGREES
    answer = Elexon(RecordingSource(recordings)).acceptance_volumes(JUNE_6)
    assert answer is not None
    assert answer.tolerated == {"null_volumes": 1}


def volumes_with(**fields: Any) -> Iterator[tuple[str, bytes]]:
    """The list of acceptance volumes with one row, some fields of which are changed."""
    row = {
        "settlementDate": "2025-06-06",
        "settlementPeriod": 7,
        "bmUnit": "T_PNYCW-1",
        "acceptanceId": 1,
        "totalVolumeAccepted": -1.0,
    }
    path = "/balancing/settlement/acceptance/volumes/all/bid/2025-06-06"
    yield path, json.dumps({"data": [row | fields]}).encode()


@ON_SQLITE
def test_a_day_of_which_nothing_is_due_or_recorded_is_an_error(small_days: Engine, recordings: Path) -> None:
    elexon = Elexon(RecordingSource(recordings))

    with pytest.raises(ReconError, match="no settlement period of this day is due yet"):
        verify_day(small_days, elexon, Scope(Days(JUNE_7, JUNE_7), CurtailmentRule.SO_FLAGGED), NOW.replace(year=2025))
    unrecorded = date(2025, 6, 5)
    with pytest.raises(ReconError, match=r"^2025-06-05: file:.* has no recording of this day"):
        verify_day(small_days, elexon, Scope(Days(unrecorded, unrecorded), CurtailmentRule.SO_FLAGGED), NOW)
