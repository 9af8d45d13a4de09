"""The assets as the Dagster UI runs them: any selection, over one partition or a range, and what a run leaves."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Connection, Engine

from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.difficulty import packaged_retargets
from recon_assets.domain.mining import MODELS
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.ingest.reference import REFERENCE_LOCK, store_bm_units, store_retargets
from recon_assets.orchestration.observers import CountingObserver
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import (
    LAYER_ASSETS,
    NETWORK_DIFFICULTY,
    WIND_BIDS,
    WIND_BM_UNITS,
    WIND_GENERATION,
    calculations_key,
    layer_assets,
)
from recon_assets.reconcile.layer import MONTH, YEAR
from recon_assets_tests.support.content import (
    DATA_VERSION,
    all_hold,
    events,
    figures,
    out_of_date,
    partitions,
    stacks_asked,
)
from recon_assets_tests.support.generation import OFFSHORE_MW, ONSHORE_MW, PATH, body_of, publish, store, without
from recon_assets_tests.support.locking import store_behind
from recon_assets_tests.support.paths import DATA
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, execute, ingest, scalar
from recon_assets_tests.support.ticks import WorkbenchAt
from recon_assets_tests.support.ui import DAILY_ASSETS, DAILY_LAYERS, launch, reasons

TOTALS = json.loads((DATA / "totals.json").read_text())
S9 = "historical_bitcoin_calculations/S9"
DAILY_SUMMARIES = dg.AssetKey("daily_summaries")
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Tests of what Dagster shows; what is stored is tested on both engines, here and in reconcile/."""


@pytest.fixture
def mempool(tmp_path: Path) -> Iterator[str]:
    """The URL of a mempool.space that knows one epoch more than the packaged table."""
    answer = tmp_path / "mempool" / "v1" / "mining" / "difficulty-adjustments" / "all"
    answer.parent.mkdir(parents=True)
    answer.write_text("[[1787900000, 963648, 1.3e14, 1.01]]")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mempool"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_all_daily_assets_of_a_range_in_one_run_and_their_figures(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    assert launch(resource, instance, [WIND_BM_UNITS, NETWORK_DIFFICULTY]).success

    # when: as a backfill of the UI puts it
    result = launch(resource, instance, DAILY_ASSETS, "2025-06-06", "2025-06-07")

    # then
    assert result.success
    daily = {key.to_user_string() for key in DAILY_ASSETS}
    assert partitions(instance) == {
        name: held if name in daily else set() for name, held in all_hold(["2025-06-06", "2025-06-07"]).items()
    }
    assert stacks_asked(stand_in.requests) == {"2025-06-06": 48, "2025-06-07": 48}
    assert scalar(resource.engine, "SELECT count(*) FROM curtailment_records") == 80 + 14

    # and the figures of each partition are right
    for day in ("2025-06-06", "2025-06-07"):
        bids, flagged = TOTALS[day]["all_bids"], TOTALS[day]["flagged"]
        shown = figures(instance, "wind_bids", day)
        assert shown["dagster/partition_row_count"] == bids["rows"]
        assert shown["accepted_bid_mwh"] == pytest.approx(bids["mwh"], rel=1e-9, abs=0)
        assert shown["accepted_bid_gbp"] == pytest.approx(bids["gbp"], rel=1e-9, abs=0)
        assert shown["settlement_periods"] == 48
        assert shown["inserted"] == bids["rows"] + 48  # with a proof for each period

        shown = figures(instance, "curtailment_records", day)
        assert shown["dagster/partition_row_count"] == shown["inserted"] == flagged["rows"]
        assert shown["volume_mwh"] == pytest.approx(flagged["mwh"], rel=1e-9, abs=0)
        assert shown["payment_gbp"] == pytest.approx(flagged["gbp"], rel=1e-9, abs=0)
        assert (shown["corrected"], shown["removed"]) == (0, 0)

        for model in MODELS:
            shown = figures(instance, f"historical_bitcoin_calculations/{model}", day)
            stored = f"FROM historical_bitcoin_calculations WHERE settlement_date = '{day}' AND miner_model = '{model}'"
            assert shown["dagster/partition_row_count"] == shown["inserted"] == flagged["pairs"]
            mined = float(scalar(resource.engine, f"SELECT sum(bitcoin_mined) {stored}"))
            assert shown["bitcoin_mined"] == pytest.approx(mined, rel=1e-9, abs=0)

        shown = figures(instance, "daily_summaries", day)
        assert shown["curtailed_mwh"] == pytest.approx(-flagged["mwh"], rel=1e-9, abs=0)
        assert shown["payment_gbp"] == pytest.approx(flagged["gbp"], rel=1e-9, abs=0)


