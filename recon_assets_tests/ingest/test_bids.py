from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import migrate
from recon_assets.database.tables import metadata, proof_of_fetch, wind_bids
from recon_assets.database.transactions import reading
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ElexonError, ReconError
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets.reconcile.apply import Changes, converge
from recon_assets.reconcile.layers import CURTAILMENT
from recon_assets.reconcile.scope import Scope, writing
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.settings import Settings
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.reconcile.test_roll_back import leave_out
from recon_assets_tests.support.locking import store_behind
from recon_assets_tests.support.payloads import (
    TOTALS,
    published_totals,
    published_totals_of_units,
    stored_totals,
    stored_totals_of_units,
)
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    change_recording,
    contents,
    execute,
    ingest,
    restate,
    scalar,
    state_of,
)

WIND = {unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind}
STACK = "/balancing/settlement/stack/all/bid/2025-06-06"


def converge_records(engine: Engine, days: Days, rule: CurtailmentRule) -> Changes:
    with writing(engine, Scope(days, rule)) as (connection, scope):
        return converge(connection, CURTAILMENT, scope)


@pytest.mark.parametrize(("day", "periods"), [(date(2025, 3, 30), 46), (date(2025, 10, 26), 50)])
def test_a_clock_change_has_all_its_periods_and_totals(engine: Engine, day: date, periods: int) -> None:
    days = Days(day, day)

    (ingested,) = ingest(engine, [day], CLOCK_CHANGES)

    assert ingested.periods == periods
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == periods
    converge_records(engine, days, CurtailmentRule.SO_FLAGGED)
    assert stored_totals(engine, "curtailment_records") == published_totals(days, CurtailmentRule.SO_FLAGGED)
    converge_records(engine, days, CurtailmentRule.ALL_BIDS)
    assert stored_totals(engine, "curtailment_records") == published_totals(days, CurtailmentRule.ALL_BIDS)
    assert stored_totals_of_units(engine) == published_totals_of_units(days)


def test_a_day_tells_what_was_stored(engine: Engine) -> None:
    (ingested,) = ingest(engine, [JUNE_6])

    recorded = TOTALS["2025-06-06"]["all_bids"]
    assert ingested.changes == Changes(inserted=83 + 48)
    assert (ingested.periods, ingested.pending) == (48, ())
    assert (ingested.stack_rows, ingested.wind_rows, ingested.tolerated) == (741, 83, {"null_flags": 1})
    assert (ingested.unlisted_rows, ingested.unlisted) == (0, {})
    assert ingested.wind_mwh == pytest.approx(recorded["mwh"], rel=1e-12, abs=0)
    assert ingested.wind_gbp == pytest.approx(recorded["gbp"], rel=1e-12, abs=0)


def test_every_period_has_a_proof_that_speaks_of_its_bids(engine: Engine) -> None:
    ingest(engine, [JUNE_6])

    assert scalar(engine, "SELECT sum(stack_rows) FROM proof_of_fetch") == 741
    calm = scalar(engine, "SELECT count(*) FROM proof_of_fetch WHERE wind_rows = 0 AND stack_rows > 0")
    assert calm > 0
    per_period = "SELECT settlement_period, count(*) AS n, sum(volume) AS mwh FROM wind_bids GROUP BY settlement_period"
    assert (
        scalar(
            engine,
            f"SELECT count(*) FROM proof_of_fetch p JOIN ({per_period}) b ON b.settlement_period = p.settlement_period"
            " WHERE b.n = p.wind_rows AND abs(b.mwh - p.wind_mwh) < 1e-9",
        )
        == 48 - calm
    )
    assert scalar(engine, "SELECT count(DISTINCT fingerprint) FROM proof_of_fetch") == 48 - calm + 1


def test_reading_an_unchanged_day_again_changes_no_row(engine: Engine) -> None:
    ingest(engine, SMALL_DAYS)
    before = contents(engine, wind_bids, proof_of_fetch)

    again = ingest(engine, SMALL_DAYS, now=NOW + timedelta(days=1))

    assert [day.changes for day in again] == [Changes(kept=83 + 48), Changes(kept=14 + 48)]
    assert contents(engine, wind_bids, proof_of_fetch) == before


def wind_bids_in(content: dict[str, Any], period: int) -> list[dict[str, Any]]:
    return [row for row in content["stack_bid"][str(period)]["data"] if row["id"] in WIND]


