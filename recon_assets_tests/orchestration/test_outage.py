"""A source that is down: it is said once, the rest is not tried, and what needs no source is done, and done first."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.ingest.verification import Method
from recon_assets.orchestration.active_runs import RANGE_TAGS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.jobs import GENERATION_JOB, INGEST_JOB
from recon_assets.orchestration.observers import CountingObserver
from recon_assets.orchestration.outcome import Options
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.verification_job import verify_days
from recon_assets.reconcile.layers import CALCULATIONS, SUMMARIES
from recon_assets.reconcile.settlement_days import DayState
from recon_assets_tests.orchestration.test_proving import ADOPT
from recon_assets_tests.orchestration.test_reconciliation import NOWHERE
from recon_assets_tests.support.content import runs
from recon_assets_tests.support.outages import BreakingOff, Clock
from recon_assets_tests.support.steps import JUNE, JUNE_6, JUNE_7, JUNE_DAYS, execute, scalar
from recon_assets_tests.support.ticks import WorkbenchAt

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Not a matter of the database: the tests without this mark have both engines."""

JUNE_8 = date(2025, 6, 8)
ATTEMPTS, IN_FLIGHT = 3, 8
MOST_REQUESTS = ATTEMPTS * IN_FLIGHT + 3
"""What the first requests may take before the source counts as down: attempts of all in flight, and three looks."""


@pytest.fixture
def counts() -> CountingObserver:
    return CountingObserver()


@pytest.fixture
def asking(resource: ReconResource, counts: CountingObserver) -> Callable[[StandInElexon], ReconResource]:
    """Makes the resource of a new process, with a server as its source, whose pauses are short."""

    def ask(server: StandInElexon, minutes: float = 0) -> ReconResource:
        settings = replace(resource.settings, elexon_api_url=server.url)
        made = replace(resource, settings=settings, observer=counts)
        source = HttpSource(server.url, per_second=1000, attempts=ATTEMPTS, backoff_seconds=0.01)
        source.outage = Clock().outage(minutes, source.name)
        made.elexon.source = source
        return made

    return ask


@pytest.fixture
def server() -> Iterator[StandInElexon]:
    """A server with every day of June 2025."""
    with StandInElexon(JUNE) as server:
        yield server


@pytest.fixture
def old(small_days: Engine) -> Engine:
    """Two adopted days, of which the calculations and every sum are to be made."""
    sums = (f"DELETE FROM {layer.name}" for layer in (CALCULATIONS, *SUMMARIES))
    execute(small_days, *ADOPT, *sums)
    return small_days


def outage_of(counts: CountingObserver) -> str:
    """The one reason of everything that failed."""
    assert len(counts.reasons) == 1, counts.reasons
    (reason,) = counts.reasons
    assert " has not answered since " in reason
    return reason


def jobs(instance: dg.DagsterInstance) -> list[str]:
    return [record.dagster_run.job_name for record in runs(instance)]


def test_a_month_that_cannot_be_read_is_soon_over_and_its_adopted_days_are_done(
    old: Engine,
    server: StandInElexon,
    asking: Callable[..., ReconResource],
    counts: CountingObserver,
    instance: dg.DagsterInstance,
) -> None:
    # given
    server.faults = [Fault("server_error")]

    # when
    outcome = Reconciliation(asking(server), instance, "test").reconcile(JUNE_DAYS, Options())

    # then the adopted days are right, with their sums, and done before anything was asked
    assert outcome.after.faulty_days == []
    assert outcome.after.summary_faults == 0
    assert scalar(old, "SELECT count(DISTINCT settlement_date) FROM historical_bitcoin_calculations") == 2
    done = ["converge_days", "refresh_bm_units", "converge_months", "converge_years", "audit_history"]
    assert jobs(instance) == done
    # and the other 28 days have one reason, and were not asked for
    assert outage_of(counts).startswith(server.url)
    assert len(counts.failures) == 28
    assert len(server.requests) <= MOST_REQUESTS


@on_sqlite
@pytest.mark.parametrize("options", [Options(prove=True), Options(force=True)])
def test_whatever_is_asked_for(
    old: Engine,
    server: StandInElexon,
    asking: Callable[..., ReconResource],
    counts: CountingObserver,
    instance: dg.DagsterInstance,
    options: Options,
) -> None:
    server.faults = [Fault("server_error")]

    outcome = Reconciliation(asking(server), instance, "test").reconcile(JUNE_DAYS, options)

    assert outcome.after.faulty_days == []
    outage_of(counts)
    assert len(server.requests) <= MOST_REQUESTS
    assert not {"ingest_days"}.intersection(jobs(instance))


