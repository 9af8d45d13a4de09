"""The Dagster instance: its home, runs whose process is gone, and the report of days that the database proves right."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import dagster as dg
import psutil
import pytest
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from sqlalchemy import Engine

from recon_assets.definitions import defs
from recon_assets.domain.settlement import Days
from recon_assets.errors import ConfigurationError
from recon_assets.orchestration.instance import (
    end_dead_runs,
    housekeeping,
    limit_pools,
    open_instance,
    prepare_home,
    report_right_partitions,
)
from recon_assets.orchestration.planning import read_state
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_GENERATION
from recon_assets.orchestration.steps import process_tags
from recon_assets_tests.support.content import all_hold, figures, out_of_date, partitions, rows
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, converge_layers, execute

PACKAGED = files("recon_assets.data") / "dagster.yaml"


@pytest.fixture
def exited() -> dict[str, str]:
    """The tags of a run whose process has come to its end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate(b"\n")
    return tags(process.pid, started)


def tags(pid: int, started: float, host: str | None = None) -> dict[str, str]:
    """The tags of a run that name its process."""
    return {
        "recon/host": host or socket.gethostname(),
        "recon/pid": str(pid),
        "recon/process_started": f"{started:.2f}",
    }


def started_run(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    """A run that Dagster believes to be in progress."""
    run = instance.create_run_for_job(defs.resolve_job_def("refresh_bm_units"), tags=tags)
    begin = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name=run.job_name)
    instance.report_dagster_event(begin, run.run_id)
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """The status of a run in Dagster."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_home_without_configuration_gets_the_packaged_one(tmp_path: Path) -> None:
    prepare_home(tmp_path / "a" / "home")

    assert (tmp_path / "a" / "home" / "dagster.yaml").read_text() == PACKAGED.read_text()


def test_a_configuration_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    # given
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    # when
    with open_instance(tmp_path) as instance:
        assert instance.run_retries_enabled is False

    # then
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry:\n  enabled: false\n"


def test_the_state_survives_the_process(tmp_path: Path) -> None:
    # given
    with open_instance(tmp_path) as instance:
        run = instance.create_run_for_job(defs.resolve_job_def("refresh_bm_units"))

    # when
    with open_instance(tmp_path) as instance:
        assert instance.get_run_by_id(run.run_id) is not None

    # then it is in the home
    assert list(tmp_path.rglob("*.db"))


def test_a_new_home_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    # given
    at_once = threading.Barrier(4)

    def open_and_look() -> list[dg.DagsterRun]:
        at_once.wait()
        with open_instance(tmp_path) as instance:
            return list(instance.get_runs())

    # when
    with ThreadPoolExecutor(4) as pool:
        seen = [asked.result() for asked in [pool.submit(open_and_look) for _ in range(4)]]

    # then: Dagster unguarded would fail here, and leave a home that cannot be opened any more
    assert seen == [[]] * 4
    with open_instance(tmp_path) as instance:
        assert list(instance.get_runs()) == []


def test_a_home_that_cannot_be_used_names_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match=r"DAGSTER_HOME: .*/file cannot be used"), open_instance(file):
        pass


def test_a_configuration_that_is_wrong_names_the_variable_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: perhaps\n")
    with pytest.raises(ConfigurationError) as refused, open_instance(tmp_path):
        pass

    assert str(refused.value).startswith(f"DAGSTER_HOME: {tmp_path / 'dagster.yaml'} is not valid: ")
    assert "\n" not in str(refused.value)


def test_a_run_whose_process_is_gone_is_ended(tmp_path: Path, exited: dict[str, str]) -> None:
    # given
    with open_instance(tmp_path) as instance:
        run = started_run(instance, exited)
        assert status(instance, run) is dg.DagsterRunStatus.STARTED

    # when: the next command or server opens the instance
    with open_instance(tmp_path) as instance:
        # then
        assert status(instance, run) is dg.DagsterRunStatus.FAILURE
        (said,) = [entry.message for entry in instance.all_logs(run, of_type=dg.DagsterEventType.RUN_FAILURE)]
        assert f"process {exited['recon/pid']} of this run is gone" in said


def test_a_run_of_a_later_process_with_the_same_number_is_told_apart(instance: dg.DagsterInstance) -> None:
    run = started_run(instance, tags(os.getpid(), psutil.Process().create_time() - 3600))

    assert end_dead_runs(instance) == [run]


def test_a_run_whose_process_ended_unnoticed_by_its_parent_is_ended(instance: dg.DagsterInstance) -> None:
    # given a process that was killed, and that its parent has not asked for its end
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run = started_run(instance, tags(process.pid, psutil.Process(process.pid).create_time()))
    assert end_dead_runs(instance) == []
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    # then
    assert end_dead_runs(instance) == [run]
    process.communicate()


class EndsMeanwhile:
    """An instance whose listed runs succeed, and their processes end, as soon as they were listed."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def get_runs(self, **wanted: Any) -> Sequence[dg.DagsterRun]:
        listed = self._instance.get_runs(**wanted)
        for run in listed:
            event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
            self._instance.report_dagster_event(event, run.run_id)
        return listed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)


