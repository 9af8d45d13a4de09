from dataclasses import replace

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.database.tables import curtailment_records
from recon_assets.orchestration.active_runs import ASKED_BY, RANGE_TAGS
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS, calculations_key
from recon_assets_tests.support.steps import SMALL_DAYS, execute, state_of
from recon_assets_tests.support.ticks import Sensor, WorkbenchAt, at_noon, spell
from recon_assets_tests.support.ui import note_backfill

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""No query of its own: reconcile/ has test_gaps.py, test_constraints.py and test_difference.py on both engines."""

MODELS = "M20S,S19J_PRO,S9"
S9_GONE = "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9' AND settlement_date = '2025-06-06'"
POISON = (
    "CREATE TRIGGER poison BEFORE INSERT ON historical_bitcoin_calculations "
    "WHEN NEW.settlement_date = '2025-06-06' AND NEW.settlement_period = 7 "
    "BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
)


@pytest.fixture
def noon(resource: ReconResource, small_days: Engine) -> WorkbenchAt:
    """Two days that are right, at noon."""
    return at_noon(resource)


@pytest.fixture
def calculations(noon: WorkbenchAt, instance: dg.DagsterInstance) -> Sensor:
    return Sensor("calculation_gap_sensor", noon, instance)


def adopt(engine: Engine, *days: str) -> None:
    """Gives days the records of 2025-06-06, as an old database has them: without calculations."""
    columns = [column.name for column in curtailment_records.columns if column.name not in ("id", "settlement_date")]
    names = ", ".join(columns)
    execute(
        engine,
        *(
            f"INSERT INTO curtailment_records (settlement_date, {names}) "
            f"SELECT '{day}', {names} FROM curtailment_records WHERE settlement_date = '2025-06-06'"
            for day in days
        ),
    )


def test_of_an_empty_database_nothing_is_asked(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    assert Sensor("calculation_gap_sensor", resource, instance).said() == "Nothing is stored yet."


def test_where_everything_is_right_nothing_is_asked(calculations: Sensor) -> None:
    assert calculations.said() == (
        "2025-06-06..2025-06-07: 0 days not right, 0 days in flight; 0 asked for, given up: none."
    )


def test_a_run_makes_exactly_what_is_not_right(calculations: Sensor, noon: WorkbenchAt) -> None:
    # given: of the one day a model is missing, of the other the records
    execute(noon.engine, S9_GONE, "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07'")

    # when
    requests = calculations.tick().run_requests or []

    # then
    assert [spell(request) for request in requests] == [
        f"converge_days 2025-06-07 curtailment_records,{MODELS}",
        "converge_days 2025-06-06 S9",
    ]
    assert {request.tags[ASKED_BY] for request in requests} == {"calculation_gap_sensor"}
    assert [request.asset_check_keys for request in requests] == [[], []]
    assert {request.run_key for request in requests} == {None}

    # and when these runs were made, everything but the sums is right
    for request in requests:
        assert calculations.make(request).success
    state = state_of(noon.engine, SMALL_DAYS)
    assert (state.total.faults, state.records.faults) == (0, 0)
    assert calculations.asked() == []
    assert calculations.known["days"] == {}


def test_orphans_are_removed(calculations: Sensor, noon: WorkbenchAt) -> None:
    columns = "settlement_date, settlement_period, miner_model, bitcoin_mined, difficulty, calculated_at"
    execute(
        noon.engine,
        f"INSERT INTO historical_bitcoin_calculations (farm_id, {columns}) SELECT 'T_NOBODY-1', {columns} "
        "FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06' AND miner_model = 'S9' LIMIT 1",
    )

    assert calculations.asked() == ["converge_days 2025-06-06 S9"]


def test_days_of_a_month_are_one_run_and_the_newest_come_first_six_a_tick(
    calculations: Sensor, noon: WorkbenchAt
) -> None:
    # given
    adopt(
        noon.engine, "2025-01-31", "2025-02-01", "2025-02-02", "2025-03-01", "2025-04-01", "2025-05-01",
        "2025-07-01", "2025-08-01", "2025-09-01",
    )  # fmt: skip

    # when
    first, second, third = calculations.asked(), calculations.asked(), calculations.asked()

    # then
    assert first == [
        f"converge_days {day} {MODELS}"
        for day in ("2025-09-01", "2025-08-01", "2025-07-01", "2025-05-01", "2025-04-01", "2025-03-01")
    ]
    # what was asked for without a trace in Dagster is asked for again, newest first, three times in all
    assert second == third == first
    assert calculations.asked() == [
        f"converge_days 2025-02-01..2025-02-02 {MODELS}",
        f"converge_days 2025-01-31 {MODELS}",
    ]


def test_a_tick_reads_one_year_and_the_next_one_the_year_before(calculations: Sensor, noon: WorkbenchAt) -> None:
    adopt(noon.engine, "2023-12-31", "2024-01-01", "2024-12-31")

    assert calculations.asked() == []
    assert calculations.asked() == [f"converge_days {day} {MODELS}" for day in ("2024-12-31", "2024-01-01")]
    assert calculations.asked() == [f"converge_days 2023-12-31 {MODELS}"]
    assert calculations.asked() == []
    assert len(calculations.asked()) == 2


@pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_what_is_in_flight_is_not_asked_for(calculations: Sensor, noon: WorkbenchAt, status: str) -> None:
    # given: both days lack a model, and a run of the one day has not ended
    execute(noon.engine, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    request = dg.RunRequest(
        job_name="converge_days",
        asset_selection=[calculations_key("S9")],
        tags=dict.fromkeys(RANGE_TAGS, "2025-06-07"),
    )
    run = calculations.begin(request, dg.DagsterRunStatus(status))

    # then
    assert calculations.asked() == ["converge_days 2025-06-06 S9"]

    # and when it failed, the day has its turn
    calculations.instance.report_run_failed(run)
    assert "converge_days 2025-06-06..2025-06-07 S9" in calculations.asked()


def test_a_run_of_one_partition_and_one_of_everything_are_in_flight_too(
    calculations: Sensor, noon: WorkbenchAt
) -> None:
    execute(noon.engine, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    for day, keys in (("2025-06-06", [calculations_key("S9")]), ("2025-06-07", None)):
        tags = {"dagster/partition": day}
        calculations.begin(dg.RunRequest(job_name="converge_days", asset_selection=keys, tags=tags))

    assert calculations.said().startswith(
        "2025-06-06..2025-06-07: 2 days (2025-06-06..2025-06-07) not right, 2 days (2025-06-06..2025-06-07) in "
    )


def test_runs_of_other_assets_are_not_waited_for(calculations: Sensor, noon: WorkbenchAt) -> None:
    execute(noon.engine, S9_GONE)
    tags = dict.fromkeys(RANGE_TAGS, "2025-06-06")
    calculations.begin(dg.RunRequest(job_name="ingest_days", asset_selection=[WIND_BIDS], tags=tags))

    assert calculations.asked() == ["converge_days 2025-06-06 S9"]


def test_the_days_of_a_backfill_are_left_to_it(calculations: Sensor, noon: WorkbenchAt) -> None:
    execute(noon.engine, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    note_backfill(calculations, [calculations_key("S9")], "2025-06-07")

    assert calculations.asked() == ["converge_days 2025-06-06 S9"]


def test_a_gap_that_stays_is_given_up_with_its_reason_until_its_cause_is_gone(
    calculations: Sensor, noon: WorkbenchAt
) -> None:
    # given a row that the database does not take
    execute(noon.engine, f"{S9_GONE} AND settlement_period = 7", POISON)

    # when: one run says why; of the others the process was killed
    (request,) = calculations.tick().run_requests or []
    assert not calculations.make(request).success
    for _ in range(2):
        (request,) = calculations.tick().run_requests or []
        assert spell(request) == "converge_days 2025-06-06 S9"
        noon.wait(seconds=1)
    last = calculations.make(request)

    # then
    assert not last.success
    assert "given up: 2025-06-06." in calculations.said()
    (reason,) = calculations.given_up.values()
    assert "poisoned" in reason
    assert "2025-06-06" in reason
    assert calculations.said()

    # and when the trigger is dropped, it is asked for at once, and forgotten when it is right
    execute(noon.engine, "DROP TRIGGER poison")
    (request,) = calculations.tick().run_requests or []
    assert calculations.given_up == {}
    assert calculations.make(request).success
    assert calculations.asked() == []
    assert calculations.known["days"] == {}


def test_what_was_given_up_is_asked_for_when_it_changes_and_the_next_day_once(
    calculations: Sensor, noon: WorkbenchAt
) -> None:
    # given
    execute(noon.engine, S9_GONE + " AND settlement_period < 10")
    for _ in range(3):
        (request,) = calculations.tick().run_requests or []
        calculations.fail(request)
    assert calculations.asked() == []
    assert calculations.given_up == {"2025-06-06": "its process was killed"}

    # when more rows are missing, it is asked for three times again
    execute(noon.engine, S9_GONE)
    for _ in range(3):
        assert calculations.asked() == ["converge_days 2025-06-06 S9"]
    assert calculations.asked() == []
    assert calculations.given_up == {"2025-06-06": "its process was killed"}

    # when it is the next day in London
    noon.wait(hours=11)
    assert calculations.asked() == []
    noon.wait(hours=1)
    assert calculations.asked() == ["converge_days 2025-06-06 S9"]
    assert calculations.asked() == []
    assert list(calculations.given_up) == ["2025-06-06"]


def test_where_the_difficulty_is_not_known_it_is_read_once_an_hour_and_nothing_else(
    calculations: Sensor, noon: WorkbenchAt
) -> None:
    # given
    noon.settings = replace(noon.settings, mempool_api_url="http://127.0.0.1:9/api")
    execute(
        noon.engine,
        "DELETE FROM historical_bitcoin_calculations",
        "UPDATE network_difficulty SET observed_at = '2025-06-02 00:00:00'",
    )

    # when
    first, second = calculations.tick(), calculations.tick()
    noon.wait(hours=1)
    later = calculations.tick()

    # then
    for ticked in (first, second, later):
        assert [spell(request) for request in ticked.run_requests or []] == ["refresh_difficulty"]
    keys = [request.run_key for ticked in (first, second, later) for request in ticked.run_requests or []]
    assert keys[0] == keys[1] != keys[2]
    assert calculations.known["days"] == {}

    # and without a source of it, nothing at all
    noon.settings = replace(noon.settings, mempool_api_url=None)
    assert "The difficulty of 2 days (2025-06-06..2025-06-07) is not known." in calculations.said()
