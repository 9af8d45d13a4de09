"""What commands say of the user's old database: the same before their first write as after it."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.domain.difficulty import DifficultyHistory, packaged_retargets
from recon_assets.domain.mining import MODELS, bitcoin_mined
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import build_old_database
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.rewards import reward_of
from recon_assets_tests.support.steps import JUNE, execute

FIRST = date(2023, 6, 1)
PERIOD = ("--from", "2023-06-01", "--to", "2023-06-02")
COUNTS = ("expected", "actual", "missing", "orphaned", "duplicated", "wrong")


@pytest.fixture
def old(settings: Settings) -> Engine:
    """The user's old database, in which the calculation of 25 MWh is right for one of three models."""
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    reward = reward_of(DifficultyHistory(packaged_retargets()), FIRST, 7)
    bitcoin = bitcoin_mined(25, MODELS["S9"].hashes_per_mwh, reward.bitcoin_per_hash)
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


READING = (("status",), ("analyze",), ("report",), ("watch", "--once"), ("doctor",), ("reconcile", "--dry-run"))
WRITING = (("date", "2025-06-06"), ("summaries",), ("migrate",), ("daily-check",))


def test_a_first_day_that_the_database_does_not_have_ends_every_command(recon: Command, small_days: Engine) -> None:
    assert recon("migrate").exit_code == 0

    for words in (*READING, *WRITING):
        ended = recon(*words, RECON_FIRST_DAY="2025-01-01")
        assert (ended.exit_code, ended.stdout) == (2, ""), (words, ended.stdout)
        assert "RECON_FIRST_DAY is 2025-01-01, but" in ended.complaint
        assert "keeps days from 2022-01-01 on: set RECON_FIRST_DAY=2022-01-01" in ended.complaint


def test_days_before_the_first_kept_day_are_refused(recon: Command, old: Engine) -> None:
    recon.environment["RECON_FIRST_DAY"] = "2024-01-01"
    assert "added setting first_day = 2024-01-01" in recon("migrate").stdout

    for words in (("status", *PERIOD), ("date", "2023-06-01"), ("reconcile", "--year", "2023", "--dry-run")):
        ended = recon(*words)
        assert ended.exit_code == 2
        assert "is before 2024-01-01, the first day that is kept" in ended.complaint


def test_an_adopted_database_is_looked_at_from_the_first_kept_day_on(recon: Command, old: Engine) -> None:
    recon.environment["RECON_FIRST_DAY"] = "2023-01-01"
    assert recon("migrate").exit_code == 0
    execute(old, "INSERT INTO daily_summaries (summary_date, total_curtailed_energy) VALUES ('2019-06-01', 25)")

    status, table = recon("status", "--format", "json"), recon("status")

    assert status.facts["outside_days"] == 1
    assert "Reconciled state 2023-01-01.." in table.stdout
    assert "Rows before 2023-01-01 or after today: 1 (1 in daily_summaries); they are left alone" in table.stdout


def test_dagsters_partitions_begin_on_the_first_kept_day(recon: Command) -> None:
    code = (
        "from recon_assets.definitions import defs; from recon_assets.orchestration.partitions import PARTITIONS as P"
    )
    shown = "print(*(partitions.get_first_partition_key() for partitions in P.values()))"
    environment = {**recon.environment, "RECON_FIRST_DAY": "2024-01-01"}

    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; {shown}"], env=environment, capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["2024-01-01", "2024-01", "2024"]
