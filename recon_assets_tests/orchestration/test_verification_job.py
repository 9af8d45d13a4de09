import json
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.failed_runs import reasons_of
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets_tests.support.steps import (
    CHANGED_BY,
    JUNE_6,
    JUNE_7,
    change_recording,
    note_proofs,
    restate,
    scalar,
    state_of,
)
from recon_assets_tests.support.ui import reasons

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: test_verify.py has both engines."""


def verify(resource: ReconResource, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    """Runs the job as the launchpad does."""
    return (
        build_defs(resource)
        .resolve_job_def("verify_days")
        .execute_in_process(
            instance=instance,
            run_config={**QUIET, "ops": {"verify_settlement_days": {"config": config}}},
            raise_on_error=False,
        )
    )


def observed(instance: dg.DagsterInstance) -> list[tuple[str | None, Any, Any]]:
    """Partition, finding and seed of every observation, oldest first."""
    records = instance.fetch_observations(WIND_BIDS, limit=100).records
    found = []
    for record in reversed(records):
        observation = record.asset_observation
        assert observation is not None
        metadata = observation.metadata
        found.append((observation.partition, metadata["finding"].value, metadata["seed"].value))
    return found


def test_days_are_compared_and_the_ui_shows_it_on_their_partitions(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # when
    ended = verify(resource, instance, settlement_dates=["2025-06-07", "2025-06-06"], seed=7)

    # then: one request each, and nothing is changed
    assert ended.success
    assert observed(instance) == [("2025-06-07", "agrees", 7), ("2025-06-06", "agrees", 7)]
    assert len(stand_in.requests) == 2
    assert ended.get_asset_materialization_events() == []
    logged = (resource.settings.log_folder / "verify.jsonl").read_text().splitlines()
    assert [json.loads(line)["finding"] for line in logged] == ["agrees", "agrees"]


def test_a_restated_day_is_found_and_with_repair_read_again_up_to_its_year(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given
    mwh = "SELECT sum(volume) FROM wind_bids WHERE settlement_date = '2025-06-06'"
    before = scalar(small_days, mwh)
    change_recording(recordings, JUNE_6, restate)

    # when it may not be converged
    found = verify(resource, instance, settlement_dates=["2025-06-06"])

    # then it fails with the command that mends it
    (reason,) = reasons(found)
    assert reason == "1 of 1 partition failed: 2025-06-06: differs; run 'recon reingest 2025-06-06'"
    assert reasons_of(instance, found.dagster_run)[1][JUNE_6].startswith("2025-06-06: differs")
    assert scalar(small_days, mwh) == before

    # and when it may
    mended = verify(resource, instance, settlement_dates=["2025-06-06", "2025-06-07"], repair=True)
    assert mended.success
    assert scalar(small_days, mwh) - before == pytest.approx(CHANGED_BY, rel=1e-9, abs=0)
    state = state_of(small_days, Days(JUNE_6, JUNE_7))
    assert (state.total.faults, state.records.faults, state.summary_faults) == (0, 0, 0)
    assert [(day, finding) for day, finding, _ in observed(instance)] == [
        ("2025-06-06", "differs"),
        ("2025-06-06", "differs"),
        ("2025-06-06", "agrees"),
        ("2025-06-07", "agrees"),
    ]
    made = {(event.asset_key, event.partition) for event in mended.get_asset_materialization_events()}
    assert (WIND_BIDS, "2025-06-06") in made
    assert (dg.AssetKey("yearly_summaries"), "2025") in made
    assert (WIND_BIDS, "2025-06-07") not in made


def test_a_day_that_cannot_be_compared_does_not_stop_the_others(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    stand_in.faults.append(Fault("server_error", "2025-06-07"))

    ended = verify(resource, instance, settlement_dates=["2025-06-07", "2025-06-06"], repair=True)

    assert not ended.success
    assert [(day, finding) for day, finding, _ in observed(instance)] == [("2025-06-06", "agrees")]
    _, of_days = reasons_of(instance, ended.dagster_run)
    assert list(of_days) == [JUNE_7]
    assert "503" in of_days[JUNE_7]


def test_random_days_are_drawn_from_those_that_were_ingested_the_same_with_the_same_seed(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given a source whose answers cannot be read: what was drawn is what failed
    note_proofs(engine, Days.of_month("2025-06"))

    def drawn(**config: Any) -> list[date]:
        return sorted(reasons_of(instance, verify(resource, instance, **config).dagster_run)[1])

    stand_in.faults.append(Fault("null_data"))

    # when
    first = drawn(random_days=4, seed=1)
    again = drawn(random_days=4, seed=1)
    others = drawn(random_days=4, seed=2)

    # then
    assert first == again != others
    assert len(set(first)) == len(set(others)) == 4
    assert {day.month for day in [*first, *others]} == {6}

    # and days that are named come on top of those that are drawn, which are not more than there are
    stand_in.requests.clear()
    assert len(drawn(settlement_dates=[str(first[0])], random_days=100, seed=1)) == 30
    assert len(stand_in.requests) == 30


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "no day to verify: give settlement_dates or random_days"),
        ({"settlement_dates": ["2025-06-31"]}, "'2025-06-31' is not a date"),
        ({"settlement_dates": ["2025-06-06"], "method": "guess"}, "'guess' is no method: write one of witness"),
        ({"random_days": -1}, "random_days Input should be greater than or equal to 0"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line_and_no_request(
    resource: ReconResource,
    small_days: Engine,
    instance: dg.DagsterInstance,
    stand_in: StandInElexon,
    config: dict[str, Any],
    reason: str,
) -> None:
    said, _ = reasons_of(instance, verify(resource, instance, **config).dagster_run)

    assert reason in said
    assert "\n" not in said
    assert stand_in.requests == []
