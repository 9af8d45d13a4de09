from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from recon_assets.orchestration.active_runs import RANGE_TAGS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.checks import CHECKS, evaluate
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets_tests.support.steps import execute

ONE_ENGINE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""reconcile/test_checks.py has both engines."""
S9 = dg.AssetKey(["historical_bitcoin_calculations", "S9"])


def audit(resource: ReconResource, instance: dg.DagsterInstance) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """Every check, as the job `audit_history` has them evaluated."""
    job = build_defs(resource).resolve_job_def("audit_history")
    ended = job.execute_in_process(instance=instance, run_config=QUIET)
    assert ended.success
    found = ended.get_asset_check_evaluations()
    return {check.asset_check_key: check for check in found}


@ONE_ENGINE
def test_the_job_evaluates_every_check_and_changes_nothing(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # when
    found = audit(resource, instance)

    # then: yesterday is not ingested, which is to come and not wrong
    assert set(found) == set(CHECKS)
    assert {key.name for key, check in found.items() if not check.passed} <= {"every_period_has_proof"}
    assert instance.get_materialized_partitions(S9) == set()


@contextmanager
def readings_of_bids(engine: Engine) -> Iterator[list[str]]:
    """Fills a list with the queries that read wind bids."""
    queries: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "wind_bids" in statement:
            queries.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield queries
    event.remove(engine, "before_cursor_execute", note)


@ONE_ENGINE
def test_the_state_is_read_once_for_the_checks_of_many_assets_and_in_part_for_those_of_one(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    with readings_of_bids(resource.engine) as of_model:
        assert len(list(evaluate(resource, [check for check in CHECKS if check.asset_key == S9]))) == 3
    with readings_of_bids(resource.engine) as of_all:
        audit(resource, instance)
    with readings_of_bids(resource.engine) as of_many:
        list(evaluate(resource, list(CHECKS)))

    assert of_model == []
    assert len(of_all) == len(of_many) > 0


@ONE_ENGINE
def test_a_check_names_dates_counts_and_thresholds(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")

    # when
    check = audit(resource, instance)[dg.AssetCheckKey(S9, "every_expected_row_exists")]

    # then
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    missing = check.metadata["missing"].value
    assert isinstance(missing, int)
    assert missing > 0
    assert f"{missing:,} missing" in (check.description or "")
    assert check.metadata["threshold: tolerated"].value == "0 rows"
    worst = check.metadata["worst"]
    assert isinstance(worst, dg.TableMetadataValue)
    dates = {record.data["settlement_date"]: record.data["missing"] for record in worst.records}
    assert set(dates) == {"2025-06-06", "2025-06-07"}
    assert sum(int(str(count)) for count in dates.values()) == missing


@ONE_ENGINE
def test_of_an_empty_database_nothing_can_be_told(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    found = audit(resource, instance)

    assert {(check.passed, check.severity) for check in found.values()} == {(False, dg.AssetCheckSeverity.WARN)}


@ONE_ENGINE
def test_a_run_of_an_asset_evaluates_its_checks_on_the_whole_history(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # given: both days are damaged, one is materialized
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    defs = build_defs(resource)
    job = dg.define_asset_job("one", selection=dg.AssetSelection.assets(S9))

    # when
    ended = (
        dg.Definitions(assets=defs.assets, resources=defs.resources, jobs=[job], executor=dg.in_process_executor)
        .resolve_job_def("one")
        .execute_in_process(instance=instance, partition_key="2025-06-06", run_config=QUIET)
    )

    # then: the day was mended, and the check tells of the other
    found = {check.check_name: check for check in ended.get_asset_check_evaluations()}
    assert set(found) == {"every_expected_row_exists", "every_value_is_right", "no_orphan_no_duplicate"}
    worst = found["every_expected_row_exists"].metadata["worst"]
    assert isinstance(worst, dg.TableMetadataValue)
    assert [record.data["settlement_date"] for record in worst.records] == ["2025-06-07"]
    assert instance.get_materialized_partitions(S9) == {"2025-06-06"}


@ONE_ENGINE
def test_a_run_of_a_backfill_leaves_its_checks_to_the_audit(
    resource: ReconResource, small_days: Engine, instance: dg.DagsterInstance
) -> None:
    # when
    job = build_defs(resource).resolve_implicit_global_asset_job_def()
    ended = job.execute_in_process(
        instance=instance,
        asset_selection=[S9],
        tags={**dict.fromkeys(RANGE_TAGS, "2025-06-06"), "dagster/backfill": "abc"},
        run_config=QUIET,
    )

    # then
    assert ended.success
    assert instance.get_materialized_partitions(S9) == {"2025-06-06"}
    assert ended.get_asset_check_evaluations() == []


def test_no_check_holds_up_a_run_and_each_says_what_it_means() -> None:
    specs = {spec.key: spec for asset in build_defs().assets or [] for spec in getattr(asset, "check_specs", [])}

    assert set(specs) == set(CHECKS)
    assert not any(spec.blocking for spec in specs.values())
    assert all(len(spec.description or "") > 30 for spec in specs.values())
    assert any(key.asset_key == WIND_BIDS for key in specs)
