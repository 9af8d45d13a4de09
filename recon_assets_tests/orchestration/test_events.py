"""Data versions and staleness: Dagster marks a partition as stale exactly if the data says so."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.database.transactions import writing
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.difficulty import RETARGET_BLOCKS
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.ingest.reference import store_retargets, stored_retargets
from recon_assets.orchestration import events
from recon_assets.orchestration.instance import report_right_partitions
from recon_assets.orchestration.planning import read_state
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import (
    LAYER_ASSETS,
    NETWORK_DIFFICULTY,
    WIND_BIDS,
    WIND_BM_UNITS,
    WIND_GENERATION,
)
from recon_assets_tests.support.content import data_versions, out_of_date, rows
from recon_assets_tests.support.generation import body_of, publish
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, execute, scalar
from recon_assets_tests.support.ui import DAILY_ASSETS, DAILY_LAYERS, launch

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Dagster compares the versions; the test that does everything again has both engines."""
PERIOD_11 = "/balancing/settlement/stack/all/bid/2025-06-06/11"
"""A settlement period with 24 flagged and 3 unflagged bids of wind units."""
MONTHLY = [asset.key for asset in LAYER_ASSETS if asset.layer.grain.length == 7]
YEARLY = [asset.key for asset in LAYER_ASSETS if asset.layer.grain.length == 4]


@pytest.fixture
def done(resource: ReconResource, instance: dg.DagsterInstance) -> ReconResource:
    """Everything of two days materialized from the UI, upstream first."""
    assert launch(resource, instance, [WIND_BM_UNITS, NETWORK_DIFFICULTY]).success
    assert launch(resource, instance, DAILY_ASSETS, "2025-06-06", "2025-06-07").success
    assert launch(resource, instance, MONTHLY, "2025-06").success
    assert launch(resource, instance, YEARLY, "2025").success
    return resource


@pytest.fixture
def reported(resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance) -> ReconResource:
    """The same two days, in a database that was filled before Dagster knew of it, and then reported."""
    report_right_partitions(instance, resource, read_state(resource, SMALL_DAYS))
    assert out_of_date(instance) == set()
    return resource


def restate(stand_in: StandInElexon, **changes: Any) -> None:
    """Has Elexon publish a period again, with other values in the bids of wind units."""
    body = json.loads(stand_in.reply(PERIOD_11)[0].body)
    body["data"] = [row | changes if str(row["id"]).startswith("T_") else row for row in body["data"]]
    stand_in.overrides[PERIOD_11] = json.dumps(body).encode()


