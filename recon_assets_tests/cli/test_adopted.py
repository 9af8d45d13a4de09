"""What commands say of the user's old database: the same before their first write as after it."""

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.domain.difficulty import DifficultyHistory, packaged_retargets
from recon_assets.domain.mining import MODELS
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import build_old_database
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import JUNE, execute

FIRST = date(2023, 6, 1)
PERIOD = ("--from", "2023-06-01", "--to", "2023-06-02")
COUNTS = ("expected", "actual", "missing", "orphaned", "duplicated", "wrong")


@pytest.fixture
def old(settings: Settings) -> Engine:
    """The user's old database, in which the calculation of 25 MWh is right for one of three models."""
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    reward = DifficultyHistory(packaged_retargets()).reward(FIRST, 7)
    bitcoin = 25 * MODELS["S9"].hashes_per_mwh * reward.bitcoin_per_hash
    execute(
        engine,
        "DELETE FROM historical_bitcoin_calculations WHERE id = 2",
        f"UPDATE historical_bitcoin_calculations SET bitcoin_mined = {bitcoin!r}, difficulty = {reward.difficulty!r}",
    )
    return engine


@pytest.fixture
def recon(database_url: str, tmp_path: Path, light_dagster: dict[str, str]) -> Command:
    """The command on that database, with recordings that do not have its days."""
    return Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri(), **light_dagster)


def test_the_calculations_are_judged_alike_before_and_after_the_first_write(recon: Command, old: Engine) -> None:
    assert recon("migrate").exit_code == 0

    before = recon("status", *PERIOD, "--format", "json").facts
    recon("summaries", *PERIOD)
    after = recon("status", *PERIOD, "--format", "json").facts

    assert {name: before[name] for name in COUNTS} == {name: after[name] for name in COUNTS}
    assert (before["expected"], before["actual"], before["wrong"]) == (6, 1, 0)
    assert before["models"]["S9"]["completion_pct"] == 50


def test_a_spot_of_an_adopted_day_has_its_expected_values_before_the_first_write(recon: Command, old: Engine) -> None:
    assert recon("migrate").exit_code == 0

    fixed = recon("spot-fix", "2023-06-01", "7", "T_SGRWO-1", "--format", "json").facts

    assert fixed["models"]["S9"]["was_right"]
    assert {model["is_right"] for model in fixed["models"].values()} == {True}


def test_an_unknown_miner_model_is_shown_with_the_statement_that_mends_it(
    recon: Command, small_days: Engine, settings: Settings
) -> None:
    # given
    rename = "UPDATE historical_bitcoin_calculations SET miner_model = '{}' WHERE miner_model = '{}'"
    statement = f"{rename.format('S19J_PRO', 's19j_pro')};"
    (renamed,) = execute(small_days, rename.format("s19j_pro", "S19J_PRO"))
    small = ("--from", "2025-06-06", "--to", "2025-06-07")

    # when
    status, table = recon("status", *small, "--format", "json"), recon("status", *small)
    analysis = recon("analyze", *small)
    worked = recon("reconcile", *small)

    # then
    assert (status.exit_code, table.exit_code, analysis.exit_code, worked.exit_code) == (1, 1, 1, 1)
    assert status.facts["unknown_models"] == {"s19j_pro": renamed}
    assert statement in [line.strip() for line in table.stdout.splitlines()]
    assert statement in [line.strip() for line in analysis.stdout.splitlines()]
    assert "rows of S19J_PRO are stored as 's19j_pro'" in worked.stderr
    assert "Traceback" not in worked.stderr
    assert execute(small_days, statement) == [renamed]
    assert recon("status", *small).exit_code == 0
