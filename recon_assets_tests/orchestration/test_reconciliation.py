"""Reconciling through Dagster: the right runs in the right order, only for what is not right, and nothing lost."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.database.tables import proof_of_fetch, wind_bids
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.difficulty import packaged_retargets
from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.checks import CHECKS
from recon_assets.orchestration.observers import Observer
from recon_assets.orchestration.outcome import Options, Outcome
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.layer import DAY
from recon_assets.reconcile.layers import LAYERS, SUMMARIES
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.settings import Settings
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.support.content import (
    all_hold,
    data_versions,
    out_of_date,
    partitions,
    rows,
    runs,
    stacks_asked,
)
from recon_assets_tests.support.paths import DATA
from recon_assets_tests.support.steps import (
    JUNE_6,
    JUNE_7,
    JUNE_DAYS,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    scalar,
)
from recon_assets_tests.support.ticks import WorkbenchAt

TOTALS = json.loads((DATA / "totals.json").read_text())
ALL_TABLES = (wind_bids, *(layer.table for layer in LAYERS))
REFUSAL = {
    "sqlite": [
        "CREATE TRIGGER refusal BEFORE UPDATE ON bitcoin_monthly_summaries "
        "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'the disk is full'; END$$",
        "CREATE TRIGGER refusal BEFORE UPDATE ON bitcoin_monthly_summaries EXECUTE FUNCTION refuse()",
    ],
}
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The order of runs follows from a state, which does not depend on the engine."""
NOWHERE = "http://127.0.0.1:9/api"
"""Nobody listens there: a request would fail the run."""


OF_DAYS, OF_SUMS = (
    {
        "UPDATE historical_bitcoin_calculations SET bitcoin_mined = bitcoin_mined * 2 WHERE settlement_period = 10": [
            "2025-06-06"
        ],
        "UPDATE historical_bitcoin_calculations SET difficulty = 1e12 WHERE settlement_date = '2025-06-07'": [
            "2025-06-07"
        ],
        "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'": ["2025-06-06", "2025-06-07"],
        "UPDATE curtailment_records SET volume = volume * 1.01 WHERE settlement_date = '2025-06-06'": ["2025-06-06"],
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'": ["2025-06-07"],
        "INSERT INTO daily_summaries (summary_date, total_curtailed_energy) VALUES ('2025-06-30', 0)": ["2025-06-30"],
    },
    {
        "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = bitcoin_mined + 1": ["2025-06"],
        "DELETE FROM yearly_summaries": ["2025"],
    },
)
"""Damage to the small days, and the days, months or years that must be converged after it."""


def reconcile(
    resource: ReconResource, instance: dg.DagsterInstance, days: Days = SMALL_DAYS, options: Options | None = None
) -> Outcome:
    """Reconciles as a new process of the command would."""
    return Reconciliation(resource, instance, "the test").reconcile(days, options or Options())


def checks_evaluated(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[dg.EventLogEntry]:
    return instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)


class Notes(Observer):
    """Keeps the failures."""

    def __init__(self) -> None:
        self.days: dict[date, str] = {}
        self.runs: dict[str, str] = {}

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        self.days[day] = reason

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self.runs[job] = reason


def test_an_empty_database_is_filled_once_and_dagster_knows_every_partition(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # when
    outcome = reconcile(resource, instance)

    # then everything is there
    assert outcome.before.days_in(DayState.NOT_INGESTED) == [JUNE_6, JUNE_7]
    assert outcome.after.is_right
    assert outcome.after.curtailment_records == 80 + 14
    assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])
    assert stacks_asked(stand_in.requests) == {"2025-06-06": 48, "2025-06-07": 48}
    assert outcome.reported == 0

    # and the runs say who asked for them and which process did them
    found = [record.dagster_run for record in runs(instance)]
    assert [run.job_name for run in found] == [
        "refresh_bm_units", "refresh_difficulty", "ingest_days",
        "converge_days", "converge_months", "converge_years", "audit_history",
    ]  # fmt: skip
    assert outcome.runs == len(found)
    for run in found:
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.tags["recon/command"] == "the test"
        assert {"recon/host", "recon/pid", "recon/process_started"} <= set(run.tags)

    # and each check was evaluated once, on the whole history, at the end
    evaluated = {run.job_name: len(checks_evaluated(instance, run)) for run in found}
    assert evaluated == dict.fromkeys(evaluated, 0) | {"audit_history": len(CHECKS)}

    # when it is done a second time
    before, versions, asked = rows(resource.engine), data_versions(instance), len(stand_in.requests)
    outcome = reconcile(resource, instance)

    # then no row and no data version changes, and nothing is asked
    assert outcome.plan.is_empty
    assert (outcome.runs, outcome.reported) == (0, 0)
    assert rows(resource.engine) == before
    assert data_versions(instance) == versions
    assert len(stand_in.requests) == asked

    # when a Dagster that knows nothing of it meets a database that is right
    with dg.DagsterInstance.ephemeral() as new:
        outcome = reconcile(resource, new)

        # then it is told what the runs said, nothing is computed, and none of it is out of date
        assert outcome.runs == 0
        assert outcome.reported == len(versions) + 2  # and the two reference tables
        assert data_versions(new) == versions
        assert out_of_date(new) == set()
    assert rows(resource.engine) == before
    assert len(stand_in.requests) == asked


