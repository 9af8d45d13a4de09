import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ConfigurationError
from recon_assets.orchestration.active_runs import ASKED_BY, RANGE_TAGS
from recon_assets.orchestration.alert_conditions import SETTLING
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.instance import open_instance
from recon_assets.orchestration.resource import ReconResource
from recon_assets_tests.support.light_dagster import light_instance
from recon_assets_tests.support.receiver import Receiver
from recon_assets_tests.support.steps import JUNE_6, change_recording, execute, restate
from recon_assets_tests.support.ticks import Sensor, WorkbenchAt, at_noon
from recon_assets_tests.support.ui import launch

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own."""

S9 = dg.AssetKey(["historical_bitcoin_calculations", "S9"])
S9_GONE = "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9' AND settlement_date = '2025-06-06'"
POISON = (
    "CREATE TRIGGER poison BEFORE INSERT ON historical_bitcoin_calculations "
    "WHEN NEW.settlement_date = '2025-06-06' AND NEW.settlement_period = 7 "
    "BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
)
CURE = "DROP TRIGGER poison"


@pytest.fixture
def instance(tmp_path: Path, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    with light_instance(dagster_home, tmp_path / "dagster", with_cursors=True) as instance:
        yield instance


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def noon(resource: ReconResource, small_days: Engine, receiver: Receiver) -> WorkbenchAt:
    """Two days that are right, at noon of the day after."""
    noon = at_noon(resource)
    noon.settings = replace(noon.settings, alert_urls=(receiver.url,))
    noon.moment = datetime(2025, 6, 8, 12, tzinfo=UTC)
    return noon


@pytest.fixture
def incidents(noon: WorkbenchAt, instance: dg.DagsterInstance) -> Sensor:
    return Sensor("incident_sensor", noon, instance)


def titles_of(sensor: Sensor, receiver: Receiver) -> list[str]:
    """The titles of the messages that a tick sends."""
    sensor.said()
    return sorted(message["title"] for message in receiver.take())


def run(sensor: Sensor, job: str, day: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
    """A run that somebody launches by hand."""
    days = dict.fromkeys(RANGE_TAGS, day) if day else {}
    return sensor.make(dg.RunRequest(job_name=job, tags={**days, **tags}, run_config=QUIET))


def test_where_nothing_is_broken_nobody_is_told(incidents: Sensor, receiver: Receiver) -> None:
    assert incidents.said() == "0 open, 0 begun, 0 over, 0 could not be told."
    assert receiver.messages == []


def test_without_receivers_nothing_is_looked_at(incidents: Sensor, noon: WorkbenchAt) -> None:
    noon.settings = replace(noon.settings, alert_urls=())
    incidents.fail(dg.RunRequest(job_name="refresh_bm_units"))

    assert incidents.said() == "RECON_ALERT_URLS is empty: nobody is told."
    assert incidents.cursor is None


def test_a_failed_run_is_told_of_once_with_its_reason_and_once_when_its_days_were_made(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver
) -> None:
    # given a row that the database does not take
    execute(noon.engine, S9_GONE, POISON)
    assert not run(incidents, "converge_days", "2025-06-06").success

    # when
    assert incidents.said() == "1 open, 1 begun, 0 over, 0 could not be told."

    # then: the records were made, the calculations above them were not
    (message,) = receiver.take()
    assert message["title"] == "recon: historical_bitcoin_calculations/S19J_PRO 2025-06-06: a run failed"
    assert "poisoned" in message["message"]
    assert message["message"].endswith("To mend it: recon date 2025-06-06")

    # and while it goes on, failing again, nobody is told again
    assert not run(incidents, "converge_days", "2025-06-06").success
    assert incidents.said() == "1 open, 0 begun, 0 over, 0 could not be told."

    # and when the day was made
    execute(noon.engine, CURE)
    noon.wait(hours=2)
    assert run(incidents, "converge_days", "2025-06-06").success
    assert incidents.said() == "0 open, 0 begun, 1 over, 0 could not be told."
    (message,) = receiver.take()
    assert message["title"].startswith("recon: over: historical_bitcoin_calculations/")
    assert message["message"] == "It lasted 2:00:00."
    assert titles_of(incidents, receiver) == []


def test_what_failed_within_a_job_is_told_of_once_and_not_by_the_job_again(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver
) -> None:
    execute(noon.engine, f"{S9_GONE} AND settlement_period = 7", POISON)
    config = {"ops": {"reconcile_days": {"config": {"first": "2025-06-06", "last": "2025-06-06"}}}}
    assert not incidents.make(dg.RunRequest(job_name="reconcile_range", run_config={**config, **QUIET})).success

    failed = [title for title in titles_of(incidents, receiver) if title.endswith(": a run failed")]

    assert failed == ["recon: historical_bitcoin_calculations/S19J_PRO 2025-06-06: a run failed"]


def test_a_run_without_days_is_over_when_one_of_its_kind_went_well(
    incidents: Sensor, receiver: Receiver, stand_in: StandInElexon
) -> None:
    incidents.fail(dg.RunRequest(job_name="refresh_difficulty"), "no answer")
    assert titles_of(incidents, receiver) == ["recon: refresh_difficulty: a run failed"]

    assert run(incidents, "refresh_bm_units").success
    assert titles_of(incidents, receiver) == []
    assert run(incidents, "refresh_difficulty").success
    assert titles_of(incidents, receiver) == ["recon: over: refresh_difficulty: a run failed"]


@pytest.mark.parametrize(
    "tags",
    [
        {"dagster/will_retry": "true"},
        {ASKED_BY: "calculation_gap_sensor"},
        {ASKED_BY: "ingest_gap_sensor"},
    ],
    ids=["retried", "calculations", "reading"],
)
def test_what_is_tried_again_by_itself_is_no_news(incidents: Sensor, receiver: Receiver, tags: dict[str, str]) -> None:
    days = dict.fromkeys(RANGE_TAGS, "2025-06-06")
    incidents.fail(dg.RunRequest(job_name="converge_days", tags={**days, **tags}))

    assert titles_of(incidents, receiver) == []


def test_a_run_that_the_queue_or_somebody_cancelled_is_none_that_failed(incidents: Sensor, receiver: Receiver) -> None:
    asked = incidents.begin(dg.RunRequest(job_name="converge_days"), dg.DagsterRunStatus.QUEUED)
    incidents.instance.report_run_canceled(asked)

    assert titles_of(incidents, receiver) == []


def test_a_run_of_weeks_ago_is_no_news(incidents: Sensor, noon: WorkbenchAt, receiver: Receiver) -> None:
    incidents.fail(dg.RunRequest(job_name="refresh_difficulty"))
    noon.settings = replace(noon.settings, elexon_api_url=Path().absolute().as_uri())  # recordings are never stale

    noon.moment = datetime.now(UTC)
    noon.wait(days=15)

    assert titles_of(incidents, receiver) == []


def test_when_nobody_can_be_reached_it_is_told_by_the_next_tick(incidents: Sensor, receiver: Receiver) -> None:
    # given
    incidents.fail(dg.RunRequest(job_name="refresh_difficulty"))
    receiver.is_down = True
    assert incidents.said() == "0 open, 0 begun, 0 over, 1 could not be told."

    # then
    receiver.is_down = False
    assert titles_of(incidents, receiver) == ["recon: refresh_difficulty: a run failed"]

    # and when it is over, too
    assert run(incidents, "refresh_difficulty").success
    receiver.is_down = True
    assert incidents.said() == "1 open, 0 begun, 0 over, 1 could not be told."
    receiver.is_down = False
    assert titles_of(incidents, receiver) == ["recon: over: refresh_difficulty: a run failed"]
    assert titles_of(incidents, receiver) == []


def test_no_password_is_told_or_logged(
    incidents: Sensor,
    receiver: Receiver,
    noon: WorkbenchAt,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a run that cannot reach its database, and a receiver who is down
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:s3cret@127.0.0.1:9/wind")
    unreachable = build_defs().resolve_job_def("refresh_difficulty")
    assert not unreachable.execute_in_process(
        instance=incidents.instance, raise_on_error=False, run_config=QUIET
    ).success
    receiver.is_down = True

    # when
    with caplog.at_level(logging.INFO):
        ticked = incidents.tick()
        receiver.is_down = False
        incidents.tick()

    # then the reason is told, and no secret with it
    (message,) = receiver.messages
    assert "127.0.0.1" in message["message"]
    everything = "".join([*map(str, message.values()), caplog.text, *capfd.readouterr(), incidents.cursor or "",
                          ticked.skip_message or ""])  # fmt: skip
    assert not [secret for secret in ("s3cret", "t0ken") if secret in everything]

    # nor where a URL is not understood
    noon.settings = replace(noon.settings, alert_urls=("nosuch://ann:s3cret@host",))
    with pytest.raises(ConfigurationError) as refused:
        incidents.tick()
    assert "s3cret" not in str(refused.value)


def test_a_check_that_does_not_hold_is_told_of_but_not_what_a_gap_sensor_is_at_work_on(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver
) -> None:
    # given
    execute(noon.engine, S9_GONE)
    assert run(incidents, "audit_history").success

    # when a gap sensor has asked for the day
    gaps = Sensor("calculation_gap_sensor", noon, incidents.instance)
    (request,) = gaps.tick().run_requests or []
    gaps.keep()

    # then its calculations are no news; sums of the month, of which the other day is one, are
    noon.moment = datetime.now(UTC) + SETTLING
    kinds = {title.split(": ")[1].split()[0] for title in titles_of(incidents, receiver)}
    assert "historical_bitcoin_calculations/S9" not in kinds

    # and when the gap sensor is switched off, nobody is at work on it, which is told when it has lasted
    gaps.keep(InstigatorStatus.STOPPED)
    noon.moment = datetime.now(UTC)
    assert titles_of(incidents, receiver) == []
    noon.moment += SETTLING
    titles = titles_of(incidents, receiver)
    expected = "recon: historical_bitcoin_calculations/S9 2025-06-06: a check does not hold: every_expected_row_exists"
    assert expected in titles

    # and it is over when the check holds
    gaps.make(request)
    assert run(incidents, "converge_months", "2025-06").success
    assert run(incidents, "converge_years", "2025").success
    assert run(incidents, "audit_history").success
    assert f"recon: over: {expected.removeprefix('recon: ')}" in titles_of(incidents, receiver)


def test_a_database_that_cannot_be_used_is_told_of_and_ends_no_other_incident(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver, tmp_path: Path
) -> None:
    # given an open incident
    execute(noon.engine, S9_GONE)
    assert run(incidents, "audit_history").success
    noon.moment = datetime.now(UTC) + SETTLING
    assert titles_of(incidents, receiver)

    # when the database is gone
    noon.engine.dispose()
    database, away = tmp_path / "recon.db", tmp_path / "away.db"
    database.rename(away)
    database.mkdir()

    # then that is told, once
    assert titles_of(incidents, receiver) == ["recon: database: cannot be used"]
    assert titles_of(incidents, receiver) == []

    # and when it is back, that it is over
    database.rmdir()
    away.rename(database)
    assert titles_of(incidents, receiver) == ["recon: over: database: cannot be used"]


def test_a_day_that_was_given_up_is_told_of_with_its_reason_until_it_is_right(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver
) -> None:
    # given
    execute(noon.engine, S9_GONE)
    gaps = Sensor("calculation_gap_sensor", noon, incidents.instance)
    for _ in range(3):
        (request,) = gaps.tick().run_requests or []
        gaps.fail(request, "2025-06-06: poisoned")
        gaps.keep()
        assert titles_of(incidents, receiver) == []
    gaps.tick()
    gaps.keep()

    # when
    assert incidents.said().startswith("1 open, 1 begun")

    # then
    (message,) = receiver.take()
    assert message["title"] == "recon: historical_bitcoin_calculations 2025-06-06: given up"
    assert message["message"] == "2025-06-06: poisoned\n\nTo mend it: recon critical 2025-06-06"

    # and
    gaps.make(request)
    gaps.tick()
    gaps.keep()
    assert titles_of(incidents, receiver) == ["recon: over: historical_bitcoin_calculations 2025-06-06: given up"]


def test_sources_without_news_for_days_are_told_of(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver, stand_in: StandInElexon
) -> None:
    # given
    noon.settings = replace(noon.settings, mempool_api_url="http://127.0.0.1:9/api")
    execute(noon.engine, "UPDATE network_difficulty SET observed_at = '2025-06-08 12:00:00'")

    # when: a weekend, and the day after
    noon.moment = datetime(2025, 6, 11, 12, tzinfo=UTC)
    assert titles_of(incidents, receiver) == []
    noon.wait(days=1)

    # then
    stale = ["recon: network_difficulty: no news from the source", "recon: wind_bids: no news from the source"]
    assert titles_of(incidents, receiver) == stale
    assert titles_of(incidents, receiver) == []
    assert stand_in.requests == []

    # and when they were read
    execute(
        noon.engine,
        "UPDATE network_difficulty SET observed_at = '2025-06-12 00:00:00'",
        "UPDATE proof_of_fetch SET settlement_date = '2025-06-11' WHERE settlement_date = '2025-06-07'",
    )
    assert len(titles_of(incidents, receiver)) == 2


def test_a_comparison_that_failed_is_over_when_the_day_was_compared(
    incidents: Sensor, receiver: Receiver, stand_in: StandInElexon
) -> None:
    # given a source that is down
    stand_in.faults.append(Fault("server_error", times=1))
    config = {"ops": {"verify_settlement_days": {"config": {"settlement_dates": ["2025-06-06"]}}}}
    request = dg.RunRequest(job_name="verify_days", run_config={**config, **QUIET})
    assert not incidents.make(request).success
    assert titles_of(incidents, receiver) == ["recon: wind_bids 2025-06-06: a run failed"]

    # when it is back, and the day is as it is stored
    assert incidents.make(request).success

    # then
    assert titles_of(incidents, receiver) == ["recon: over: wind_bids 2025-06-06: a run failed"]


def test_a_day_that_differs_stays_broken_until_it_was_read_again(
    incidents: Sensor, receiver: Receiver, recordings: Path
) -> None:
    change_recording(recordings, JUNE_6, restate)
    config = {"ops": {"verify_settlement_days": {"config": {"settlement_dates": ["2025-06-06"]}}}}
    request = dg.RunRequest(job_name="verify_days", run_config={**config, **QUIET})
    for _ in range(2):
        assert not incidents.make(request).success
        incidents.tick()
    (message,) = receiver.take()
    assert message["title"] == "recon: wind_bids 2025-06-06: a run failed"
    assert "differs" in message["message"]

    assert run(incidents, "ingest_days", "2025-06-06").success

    assert titles_of(incidents, receiver) == ["recon: over: wind_bids 2025-06-06: a run failed"]


def test_a_run_that_was_launched_in_the_ui_is_told_of_by_its_assets(
    incidents: Sensor, noon: WorkbenchAt, receiver: Receiver
) -> None:
    # given a day that the database does not take, and a month
    execute(
        noon.engine,
        S9_GONE,
        POISON,
        "UPDATE monthly_summaries SET total_curtailed_energy = 1",
        "CREATE TRIGGER of_months BEFORE UPDATE ON monthly_summaries BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
    )
    month = dg.AssetKey("monthly_summaries")
    assert not launch(noon, incidents.instance, [S9], "2025-06-06").success
    assert not launch(noon, incidents.instance, [month], "2025-06").success

    def of_runs() -> list[str]:
        return [title for title in titles_of(incidents, receiver) if title.endswith(": a run failed")]

    broken = [
        "historical_bitcoin_calculations/S9 2025-06-06: a run failed",
        "monthly_summaries 2025-06-01..2025-06-30: a run failed",
    ]
    assert of_runs() == [f"recon: {each}" for each in broken]

    # when something else of the day, and the other sums of the month, went well
    assert launch(noon, incidents.instance, [dg.AssetKey("curtailment_records")], "2025-06-06").success
    assert launch(noon, incidents.instance, [dg.AssetKey("bitcoin_monthly_summaries")], "2025-06").success

    # then they are still broken, until they are made
    assert of_runs() == []
    execute(noon.engine, CURE, "DROP TRIGGER of_months")
    assert launch(noon, incidents.instance, [S9], "2025-06-06").success
    assert launch(noon, incidents.instance, [month], "2025-06").success
    assert of_runs() == [f"recon: over: {each}" for each in broken]


def test_on_the_storage_of_a_new_home_it_is_the_same(noon: WorkbenchAt, receiver: Receiver, tmp_path: Path) -> None:
    # given a day that was made, and then failed
    with open_instance(tmp_path / "home") as instance:
        sensor = Sensor("incident_sensor", noon, instance)
        assert run(sensor, "ingest_days", "2025-06-06").success
        assert titles_of(sensor, receiver) == []
        asked = dg.RunRequest(job_name="ingest_days", tags=dict.fromkeys(RANGE_TAGS, "2025-06-06"))
        sensor.fail(asked.with_replaced_attrs(tags={**asked.tags, "dagster/max_retries": "0"}))

        # then
        assert titles_of(sensor, receiver) == ["recon: wind_bids 2025-06-06: a run failed"]
        assert run(sensor, "ingest_days", "2025-06-06").success
        assert titles_of(sensor, receiver) == ["recon: over: wind_bids 2025-06-06: a run failed"]

        # and a run whose process died is started again by Dagster
        sensor.fail(asked)
        assert titles_of(sensor, receiver) == []
