"""Damage of every kind to two busy days, counted by plain SQL: state and checks find it, `reconcile` removes it.

test_apply.py damages the whole of June, without Dagster.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.database.tables import metadata
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.in_process import QUIET
from recon_assets.orchestration.resource import open_resource
from recon_assets.settings import Settings
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import BUSY_DAYS, JUNE, contents, execute, scalar

BUSY = ("--from", str(BUSY_DAYS.first), "--to", str(BUSY_DAYS.last))
MODELS = ("S19J_PRO", "S9", "M20S")
PRISTINE = ("curtailment_records", "historical_bitcoin_calculations")
SAME_KEY = " AND ".join(f"a.{c} = b.{c}" for c in ("settlement_date", "settlement_period", "farm_id"))
ENERGY = (
    "CREATE TABLE {name} AS SELECT settlement_date, settlement_period, farm_id, SUM(ABS(volume)) AS mwh FROM {records} "
    "GROUP BY settlement_date, settlement_period, farm_id"
)
EXPECTED = (
    # What a row must be by the pristine days: its bitcoin for each MWh, times the MWh that there are now.
    "CREATE TABLE expected AS SELECT b.settlement_date, b.settlement_period, b.farm_id, b.miner_model, b.difficulty, "
    "b.bitcoin_mined / was.mwh * a.mwh AS bitcoin FROM energy_now a "
    f"JOIN pristine_historical_bitcoin_calculations b ON {SAME_KEY} "
    f"JOIN energy_before was ON {SAME_KEY.replace('a.', 'was.')}"
)
SAME_CALCULATION = f"{SAME_KEY} AND a.miner_model = b.miner_model"


def damage(engine: Engine, *, duplicates: bool) -> None:
    """Damages the days: each kind on separate rows, and records only where the calculations are left alone."""
    copies = [f"CREATE TABLE pristine_{table} AS SELECT * FROM {table}" for table in PRISTINE]
    chosen = (
        "CREATE TABLE chosen AS SELECT id, ROW_NUMBER() OVER (ORDER BY (id * 7919) % 104729, id) AS rank "
        "FROM historical_bitcoin_calculations WHERE bitcoin_mined > 0.001"
    )
    untouched = (
        "CREATE TABLE chosen_records AS SELECT id, ROW_NUMBER() OVER (ORDER BY (id * 7919) % 104729, id) AS rank "
        "FROM curtailment_records a WHERE volume < -1 AND NOT EXISTS (SELECT 1 FROM historical_bitcoin_calculations b "
        f"JOIN chosen ON chosen.id = b.id AND chosen.rank <= 1100 WHERE {SAME_KEY})"
    )

    def some(table: str, low: int, high: int) -> str:
        return f"id IN (SELECT id FROM {table} WHERE rank BETWEEN {low} AND {high})"

    calculations, records = "historical_bitcoin_calculations", "curtailment_records"
    tomorrow = f"{calculations}.settlement_date + 1"
    if engine.dialect.name == "sqlite":
        tomorrow = f"date({calculations}.settlement_date, '+1 day')"
    columns = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
    statements = [
        *copies,
        chosen,
        untouched,
        f"UPDATE {calculations} SET bitcoin_mined = bitcoin_mined * 1.0001 WHERE {some('chosen', 1, 50)}",
        f"UPDATE {calculations} SET difficulty = (SELECT n.difficulty FROM network_difficulty n WHERE n.height = 2016 +"
        f" (SELECT MAX(o.height) FROM network_difficulty o WHERE o.starts_at < {tomorrow}))"
        f" WHERE {some('chosen', 51, 70)}",
        f"INSERT INTO {calculations} ({columns}) SELECT settlement_date, settlement_period, 'T_NOSUCH-1', miner_model,"
        f" bitcoin_mined, difficulty FROM {calculations} WHERE {some('chosen', 71, 100)}",
        f"DELETE FROM {calculations} WHERE {some('chosen', 101, 1100)}",
        f"DELETE FROM {records} WHERE {some('chosen_records', 1, 5)}",
        f"UPDATE {records} SET volume = volume * 1.5, payment = payment * 1.5 WHERE {some('chosen_records', 6, 10)}",
        f"UPDATE {records} SET payment = payment + 100 WHERE {some('chosen_records', 11, 15)}",
        "UPDATE bitcoin_monthly_summaries SET bitcoin_mined = bitcoin_mined * 2 WHERE miner_model = 'S9'",
        "UPDATE yearly_summaries SET total_curtailed_energy = 1",
    ]
    if duplicates:
        statements += [
            f"DROP INDEX {calculations}_key",
            f"INSERT INTO {calculations} ({columns}) SELECT {columns} FROM {calculations}"
            f" WHERE {some('chosen', 71, 80)}",
        ]
    execute(engine, *statements)


def found_by_sql(engine: Engine) -> dict[str, Any]:
    """The damage, counted by comparing with the pristine days."""
    key = "(settlement_date, settlement_period, farm_id"
    execute(
        engine,
        ENERGY.format(name="energy_before", records="pristine_curtailment_records"),
        ENERGY.format(name="energy_now", records="curtailment_records"),
        f"CREATE INDEX energy_before_key ON energy_before {key})",
        f"CREATE INDEX energy_now_key ON energy_now {key})",
        f"CREATE INDEX pristine_key ON pristine_historical_bitcoin_calculations {key}, miner_model)",
        f"CREATE INDEX stored_key ON historical_bitcoin_calculations {key}, miner_model)",
        EXPECTED,
        f"CREATE INDEX expected_key ON expected {key}, miner_model)",
        "CREATE INDEX pristine_records ON pristine_curtailment_records"
        " (settlement_date, settlement_period, sequence_number)",
    )
    off = (
        "(ABS(a.bitcoin_mined - b.bitcoin) > 5e-9 AND ABS(a.bitcoin_mined - b.bitcoin) > 1e-7 * ABS(b.bitcoin)"
        " OR ABS(a.difficulty - b.difficulty) > 1e-9 * b.difficulty)"
    )
    first = (
        "NOT EXISTS (SELECT 1 FROM historical_bitcoin_calculations t WHERE t.id < a.id AND "
        + SAME_CALCULATION.replace("b.", "t.")
        + ")"
    )
    stored = "historical_bitcoin_calculations a"

    def count(what: str) -> int:
        return int(scalar(engine, f"SELECT COUNT(*) FROM {what}"))

    models = {
        model: {
            "expected": count(f"expected b WHERE b.miner_model = '{model}'"),
            "missing": count(
                f"expected b WHERE b.miner_model = '{model}' AND NOT EXISTS "
                f"(SELECT 1 FROM {stored} WHERE {SAME_CALCULATION})"
            ),
            "orphaned": count(
                f"{stored} WHERE a.miner_model = '{model}' AND {first} AND NOT EXISTS "
                f"(SELECT 1 FROM energy_now b WHERE {SAME_KEY})"
            ),
            "duplicated": count(f"{stored} WHERE a.miner_model = '{model}' AND NOT {first}"),
            "wrong": count(
                f"{stored} JOIN expected b ON {SAME_CALCULATION} WHERE a.miner_model = '{model}' AND {first} AND {off}"
            ),
        }
        for model in MODELS
    }
    same_record = (
        "a.settlement_date = b.settlement_date AND a.settlement_period = b.settlement_period"
        " AND a.sequence_number = b.sequence_number"
    )
    records = {
        "missing": count(
            f"pristine_curtailment_records b WHERE NOT EXISTS (SELECT 1 FROM curtailment_records a WHERE {same_record})"
        ),
        "surplus": count(
            f"curtailment_records a WHERE NOT EXISTS (SELECT 1 FROM pristine_curtailment_records b WHERE {same_record})"
        ),
        "wrong": count(
            f"curtailment_records a JOIN pristine_curtailment_records b ON {same_record} "
            "WHERE a.volume <> b.volume OR a.payment <> b.payment"
        ),
    }
    return {"models": models, "records": records}


# test_apply.py converges both kinds of damage on both engines.
@pytest.mark.parametrize(
    ("database_url", "duplicates"),
    [pytest.param("postgresql", False, id="postgresql-keyed"), pytest.param("sqlite", True, id="sqlite-without_key")],
    indirect=["database_url"],
)
def test_all_damage_is_counted_and_mended_exactly(
    duplicates: bool,
    database_url: str,
    busy_days: Engine,
    settings: Settings,
    tmp_path: Path,
    light_dagster: dict[str, str],
) -> None:
    # given
    fresh = contents(busy_days, *metadata.sorted_tables)
    damage(busy_days, duplicates=duplicates)
    truth = found_by_sql(busy_days)
    models: dict[str, dict[str, int]] = truth["models"]
    sums = {name: sum(model[name] for model in models.values()) for name in models["S9"]}
    assert sums["missing"] == 1000
    assert sums["duplicated"] == (10 if duplicates else 0)
    assert sums["orphaned"] >= 30
    assert sums["wrong"] >= 70 + 3 * 5  # a volume is in three models' rows
    assert truth["records"] == {"missing": 5, "surplus": 0, "wrong": 10}
    source = {"ELEXON_API_URL": JUNE.as_uri(), "MEMPOOL_API_URL": "none"}
    recon = Command(tmp_path, DATABASE_URL=database_url, **source, **light_dagster)

    # when
    status = recon("status", *BUSY, "--format", "json")

    # then the state is what SQL counts
    assert status.exit_code == 1
    found = status.facts
    assert {name: found[name] for name in sums} == sums
    for model, counts in models.items():
        assert {name: found["models"][model][name] for name in counts} == counts
    assert found["curtailment"] == truth["records"]

    # and so are the checks
    checks = evaluated(settings)
    for model, counts in models.items():
        asset = f"historical_bitcoin_calculations/{model}"
        assert checks[asset, "every_expected_row_exists"]["missing"] == counts["missing"]
        assert checks[asset, "every_value_is_right"]["wrong"] == counts["wrong"]
        assert checks[asset, "no_orphan_no_duplicate"]["orphaned"] == counts["orphaned"]
        assert checks[asset, "no_orphan_no_duplicate"]["duplicated"] == counts["duplicated"]
    of_records = checks["curtailment_records", "records_equal_bids"]
    assert {name: of_records[name] for name in truth["records"]} == truth["records"]
    assert checks["curtailment_records", "payments_follow_volume_and_price"]["records"] == 5
    assert checks["bitcoin_daily_summaries", "models_have_equal_counts"]["dates"] > 0
    assert found["stale_summaries"] == sum(counts["stale"] for (_, _), counts in checks.items() if "stale" in counts)
    passed = {name for (_, name), counts in checks.items() if counts["passed"]}
    # No settlement period lost all of its rows, and no proof was touched.
    assert passed == {"every_period_has_proof", "settlement_periods_match"}

    # when
    mended = recon("reconcile", *BUSY, "--format", "json")

    # then exactly the damage was mended, and every table is that of a fresh ingest
    assert (mended.exit_code, mended.stderr) == (0, "")
    assert mended.facts["done"]["days_read"] == 0
    assert mended.facts["done"]["converged"] == {
        "inserted": 1000 + 5, "corrected": 50 + 20 + 10 + 2, "removed": 30 + (10 if duplicates else 0),
    }  # fmt: skip
    assert contents(busy_days, *metadata.sorted_tables) == fresh
    assert all(counts["passed"] for counts in evaluated(settings).values())


def evaluated(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """Every check's counts, from a run of the job `audit_history`."""
    quiet = replace(settings, elexon_api_url=JUNE.as_uri(), mempool_api_url=None)
    with open_resource(quiet) as resource, dg.DagsterInstance.ephemeral() as instance:
        ended = (
            build_defs(resource)
            .resolve_job_def("audit_history")
            .execute_in_process(instance=instance, run_config=QUIET)
        )
    return {
        (check.asset_key.to_user_string(), check.check_name): {
            "passed": check.passed,
            **{name: value.value for name, value in check.metadata.items() if name != "worst"},
        }
        for check in ended.get_asset_check_evaluations()
    }