@on_sqlite
def test_days_that_the_archive_has_are_read_from_it(
    small_days: Engine,
    server: StandInElexon,
    asking: Callable[..., ReconResource],
    counts: CountingObserver,
    instance: dg.DagsterInstance,
) -> None:
    # given a day in the archive with bids of a unit that was not known to be wind, and a day that was never read
    Reconciliation(asking(server), instance, "test").reingest(JUNE_6)
    execute(
        small_days,
        "INSERT INTO uncounted_bids (settlement_date, bm_unit_id, bids, mwh)"
        " SELECT '2025-06-06', min(bm_unit_id), 1, -1 FROM wind_bm_units"
        " WHERE bm_unit_id NOT IN (SELECT bm_unit_id FROM wind_bids)",
        "DELETE FROM recon_settings WHERE name = 'uncounted_bids_from_archive'",
        "INSERT INTO recon_settings (name, value) VALUES ('uncounted_bids_from_archive', 'done')",
    )
    server.faults = [Fault("server_error")]

    # when
    outcome = Reconciliation(asking(server), instance, "test").reconcile(Days(JUNE_6, JUNE_8), Options())

    # then
    assert (outcome.plan.from_archive, outcome.before.days_to_read) == ([JUNE_6], [JUNE_6, JUNE_8])
    assert outcome.after.days_to_read == [JUNE_8]
    outage_of(counts)
    assert list(counts.failures) == [JUNE_8]


def test_an_outage_that_ends_is_ridden_out_and_the_run_is_complete(
    engine: Engine, asking: Callable[..., ReconResource], counts: CountingObserver, instance: dg.DagsterInstance
) -> None:
    # given a server that goes out in the middle of the first day, for as many requests as are tried, and one more
    with BreakingOff(JUNE, 20, 60) as server:
        resource = asking(server, minutes=30)
        days = Days(JUNE_6, JUNE_7)

        outcome = Reconciliation(resource, instance, "test").reconcile(days, Options())

    assert outcome.after.is_right
    assert counts.reasons == []
    # and what was waited for is in the log of the run
    (ingesting,) = [run for run in runs(instance) if run.dagster_run.job_name == "ingest_days"]
    said = [entry.user_message for entry in instance.all_logs(ingesting.dagster_run.run_id)]
    assert any("waiting for it" in line for line in said)
    assert any("answers again, after" in line for line in said)


def test_an_outage_that_does_not_end_is_said_once_and_the_rest_is_not_tried(
    old: Engine, asking: Callable[..., ReconResource], counts: CountingObserver, instance: dg.DagsterInstance
) -> None:
    # given a server that goes out for good in the middle of the second day
    with BreakingOff(JUNE, 70, 10**6) as server:
        resource = asking(server, minutes=30)
        days = Days(JUNE_6, date(2025, 6, 20))

        outcome = Reconciliation(resource, instance, "test").reconcile(days, Options())

        assert "longer than RECON_OUTAGE_MINUTES (30)" in outage_of(counts)
        assert len(outcome.after.days_in(DayState.INGESTED)) == 1
        assert len(counts.failures) == 12
        # a look every 15 seconds
        assert len(server.requests) <= 70 + MOST_REQUESTS + 30 * 4 + 4
    # and what was read, and what was adopted, is right
    assert outcome.after.faulty_days == []
    assert outcome.after.summary_faults == 0


@on_sqlite
@pytest.mark.parametrize("kind", ["server_error", "other_day"])
def test_a_day_that_fails_alone_is_named_and_the_others_are_done(
    engine: Engine,
    server: StandInElexon,
    asking: Callable[..., ReconResource],
    counts: CountingObserver,
    instance: dg.DagsterInstance,
    kind: Any,
) -> None:
    # the reference list fails, too, which is the first that is asked for
    server.faults = [Fault(kind, "/stack/all/bid/2025-06-06/", status=500), Fault("server_error", "/bmunits/")]

    outcome = Reconciliation(asking(server, 5), instance, "test").reconcile(Days(JUNE_6, JUNE_8), Options())

    assert outcome.after.days_in(DayState.INGESTED) == [JUNE_7, JUNE_8]
    assert list(counts.failures) == [JUNE_6]
    assert not [reason for reason in counts.reasons if "has not answered" in reason]


