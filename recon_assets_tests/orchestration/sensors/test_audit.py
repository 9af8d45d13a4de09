import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.orchestration.active_runs import ASKED_BY
from recon_assets.orchestration.checks import CHECKS
from recon_assets.orchestration.outcome import Options
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS, WIND_BM_UNITS
from recon_assets_tests.support.steps import SMALL_DAYS
from recon_assets_tests.support.ticks import Sensor

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The sensor does not query the database."""

NOTHING_NEW = "Nothing was made since the last checks."
NOT_YET = "Waits for a quiet minute."


@pytest.fixture
def audits(resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance) -> Sensor:
    return Sensor("audit_sensor", resource, instance)


def make(sensor: Sensor, key: dg.AssetKey = WIND_BIDS, partition: str | None = "2025-06-06") -> None:
    """Notes the materialization of an asset whose checks were not evaluated."""
    sensor.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


def test_as_long_as_nothing_was_made_nothing_is_checked(audits: Sensor) -> None:
    assert audits.said() == NOTHING_NEW


def test_what_has_no_checks_needs_none(audits: Sensor) -> None:
    make(audits, WIND_BM_UNITS, None)

    assert audits.said() == NOTHING_NEW


def test_unchecked_work_is_checked_once_after_a_quiet_tick(audits: Sensor) -> None:
    # given
    make(audits)
    assert audits.said() == NOT_YET

    # when
    (request,) = audits.tick().run_requests or []

    # then all checks are evaluated, and nothing else is done
    assert request.tags[ASKED_BY] == "audit_sensor"
    ended = audits.make(request)
    assert ended.success
    assert {check.asset_check_key for check in ended.get_asset_check_evaluations()} == set(CHECKS)
    assert ended.get_asset_materialization_events() == []
    assert audits.said() == NOTHING_NEW

    # and when more is made, they are evaluated again
    make(audits)
    assert audits.said() == NOT_YET
    (again,) = audits.tick().run_requests or []
    assert again.run_key != request.run_key


def test_an_audit_that_failed_is_not_asked_for_twice(audits: Sensor) -> None:
    make(audits)
    audits.tick()
    (request,) = audits.tick().run_requests or []
    audits.fail(request)

    # Dagster starts no second run of the same key
    (again,) = audits.tick().run_requests or []
    assert again.run_key == request.run_key is not None


def test_it_waits_as_long_as_anything_is_made_or_at_work(audits: Sensor) -> None:
    make(audits)
    assert audits.said() == NOT_YET
    make(audits, partition="2025-06-07")
    assert audits.said() == NOT_YET

    run = audits.begin(dg.RunRequest(job_name="converge_days"), dg.DagsterRunStatus.QUEUED)
    assert audits.said() == "Runs are queued or running."
    make(audits)
    audits.instance.report_run_canceled(run)

    assert audits.said() == NOT_YET
    assert len(audits.tick().run_requests or []) == 1


def test_after_a_command_that_checked_its_own_work_there_is_nothing_to_check(audits: Sensor) -> None:
    # given a command that tells Dagster of days, and has every check evaluated
    work = Reconciliation(audits.resource, audits.instance, "recon reconcile")
    assert work.reconcile(SMALL_DAYS, Options(ingest=False, always_check=True)).reported > 0

    # then
    assert audits.said() == NOTHING_NEW