def test_one_partition_of_every_asset_up_to_the_year(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    # when
    for assets, partition in (
        ([WIND_BM_UNITS, NETWORK_DIFFICULTY], ""),
        (DAILY_ASSETS, "2025-06-07"),
        ([asset.key for asset in layer_assets(MONTH)], "2025-06"),
        ([asset.key for asset in layer_assets(YEAR)], "2025"),
    ):
        assert launch(resource, instance, assets, partition).success

    # then
    assert partitions(instance) == all_hold(["2025-06-07"])
    sums = {
        float(scalar(resource.engine, f"SELECT sum(bitcoin_mined) FROM {table}"))
        for table in (
            "historical_bitcoin_calculations", "bitcoin_daily_summaries", "bitcoin_monthly_summaries",
            "bitcoin_yearly_summaries",
        )
    }  # fmt: skip
    assert max(sums) == pytest.approx(min(sums), rel=1e-9, abs=0)
    assert min(sums) > 0


def test_a_range_of_months_and_of_years(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given
    execute(small_days, "DELETE FROM monthly_summaries", "DELETE FROM bitcoin_yearly_summaries")

    # when
    assert launch(resource, instance, [dg.AssetKey("monthly_summaries")], "2025-05", "2025-07").success
    assert launch(resource, instance, [dg.AssetKey("bitcoin_yearly_summaries")], "2024", "2025").success

    # then: a month without an ingested day has no row
    assert scalar(small_days, "SELECT min(year_month) || max(year_month) FROM monthly_summaries") == "2025-062025-06"
    assert [
        figures(instance, "monthly_summaries", month)["dagster/partition_row_count"]
        for month in ("2025-05", "2025-06", "2025-07")
    ] == [0, 1, 0]
    assert [
        figures(instance, "bitcoin_yearly_summaries", year)["dagster/partition_row_count"] for year in ("2024", "2025")
    ] == [0, len(MODELS)]


@ON_SQLITE
def test_one_calculation_model_alone(resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance) -> None:
    # given
    execute(small_days, "DELETE FROM historical_bitcoin_calculations")

    # when
    assert launch(resource, instance, [calculations_key("S9")], "2025-06-06", "2025-06-07").success

    # then
    assert scalar(small_days, "SELECT count(DISTINCT miner_model) FROM historical_bitcoin_calculations") == 1
    materialized = {name: held for name, held in partitions(instance).items() if held}
    assert materialized == {S9: {"2025-06-06", "2025-06-07"}}


def test_the_figures_tell_what_was_mended(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given one row lost, one wrong and one that must not be there
    calculations = "historical_bitcoin_calculations"
    first = f"(SELECT min(id) FROM {calculations} WHERE miner_model = 'S9' AND settlement_date = '2025-06-06')"
    execute(
        small_days,
        f"DELETE FROM {calculations} WHERE id = {first}",
        f"UPDATE {calculations} SET bitcoin_mined = 9 WHERE id = {first}",
        f"INSERT INTO {calculations} (settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined) "
        "VALUES ('2025-06-06', 1, 'T_NOBODY-1', 'S9', 1)",
    )

    # when
    launch(resource, instance, [calculations_key("S9")], "2025-06-06", "2025-06-07")

    # then
    mended, untouched = (figures(instance, S9, day) for day in ("2025-06-06", "2025-06-07"))
    assert [mended[name] for name in ("inserted", "corrected", "removed")] == [1, 1, 1]
    assert [untouched[name] for name in ("inserted", "corrected", "removed")] == [0, 0, 0]


def test_a_day_that_was_never_ingested_fails_with_its_reason_and_the_others_are_done(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance
) -> None:
    # given
    ingest(engine, [SMALL_DAYS.last])

    # when
    result = launch(resource, instance, DAILY_LAYERS, "2025-06-06", "2025-06-07")

    # then
    (reason,) = reasons(result)
    assert reason.startswith("1 of 2 partitions failed: 2025-06-06 has never been ingested: materialize wind_bids")
    assert "\n" not in reason
    assert not result.success
    held = partitions(instance)
    assert all(held[key.to_user_string()] == {"2025-06-07"} for key in DAILY_LAYERS)


def test_days_that_are_read_stay_when_another_day_of_the_run_fails(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    stand_in.faults = [Fault("html", "/stack/all/bid/2025-06-06/31/")]

    # when
    result = launch(resource, instance, DAILY_ASSETS, "2025-06-06", "2025-06-07")

    # then
    (reason,) = reasons(result)
    assert reason.startswith("1 of 2 partitions failed: 2025-06-06 settlement period 31: ")
    assert partitions(instance)["wind_bids"] == {"2025-06-07"}
    assert scalar(engine, "SELECT count(*) FROM proof_of_fetch") == 48


@ON_SQLITE
def test_bids_are_not_read_before_the_wind_units_are_known(
    resource: ReconResource, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    result = launch(resource, instance, [WIND_BIDS], "2025-06-06")

    assert "no wind unit is known: materialize wind_bm_units first" in reasons(result)[0]
    assert stacks_asked(stand_in.requests) == {}


@ON_SQLITE
def test_a_unit_in_no_list_is_named(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, stand_in: StandInElexon
) -> None:
    # given
    path = "/balancing/settlement/stack/all/bid/2025-06-07/8"
    body = json.loads(stand_in.reply(path)[0].body)
    template = next(row for row in body["data"] if str(row["id"]).startswith("T_"))
    new = template | {"id": "T_NEWWF-1", "sequenceNumber": 9000, "volume": -12.5}
    stand_in.overrides[path] = json.dumps(body | {"data": [*body["data"], new]}).encode()

    # when
    assert launch(resource, instance, [WIND_BIDS], "2025-06-07").success

    # then
    shown = figures(instance, "wind_bids", "2025-06-07")
    assert shown["unlisted_rows"] == 1
    assert "| T_NEWWF-1 | -12.500 |" in shown["unlisted_bm_units"]


def test_the_wind_generation_of_a_day_has_its_figures_and_the_day_above_it_its_mwh(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given
    publish(recordings, JUNE_6, without(body_of(JUNE_6), 48))

    # when
    assert launch(resource, instance, [WIND_GENERATION, DAILY_SUMMARIES], "2025-06-06").success

    # then
    shown = figures(instance, "wind_generation_data", "2025-06-06")
    read = ("generated_onshore_mwh", "generated_offshore_mwh", "generated_mwh")
    half_hour = {"generated_onshore_mwh": ONSHORE_MW / 2, "generated_offshore_mwh": OFFSHORE_MW / 2}
    half_hour["generated_mwh"] = sum(half_hour.values())
    assert {name: shown[name] for name in read} == {name: 47 * mwh for name, mwh in half_hour.items()}
    assert (shown["dagster/partition_row_count"], shown["inserted"], shown["corrected"]) == (47, 47, 0)
    assert (shown["pending_periods"], shown["periods_of_one_kind"]) == ("48", "none")
    summed = figures(instance, "daily_summaries", "2025-06-06")
    assert {name: summed[name] for name in read} == {name: shown[name] for name in read}


@ON_SQLITE
def test_the_figures_of_a_summary_say_nothing_of_a_generation_that_nobody_has_read(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    assert launch(resource, instance, [DAILY_SUMMARIES], "2025-06-06").success

    assert "generated_mwh" not in figures(instance, "daily_summaries", "2025-06-06")


def test_wind_generation_of_a_range_has_an_event_for_each_day_and_names_the_day_that_elexon_does_not_have(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given: 2025-06-06 is not published
    publish(recordings, JUNE_7, body_of(JUNE_7))

    # when
    result = launch(resource, instance, [WIND_GENERATION], "2025-06-06", "2025-06-07")

    # then
    (reason,) = reasons(result)
    assert reason == (
        "1 of 2 partitions failed: 2025-06-06: Elexon has not published the wind generation of this day yet"
    )
    assert [event.partition for event in events(instance, "wind_generation_data")] == ["2025-06-07"]
    assert scalar(engine, "SELECT count(*) FROM wind_generation_data") == 48

    # when it is published
    publish(recordings, JUNE_6, body_of(JUNE_6, mw=1))
    assert launch(resource, instance, [WIND_GENERATION], "2025-06-06", "2025-06-07").success

    # then
    found = events(instance, "wind_generation_data")
    assert [event.partition for event in found] == ["2025-06-07", "2025-06-06", "2025-06-07"]
    versions = [(event.tags or {})[DATA_VERSION] for event in found]
    assert versions[0] == versions[2] != versions[1]


@ON_SQLITE
def test_all_assets_of_a_range_are_made_where_elexon_has_no_wind_generation(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given: none of 2025-06-06
    publish(recordings, JUNE_7, body_of(JUNE_7))
    assert launch(resource, instance, [WIND_BM_UNITS, NETWORK_DIFFICULTY]).success

    # when: as a backfill of the UI puts it
    result = launch(resource, instance, [WIND_GENERATION, *DAILY_ASSETS], "2025-06-06", "2025-06-07")

    # then nothing failed, and what is missing is missing
    assert result.success
    assert set(instance.get_materialized_partitions(WIND_GENERATION)) == {"2025-06-07"}
    held = partitions(instance)
    assert all(held[key.to_user_string()] == {"2025-06-06", "2025-06-07"} for key in DAILY_ASSETS)
    assert out_of_date(instance) == set()
    generated = "SELECT count(total_wind_generation) FROM daily_summaries"
    assert (scalar(engine, generated), scalar(engine, "SELECT count(*) FROM daily_summaries")) == (1, 2)


@ON_SQLITE
def test_wind_generation_that_cannot_be_read_fails_its_day_and_keeps_no_layer_from_being_made(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance, recordings: Path, stand_in: StandInElexon
) -> None:
    # given
    for day in SMALL_DAYS:
        publish(recordings, day, body_of(day))
    stand_in.faults = [Fault("server_error", f"{PATH}?from=2025-06-05T23:00Z")]
    assert launch(resource, instance, [WIND_BM_UNITS, NETWORK_DIFFICULTY]).success

    # when
    result = launch(resource, instance, [WIND_GENERATION, *DAILY_ASSETS], "2025-06-06", "2025-06-07")

    # then
    (reason,) = reasons(result)
    assert reason.startswith("1 of 2 partitions failed: 2025-06-06 wind generation: ")
    assert "HTTP 503" in reason
    assert set(instance.get_materialized_partitions(WIND_GENERATION)) == {"2025-06-07"}
    held = partitions(instance)
    assert all(held[key.to_user_string()] == {"2025-06-06", "2025-06-07"} for key in DAILY_ASSETS)


def test_a_day_of_which_only_wind_generation_is_stored_has_a_summary(
    resource: ReconResource, engine: Engine, instance: dg.DagsterInstance
) -> None:
    store(engine, JUNE_6, (10, 20))

    assert launch(resource, instance, [DAILY_SUMMARIES], "2025-06-06").success

    shown = figures(instance, "daily_summaries", "2025-06-06")
    assert (shown["dagster/partition_row_count"], shown["generated_mwh"]) == (1, 15)
    assert scalar(engine, "SELECT count(*) FROM daily_summaries WHERE total_curtailed_energy IS NULL") == 1


@ON_SQLITE
def test_a_run_names_the_process_that_does_it(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    result = launch(resource, instance, [dg.AssetKey("daily_summaries")], "2025-06-06")

    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["recon/pid"] == str(os.getpid())


@pytest.mark.parametrize(
    ("asset", "store"),
    [
        (WIND_BM_UNITS, lambda holder: store_bm_units(holder, packaged_bm_units(), NOW)),
        (NETWORK_DIFFICULTY, store_retargets),
    ],
    ids=["units", "difficulty"],
)
def test_reference_data_that_another_writer_is_just_storing_is_not_stored_twice(
    resource: ReconResource, instance: dg.DagsterInstance, asset: dg.AssetKey, store: Callable[[Connection], int]
) -> None:
    result = store_behind(resource.engine, REFERENCE_LOCK, store, lambda: launch(resource, instance, [asset]))

    assert (result.success, reasons(result)) == (True, [])
    (event,) = events(instance, asset.to_user_string())
    assert event.metadata["changed"].value == 0


def test_the_wind_units_are_the_packaged_ones_and_those_of_elexon(
    resource: ReconResource, instance: dg.DagsterInstance, recordings: Path
) -> None:
    # given
    assert launch(resource, instance, [WIND_BM_UNITS]).success
    (packaged,) = events(instance, "wind_bm_units")
    assert packaged.metadata["source"].value == "packaged list alone"

    # when
    unit = {"elexonBmUnit": "T_NEWWF-1", "fuelType": "WIND", "leadPartyName": "New Wind", "generationCapacity": "12"}
    (recordings / "bmunits_all.json").write_text(json.dumps([unit]))
    assert launch(resource, instance, [WIND_BM_UNITS]).success

    # then
    joined = events(instance, "wind_bm_units")[-1]
    assert joined.metadata["changed"].value == 1
    assert joined.metadata["dagster/row_count"].value == int(str(packaged.metadata["dagster/row_count"].value)) + 1
    assert joined.tags != packaged.tags


@ON_SQLITE
@pytest.mark.parametrize(
    ("seen", "in_use"),
    [
        (None, "the packaged list of October 2025, and what was stored before"),
        ("2026-01-05T12:00Z", "Elexon's list of 2026-01-05 12:00Z, 10 days old, and the packaged list of October 2025"),
    ],
)
def test_a_list_of_units_that_is_not_there_is_said_with_the_age_of_the_one_in_use(
    resource: ReconResource, instance: dg.DagsterInstance, seen: str | None, in_use: str
) -> None:
    # given a server without a list, and an archive that has one or not
    today = WorkbenchAt(resource.settings, resource.engine)
    today.moment = NOW
    assert today.archive is not None
    if seen is not None:
        today.archive.keep_reference("[]")
        moment = datetime.fromisoformat(seen).timestamp()
        os.utime(today.archive.folder / "bmunits_all.json", (moment, moment))
    today.observer = observer = CountingObserver()

    # when
    assert launch(today, instance, [WIND_BM_UNITS]).success

    # then
    (event,) = events(instance, "wind_bm_units")
    assert event.metadata["list_in_use"].value == in_use
    assert observer.remarks == [f"{resource.elexon.source.name} has no list of BM units (404); in use: {in_use}"]


def test_the_difficulty_is_the_packaged_one_and_the_tail_of_mempool(
    resource: ReconResource, instance: dg.DagsterInstance, mempool: str
) -> None:
    # given a clock after the epoch that mempool.space knows
    later = WorkbenchAt(replace(resource.settings, mempool_api_url=mempool), resource.engine)
    later.moment = datetime(2026, 8, 29, tzinfo=UTC)

    # when
    assert launch(later, instance, [NETWORK_DIFFICULTY]).success

    # then
    (event,) = events(instance, "network_difficulty")
    assert mempool in str(event.metadata["source"].value)
    assert event.metadata["known_until"].value == later.moment.timestamp()
    assert scalar(resource.engine, "SELECT count(*) FROM network_difficulty WHERE source = 'mempool'") == 1


def test_without_mempool_the_packaged_difficulty_is_stored_and_the_run_fails_with_its_reason(
    resource: ReconResource, instance: dg.DagsterInstance
) -> None:
    # given
    resource.settings = replace(resource.settings, mempool_api_url="http://127.0.0.1:9")

    # when
    result = launch(resource, instance, [NETWORK_DIFFICULTY])

    # then
    assert reasons(result)[0].startswith("MEMPOOL_API_URL: no difficulty from http://127.0.0.1:9/")
    assert scalar(resource.engine, "SELECT count(*) FROM network_difficulty") == len(packaged_retargets())


def test_every_layer_is_an_asset() -> None:
    assert {asset.key.to_user_string() for asset in LAYER_ASSETS} == {
        "curtailment_records", "bitcoin_daily_summaries", "bitcoin_monthly_summaries", "bitcoin_yearly_summaries",
        "daily_summaries", "monthly_summaries", "yearly_summaries",
        *(f"historical_bitcoin_calculations/{model}" for model in MODELS),
    }  # fmt: skip