def test_doing_everything_again_changes_no_row_no_data_version_and_makes_nothing_stale(
    done: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given what was just materialized: it is in step, and each day has a version of its own
    before, versions = rows(done.engine), data_versions(instance)
    assert out_of_date(instance) == set()
    assert len(versions) == 2 * len(DAILY_ASSETS) + len(MONTHLY) + len(YEARLY)
    for key in DAILY_ASSETS:
        name = key.to_user_string()
        assert versions[name, "2025-06-06"] != versions[name, "2025-06-07"]

    # when the whole chain is made again
    assert launch(done, instance, DAILY_ASSETS, "2025-06-06", "2025-06-07").success
    assert launch(done, instance, MONTHLY, "2025-06").success
    assert launch(done, instance, [WIND_BM_UNITS, NETWORK_DIFFICULTY]).success

    # then
    assert rows(done.engine) == before
    assert data_versions(instance) == versions
    assert out_of_date(instance) == set()

    # when a day is read again, of which a settlement run has published the same bids at another time
    restate(stand_in, createdDateTime="2025-08-01T00:00:00Z")
    assert launch(done, instance, [WIND_BIDS], "2025-06-06").success

    # then
    published = "SELECT max(elexon_created_at) FROM proof_of_fetch WHERE settlement_date = '2025-06-06'"
    assert scalar(done.engine, published) == "2025-08-01T00:00:00Z"
    assert data_versions(instance) == versions
    assert out_of_date(instance) == set()


@ON_SQLITE
def test_a_changed_day_makes_its_own_children_stale_and_no_others(
    done: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    restate(stand_in, originalPrice=-100.0, volume=-7.0)

    # when the day is read again, and then layer after layer made again
    assert launch(done, instance, [WIND_BIDS], "2025-06-06").success
    assert out_of_date(instance) == {("curtailment_records", "2025-06-06")}

    assert launch(done, instance, DAILY_LAYERS, "2025-06-06").success
    assert out_of_date(instance) == {("bitcoin_monthly_summaries", "2025-06"), ("monthly_summaries", "2025-06")}

    assert launch(done, instance, MONTHLY, "2025-06").success
    assert out_of_date(instance) == {("bitcoin_yearly_summaries", "2025"), ("yearly_summaries", "2025")}

    assert launch(done, instance, YEARLY, "2025").success
    assert out_of_date(instance) == set()


@ON_SQLITE
def test_wind_generation_goes_up_to_the_year_and_reading_it_again_unchanged_nowhere(
    done: ReconResource, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given days without it, which are not out of date for that
    assert out_of_date(instance) == set()
    energy = [[dg.AssetKey(f"{name}_summaries")] for name in ("daily", "monthly", "yearly")]
    periods = ("2025-06-06", "2025-06", "2025")

    for mw in (0.0, 1.0):
        # when it is read, for the first time and then with other values
        publish(recordings, JUNE_6, body_of(JUNE_6, mw=mw, later=timedelta(days=mw)))
        versions = data_versions(instance)
        assert launch(done, instance, [WIND_GENERATION], "2025-06-06").success

        # then it is news to the day, and so on
        for (key,), period in zip(energy, periods, strict=True):
            assert out_of_date(instance) == {(key.to_user_string(), period)}
            assert launch(done, instance, [key], period).success
        assert out_of_date(instance) == set()
        changed = {key for key, version in data_versions(instance).items() if version != versions.get(key)}
        names = ("wind_generation_data", *(key.to_user_string() for (key,) in energy))
        assert changed == set(zip(names, ("2025-06-06", *periods), strict=True))

    # when the same is published again, later
    publish(recordings, JUNE_6, body_of(JUNE_6, mw=1.0, later=timedelta(days=9)))
    versions = data_versions(instance)
    assert launch(done, instance, [WIND_GENERATION], "2025-06-06").success

    # then
    assert data_versions(instance) == versions
    assert out_of_date(instance) == set()


def test_a_change_that_the_rule_does_not_count_goes_no_further_than_the_records(
    reported: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given: only the transmission loss multiplier changes, which no payment is made of
    restate(stand_in, transmissionLossMultiplier=0.5)
    versions = data_versions(instance)

    # when
    assert launch(reported, instance, [WIND_BIDS], "2025-06-06").success
    assert out_of_date(instance) == {("curtailment_records", "2025-06-06")}
    assert launch(reported, instance, DAILY_LAYERS[:1], "2025-06-06").success

    # then
    assert out_of_date(instance) == set()
    assert {key for key, version in data_versions(instance).items() if version != versions[key]} == {
        ("wind_bids", "2025-06-06")
    }


def test_another_rule_has_other_data_versions_and_the_old_rule_the_old_ones(
    reported: ReconResource, instance: dg.DagsterInstance
) -> None:
    # given
    versions = data_versions(instance)

    # when
    reported.settings = replace(reported.settings, curtailment_rule=CurtailmentRule.ALL_BIDS)
    assert launch(reported, instance, DAILY_LAYERS, "2025-06-06", "2025-06-07").success
    changed = {key for key, version in data_versions(instance).items() if version != versions[key]}
    reported.settings = replace(reported.settings, curtailment_rule=CurtailmentRule.SO_FLAGGED)
    assert launch(reported, instance, DAILY_LAYERS, "2025-06-06", "2025-06-07").success

    # then: on 2025-06-07 every bid is flagged
    assert changed == {(key.to_user_string(), "2025-06-06") for key in DAILY_LAYERS}
    assert data_versions(instance) == versions


def test_a_new_epoch_of_difficulty_makes_nothing_stale_and_a_corrected_one_does(small_days: Engine) -> None:
    # given
    version, epochs = events.difficulty_version(small_days)
    with writing(small_days) as connection:
        newest = max(stored_retargets(connection), key=lambda retarget: retarget.height)
        after = replace(
            newest,
            height=newest.height + RETARGET_BLOCKS,
            starts_at=newest.starts_at + timedelta(days=14),
            observed_at=newest.starts_at + timedelta(days=20),
        )
        store_retargets(connection, [after])

    # then
    assert events.difficulty_version(small_days) == (version, epochs + 1)
    execute(small_days, "UPDATE network_difficulty SET difficulty = difficulty * 1.1 WHERE height = 840672")
    assert events.difficulty_version(small_days)[0] != version


def test_the_version_of_the_units_is_their_names(small_days: Engine) -> None:
    version, units = events.bm_units_version(small_days)

    execute(small_days, "UPDATE wind_bm_units SET lead_party_name = 'someone else'")
    assert events.bm_units_version(small_days) == (version, units)
    execute(small_days, "DELETE FROM wind_bm_units WHERE bm_unit_id = 'T_SGRWO-1'")
    assert events.bm_units_version(small_days)[0] != version
