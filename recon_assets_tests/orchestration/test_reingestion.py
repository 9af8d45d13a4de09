from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from recon_assets.database.tables import historical_bitcoin_calculations, metadata
from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.jobs import BM_UNITS_JOB, DIFFICULTY_JOB
from recon_assets.orchestration.resource import ReconResource
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, change_recording, contents, execute, state_of

DAY = Days(JUNE_6, JUNE_6)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def reingest(
    resource: ReconResource, instance: dg.DagsterInstance, *, day: str = "2025-06-06", **config: Any
) -> dg.ExecuteInProcessResult:
    """Runs the job as the launchpad does."""
    form: Mapping[str, Any] = {"ops": {"reingest": {"config": {"settlement_date": day, **config}}}}
    job = build_defs(resource).resolve_job_def("reingest_day")
    return job.execute_in_process(instance=instance, run_config=form, raise_on_error=False)


@pytest.fixture
def prepared(resource: ReconResource, instance: dg.DagsterInstance) -> ReconResource:
    """A database with BM units and difficulty."""
    for job in (BM_UNITS_JOB, DIFFICULTY_JOB):
        assert build_defs(resource).resolve_job_def(job.name).execute_in_process(instance=instance).success
    return resource


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    assert data.user_failure_data
    return data.user_failure_data.description or ""


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any], *, without: tuple[str, ...] = ("settlement_revisions",)
) -> set[str]:
    return {name for name in before if before[name] != after[name] and name not in without}


def test_a_day_is_read_and_everything_up_to_its_year_follows_in_one_run(
    prepared: ReconResource, instance: dg.DagsterInstance
) -> None:
    result = reingest(prepared, instance)

    assert result.success
    state = state_of(prepared.engine, DAY)
    assert (state.total.expected, state.total.faults, state.summary_faults) == (126, 0, 0)
    partitions = {
        (event.asset_key.to_user_string(), event.partition)
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert partitions >= {
        ("wind_bids", "2025-06-06"),
        ("curtailment_records", "2025-06-06"),
        ("historical_bitcoin_calculations/S9", "2025-06-06"),
        ("bitcoin_monthly_summaries", "2025-06"),
        ("yearly_summaries", "2025"),
    }
    # A second time nothing changes.
    before = contents(prepared.engine, *metadata.tables.values())
    assert reingest(prepared, instance).success
    assert contents(prepared.engine, *metadata.tables.values()) == before


def test_a_restated_day_changes_only_what_follows_from_it(
    prepared: ReconResource, instance: dg.DagsterInstance, recordings: Path
) -> None:
    for day in SMALL_DAYS:
        assert reingest(prepared, instance, day=str(day)).success
    before = contents(prepared.engine, *metadata.tables.values())
    change_recording(recordings, JUNE_6, lambda content: content["stack_bid"]["7"]["data"][0].update(volume=-77.0))

    assert reingest(prepared, instance).success

    after = contents(prepared.engine, *metadata.tables.values())
    assert changed(before, after) == {
        "wind_bids", "proof_of_fetch", "curtailment_records", "historical_bitcoin_calculations",
        "bitcoin_daily_summaries", "bitcoin_monthly_summaries", "bitcoin_yearly_summaries",
        "daily_summaries", "monthly_summaries", "yearly_summaries",
    }  # fmt: skip
    gone = {table: before[table] - after[table] for table in changed(before, after)}
    # One bid and what follows from it: three models, their day, month and year.
    assert {table: len(rows) for table, rows in gone.items()} == {
        "wind_bids": 1, "proof_of_fetch": 1, "curtailment_records": 1, "historical_bitcoin_calculations": 3,
        "bitcoin_daily_summaries": 3, "bitcoin_monthly_summaries": 3, "bitcoin_yearly_summaries": 3,
        "daily_summaries": 1, "monthly_summaries": 1, "yearly_summaries": 1,
    }  # fmt: skip
    assert len(after["settlement_revisions"]) == 1


@ON_SQLITE
def test_named_periods_alone_are_read(
    prepared: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    reingest(prepared, instance)
    stand_in.requests.clear()

    assert reingest(prepared, instance, periods="44-46").success

    assert sorted(request.path[-3:] for request in stand_in.requests) == ["/44", "/45", "/46"]


@ON_SQLITE
def test_without_bitcoin_the_calculations_stay(
    prepared: ReconResource, instance: dg.DagsterInstance, recordings: Path
) -> None:
    reingest(prepared, instance)
    before = contents(prepared.engine, historical_bitcoin_calculations)
    change_recording(recordings, JUNE_6, lambda content: content["stack_bid"]["7"]["data"][0].update(volume=-77.0))

    assert reingest(prepared, instance, bitcoin=False).success

    assert contents(prepared.engine, historical_bitcoin_calculations) == before
    state = state_of(prepared.engine, DAY)
    assert (state.records.faults, state.total.wrong) == (0, 3)
    assert {name for name, keys in state.stale_summaries.items() if keys} == set()


def test_a_day_that_cannot_be_read_fails_with_the_reason_and_changes_nothing(
    prepared: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    reingest(prepared, instance)
    execute(prepared.engine, "DELETE FROM daily_summaries")
    before = contents(prepared.engine, *metadata.tables.values())
    stand_in.faults.append(Fault("server_error", "/2025-06-06/7/"))

    result = reingest(prepared, instance)

    assert not result.success
    assert "2025-06-06 settlement period 7: " in failure_of(result)
    assert contents(prepared.engine, *metadata.tables.values()) == before


@ON_SQLITE
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"day": "2025-06-31"}, "'2025-06-31' is not a date"),
        ({"periods": "48-44"}, "'48-44' are no settlement periods"),
        ({"periods": "47-49"}, "2025-06-06 has settlement periods 1 to 48, not 49"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(
    prepared: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon, config: dict[str, str], reason: str
) -> None:
    stand_in.requests.clear()

    assert reason in failure_of(reingest(prepared, instance, **config))
    assert stand_in.requests == []
