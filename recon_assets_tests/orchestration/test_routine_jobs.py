import json
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.checks import CHECKS
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reports.daily import write_report
from recon_assets_tests.support.content import runs, stacks_asked
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, execute, state_of
from recon_assets_tests.support.ticks import WorkbenchAt, at_noon
from recon_assets_tests.support.ui import reasons

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: test_reconciliation.py has both engines."""

S9_GONE = "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9' AND settlement_date = '2025-06-06'"
POISON = (
    "CREATE TRIGGER poison BEFORE INSERT ON historical_bitcoin_calculations "
    "WHEN NEW.settlement_date = '2025-06-06' AND NEW.settlement_period = 7 "
    "BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
)


@pytest.fixture
def noon(resource: ReconResource, small_days: Engine) -> WorkbenchAt:
    """Two days that are right, at noon of the day after."""
    noon = at_noon(resource)
    noon.moment = datetime(2025, 6, 8, 12, tzinfo=UTC)
    return noon


def execute_job(
    resource: ReconResource, instance: dg.DagsterInstance, name: str, **config: Any
) -> dg.ExecuteInProcessResult:
    """Runs a job as a schedule does, or the launchpad with a form that was filled in."""
    step = {"daily_check": "check_days", "reconcile_range": "reconcile_days"}[name]
    return (
        build_defs(resource)
        .resolve_job_def(name)
        .execute_in_process(
            instance=instance, run_config={**QUIET, "ops": {step: {"config": config}}}, raise_on_error=False
        )
    )


def test_the_daily_check_mends_the_newest_days_has_all_checked_and_writes_the_report(
    noon: WorkbenchAt, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    execute(noon.engine, S9_GONE)
    folder = noon.settings.report_folder
    for n in range(1, 5):
        write_report(folder, date(2025, 6, n), {})

    # when
    ended = execute_job(noon, instance, "daily_check", reports_kept=2)

    # then
    assert ended.success
    assert state_of(noon.engine, SMALL_DAYS).total.faults == 0
    assert stand_in.requests == []
    jobs = [record.dagster_run.job_name for record in runs(instance)]
    assert jobs[0] == "daily_check"
    assert jobs[1:] == ["converge_days", "audit_history"]
    assert len(instance.event_log_storage.get_latest_asset_check_execution_by_key(list(CHECKS))) == len(CHECKS)

    # and the report of the London day is there, of which only the newest are kept
    assert [path.name for path in sorted(folder.iterdir())] == ["2025-06-04.json", "2025-06-08.json"]
    report = json.loads((folder / "2025-06-08.json").read_text())
    assert (report["done"]["runs"], report["failures"]) == (2, [])
    logged = (noon.settings.log_folder / "daily-check.jsonl").read_text().splitlines()
    assert json.loads(logged[-1])["event"] == "finished"


@pytest.mark.parametrize(
    ("job", "config"), [("daily_check", {"days": 1}), ("reconcile_range", {"first": "2025-06-07"})]
)
def test_right_days_are_read_again_when_that_is_asked_for(
    noon: WorkbenchAt, instance: dg.DagsterInstance, stand_in: StandInElexon, job: str, config: dict[str, Any]
) -> None:
    assert execute_job(noon, instance, job, force=True, **config).success

    assert stacks_asked(stand_in.requests) == {"2025-06-07": 48}


def test_a_range_is_reconciled_and_no_other_day(noon: WorkbenchAt, instance: dg.DagsterInstance) -> None:
    # given
    execute(noon.engine, "DELETE FROM historical_bitcoin_calculations")

    # when
    ended = execute_job(noon, instance, "reconcile_range", first="2025-06-06", last="2025-06-06")

    # then
    assert ended.success
    faults = {str(day): tally.faults > 0 for (day, _), tally in state_of(noon.engine, SMALL_DAYS).calculations.items()}
    assert faults == {"2025-06-06": False, "2025-06-07": True}
    assert not noon.settings.report_folder.exists()
    commands = {record.dagster_run.tags.get("recon/command") for record in runs(instance)[1:]}
    assert commands == {f"reconcile_range {ended.run_id[:8]}"}


def test_without_a_range_it_is_everything_and_at_most_as_many_days_as_allowed_the_newest_first(
    noon: WorkbenchAt, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given calculations that are missing, and a period that was never read
    execute(
        noon.engine,
        "DELETE FROM historical_bitcoin_calculations",
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-07' AND settlement_period = 1",
    )

    # when
    assert execute_job(noon, instance, "reconcile_range", limit=1, ingest=False).success

    # then
    faults = {str(day): tally.faults > 0 for (day, _), tally in state_of(noon.engine, SMALL_DAYS).calculations.items()}
    assert faults == {"2025-06-06": True, "2025-06-07": False}
    assert stand_in.requests == []

    # and when it may read, and do everything
    assert execute_job(noon, instance, "reconcile_range").success
    assert state_of(noon.engine, SMALL_DAYS).is_right
    assert stacks_asked(stand_in.requests) == {"2025-06-07": 48}


def test_a_day_that_cannot_be_mended_fails_the_job_with_its_reason(
    noon: WorkbenchAt, instance: dg.DagsterInstance
) -> None:
    execute(noon.engine, S9_GONE, POISON)

    ended = execute_job(noon, instance, "reconcile_range", first="2025-06-06")

    (reason,) = reasons(ended)
    assert "poisoned" in reason
    assert "\n" not in reason
    first, of_days = reasons_of(instance, ended.dagster_run)
    assert list(of_days) == [JUNE_6]
    assert "poisoned" in of_days[JUNE_6]
    assert first in reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"first": "2025-06-31"}, "'2025-06-31' is not a date"),
        ({"first": "2021-12-31"}, "2021-12-31 is before 2022-01-01, the first day that is kept"),
        ({"last": "2025-06-09"}, "2025-06-09 is still to come"),
        ({"first": "2025-06-07", "last": "2025-06-06"}, "the period is upside down: 2025-06-07 is after 2025-06-06"),
    ],
)
def test_a_range_that_makes_no_sense_is_one_line(
    noon: WorkbenchAt, instance: dg.DagsterInstance, config: dict[str, str], reason: str
) -> None:
    (said,) = reasons(execute_job(noon, instance, "reconcile_range", **config))

    assert said.startswith(reason)
    assert "\n" not in said
    assert len(runs(instance)) == 1


def test_before_anything_is_stored_a_range_needs_its_first_day(
    resource: ReconResource, instance: dg.DagsterInstance
) -> None:
    (said,) = reasons(execute_job(resource, instance, "reconcile_range"))

    assert said == "nothing is stored yet: say which day is the first"


@pytest.mark.parametrize(
    ("job", "config", "reason"),
    [
        ("daily_check", {"days": 0}, "days Input should be greater than or equal to 1"),
        ("daily_check", {"days": 31}, "days Input should be less than or equal to 30"),
        ("daily_check", {"reports_kept": 0}, "reports_kept Input should be greater than or equal to 1"),
        ("reconcile_range", {"limit": 0}, "limit Input should be greater than or equal to 1"),
    ],
)
def test_a_number_that_makes_no_sense_is_one_line_and_no_work(
    noon: WorkbenchAt, instance: dg.DagsterInstance, job: str, config: dict[str, Any], reason: str
) -> None:
    ended = execute_job(noon, instance, job, **config)

    said, _ = reasons_of(instance, ended.dagster_run)
    assert reason in said
    assert "\n" not in said
    assert len(runs(instance)) == 1


def test_a_field_that_does_not_exist_never_becomes_a_run(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="frist"):
        execute_job(resource, instance, "reconcile_range", frist="2025-06-06")
