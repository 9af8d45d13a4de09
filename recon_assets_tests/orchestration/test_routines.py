from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from recon_assets.database.schema import migrate
from recon_assets.domain.settlement import Days
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.routines import days_to_check
from recon_assets.settings import Settings
from recon_assets_tests.support.steps import JUNE, note_proofs
from recon_assets_tests.support.ticks import WorkbenchAt

TODAY = datetime(2026, 1, 15, 6, tzinfo=UTC)
YESTERDAY = date(2026, 1, 14)
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: test_reconciliation.py and reconcile/test_difference.py have the state on both engines."""


@pytest.fixture
def at_six(resource: ReconResource) -> WorkbenchAt:
    """An empty database in the morning of 2026-01-15, and the live source's calendar."""
    migrate(resource.engine)
    return WorkbenchAt(resource.settings, resource.engine, moment=TODAY)


def checked(resource: ReconResource, instance: dg.DagsterInstance, at_least: int) -> Days:
    return days_to_check(Reconciliation(resource, instance, "the test"), at_least)


@only_sqlite
def test_when_yesterday_was_read_it_is_as_many_days_as_asked_for(
    at_six: WorkbenchAt, instance: dg.DagsterInstance
) -> None:
    note_proofs(at_six.engine, [date(2026, 1, 13), YESTERDAY], TODAY)

    assert checked(at_six, instance, 2) == Days(date(2026, 1, 13), YESTERDAY)
    assert checked(at_six, instance, 1) == Days(YESTERDAY, YESTERDAY)
    assert checked(at_six, instance, 5) == Days(date(2026, 1, 10), YESTERDAY)


@only_sqlite
def test_after_an_outage_it_goes_back_to_the_last_day_that_was_read(
    at_six: WorkbenchAt, instance: dg.DagsterInstance
) -> None:
    note_proofs(at_six.engine, [date(2026, 1, 7)], TODAY)

    assert checked(at_six, instance, 2) == Days(date(2026, 1, 7), YESTERDAY)
    assert checked(at_six, instance, 30) == Days(date(2025, 12, 16), YESTERDAY)


@only_sqlite
@pytest.mark.parametrize("last", [None, date(2025, 12, 15), date(2025, 1, 1)])
def test_it_goes_back_thirty_days_at_most(at_six: WorkbenchAt, instance: dg.DagsterInstance, last: date | None) -> None:
    note_proofs(at_six.engine, [last] if last else [], TODAY)

    assert checked(at_six, instance, 2) == Days(date(2025, 12, 16), YESTERDAY)


@only_sqlite
def test_recordings_end_with_the_newest(settings: Settings, at_six: WorkbenchAt, instance: dg.DagsterInstance) -> None:
    at_six.settings = replace(settings, elexon_api_url=JUNE.as_uri())
    note_proofs(at_six.engine, [date(2025, 6, 27)], TODAY)

    assert checked(at_six, instance, 2) == Days(date(2025, 6, 27), date(2025, 6, 30))