@on_sqlite
def test_the_difficulty_of_days_that_cannot_be_read_is_not_asked_for(
    old: Engine, server: StandInElexon, asking: Callable[..., ReconResource], counts: CountingObserver,
    instance: dg.DagsterInstance,
) -> None:  # fmt: skip
    server.faults = [Fault("server_error")]
    resource = asking(server)
    settings = replace(resource.settings, mempool_api_url=NOWHERE)
    at_work = WorkbenchAt(settings, old, counts, moment=datetime(2026, 9, 1, tzinfo=UTC))
    at_work.elexon.source = resource.elexon.source

    Reconciliation(at_work, instance, "test").reconcile(Days(date(2026, 8, 25), date(2026, 8, 30)), Options())

    outage_of(counts)


@on_sqlite
def test_wind_is_not_read_month_by_month_and_its_sums_are_made(
    old: Engine, server: StandInElexon, asking: Callable[..., ReconResource], counts: CountingObserver,
    instance: dg.DagsterInstance,
) -> None:  # fmt: skip
    server.faults = [Fault("server_error")]

    outcome = Reconciliation(asking(server), instance, "test").read_generation(Days(JUNE_6, date(2025, 8, 31)))

    outage_of(counts)
    assert len(counts.failures) == 25 + 31 + 31
    assert len(server.requests) <= MOST_REQUESTS
    assert jobs(instance).count("read_wind_generation") == 1
    assert not outcome.after.stale_summaries["daily_summaries"]


@on_sqlite
@pytest.mark.parametrize("job", [INGEST_JOB.name, GENERATION_JOB.name])
def test_a_run_of_a_month_fails_soon_with_the_reason_once(
    small_days: Engine, server: StandInElexon, asking: Callable[..., ReconResource], instance: dg.DagsterInstance,
    job: str,
) -> None:  # fmt: skip
    # given what a sensor, a backfill or a person in the UI asks for
    server.faults = [Fault("too_many_requests")]
    tags = dict(zip(RANGE_TAGS, ("2025-05-01", "2025-05-31"), strict=True))

    ended = (
        build_defs(asking(server))
        .resolve_job_def(job)
        .execute_in_process(instance=instance, tags=tags, run_config=QUIET, raise_on_error=False)
    )

    assert not ended.success
    reason, of_days = reasons_of(instance, ended.dagster_run)
    assert reason.startswith(f"31 of 31 partitions failed: {server.url} has not answered since ")
    assert len(of_days) == 31
    said = [entry.user_message for entry in instance.all_logs(ended.run_id) if entry.level == logging.ERROR]
    assert len([line for line in said if "has not answered since" in line]) == 1
    assert len(server.requests) <= MOST_REQUESTS


@on_sqlite
def test_days_are_not_verified_one_by_one(
    small_days: Engine, server: StandInElexon, asking: Callable[..., ReconResource], instance: dg.DagsterInstance
) -> None:
    server.faults = [Fault("server_error")]
    config = {"settlement_dates": [f"2025-06-{day:02}" for day in range(6, 16)], "method": Method.FULL.value}

    ended = (
        build_defs(asking(server))
        .resolve_job_def(verify_days.name)
        .execute_in_process(
            instance=instance,
            run_config={**QUIET, "ops": {"verify_settlement_days": {"config": config}}},
            raise_on_error=False,
        )
    )

    reason, of_days = reasons_of(instance, ended.dagster_run)
    assert reason.startswith(f"10 of 10 partitions failed: {server.url} has not answered since ")
    assert len(of_days) == 10
    assert len(server.requests) <= MOST_REQUESTS


@on_sqlite
def test_the_archive_is_searched_though_the_source_is_down(
    small_days: Engine, server: StandInElexon, asking: Callable[..., ReconResource], instance: dg.DagsterInstance
) -> None:
    # given a day in the archive that was not searched
    resource = asking(server)
    Reconciliation(resource, instance, "test").reingest(JUNE_6)
    execute(small_days, "DELETE FROM recon_settings WHERE name = 'uncounted_bids_from_archive'")
    server.faults = [Fault("server_error")]

    Reconciliation(asking(server), instance, "test").reconcile(Days(JUNE_6, JUNE_7), Options())

    value = "SELECT value FROM recon_settings WHERE name = 'uncounted_bids_from_archive'"
    assert scalar(small_days, value) == "done"
