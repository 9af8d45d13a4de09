"""Proving an adopted database: in what order its days are read, when that ends early, and what is said of it."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.orchestration.observers import CountingObserver, Observer
from recon_assets.orchestration.outcome import Options
from recon_assets.orchestration.proving import beginning_small, survey
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import Conclusion
from recon_assets_tests.support.content import stacks_asked
from recon_assets_tests.support.old_database import keep_units
from recon_assets_tests.support.steps import JUNE, JUNE_6, JUNE_7, change_recording, execute, scalar, state_of

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: test_old_database.py has it on both engines."""

JUNE_5 = date(2025, 6, 5)
THREE_DAYS = Days(JUNE_5, JUNE_7)
DAYS = Days(date(2025, 6, 1), JUNE_7)
ADOPT = (
    "DELETE FROM proof_of_fetch",
    "DELETE FROM wind_bids",
    "UPDATE curtailment_records SET sequence_number = NULL",
)


@pytest.fixture
def old(small_days: Engine, recordings: Path) -> Engine:
    """Two adopted days, and before them a day without records, which was calm."""
    shutil.copy(JUNE / "2025-06-05.json.gz", recordings)
    change_recording(recordings, JUNE_5, lambda content: keep_units(content, 0))
    execute(small_days, *ADOPT)
    return small_days


@pytest.fixture
def work(resource: ReconResource, old: Engine, instance: dg.DagsterInstance) -> Reconciliation:
    return Reconciliation(replace(resource, observer=CountingObserver()), instance, "test")


@on_sqlite
def test_only_days_without_records_are_asked_for_unless_all_is_to_be_proven(
    work: Reconciliation, stand_in: StandInElexon
) -> None:
    outcome = work.reconcile(THREE_DAYS, Options())

    assert outcome.after.conclusion is Conclusion.RIGHT_AS_FAR_AS_KNOWN
    assert outcome.after.unproven_days == [JUNE_6, JUNE_7]
    assert stacks_asked(stand_in.requests) == {}
    assert scalar(work.engine, "SELECT count(*) FROM proof_of_fetch WHERE source = 'acceptance_volumes'") == 48


@on_sqlite
def test_all_is_proven_and_what_changed_is_said(work: Reconciliation, stand_in: StandInElexon) -> None:
    execute(
        work.engine,
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06' AND settlement_period <> 4",
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06' AND settlement_period <> 4",
        "DELETE FROM daily_summaries",
        "DELETE FROM bitcoin_daily_summaries",
        "DELETE FROM monthly_summaries",
        "DELETE FROM yearly_summaries",
        "DELETE FROM bitcoin_monthly_summaries",
        "DELETE FROM bitcoin_yearly_summaries",
    )
    assert state_of(work.engine, THREE_DAYS).lost == {}

    outcome = work.reconcile(THREE_DAYS, Options(prove=True))

    assert outcome.after.conclusion is Conclusion.RIGHT
    assert (outcome.unproven, outcome.plan.by_volumes) == ([], [JUNE_5])
    # the calm day by its volumes, then the day that lacks records, then the other
    assert outcome.plan.chunks == [[JUNE_5], [JUNE_6], [JUNE_7]]
    (june,) = outcome.recovered
    assert (june.days, june.changed_days, june.after.records) == (3, 1, 94)
    assert list(stacks_asked(stand_in.requests)) == ["2025-06-06", "2025-06-07"]


@on_sqlite
def test_proving_goes_on_where_it_ended(work: Reconciliation, stand_in: StandInElexon) -> None:
    work.reconcile(THREE_DAYS, Options(prove=True, limit=2))
    asked = len(stand_in.requests)

    outcome = work.reconcile(THREE_DAYS, Options(prove=True))

    assert outcome.after.is_right
    assert list(stacks_asked(stand_in.requests)) == ["2025-06-07", "2025-06-06"]
    # one list of units, and one day: its volumes are in the archive already
    assert len(stand_in.requests) - asked == 49


@on_sqlite
def test_a_source_that_is_down_is_not_asked_how_much_is_missing_of_every_day(
    resource: ReconResource, old: Engine
) -> None:
    # given four adopted days more, and a source that refuses every connection
    columns = "settlement_period, farm_id, volume, payment, original_price"
    execute(
        old,
        *(
            f"INSERT INTO curtailment_records (settlement_date, {columns})"
            f" SELECT '2025-06-0{day}', {columns} FROM curtailment_records WHERE settlement_date = '2025-06-07'"
            for day in (1, 2, 3, 4)
        ),
    )
    observer = Asked()
    settings = replace(resource.settings, elexon_api_url="http://127.0.0.1:9", elexon_attempts=1)

    found = survey(replace(resource, settings=settings, observer=observer), state_of(old, DAYS), lambda: None)

    assert found == {}
    assert [number for number, _ in observer.asked] == [1, 2, 3]
    assert all("Connection refused" in (reason or "") for _, reason in observer.asked)


class Asked(Observer):
    """Remembers which days were asked for, and why they could not be."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []

    def surveyed(self, number: int, days: int, failure: str | None) -> None:
        self.asked.append((number, failure))


@on_sqlite
def test_a_day_that_cannot_be_read_is_left_and_named(work: Reconciliation, recordings: Path) -> None:
    change_recording(recordings, JUNE_7, lambda content: content["stack_bid"].pop("37"))

    outcome = work.reconcile(THREE_DAYS, Options(prove=True))

    assert outcome.unproven == [JUNE_7]
    assert outcome.after.days[JUNE_7] is DayState.ADOPTED


def unflag(content: dict[str, Any]) -> None:
    for body in content["stack_bid"].values():
        for row in body["data"]:
            row |= {"soFlag": False, "cadlFlag": False}


@on_sqlite
def test_proving_stops_where_the_old_records_follow_the_other_rule(work: Reconciliation, recordings: Path) -> None:
    for day in (JUNE_6, JUNE_7):
        change_recording(
            recordings,
            day,
            lambda content: [
                row.update(soFlag=False, cadlFlag=False)
                for body in content["stack_bid"].values()
                for row in body["data"]
            ],
        )

    outcome = work.reconcile(Days(JUNE_6, JUNE_7), Options(prove=True))

    observer = work._resource.observer
    assert isinstance(observer, CountingObserver)
    assert any("CURTAILMENT_RULE may have to be all_bids" in reason for reason in observer.reasons)
    assert outcome.recovered[0].before.records == 94


def test_the_first_days_are_few() -> None:
    month = list(Days.of_month("2025-06"))
    assert [len(chunk) for chunk in beginning_small([month, month[:2]])] == [3, 27, 2]
    assert beginning_small([]) == []