def test_only_some_summaries_are_converged_without_a_check_before_the_end(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    Reconciliation(resource, instance, "the test").summarise(SMALL_DAYS)

    found = {run.job_name: run for run in (record.dagster_run for record in runs(instance))}
    evaluated = {name: len(checks_evaluated(instance, run)) for name, run in found.items()}
    assert evaluated == {"converge_days": 0, "converge_months": 0, "converge_years": 0, "audit_history": len(CHECKS)}
    made = instance.all_logs(found["converge_days"].run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert {event.asset_materialization.asset_key for event in made if event.asset_materialization} == {
        dg.AssetKey(layer.name) for layer in SUMMARIES if layer.grain is DAY
    }


def test_another_rule_rebuilds_from_the_stored_bids_without_a_request(
    settings: Settings, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given a database by the default rule, and no Elexon
    flagged = contents(small_days, *ALL_TABLES)

    for rule, counted in ((CurtailmentRule.ALL_BIDS, "all_bids"), (CurtailmentRule.SO_FLAGGED, "flagged")):
        # when
        changed = replace(settings, elexon_api_url=NOWHERE, curtailment_rule=rule)
        outcome = reconcile(ReconResource(changed, small_days), instance)

        # then
        assert outcome.after.is_right
        for day in ("2025-06-06", "2025-06-07"):
            recorded = f"FROM curtailment_records WHERE settlement_date = '{day}'"
            wanted = TOTALS[day][counted]
            assert scalar(small_days, f"SELECT count(*) {recorded}") == wanted["rows"]
            assert float(scalar(small_days, f"SELECT sum(volume) {recorded}")) == pytest.approx(
                wanted["mwh"], rel=1e-9, abs=0
            )
            assert float(scalar(small_days, f"SELECT sum(payment) {recorded}")) == pytest.approx(
                wanted["gbp"], rel=1e-9, abs=0
            )
        assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])
        assert out_of_date(instance) == set()
    assert contents(small_days, *ALL_TABLES) == flagged


def test_each_damage_alone_is_found_and_work_is_planned_for_it(
    settings: Settings, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)
    work = Reconciliation(ReconResource(replace(settings, elexon_api_url=NOWHERE), small_days), instance, "the test")

    for damage, faulty in (OF_DAYS | OF_SUMS).items():
        # when
        (spoiled,) = execute(small_days, damage)
        assert spoiled > 0
        state = work.state(JUNE_DAYS)
        planned = work.plan(state, Options(ingest=False))

        # then
        assert state.total.faults + state.records.faults + state.summary_faults > 0, damage
        days = sorted(str(day) for chunk in planned.chunks for day in chunk)
        above = ["2025-06", "2025"] if damage in OF_DAYS else []
        assert [*days, *planned.months, *planned.years] == [*faulty, *above], damage
        converge_layers(small_days, JUNE_DAYS)
        assert contents(small_days, *ALL_TABLES) == right, damage


@pytest.mark.parametrize("damage", [OF_DAYS | OF_SUMS, OF_SUMS], ids=["all", "only of sums"])
def test_damage_is_mended_without_a_request(
    settings: Settings, small_days: Engine, instance: dg.DagsterInstance, damage: dict[str, list[str]]
) -> None:
    # given
    resource = ReconResource(replace(settings, elexon_api_url=NOWHERE), small_days)
    right = contents(small_days, *ALL_TABLES)
    execute(small_days, *damage)

    # when
    outcome = reconcile(resource, instance, JUNE_DAYS, Options(ingest=False))

    # then
    before, after = outcome.before, outcome.after
    assert before.total.faults + before.records.faults + before.summary_faults > 0
    assert after.total.faults + after.records.faults + after.summary_faults == 0
    assert contents(small_days, *ALL_TABLES) == right
    assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])


