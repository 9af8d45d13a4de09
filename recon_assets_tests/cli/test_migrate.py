"""What `recon migrate` prints, and that a refusal changes nothing."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from recon_assets.database.engine import open_engine
from recon_assets.database.keys import KEYS
from recon_assets.settings import Settings
from recon_assets_tests.database.test_adoption import build
from recon_assets_tests.database.test_schema import build_old_database
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import execute

CALCULATIONS = "historical_bitcoin_calculations"


@pytest.fixture
def recon(settings: Settings, tmp_path: Path) -> Command:
    """`recon` on the test's own database."""
    return Command(tmp_path, DATABASE_URL=settings.database_url.render_as_string(hide_password=False))


def test_a_refusal_is_one_line_for_each_reason(recon: Command, settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    build(engine, ("curtailment_records", "farm_id", '"farmId"'))
    for words in (("migrate",), ("migrate", "--dry-run"), ("migrate", "--format", "json")):
        ended = recon(*words)

        assert (ended.exit_code, ended.stdout) == (2, "")
        assert ended.complaint == (
            'Error: this database cannot be adopted as it is: column "farmId" of curtailment_records must be called '
            'farm_id: ALTER TABLE curtailment_records RENAME COLUMN "farmId" TO farm_id'
        )

    execute(engine, "CREATE VIEW wind_generation_data AS SELECT 1 AS n")
    first, *lines = recon("migrate").stderr.splitlines()
    engine.dispose()

    assert first == "Error: this database cannot be adopted as it is, for 2 reasons; nothing was changed:"
    assert [line.split()[0] for line in lines] == ["column", "wind_generation_data"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "new", ['"farmId" text', "farm_id text CONSTRAINT sign CHECK (volume > 0)"], ids=["before", "on trial"]
)
def test_a_refusal_leaves_the_file_as_it_is(recon: Command, settings: Settings, tmp_path: Path, new: str) -> None:
    # given a file that no recon has opened
    build(create_engine(settings.database_url), ("curtailment_records", "farm_id text", new))
    file = Path(str(settings.database_url.database))
    with open_engine(settings.database_url, keep_journal=True).connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    before = file.read_bytes()

    assert recon("migrate").exit_code == 2

    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(file.name)] == [file.name]


def test_a_dry_run_prints_the_lines_and_the_sql(recon: Command, settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    build_old_database(engine)

    shown = recon("migrate", "--dry-run")
    facts = recon("migrate", "--dry-run", "--format", "json").facts
    done = recon("migrate")
    again = recon("migrate")
    engine.dispose()

    assert shown.exit_code == 0
    for line in (
        "would add table proof_of_fetch",
        "would add column sequence_number of curtailment_records",
        "column final_price of curtailment_records: NULL would be allowed",
    ):
        assert line in shown.stdout.splitlines()
    assert all(line in shown.stdout for line in (*facts["changes"], *facts["notes"], *facts["sql"]))
    assert facts["sql"][-1].startswith(("INSERT", "UPDATE", "CREATE"))
    assert not [statement for statement in facts["sql"] if statement.startswith(("SELECT", "PRAGMA"))]
    assert any(statement.startswith("CREATE TABLE proof_of_fetch") for statement in facts["sql"])
    assert not [statement for statement in facts["sql"] if "T_RECONTR" in statement or "SAVEPOINT" in statement]
    assert "column final_price of curtailment_records: NULL allowed" in done.stdout.splitlines()
    pending = f"Unique key of {CALCULATIONS}: pending, 1 duplicate row; run 'recon migrate' when they are gone"
    assert again.stdout.splitlines() == [pending, "The schema is up to date."]


def test_status_says_which_key_is_pending(recon: Command, settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    recon("migrate")
    words = ("status", "--month", "2023-06")
    pending = f"Unique key of {CALCULATIONS}: pending, 1 duplicate row; run 'recon migrate' when they are gone"

    assert pending in recon(*words).stdout.splitlines()
    assert recon(*words, "--format", "json").facts["pending_keys"] == [CALCULATIONS]

    execute(engine, f"DELETE FROM {CALCULATIONS} WHERE id = 2")
    (key,) = (key for key in KEYS if key.table == CALCULATIONS)
    assert recon("migrate").stdout.splitlines() == [f"added {key}"]
    assert recon(*words, "--format", "json").facts["pending_keys"] == []
    assert "Unique key" not in recon(*words).stdout
    engine.dispose()