def test_a_run_that_succeeded_since_it_was_listed_stays_a_success(
    instance: dg.DagsterInstance, exited: dict[str, str]
) -> None:
    run = started_run(instance, exited)

    assert end_dead_runs(cast(dg.DagsterInstance, EndsMeanwhile(instance))) == []

    assert status(instance, run) is dg.DagsterRunStatus.SUCCESS


def test_a_run_that_nobody_can_say_is_dead_goes_on(instance: dg.DagsterInstance, exited: dict[str, str]) -> None:
    # given runs of this process, of another machine, and without tags
    going_on = [
        started_run(instance, process_tags()),
        started_run(instance, exited | {"recon/host": "another-machine"}),
        started_run(instance, {}),
    ]

    # then
    assert end_dead_runs(instance) == []
    assert {status(instance, run) for run in going_on} == {dg.DagsterRunStatus.STARTED}


def test_a_run_that_was_started_again_is_not_taken_for_its_predecessor(
    instance: dg.DagsterInstance, exited: dict[str, str]
) -> None:
    # given a run whose process is gone, and the one that Dagster started in its place, with all of its tags
    dead = started_run(instance, exited)
    instance.add_run_tags(dead, {"recon/run": dead})
    again = started_run(instance, {**exited, "recon/run": dead})

    # then
    assert end_dead_runs(instance) == [dead]
    assert status(instance, again) is dg.DagsterRunStatus.STARTED

    # and when its step has noted a process of its own, which is gone, too
    instance.add_run_tags(again, {"recon/run": again})
    assert end_dead_runs(instance) == [again]


def test_a_dead_run_that_is_ended_makes_room_for_the_next(tmp_path: Path, exited: dict[str, str]) -> None:
    with open_instance(tmp_path) as instance:
        # given: the one run that may read from Elexon is dead, another one waits
        job = defs.resolve_job_def("refresh_bm_units")
        dead = instance.create_run_for_job(job, tags=exited, status=dg.DagsterRunStatus.STARTED)
        waiting = instance.create_run_for_job(job)
        assert is_held_back(instance, waiting)

        # when
        housekeeping(instance)

        # then
        assert status(instance, dead.run_id) is dg.DagsterRunStatus.FAILURE
        assert not is_held_back(instance, waiting)


