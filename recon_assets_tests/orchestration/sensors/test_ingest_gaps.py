from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.ingest.archived import search_archive
from recon_assets.orchestration.active_runs import ASKED_BY, FROM_ARCHIVE, RANGE_TAGS
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets.reconcile.settlement_days import DayState
from recon_assets_tests.ingest.test_uncounted import unknown_bids
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, change_recording, execute, state_of
from recon_assets_tests.support.ticks import Sensor, WorkbenchAt, at_noon, spell
from recon_assets_tests.support.ui import note_backfill

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: reconcile/test_read_state.py has it on both engines."""


@pytest.fixture
def noon(resource: ReconResource, small_days: Engine) -> WorkbenchAt:
    """Two days that are right, at noon."""
    return at_noon(resource)


@pytest.fixture
def bids(noon: WorkbenchAt, instance: dg.DagsterInstance, recordings: Path) -> Sensor:
    """The sensor, on a source that has the two days."""
    noon.settings = replace(noon.settings, elexon_api_url=recordings.as_uri())
    return Sensor("ingest_gap_sensor", noon, instance)


def test_where_everything_was_read_nothing_is_asked(bids: Sensor) -> None:
    assert bids.said() == "0 days to be read, 0 days in flight; 0 asked for, given up: none."


def test_days_that_were_never_read_or_not_whole_are_asked_for(bids: Sensor, noon: WorkbenchAt) -> None:
    execute(
        noon.engine,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-07'",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-07'",
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'",
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-07'",
        "DELETE FROM daily_summaries WHERE summary_date = '2025-06-07'",
        "DELETE FROM bitcoin_daily_summaries WHERE summary_date = '2025-06-07'",
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-06' AND settlement_period = 3",
    )

    (request,) = bids.tick().run_requests or []

    assert spell(request) == "ingest_days 2025-06-06..2025-06-07"
    assert request.tags[ASKED_BY] == "ingest_gap_sensor"
    assert bids.make(request).success
    assert set(state_of(noon.engine, SMALL_DAYS).days.values()) == {DayState.INGESTED}
    assert bids.said().startswith("0 days to be read")
    assert bids.known["days"] == {}


def test_a_day_whose_bids_were_damaged_is_read_again(bids: Sensor, noon: WorkbenchAt) -> None:
    execute(noon.engine, "UPDATE wind_bids SET volume = -1 WHERE settlement_date = '2025-06-06'")

    assert bids.asked() == ["ingest_days 2025-06-06"]


def test_a_day_of_a_new_wind_unit_is_asked_for_from_the_archive(
    noon: WorkbenchAt, instance: dg.DagsterInstance, stand_in: StandInElexon, recordings: Path
) -> None:
    # given two archived days, and a unit with bids on one of them that a person calls wind
    noon.moment = noon.moment.replace(year=2025, month=6, day=8)
    change_recording(recordings, JUNE_6, unknown_bids)
    noon.settings = replace(noon.settings, archive_folder=recordings)
    search_archive(noon.engine, Archive(recordings), noon.now(), lambda: True)
    execute(
        noon.engine,
        "INSERT INTO bm_unit_declarations (bm_unit_id, is_wind, declared_by, declared_at)"
        " VALUES ('T_NEWWF-1', true, 'ann', '2025-06-08 12:00:00')",
    )
    sensor = Sensor("ingest_gap_sensor", noon, instance)

    # when
    (request,) = sensor.tick().run_requests or []

    # then
    assert (spell(request), FROM_ARCHIVE in request.tags) == ("ingest_days 2025-06-06", True)
    asked = len(stand_in.requests)
    assert sensor.make(request).success
    assert len(stand_in.requests) == asked
    found = state_of(noon.engine, SMALL_DAYS)
    assert not found.new_wind_days
    assert found.records.missing == 3


def test_the_archive_is_searched_by_runs_that_refresh_the_units(
    noon: WorkbenchAt, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given: the two days alone, stored before uncounted bids were kept; the archive has them
    noon.moment = noon.moment.replace(year=2025, month=6, day=8)
    noon.settings = replace(noon.settings, archive_folder=recordings)
    execute(noon.engine, "DELETE FROM uncounted_bids", "DELETE FROM recon_settings")
    sensor = Sensor("ingest_gap_sensor", noon, instance)

    searches = [run for run in sensor.tick().run_requests or [] if run.job_name == "refresh_bm_units"]

    assert [run.run_key for run in searches] == ["search the archive, 2 left"]
    assert sensor.make(searches[0]).success
    assert [run for run in sensor.asked() if "refresh" in run] == []


def test_an_adopted_day_is_not_read_while_another_day_is(bids: Sensor, noon: WorkbenchAt) -> None:
    for table in ("proof_of_fetch", "wind_bids"):
        execute(noon.engine, f"DELETE FROM {table}")
    bids.begin(dg.RunRequest(job_name="ingest_days", tags=dict.fromkeys(RANGE_TAGS, "2025-06-02")))

    assert bids.asked() == []
    assert bids.said().endswith("2 days (2025-06-06..2025-06-07) of an old database to be proven.")


def test_the_newest_month_comes_first_one_run_at_a_time(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given the live source's calendar, half an hour past midnight: of yesterday nothing is due any more
    noon = at_noon(resource)
    noon.wait(hours=-11.5)
    sensor = Sensor("ingest_gap_sensor", noon, instance)

    # when
    (request,) = sensor.tick().run_requests or []
    assert spell(request) == "ingest_days 2026-01-01..2026-01-14"
    run = sensor.begin(request, dg.DagsterRunStatus.QUEUED)
    assert "14 days (2026-01-01..2026-01-14) in flight" in sensor.said()

    # then the month before waits for its end, and the days that it left for their pause
    instance.report_run_failed(run)
    assert sensor.asked() == ["ingest_days 2025-12-01..2025-12-31"]
    assert stand_in.requests == []


def test_a_day_is_asked_for_when_its_last_period_is_published(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    noon = at_noon(resource)
    noon.wait(hours=-12, minutes=14)
    assert Sensor("ingest_gap_sensor", noon, instance).asked() == ["ingest_days 2026-01-01..2026-01-13"]

    noon.wait(minutes=1)
    assert Sensor("ingest_gap_sensor", noon, instance).asked() == ["ingest_days 2026-01-01..2026-01-14"]


def test_a_month_that_a_backfill_or_another_run_reads_is_left_to_it(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    sensor = Sensor("ingest_gap_sensor", at_noon(resource), instance)
    note_backfill(sensor, [WIND_BIDS], *(str(day) for day in Days(date(2026, 1, 3), date(2026, 1, 14))))
    sensor.begin(dg.RunRequest(job_name="ingest_days", tags=dict.fromkeys(RANGE_TAGS, "2026-01-01")))

    assert sensor.asked() == ["ingest_days 2026-01-02"]


def test_a_source_that_is_down_is_left_alone_longer_and_longer_and_then_given_up(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given a source that is down, of which one day is left to be read
    noon = at_noon(resource)
    noon.moment = noon.moment.replace(year=2025, month=6, day=8)
    execute(noon.engine, "DELETE FROM wind_bids WHERE settlement_date = '2025-06-07'")
    stand_in.faults.append(Fault("server_error"))
    sensor = Sensor("ingest_gap_sensor", noon, instance)

    def newest(asked: list[str]) -> list[str]:
        """The runs of that day."""
        return [run for run in asked if "2025-06-07" in run]

    # when the first run fails
    (request,) = sensor.tick().run_requests or []
    assert spell(request) == "ingest_days 2025-06-07"
    assert stand_in.requests == []
    assert not sensor.make(request).success
    asked_then = len(stand_in.requests)

    # then it waits ten minutes and an hour
    for minutes in (10, 60):
        noon.wait(minutes=minutes - 1)
        assert newest(sensor.asked()) == []
        noon.wait(minutes=1)
        (request,) = sensor.tick().run_requests or []
        assert spell(request) == "ingest_days 2025-06-07"
        sensor.fail(request)
    noon.wait(hours=2)
    assert newest(sensor.asked()) == []
    assert list(sensor.given_up) == ["2025-06-07"]
    assert len(stand_in.requests) == asked_then

    # and is asked for once the next day
    noon.wait(hours=12)
    assert len(newest(sensor.asked())) == 1


def test_the_reason_of_a_day_that_could_not_be_read_is_what_the_source_said(
    bids: Sensor, noon: WorkbenchAt, recordings: Path
) -> None:
    # given
    execute(noon.engine, "DELETE FROM wind_bids")
    (recordings / f"{JUNE_6}.json.gz").write_bytes(b"not gzip")
    (request,) = bids.tick().run_requests or []
    assert not bids.make(request).success

    # when: the other day was read, this one is tried again, in vain
    for _ in range(2):
        noon.wait(hours=1)
        (request,) = bids.tick().run_requests or []
        assert spell(request) == "ingest_days 2025-06-06"
    bids.make(request)
    bids.tick()

    # then
    assert list(bids.given_up) == ["2025-06-06"]
    assert bids.given_up["2025-06-06"].startswith("2025-06-06 settlement period 1-48: ")
    assert "the recording" in bids.given_up["2025-06-06"]

    # and a source that has the day no more cannot be asked for it
    (recordings / f"{JUNE_6}.json.gz").unlink()
    assert bids.said().startswith("0 days to be read")
    assert bids.given_up == {}


def adopt_everything(engine: Engine) -> None:
    for statement in (
        "DELETE FROM proof_of_fetch",
        "DELETE FROM wind_bids",
        "UPDATE curtailment_records SET sequence_number = NULL",
    ):
        execute(engine, statement)


def test_adopted_days_are_read_one_a_tick_when_nothing_else_is_unread(bids: Sensor, noon: WorkbenchAt) -> None:
    adopt_everything(noon.engine)

    (request,) = bids.tick().run_requests or []
    assert spell(request) == "ingest_days 2025-06-07"
    assert bids.make(request).success
    assert bids.asked() == ["ingest_days 2025-06-06"]


def test_days_that_seem_to_have_lost_records_come_first(bids: Sensor, noon: WorkbenchAt) -> None:
    adopt_everything(noon.engine)
    execute(
        noon.engine,
        "UPDATE daily_summaries SET total_curtailed_energy = 99999 WHERE summary_date = '2025-06-06'",
    )

    assert bids.asked() == ["ingest_days 2025-06-06"]