def test_a_restated_day_changes_what_was_restated_and_nothing_else(engine: Engine, recordings: Path) -> None:
    ingest(engine, SMALL_DAYS, recordings)
    before = contents(engine, wind_bids)["wind_bids"]

    def restate(content: dict[str, Any]) -> None:
        wind_bids_in(content, 3)[0]["volume"] = -77.0
        content["stack_bid"]["4"]["data"].remove(wind_bids_in(content, 4)[0])

    change_recording(recordings, JUNE_6, restate)

    later = NOW + timedelta(days=1)
    (ingested,) = ingest(engine, [JUNE_6], recordings, later)

    # One bid and its proof were corrected; another bid was removed and its proof corrected.
    assert ingested.changes == Changes(corrected=3, removed=1, kept=81 + 46)
    after = contents(engine, wind_bids)["wind_bids"]
    assert (len(before - after), len(after - before)) == (2, 1)
    assert scalar(engine, "SELECT volume FROM wind_bids WHERE settlement_period = 3 ORDER BY volume LIMIT 1") == -77.0
    state = state_of(engine, SMALL_DAYS)
    assert state.contradicted == frozenset()
    assert state.days_in(DayState.INGESTED) == [JUNE_6, JUNE_7]
    with reading(engine) as connection:
        proofs = proof_of_fetch.c
        renewed = connection.execute(select(proofs.settlement_period).where(proofs.fetched_at == later)).scalars()
        assert sorted(renewed) == [3, 4]


def test_a_change_in_the_last_digits_of_a_bid_is_stored(engine: Engine, recordings: Path) -> None:
    ingest(engine, [JUNE_6], recordings)
    changed: dict[str, Any] = {}

    def restate(content: dict[str, Any]) -> None:
        bid = wind_bids_in(content, 7)[0]
        bid["volume"] *= 1 + 1e-9
        changed.update(bid)

    change_recording(recordings, JUNE_6, restate)

    assert ingest(engine, [JUNE_6], recordings)[0].changes == Changes(corrected=2, kept=82 + 47)
    sequence = changed["sequenceNumber"]
    stored = f"SELECT volume FROM wind_bids WHERE settlement_period = 7 AND sequence_number = {sequence}"
    assert scalar(engine, stored) == changed["volume"]


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


def read_over_http(engine: Engine, server: StandInElexon, *, periods: list[int] | None = None) -> IngestedDay:
    source = HttpSource(server.url, per_second=1000, attempts=2, backoff_seconds=0.01)
    return ingest_day(engine, Elexon(source), JUNE_6, NOW, periods)


def test_a_day_over_http_is_the_day_in_the_recording(engine: Engine, server: StandInElexon) -> None:
    ingest(engine, [JUNE_6])

    assert read_over_http(engine, server).changes == Changes(kept=83 + 48)


def test_a_period_that_fails_writes_nothing_and_is_named(engine: Engine, server: StandInElexon) -> None:
    server.faults.append(Fault("server_error", f"{STACK}/31/"))

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 31: "):
        read_over_http(engine, server)

    assert scalar(engine, "SELECT count(*) FROM wind_bids") == 0
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 0


def test_a_period_that_fails_leaves_what_was_there(engine: Engine, server: StandInElexon, recordings: Path) -> None:
    read_over_http(engine, server)
    before = contents(engine, wind_bids, proof_of_fetch)
    change_recording(recordings, JUNE_6, lambda content: wind_bids_in(content, 3)[0].update(volume=-99.0))
    server.faults.append(Fault("truncated", f"{STACK}/48/"))

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 48: "):
        read_over_http(engine, server)

    assert contents(engine, wind_bids, proof_of_fetch) == before