def is_held_back(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the queue keeps a run because its pools are full."""
    at_work = instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
    storage = instance.event_log_storage
    queue = GlobalOpConcurrencyLimitsCounter(
        instance,
        [run],
        [record for record in at_work if record.dagster_run.run_id != run.run_id],
        storage.get_concurrency_keys(),
        storage.get_pool_limits(),
        pool_granularity=instance.get_concurrency_config().pool_config.pool_granularity,
    )
    return bool(queue.is_blocked(run))


def limits(instance: dg.DagsterInstance) -> dict[str, tuple[int, bool]]:
    """The limit of each pool, and whether that is a default of dagster.yaml."""
    found = instance.event_log_storage.get_pool_limits()
    return {pool.name: (pool.limit, pool.from_default) for pool in found}


def test_pools_are_limited_before_the_first_run_and_limits_that_somebody_set_stay(tmp_path: Path) -> None:
    # given a new home
    with open_instance(tmp_path) as instance:
        assert limits(instance) == {"elexon": (1, False), "database": (3, False)}

        # when
        instance.event_log_storage.set_concurrency_slots("database", 7)
        housekeeping(instance)

        # then
        assert limits(instance) == {"elexon": (1, False), "database": (7, False)}

    with open_instance(tmp_path) as instance:
        assert limits(instance) == {"elexon": (1, False), "database": (7, False)}


def test_a_default_limit_is_none_that_somebody_set(tmp_path: Path) -> None:
    # given: Dagster gives a pool its default only when a run of it was queued already
    (tmp_path / "dagster.yaml").write_text("concurrency:\n  pools:\n    default_limit: 5\n    granularity: run\n")
    with open_instance(tmp_path) as instance:
        instance.event_log_storage.delete_concurrency_limit("elexon")
        instance.event_log_storage.initialize_concurrency_limit_to_default("elexon")
        assert limits(instance)["elexon"] == (5, True)

        # when
        limit_pools(instance)

        # then
        assert limits(instance) == {"elexon": (1, False), "database": (3, False)}


def test_an_instance_without_pools_is_kept_all_the_same(instance: dg.DagsterInstance) -> None:
    assert not instance.event_log_storage.supports_global_concurrency_limits

    housekeeping(instance)


def test_dagster_is_told_of_what_the_database_proves(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given a database that was filled without Dagster
    before = rows(small_days)

    # when
    reported = report_right_partitions(instance, resource, read_state(resource, SMALL_DAYS))

    # then: 7 daily assets, 2 monthly, 2 yearly, and the two reference tables
    assert reported == 7 * 2 + 2 + 2 + 2
    assert partitions(instance) == all_hold(["2025-06-06", "2025-06-07"])
    assert figures(instance, "curtailment_records", "2025-06-06")["dagster/partition_row_count"] == 80
    assert rows(small_days) == before
    assert report_right_partitions(instance, resource, read_state(resource, SMALL_DAYS)) == 0


@pytest.mark.parametrize(
    ("damage", "untold"),
    [
        (
            "DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '2025-06-06' AND miner_model = 'S9'",
            {
                "historical_bitcoin_calculations/S9", "bitcoin_daily_summaries", "bitcoin_monthly_summaries",
                "bitcoin_yearly_summaries",
            },
        ),
        ("DELETE FROM daily_summaries WHERE summary_date = '2025-06-06'", {"daily_summaries"}),
        ("UPDATE wind_bids SET volume = -1 WHERE settlement_date = '2025-06-06'", None),
    ],
    ids=["calculations", "a summary", "bids"],
)  # fmt: skip
def test_what_is_not_right_is_not_told(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance, damage: str, untold: set[str] | None
) -> None:
    # given
    execute(small_days, damage)

    # when
    report_right_partitions(instance, resource, read_state(resource, SMALL_DAYS))

    # then: None says everything
    held = partitions(instance)
    spoiled = {name for name, found in held.items() if not found >= all_hold(["2025-06-06"])[name]}
    assert spoiled == (set(held) if untold is None else untold)
    assert "2025-06-07" in held["wind_bids"]
    assert "2025-06-07" in held["daily_summaries"]


def test_a_day_that_was_never_ingested_is_not_told(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    report_right_partitions(instance, resource, read_state(resource, Days(JUNE_6.replace(day=1), JUNE_6)))

    assert partitions(instance)["wind_bids"] == {"2025-06-06"}
    assert partitions(instance)["daily_summaries"] == {"2025-06-06"}


def test_days_with_wind_generation_are_told_with_the_sums_above_them(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given: of 2025-06-05 nothing but wind generation is stored
    before = JUNE_6.replace(day=5)
    days = Days(before, SMALL_DAYS.last)
    for day in (before, JUNE_6):
        store(small_days, day, (10, 20))
    converge_layers(small_days, days)

    # when
    reported = report_right_partitions(instance, resource, read_state(resource, days))

    # then
    assert reported == 7 * 2 + 2 + 2 + 2 + 3
    assert set(instance.get_materialized_partitions(WIND_GENERATION)) == {"2025-06-05", "2025-06-06"}
    held = partitions(instance)
    assert held["daily_summaries"] == {"2025-06-05", "2025-06-06", "2025-06-07"}
    assert held["bitcoin_daily_summaries"] == {"2025-06-06", "2025-06-07"}
    assert figures(instance, "daily_summaries", "2025-06-05")["generated_mwh"] == 15
    assert out_of_date(instance) == set()
    assert report_right_partitions(instance, resource, read_state(resource, days)) == 0
