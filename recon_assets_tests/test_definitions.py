"""The definitions that Dagster loads: every asset is described, and every job has the assets that it names."""

import dagster as dg
import pytest

from recon_assets.database.tables import metadata
from recon_assets.definitions import defs
from recon_assets.domain.mining import MODELS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.partitions import DAYS_A_RUN, PARTITIONS
from recon_assets.orchestration.specs import LAYER_ASSETS, WIND_GENERATION, LayerAsset, calculations_key
from recon_assets.reconcile.layer import DAY
from recon_assets_tests.support.content import PARTITIONED

SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
GROUPS = {
    "wind_bm_units": "elexon",
    "wind_bids": "elexon",
    "wind_generation_data": "elexon",
    "network_difficulty": "bitcoin",
    "curtailment_records": "curtailment",
    "daily_summaries": "curtailment",
    "monthly_summaries": "curtailment",
    "yearly_summaries": "curtailment",
    "bitcoin_daily_summaries": "bitcoin",
    "bitcoin_monthly_summaries": "bitcoin",
    "bitcoin_yearly_summaries": "bitcoin",
    **{f"historical_bitcoin_calculations/{model}": "bitcoin" for model in MODELS},
}


def test_everything_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_the_assets_are_those_of_the_design_in_their_groups() -> None:
    assert {name: spec.group_name for name, spec in SPECS.items()} == GROUPS


@pytest.mark.parametrize(
    "asset", [one for one in LAYER_ASSETS if one.layer.grain is not DAY], ids=lambda one: str(one.key)
)
def test_the_running_period_depends_on_no_partition_that_is_still_to_come(asset: LayerAsset) -> None:
    of_period = PARTITIONS[asset.layer.grain]
    newest = of_period.subset_with_partition_keys([of_period.get_partition_keys()[-1]])
    for dep in asset.spec.deps:
        below = SPECS[dep.asset_key.to_user_string()].partitions_def
        assert dep.partition_mapping
        assert below

        found = dep.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(newest, of_period, below)

        assert list(found.partitions_subset.get_partition_keys())
        assert not found.required_but_nonexistent_subset


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_asset_says_what_it_is_who_owns_it_and_what_its_table_holds(name: str) -> None:
    spec = SPECS[name]

    assert len(spec.description or "") > 30
    assert list(spec.owners) == ["team:recon"]
    assert "table" in spec.kinds
    table = metadata.tables[name.split("/")[0]]
    assert spec.metadata["dagster/table_name"] == table.name
    schema = spec.metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == list(table.columns.keys())
    assert {column.name for column in schema.columns if column.constraints.nullable} == {
        column.name for column in table.columns if column.nullable
    }


def test_each_layer_hangs_on_the_layer_below() -> None:
    upstream = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in SPECS.items()}

    assert upstream["wind_bids"] == {"wind_bm_units"}
    assert upstream["curtailment_records"] == {"wind_bids"}
    for model in MODELS:
        below = {"curtailment_records", "network_difficulty"}
        assert upstream[f"historical_bitcoin_calculations/{model}"] == below
    assert upstream["bitcoin_daily_summaries"] == {f"historical_bitcoin_calculations/{model}" for model in MODELS}
    assert upstream["wind_generation_data"] == set()
    assert upstream["daily_summaries"] == {"curtailment_records", "wind_generation_data"}
    for kind in ("", "bitcoin_"):
        assert upstream[f"{kind}monthly_summaries"] == {f"{kind}daily_summaries"}
        assert upstream[f"{kind}yearly_summaries"] == {f"{kind}monthly_summaries"}


def test_a_backfill_puts_a_month_of_days_in_one_run() -> None:
    graph = defs.resolve_asset_graph()

    for key in [WIND_GENERATION, *PARTITIONED]:
        policy = graph.get(key).backfill_policy
        assert policy is not None
        assert policy.max_partitions_per_run == DAYS_A_RUN == 92


def test_the_jobs_hold_their_assets_and_say_what_they_do() -> None:
    jobs = {job.name: job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    selected = {
        name: {key.to_user_string() for key in job.asset_layer.selected_asset_keys} for name, job in jobs.items()
    }

    def of(letters: int) -> set[str]:
        return {asset.key.to_user_string() for asset in LAYER_ASSETS if asset.layer.grain.length == letters}

    assert selected == {
        "refresh_bm_units": {"wind_bm_units"},
        "refresh_difficulty": {"network_difficulty"},
        "ingest_days": {"wind_bids"},
        "read_wind_generation": {"wind_generation_data"},
        "converge_days": of(10),
        "converge_months": of(7),
        "converge_years": of(4),
        "reingest_day": set(),
        "daily_check": set(),
        "reconcile_range": set(),
        "verify_days": set(),
        "audit_history": set(),
    }
    assert all(job.description for job in jobs.values())
    assert set().union(*selected.values()) == set(SPECS)


def test_runs_do_their_steps_in_one_process() -> None:
    job = build_defs().resolve_job_def("converge_days")

    assert job.executor_def.name == "in_process"


def test_the_name_of_a_model_is_the_last_part_of_its_asset() -> None:
    assert calculations_key("S19J_PRO").path == ["historical_bitcoin_calculations", "S19J_PRO"]