def test_a_day_with_a_period_that_cannot_be_read_is_left_out_whole(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    stand_in.faults = [Fault("server_error", "/stack/all/bid/2025-06-06/7/")]
    resource.observer = notes = Notes()

    # when
    outcome = reconcile(resource, instance)

    # then: one reason, which names the period; nothing of the day; the other day done in database and Dagster
    assert list(notes.days) == [JUNE_6]
    assert notes.days[JUNE_6].startswith("2025-06-06 settlement period 7: ")
    assert "HTTP 503" in notes.days[JUNE_6]
    assert outcome.after.days == {JUNE_6: DayState.NOT_INGESTED, JUNE_7: DayState.INGESTED}
    assert days_in_table(resource, wind_bids.name) == days_in_table(resource, proof_of_fetch.name) == {"2025-06-07"}
    assert days_in_table(resource, "historical_bitcoin_calculations") == {"2025-06-07"}
    assert partitions(instance) == all_hold(["2025-06-07"])
    assert [record.dagster_run.status for record in runs(instance) if record.dagster_run.job_name == "ingest_days"] == [
        dg.DagsterRunStatus.FAILURE
    ]

    # when the fault is gone
    stand_in.faults, asked = [], len(stand_in.requests)
    outcome = reconcile(resource, instance)

    # then only the rest is done
    assert outcome.after.is_right
    assert stacks_asked(stand_in.requests[asked:]) == {"2025-06-06": 48}
    assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])