def test_answers_are_kept_before_they_are_stored(engine: Engine, server: StandInElexon, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    elexon = Elexon(HttpSource(server.url, per_second=1000))
    leave_out(engine, "INSERT", "wind_bids", 7)

    with pytest.raises(ReconError, match="rolled back"):
        ingest_day(engine, elexon, JUNE_6, NOW, archive=archive)

    assert [path.name for path in archive.folder.glob("*.gz")] == ["2025-06-06.json.gz"]


def test_answers_that_cannot_be_kept_are_not_stored(engine: Engine, server: StandInElexon, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("no folder")
    elexon = Elexon(HttpSource(server.url, per_second=1000))

    with pytest.raises(ReconError, match="archive"):
        ingest_day(engine, elexon, JUNE_6, NOW, archive=Archive(tmp_path / "archive"))

    assert scalar(engine, "SELECT count(*) FROM wind_bids") == 0
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 0


def test_a_proof_bears_the_newest_time_at_which_a_row_of_its_period_was_created(
    engine: Engine, recordings: Path
) -> None:
    def stamp(content: dict[str, Any]) -> None:
        rows = content["stack_bid"]["7"]["data"]
        rows[0]["createdDateTime"] = "2025-06-05T08:00:00Z"
        rows[1]["createdDateTime"] = "2025-07-20T08:00:00Z"

    change_recording(recordings, JUNE_6, stamp)

    ingest(engine, [JUNE_6], recordings)

    created = "SELECT elexon_created_at FROM proof_of_fetch WHERE settlement_period ="
    assert scalar(engine, f"{created} 7") == "2025-07-20T08:00:00Z"
    assert scalar(engine, f"{created} 8") == "2025-06-07T09:34:55Z"


def test_a_short_answer_is_doubted_against_what_somebody_else_stored_meanwhile(
    engine: Engine, server: StandInElexon, recordings: Path
) -> None:
    # given a reading whose answer lacks most of period 12, and another that has stored the whole day by then
    slow = Elexon(HttpSource(server.url, per_second=1000))
    read_whole = slow.settlement_stack
    whole = (recordings / "2025-06-06.json.gz").read_bytes()

    def lose(content: dict[str, Any]) -> None:
        for bid in wind_bids_in(content, 12)[1:]:
            content["stack_bid"]["12"]["data"].remove(bid)

    def meanwhile(day: date, now: datetime, periods: Iterable[int] | None = None) -> SettlementStack:
        change_recording(recordings, JUNE_6, lose)
        stack = read_whole(day, now, periods)
        (recordings / "2025-06-06.json.gz").write_bytes(whole)
        ingest(engine, [JUNE_6], recordings)
        return stack

    slow.settlement_stack = meanwhile  # type: ignore[method-assign]

    with pytest.raises(ElexonError, match=r"fewer than half of the stored bids in settlement period 12, and the acc"):
        ingest_day(engine, slow, JUNE_6, NOW)

    assert ingest(engine, [JUNE_6], recordings)[0].changes.total == 0


def test_a_day_is_stored_under_its_lock(engine: Engine) -> None:
    # given a day that is stored
    ingest(engine, [JUNE_6])

    # when it is read again while another writer changes it
    (again,) = store_behind(
        engine,
        JUNE_6,
        lambda holder: holder.execute(delete(wind_bids).where(wind_bids.c.settlement_period == 11)),
        lambda: ingest(engine, [JUNE_6]),
    )

    # then it waited, and the 27 bids that were removed are there again
    assert again.changes == Changes(inserted=27, kept=83 - 27 + 48)


@pytest.mark.parametrize("table", ["wind_bids", "proof_of_fetch"])
def test_a_bid_or_a_proof_that_the_database_leaves_out_stores_neither(engine: Engine, table: str) -> None:
    leave_out(engine, "INSERT", table, 7)

    with pytest.raises(ReconError, match=rf"^{table} 2025-06-06: .*; rolled back$"):
        ingest(engine, [JUNE_6])

    assert scalar(engine, "SELECT count(*) FROM wind_bids") == 0
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 0


def test_a_revision_whose_proof_the_database_leaves_out_changes_nothing(small_days: Engine, recordings: Path) -> None:
    leave_out(small_days, "UPDATE", "proof_of_fetch", 7)
    before = contents(small_days, *metadata.tables.values())
    change_recording(recordings, JUNE_6, restate)

    with pytest.raises(ReconError, match=r"^proof_of_fetch 2025-06-06: .*1 wrong.* 0 corrected.*; rolled back$"):
        ingest(small_days, [JUNE_6], recordings)

    assert contents(small_days, *metadata.tables.values()) == before


def test_a_partly_published_day_has_proofs_of_its_published_periods_only(engine: Engine, recordings: Path) -> None:
    def unpublish(content: dict[str, Any]) -> None:
        prices = content["system_prices"]
        prices["data"] = [row for row in prices["data"] if row["settlementPeriod"] <= 40]
        for period in range(41, 49):
            del content["stack_bid"][str(period)]

    change_recording(recordings, JUNE_6, unpublish)

    (ingested,) = ingest(engine, [JUNE_6], recordings)

    assert ingested.periods == 40
    assert ingested.pending == tuple(range(41, 49))
    assert scalar(engine, "SELECT max(settlement_period) FROM proof_of_fetch") == 40
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 40
    assert state_of(engine, Days(JUNE_6, JUNE_6)).days_in(DayState.INCOMPLETE) == [JUNE_6]


def test_a_day_is_completed_later(engine: Engine) -> None:
    midday = datetime(2025, 6, 6, 12, tzinfo=UTC)
    (morning,) = ingest(engine, [JUNE_6], now=midday)
    assert morning.periods == 25
    assert state_of(engine, Days(JUNE_6, JUNE_6), now=midday).days_in(DayState.INGESTED) == [JUNE_6]
    assert state_of(engine, Days(JUNE_6, JUNE_6)).days_in(DayState.INCOMPLETE) == [JUNE_6]

    (whole,) = ingest(engine, [JUNE_6])

    assert whole.changes.kept == morning.changes.inserted
    assert state_of(engine, Days(JUNE_6, JUNE_6)).days_in(DayState.INGESTED) == [JUNE_6]


def test_named_periods_are_read_again_and_the_others_left(engine: Engine, server: StandInElexon) -> None:
    ingest(engine, [JUNE_6])
    execute(engine, "UPDATE wind_bids SET volume = volume - 1 WHERE settlement_period IN (4, 5)")

    ingested = read_over_http(engine, server, periods=[4, 6])

    # Four bids of period 4 are mended, period 5 stays as it was damaged.
    assert ingested.periods == 2
    assert (ingested.changes.corrected, ingested.changes.inserted, ingested.changes.removed) == (4, 0, 0)
    assert {request.path for request in server.requests} == {f"{STACK}/4", f"{STACK}/6"}
    assert state_of(engine, Days(JUNE_6, JUNE_6)).contradicted == {JUNE_6}


def test_a_curtailed_unit_in_no_list_is_counted(engine: Engine, recordings: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for bid, name in zip(wind_bids_in(content, 4), ["T_BRANDNEW-1", "T_BRANDNEW-1", None, "4711"], strict=True):
            # Without a unit there is no acceptance: an action outside the Balancing Mechanism.
            bid.update(id=name, acceptanceId=bid["acceptanceId"] if name else None)

    change_recording(recordings, JUNE_6, rename)

    (ingested,) = ingest(engine, [JUNE_6], recordings)

    assert ingested.unlisted_rows == 2
    assert list(ingested.unlisted) == ["T_BRANDNEW-1"]
    assert ingested.unlisted["T_BRANDNEW-1"] == pytest.approx(-1.227077157297881 - 2.4507369147493243, rel=1e-12, abs=0)
    assert ingested.wind_rows == 83 - 4
    proof = "FROM proof_of_fetch WHERE settlement_period = 4"
    assert scalar(engine, f"SELECT unlisted_rows {proof}") == 2
    assert scalar(engine, f"SELECT unlisted_mwh {proof}") == pytest.approx(
        ingested.unlisted["T_BRANDNEW-1"], rel=1e-12, abs=0
    )
    assert scalar(engine, "SELECT sum(unlisted_rows) FROM proof_of_fetch") == 2


def test_a_unit_in_no_list_that_was_not_turned_down_is_not_counted(engine: Engine, recordings: Path) -> None:
    def idle(content: dict[str, Any]) -> None:
        bid = wind_bids_in(content, 4)[0]
        content["stack_bid"]["4"]["data"].append(bid | {"id": "T_BRANDNEW-1", "sequenceNumber": 900, "volume": 0.0})

    change_recording(recordings, JUNE_6, idle)

    (ingested,) = ingest(engine, [JUNE_6], recordings)

    assert (ingested.stack_rows, ingested.unlisted_rows, ingested.unlisted) == (742, 0, {})


def test_a_day_without_a_recording_is_an_error(engine: Engine, recordings: Path) -> None:
    with pytest.raises(ReconError, match=r"^2025-06-05: file:.* has no recording of this day"):
        ingest(engine, [JUNE_6.replace(day=5)], recordings)


def test_a_day_of_which_nothing_is_due_is_an_error(engine: Engine) -> None:
    with pytest.raises(ReconError, match=r"^2025-06-06: no settlement period of this day is due yet"):
        ingest(engine, [JUNE_6], now=datetime(2025, 6, 5, 23, 44, tzinfo=UTC))


def test_a_day_of_which_nothing_is_published_is_an_error(engine: Engine, recordings: Path) -> None:
    change_recording(recordings, JUNE_6, lambda content: content.update(stack_bid={}, system_prices=None))

    with pytest.raises(ReconError, match=r"^2025-06-06: Elexon has not published any settlement period"):
        ingest(engine, [JUNE_6], recordings)

    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 0


def test_without_a_known_wind_unit_nothing_is_ingested(settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    migrate(engine)

    with pytest.raises(ReconError, match="materialize wind_bm_units first"):
        ingest(engine, [JUNE_6])
    engine.dispose()
