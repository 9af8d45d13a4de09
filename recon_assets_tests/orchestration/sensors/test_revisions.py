from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import AssetObservationData
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.active_runs import ASKED_BY
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets_tests.support.steps import JUNE, JUNE_6, change_recording, note_proofs, restate, scalar
from recon_assets_tests.support.ticks import Sensor, WorkbenchAt, at_noon

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own."""

RECENT = [f"2026-01-{day:02}" for day in range(14, 7, -1)]
"""The last seven days, the newest first."""


@pytest.fixture
def noon(resource: ReconResource, engine: Engine) -> WorkbenchAt:
    """Noon of Thursday 2026-01-15."""
    return at_noon(resource)


@pytest.fixture
def revisions(noon: WorkbenchAt, instance: dg.DagsterInstance) -> Sensor:
    return Sensor("revision_sensor", noon, instance)


def asked(sensor: Sensor) -> list[str]:
    """The days that a tick has compared."""
    requests = sensor.tick().run_requests or []
    days = [request.run_config["ops"]["verify_settlement_days"]["config"] for request in requests]
    return [day for config in days for day in config["settlement_dates"]]


def compare(sensor: Sensor, days: Sequence[str]) -> None:
    """Logs the observations of a run that compares days at this moment."""
    for day in days:
        data = AssetObservationData(dg.AssetObservation(WIND_BIDS, partition=day))
        kind = dg.DagsterEventType.ASSET_OBSERVATION.value
        event = dg.DagsterEvent(kind, job_name=RUNLESS_JOB_NAME, event_specific_data=data)
        sensor.instance.report_dagster_event(event, RUNLESS_RUN_ID, timestamp=sensor.resource.now().timestamp())


def test_of_an_empty_database_nothing_is_compared(revisions: Sensor) -> None:
    assert revisions.said() == "0 of 0 days are to be compared, 0 of them now."


def test_days_that_are_neither_recent_nor_of_the_month_before_are_left_alone(
    revisions: Sensor, noon: WorkbenchAt
) -> None:
    note_proofs(noon.engine, Days(date(2025, 11, 28), date(2025, 11, 30)))
    note_proofs(noon.engine, Days(date(2026, 1, 15), date(2026, 1, 15)))

    assert revisions.said() == "0 of 0 days are to be compared, 0 of them now."


def test_five_days_a_tick_are_compared_and_repaired_the_newest_first_one_run_at_a_time(
    revisions: Sensor, noon: WorkbenchAt, stand_in: StandInElexon
) -> None:
    # given
    note_proofs(noon.engine, Days(date(2026, 1, 1), date(2026, 1, 14)))

    # when
    (request,) = revisions.tick().run_requests or []

    # then
    config = {"settlement_dates": RECENT[:5], "repair": True}
    taken = request.run_config["ops"]["verify_settlement_days"]["config"]
    assert {name: taken[name] for name in config} == config
    assert (request.tags[ASKED_BY], request.run_key) == ("revision_sensor", None)
    dg.validate_run_config(revisions.defs.resolve_job_def("verify_days"), request.run_config)

    # and while that run has not ended, nothing
    run = revisions.begin(request, dg.DagsterRunStatus.QUEUED)
    assert revisions.said().endswith(" A comparison is in flight.")
    compare(revisions, RECENT[:5])
    revisions.instance.report_run_canceled(run)

    # and then the others of the last seven days; of this month, those before wait until it is over
    assert asked(revisions) == RECENT[5:]
    compare(revisions, RECENT[5:])
    assert revisions.said() == "0 of 7 days are to be compared, 0 of them now."
    assert revisions.known["days"] == {}
    assert stand_in.requests == []


def test_a_recent_day_is_compared_once_a_day_and_one_of_the_month_before_once_a_week(
    revisions: Sensor, noon: WorkbenchAt
) -> None:
    # given
    recent, before = "2026-01-14", "2025-12-05"
    for day in (recent, before):
        note_proofs(noon.engine, Days(date.fromisoformat(day), date.fromisoformat(day)))

    # when: every six hours from Thursday noon to Tuesday
    compared = {}
    for _ in range(20):
        if found := asked(revisions):
            compared[f"{noon.moment:%a %H}"] = found
            compare(revisions, found)
        noon.wait(hours=6)

    # then: in winter it is midnight in London when it is in Greenwich
    assert compared == {
        "Thu 12": [recent, before],
        "Fri 00": [recent],
        "Sat 00": [recent],
        "Sun 00": [recent],
        "Mon 00": [recent, before],
        "Tue 00": [recent],
    }


def test_recordings_are_compared_only_of_days_that_they_have(revisions: Sensor, noon: WorkbenchAt) -> None:
    note_proofs(noon.engine, Days(date(2026, 1, 1), date(2026, 1, 14)))
    noon.settings = replace(noon.settings, elexon_api_url=JUNE.as_uri())

    assert revisions.said() == "0 of 0 days are to be compared, 0 of them now."


def test_a_source_that_is_down_is_asked_three_times_then_once_a_day(
    revisions: Sensor, noon: WorkbenchAt, stand_in: StandInElexon
) -> None:
    # given
    note_proofs(noon.engine, Days(date(2026, 1, 14), date(2026, 1, 14)))
    stand_in.faults.append(Fault("server_error"))

    # when a run could not compare
    (request,) = revisions.tick().run_requests or []
    assert stand_in.requests == []
    failed = revisions.make(request)
    assert not failed.success
    assert [request.status for request in stand_in.requests] == [503]

    # then it waits half an hour, and three hours
    for minutes in (30, 180):
        noon.wait(minutes=minutes - 1)
        assert asked(revisions) == []
        noon.wait(minutes=1)
        assert asked(revisions) == ["2026-01-14"]
    noon.wait(hours=8)
    assert revisions.said() == "1 of 1 days are to be compared, 0 of them now."

    # and has its next turn the next day
    noon.wait(minutes=30)
    assert asked(revisions) == ["2026-01-14"]
    assert len(stand_in.requests) == 1


def test_a_comparison_that_took_place_ends_the_turn_whatever_it_found(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given: Elexon restates the one of two days
    noon = at_noon(resource)
    noon.moment = datetime(2025, 6, 9, 12, tzinfo=UTC)
    change_recording(recordings, JUNE_6, restate)
    sensor = Sensor("revision_sensor", noon, instance)
    (request,) = sensor.tick().run_requests or []

    # when
    assert sensor.make(request).success

    # then
    assert scalar(small_days, "SELECT count(*) FROM settlement_revisions") == 1
    assert sensor.said() == "0 of 2 days are to be compared, 0 of them now."