def test_a_re_read_that_fails_leaves_what_was_there(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given a day whose stored bids are not those that were fetched, so that it must be read again
    right = contents(small_days, *ALL_TABLES)
    execute(small_days, "UPDATE wind_bids SET volume = volume - 1 WHERE settlement_date = '2025-06-06'")
    spoiled = rows(small_days)
    stand_in.faults = [Fault("reset", "/stack/all/bid/2025-06-06/48/")]
    resource.observer = notes = Notes()

    # when
    outcome = reconcile(resource, instance)

    # then
    assert ["settlement period 48" in reason for reason in notes.days.values()] == [True]
    assert outcome.after.contradicted == {JUNE_6}
    assert rows(small_days) == spoiled

    # when the fault is gone
    stand_in.faults = []
    outcome = reconcile(resource, instance)

    # then
    assert outcome.after.is_right
    assert contents(small_days, *ALL_TABLES) == right
    assert set(stacks_asked(stand_in.requests)) == {"2025-06-06"}


@ON_SQLITE
def test_a_limit_takes_the_newest_day_first(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # when
    outcome = reconcile(resource, instance, options=Options(limit=1))

    # then
    assert stacks_asked(stand_in.requests) == {"2025-06-07": 48}
    assert outcome.after.days_in(DayState.NOT_INGESTED) == [JUNE_6]


@ON_SQLITE
def test_the_worst_day_can_come_first(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given: more calculations are missing on the older day
    execute(small_days, "DELETE FROM historical_bitcoin_calculations")

    # when
    reconcile(resource, instance, options=Options(worst_first=True))

    # then
    tags = [record.dagster_run.tags for record in runs(instance)]
    starts = [found.get("dagster/asset_partition_range_start") for found in tags]
    assert starts[:2] == ["2025-06-06", "2025-06-07"]


@ON_SQLITE
def test_without_reading_nothing_is_asked_and_the_days_are_out_of_reach(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # when
    outcome = reconcile(resource, instance, options=Options(ingest=False))

    # then
    assert outcome.plan.out_of_reach == [JUNE_6, JUNE_7]
    assert outcome.runs == 0
    assert stand_in.requests == []


@ON_SQLITE
def test_history_is_filled_newest_month_first_over_clock_changes(
    resource: ReconResource, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given recordings of days with 46, 48 and 50 periods in three months
    for day in ("2025-03-30", "2025-10-26"):
        shutil.copy(CLOCK_CHANGES / f"{day}.json.gz", recordings)
    resource.settings = replace(resource.settings, elexon_api_url=recordings.as_uri())
    days = Days(date(2025, 3, 30), date(2025, 10, 26))

    # when
    outcome = reconcile(resource, instance, days)

    # then
    recorded = ["2025-03-30", "2025-06-06", "2025-06-07", "2025-10-26"]
    assert [str(day) for day in outcome.after.days_in(DayState.INGESTED)] == recorded
    assert len(outcome.plan.out_of_reach) == len(days) - 4
    assert outcome.plan.requests == 46 + 48 + 48 + 50
    assert scalar(resource.engine, "SELECT count(*) FROM proof_of_fetch") == 46 + 48 + 48 + 50
    assert outcome.after.total.faults == outcome.after.summary_faults == 0
    assert partitions(instance) == all_hold(recorded)
    ingested = [record.dagster_run.tags for record in runs(instance) if record.dagster_run.job_name == "ingest_days"]
    assert [tags["dagster/asset_partition_range_start"] for tags in ingested] == [
        "2025-10-26", "2025-06-06", "2025-03-30",
    ]  # fmt: skip


def test_the_running_day_is_read_again_when_more_of_it_is_due(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given noon of the day: 23 of its periods are due
    day = Days(JUNE_6, JUNE_6)
    noon = WorkbenchAt(resource.settings, resource.engine, moment=datetime(2025, 6, 6, 11, tzinfo=UTC))
    assert reconcile(noon, instance, day).after.days == {JUNE_6: DayState.INGESTED}
    assert stacks_asked(stand_in.requests) == {"2025-06-06": 23}
    partial = data_versions(instance)

    # when the day is over
    next_day = WorkbenchAt(resource.settings, resource.engine)
    outcome = reconcile(next_day, instance, day)

    # then
    assert outcome.before.days == {JUNE_6: DayState.INCOMPLETE}
    assert outcome.after.is_right
    assert scalar(resource.engine, "SELECT count(*) FROM proof_of_fetch") == 48
    assert data_versions(instance)["wind_bids", "2025-06-06"] != partial["wind_bids", "2025-06-06"]


def test_a_lost_difficulty_table_is_restored_before_anything_is_calculated(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)
    execute(small_days, "DELETE FROM network_difficulty", "DELETE FROM historical_bitcoin_calculations")

    # when
    outcome = reconcile(resource, instance, options=Options(ingest=False))

    # then
    assert outcome.after.is_right
    assert contents(small_days, *ALL_TABLES) == right


def test_days_that_the_packaged_table_covers_do_not_need_mempool(
    resource: ReconResource, instance: dg.DagsterInstance
) -> None:
    # given a first run, with a mempool.space that nobody can reach
    resource.settings = replace(resource.settings, mempool_api_url=NOWHERE)
    resource.observer = notes = Notes()

    # when
    outcome = reconcile(resource, instance)

    # then
    assert outcome.after.is_right
    assert (notes.days, notes.runs) == ({}, {})
    sources = "SELECT count(*) FROM network_difficulty WHERE source = 'packaged'"
    assert scalar(resource.engine, sources) == len(packaged_retargets())


def test_a_day_that_no_table_covers_needs_mempool(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given a difficulty that is known up to a day before
    resource.settings = replace(resource.settings, mempool_api_url=NOWHERE)
    resource.observer = notes = Notes()
    observed = "UPDATE network_difficulty SET observed_at = '2025-06-02 00:00:00'"
    execute(small_days, observed, "DELETE FROM historical_bitcoin_calculations")

    # when
    reconcile(resource, instance, options=Options(ingest=False))

    # then
    assert notes.runs["refresh_difficulty"].startswith(f"MEMPOOL_API_URL: no difficulty from {NOWHERE}")


def test_a_failure_of_another_kind_is_one_line_and_rolls_back(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given a database that refuses to correct a summary
    execute(small_days, "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = 0", *REFUSAL[small_days.name])
    spoiled = rows(small_days)
    resource.observer = notes = Notes()

    # when
    outcome = reconcile(resource, instance)

    # then
    (reason,) = notes.runs.values()
    assert list(notes.runs) == ["converge_months"]
    assert "the disk is full" in reason
    assert "UPDATE" not in reason
    assert "\n" not in reason
    statuses = {record.dagster_run.job_name: record.dagster_run.status for record in runs(instance)}
    assert statuses.pop("audit_history") is dg.DagsterRunStatus.SUCCESS
    assert statuses == {"converge_months": dg.DagsterRunStatus.FAILURE}
    assert not outcome.after.is_right
    assert rows(small_days) == spoiled


def days_in_table(resource: ReconResource, table: str) -> set[str]:
    """The days that a table has rows of, as text on both engines."""
    listed = "group_concat(DISTINCT settlement_date)"
    if resource.engine.dialect.name == "postgresql":
        listed = "string_agg(DISTINCT settlement_date::text, ',')"
    return set((scalar(resource.engine, f"SELECT {listed} FROM {table}") or "").split(",")) - {""}
