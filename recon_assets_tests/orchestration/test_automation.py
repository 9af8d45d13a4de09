from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.scheduler.instigation import InstigatorStatus
from sqlalchemy import Engine

from recon_assets.orchestration.automation import SUMMARY_KEYS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.instance import report_right_partitions
from recon_assets.orchestration.planning import read_state
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_GENERATION
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.light_dagster import light_instance
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS, execute, state_of
from recon_assets_tests.support.ticks import Sensor, WorkbenchAt, at_noon
from recon_assets_tests.support.ui import launch

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: reconcile/test_difference.py and test_layers.py have both engines."""

BITCOIN = [f"bitcoin_{period}_summaries" for period in ("daily", "monthly", "yearly")]
ENERGY = [f"{period}_summaries" for period in ("daily", "monthly", "yearly")]
PERIODS = ("2025-06-06", "2025-06", "2025")
S9_GONE = "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9' AND settlement_date = '2025-06-06'"


class Automation:
    """The automation, evaluated as by its sensor; remembers its cursor from tick to tick."""

    def __init__(self, resource: ReconResource, instance: dg.DagsterInstance) -> None:
        self.resource = resource
        self.instance = instance
        self.defs = build_defs(resource)
        self.cursor: AssetDaemonCursor | None = None

    def asked(self, at: datetime | None = None) -> dict[str, set[str]]:
        """The partitions that a tick refreshes, by asset."""
        ticked = dg.evaluate_automation_conditions(
            self.defs, self.instance, dg.AssetSelection.assets(*SUMMARY_KEYS), at, self.cursor
        )
        self.cursor = ticked.cursor
        found = {key.to_user_string(): set(ticked.get_requested_partitions(key)) for key in SUMMARY_KEYS}
        return {name: {str(key) for key in partitions} for name, partitions in found.items() if partitions}

    def refresh(self, asked: Mapping[str, set[str]]) -> None:
        """Makes what a tick asked for, as its runs do."""
        for length in (10, 7, 4):
            names = [name for name, periods in asked.items() if {len(period) for period in periods} == {length}]
            for period in {period for name in names for period in asked[name]}:
                keys = [dg.AssetKey(name) for name in names if period in asked[name]]
                assert launch(self.resource, self.instance, keys, period).success


@pytest.fixture
def instance(tmp_path: Path, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    with light_instance(dagster_home, tmp_path / "dagster", with_cursors=True) as instance:
        yield instance


@pytest.fixture
def noon(resource: ReconResource, small_days: Engine) -> WorkbenchAt:
    """Two days that are right, at noon."""
    return at_noon(resource)


@pytest.fixture
def automation(noon: WorkbenchAt, instance: dg.DagsterInstance) -> Automation:
    return Automation(noon, instance)


def each(names: list[str], periods: tuple[str, ...] = PERIODS) -> dict[str, set[str]]:
    """One period of each summary."""
    return {name: {period} for name, period in zip(names, periods, strict=True)}


def let_give_up(automation: Automation, status: InstigatorStatus = InstigatorStatus.RUNNING) -> None:
    """Makes the gap sensor give up the days that are not right, and keeps its cursor as the daemon does."""
    sensor = Sensor("calculation_gap_sensor", automation.resource, automation.instance)
    for _ in range(4):
        sensor.tick()
    assert sensor.given_up
    sensor.keep(status)


def test_of_an_empty_database_nothing_is_refreshed(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    assert Automation(resource, instance).asked() == {}


def test_where_every_sum_is_right_nothing_is_refreshed(automation: Automation) -> None:
    # though Dagster has seen no partition of any
    assert automation.asked() == {}
    assert automation.asked() == {}


def test_a_changed_day_refreshes_exactly_its_day_month_and_year(automation: Automation) -> None:
    # given work that was done before the first tick: rows were corrected, the sums were not
    execute(
        automation.resource.engine,
        "UPDATE bitcoin_daily_summaries SET bitcoin_mined = 1 WHERE summary_date = '2025-06-06'",
        "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = 1",
        "UPDATE bitcoin_yearly_summaries SET bitcoin_mined = 1",
    )

    # when
    asked = automation.asked()

    # then, and after it was done nothing any more
    assert asked == each(BITCOIN)
    automation.refresh(asked)
    assert state_of(automation.resource.engine, SMALL_DAYS).summary_faults == 0
    assert automation.asked() == {}


def test_new_wind_generation_refreshes_the_energy_alone(automation: Automation) -> None:
    store(automation.resource.engine, JUNE_7, (10, 20))

    asked = automation.asked()

    assert asked == each(ENERGY, ("2025-06-07", "2025-06", "2025"))
    automation.refresh(asked)
    assert automation.asked() == {}


def test_a_day_that_has_nothing_but_wind_generation_is_summed(automation: Automation) -> None:
    store(automation.resource.engine, JUNE_6.replace(day=1), (10, 20))

    assert automation.asked() == each(ENERGY, ("2025-06-01", "2025-06", "2025"))


def test_what_is_about_to_be_filled_waits_until_it_is_right(automation: Automation) -> None:
    # given calculations that are missing, and sums that differ for that
    execute(automation.resource.engine, S9_GONE, "DELETE FROM daily_summaries WHERE summary_date = '2025-06-06'")

    # then what does not hang on them is refreshed
    energy = {"daily_summaries": {"2025-06-06"}}
    assert automation.asked() == energy
    automation.refresh(energy)

    # and when the gap sensor's run has made other values of them, the sums follow
    execute(automation.resource.engine, "UPDATE bitcoin_daily_summaries SET bitcoin_mined = 1")
    sensor = Sensor("calculation_gap_sensor", automation.resource, automation.instance)
    (request,) = sensor.tick().run_requests or []
    assert automation.asked() == {"bitcoin_daily_summaries": {"2025-06-07"}}
    assert sensor.make(request).success
    assert automation.asked() == {"bitcoin_daily_summaries": {"2025-06-06", "2025-06-07"}}


def test_records_that_are_about_to_be_restored_keep_the_energy_waiting_too(automation: Automation) -> None:
    execute(automation.resource.engine, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-06'")

    assert automation.asked() == {}


@pytest.mark.parametrize("status", [InstigatorStatus.RUNNING, InstigatorStatus.DECLARED_IN_CODE])
def test_what_the_gap_sensor_gave_up_is_summed_all_the_same(automation: Automation, status: InstigatorStatus) -> None:
    execute(automation.resource.engine, S9_GONE)
    assert automation.asked() == {}

    let_give_up(automation, status)

    assert automation.asked() == each(BITCOIN)


def test_where_the_gap_sensor_was_switched_off_nothing_waits_for_it(automation: Automation) -> None:
    execute(automation.resource.engine, S9_GONE)
    Sensor("calculation_gap_sensor", automation.resource, automation.instance).keep(InstigatorStatus.STOPPED)

    assert automation.asked() == each(BITCOIN)


def test_what_lacks_its_difficulty_is_not_waited_for(automation: Automation) -> None:
    # given calculations that no sensor can fill
    execute(
        automation.resource.engine,
        S9_GONE,
        "UPDATE network_difficulty SET observed_at = '2025-06-02 00:00:00'",
    )

    assert automation.asked() == each(BITCOIN)


def test_of_several_years_one_has_its_turn(automation: Automation, noon: WorkbenchAt) -> None:
    # given
    execute(automation.resource.engine, "UPDATE daily_summaries SET total_curtailed_energy = 1")
    store(noon.engine, JUNE_6.replace(year=2023), (10, 20))
    everything = [
        {"daily_summaries": {"2025-06-06", "2025-06-07"}},
        each(ENERGY, ("2023-06-06", "2023-06", "2023")),
    ]

    # when
    first = automation.asked()
    noon.wait(minutes=1)
    second = automation.asked()

    # then: in two minutes each had one
    assert first != second
    assert first in everything
    assert second in everything


@pytest.mark.parametrize("key", [dg.AssetKey("bitcoin_monthly_summaries"), dg.AssetKey("bitcoin_daily_summaries")])
def test_what_is_being_made_or_follows_from_it_waits(automation: Automation, key: dg.AssetKey) -> None:
    # given
    execute(automation.resource.engine, "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = 1")
    assert automation.asked() == {"bitcoin_monthly_summaries": {"2025-06"}}
    partition = "2025-06" if "monthly" in key.to_user_string() else "2025-06-07"
    run = automation.instance.create_run_for_job(
        automation.defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset([key]),
        tags={"dagster/partition": partition},
        status=dg.DagsterRunStatus.STARTED,
    )

    # then
    assert automation.asked() == {}
    automation.instance.report_run_canceled(run)
    assert automation.asked() == {"bitcoin_monthly_summaries": {"2025-06"}}


def test_a_summary_that_failed_is_asked_for_again_at_the_next_full_hour(
    automation: Automation, noon: WorkbenchAt
) -> None:
    # given a month that the database does not take
    execute(
        noon.engine,
        "UPDATE monthly_summaries SET total_curtailed_energy = 1",
        "CREATE TRIGGER poison BEFORE UPDATE ON monthly_summaries BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
    )
    month = {"monthly_summaries": {"2025-06"}}
    assert automation.asked(datetime(2026, 1, 15, 12, 10, tzinfo=UTC)) == month
    assert not launch(noon, automation.instance, [dg.AssetKey("monthly_summaries")], "2025-06").success

    # then
    hours = {
        f"{hour}:{minute}": automation.asked(datetime(2026, 1, 15, hour, minute, 30, tzinfo=UTC))
        for hour, minute in ((12, 11), (12, 59), (13, 0), (13, 1), (13, 59), (14, 0))
    }
    assert hours == {"12:11": {}, "12:59": {}, "13:0": month, "13:1": {}, "13:59": {}, "14:0": month}

    # and other summaries do not wait for it
    execute(noon.engine, "UPDATE yearly_summaries SET total_curtailed_energy = 1")
    assert automation.asked(datetime(2026, 1, 15, 14, 2, tzinfo=UTC)) == {"yearly_summaries": {"2025"}}


def test_summaries_that_dagster_knows_and_that_are_right_are_not_made_again_when_their_rows_are(
    automation: Automation, noon: WorkbenchAt
) -> None:
    # given
    report_right_partitions(automation.instance, noon, read_state(noon, SMALL_DAYS))
    assert automation.asked() == {}

    # when the rows below are made again, unchanged
    assert launch(noon, automation.instance, [dg.AssetKey("curtailment_records")], "2025-06-06").success

    # then
    assert automation.asked() == {}
    assert WIND_GENERATION.to_user_string() not in automation.asked()
