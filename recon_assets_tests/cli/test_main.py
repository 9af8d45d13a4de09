"""The command as people run it: a process, its output and its exit code.

test_recovery.py has what goes wrong on the way.
"""

import os
import pty
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from sqlalchemy import Engine, inspect

from recon_assets.cli import recon as recon_group
from recon_assets.database.engine import open_engine
from recon_assets.database.transactions import reading
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.settings import Settings
from recon_assets_tests.orchestration.test_reconciliation import ALL_TABLES, NOWHERE, TOTALS
from recon_assets_tests.support.command import RECON, Command
from recon_assets_tests.support.content import all_hold, data_versions, out_of_date, partitions, rows, runs
from recon_assets_tests.support.steps import JUNE, JUNE_DAYS, contents, execute

SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Other files test the SQL on both engines; what the command adds does not depend on the engine."""
TALLY = {"expected", "actual", "missing", "orphaned", "duplicated", "wrong", "completion_pct"}


@pytest.fixture
def recon(database_url: str, tmp_path: Path, stand_in: StandInElexon, light_dagster: dict[str, str]) -> Command:
    """The command on an empty database of each engine, with the stand-in for Elexon."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=stand_in.url,
        MEMPOOL_API_URL="none",
        ELEXON_REQUESTS_PER_SECOND="1000",
        ELEXON_ATTEMPTS="1",
        **light_dagster,
    )


@pytest.fixture
def in_folder(tmp_path: Path, recordings: Path) -> Command:
    """The command in an empty folder: its own SQLite file, and recordings of two days."""
    return Command(tmp_path, ELEXON_API_URL=recordings.as_uri())


# What it does


def test_the_demo_ends_with_june_2025_complete(tmp_path: Path) -> None:
    # given no network, nothing that was prepared, and settings of the user's own that would not do
    wrong = {"DATABASE_URL": "sqlite:///own.db", "DAGSTER_HOME": "own", "CURTAILMENT_RULE": "nonsense"}
    (tmp_path / ".env").write_text("RECON_FIRST_DAY=nonsense\nRECON_ALERT_URLS=nonsense\nRECON_LOGS=own\n")
    recon = Command(tmp_path, ELEXON_API_URL=NOWHERE, MEMPOOL_API_URL=NOWHERE, **wrong)

    # when
    demo = recon.script("demo")
    status = recon.script("--demo", "status", "--format", "json")

    # then it says so, the rows say so, and Dagster knows it
    assert (demo.exit_code, demo.stderr) == (0, "")
    assert "The packaged recordings of June 2025 are rebuilt, not raw" in demo.stdout
    assert "Everything is right." in demo.stdout
    assert status.exit_code == 0
    assert_status_right(status.facts, days=30)
    june = [TOTALS[str(day)]["flagged"] for day in JUNE_DAYS]
    assert status.facts["curtailment_records"] == sum(day["rows"] for day in june)
    assert status.facts["models"]["S9"]["expected"] == sum(day["pairs"] for day in june)
    assert {path.name for path in tmp_path.iterdir()} == {".env", ".recon"}
    assert {path.name for path in (tmp_path / ".recon").iterdir()} == {"demo"}
    recon.environment["DAGSTER_HOME"] = str(tmp_path / ".recon" / "demo" / "dagster")
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(str(day) for day in JUNE_DAYS)
        assert len(instance.get_asset_keys()) == 14
        assert set(instance.get_materialized_partitions(dg.AssetKey("wind_generation_data"))) == {
            str(day) for day in JUNE_DAYS
        }
        assert out_of_date(instance) == set()
        assert {record.dagster_run.tags["recon/command"] for record in runs(instance)} == {"recon demo"}


def assert_status_right(facts: dict[str, Any], days: int) -> None:
    """Checks that `recon status --format json` has every documented key, and that nothing is missing or wrong."""
    of_status = {name: facts.pop(name) for name in ("pending_keys", "foreign_rows")}
    assert of_status == {"pending_keys": [], "foreign_rows": []}
    assert_right(facts, days)


def assert_right(facts: dict[str, Any], days: int) -> None:
    """Checks that a state as JSON has every documented key, and that nothing is missing or wrong."""
    assert set(facts) == TALLY | {
        "conclusion", "is_right", "rule", "days", "unproven_days", "proof", "lost", "unknown_models", "outside_days",
        "curtailment_records", "curtailment", "settlement_days", "stale_summaries", "latest_ingested", "days_behind",
        "days_with_new_wind_units", "models", "worst_dates",
    }  # fmt: skip
    assert (facts["conclusion"], facts["is_right"], facts["unproven_days"]) == ("right", True, 0)
    for tally in (facts, *facts["models"].values()):
        assert tally["expected"] == tally["actual"] > 0
        assert [tally[name] for name in ("missing", "orphaned", "duplicated", "wrong")] == [0, 0, 0, 0]
        assert tally["completion_pct"] == 100
    assert set(facts["models"]) == {"S19J_PRO", "S9", "M20S"}
    assert all(set(model) == TALLY | {"bitcoin"} and model["bitcoin"] > 0 for model in facts["models"].values())
    assert facts["curtailment"] == {"missing": 0, "surplus": 0, "wrong": 0}
    assert facts["settlement_days"] == {
        "ingested": days, "incomplete": 0, "not_ingested": 0, "adopted": 0, "adopted_empty": 0,
    }  # fmt: skip
    assert (facts["stale_summaries"], facts["days_behind"], facts["worst_dates"]) == (0, 0, [])
    assert facts["latest_ingested"] is not None


@ON_SQLITE
def test_a_second_time_changes_no_row_and_no_data_version(
    recon: Command, engine: Engine, stand_in: StandInElexon
) -> None:
    # given
    first = recon("range", "2025-06-06", "2025-06-07", "--format", "json")
    assert first.exit_code == 0
    assert first.facts["done"]["days_read"] == 2
    before, asked = rows(engine), len(stand_in.requests)
    with recon.dagster() as instance:
        versions, done = data_versions(instance), len(runs(instance))

    # when
    for words in (("range", "2025-06-06", "2025-06-07"), ("date", "2025-06-06"), ("reconcile", *SMALL)):
        again = recon(*words, "--format", "json")
        assert again.exit_code == 0
        assert (again.facts["done"]["days_read"], again.facts["done"]["runs"]) == (0, 0)

    # then
    assert rows(engine) == before
    assert len(stand_in.requests) == asked
    with recon.dagster() as instance:
        assert data_versions(instance) == versions
        assert len(runs(instance)) == done


@ON_SQLITE
def test_another_rule_rebuilds_a_filled_database_without_a_request(recon: Command, small_days: Engine) -> None:
    # given
    recon.environment |= {"ELEXON_API_URL": NOWHERE, "CURTAILMENT_RULE": "all_bids"}
    assert recon("status", *SMALL).exit_code == 1

    # when
    rebuilt = recon("reconcile", *SMALL, "--format", "json")

    # then
    assert (rebuilt.exit_code, rebuilt.stderr) == (0, "")
    assert rebuilt.facts["curtailment_records"] == 83 + 14
    assert rebuilt.facts["models"]["S9"]["expected"] == sum(
        TOTALS[day]["all_bids"]["pairs"] for day in ("2025-06-06", "2025-06-07")
    )
    assert recon("status", *SMALL).exit_code == 0


@ON_SQLITE
def test_a_value_changed_by_hand_is_found_and_mended(recon: Command, small_days: Engine) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)
    recon.environment["ELEXON_API_URL"] = NOWHERE

    # when each value is changed, then status tells
    calculations = "UPDATE historical_bitcoin_calculations SET"
    execute(small_days, f"{calculations} bitcoin_mined = bitcoin_mined * 1.01 WHERE settlement_date = '2025-06-07'")
    assert recon("status", *SMALL).exit_code == 1
    execute(small_days, f"{calculations} difficulty = difficulty + 9e9 WHERE settlement_period = 10")
    execute(small_days, "UPDATE curtailment_records SET volume = -99 WHERE sequence_number % 3 = 0")
    execute(small_days, "UPDATE bitcoin_daily_summaries SET bitcoin_mined = 1 WHERE miner_model = 'S9'")
    found = recon("status", *SMALL, "--format", "json")
    assert found.exit_code == 1
    assert found.facts["wrong"] > 0
    assert found.facts["completion_pct"] < 100
    assert found.facts["curtailment"]["wrong"] > 0
    assert found.facts["stale_summaries"] > 0
    assert found.facts["worst_dates"][0]["settlement_date"] in ("2025-06-06", "2025-06-07")

    # when
    mended = recon("reconcile", *SMALL, "--format", "json")

    # then
    assert (mended.exit_code, mended.stderr) == (0, "")
    assert_right({name: fact for name, fact in mended.facts.items() if name not in ("done", "recovered")}, days=2)
    assert contents(small_days, *ALL_TABLES) == right


@ON_SQLITE
def test_a_dry_run_says_exactly_what_would_be_done_and_does_nothing(
    recon: Command, engine: Engine, stand_in: StandInElexon
) -> None:
    # given
    before = rows(engine)

    # when
    planned = recon("reconcile", *SMALL, "--dry-run", "--format", "json")
    shown = recon("reconcile", *SMALL, "--dry-run")

    # then
    assert planned.exit_code == shown.exit_code == 1
    assert planned.facts == {
        "ingest": ["2025-06-06", "2025-06-07"], "converge": ["2025-06-06", "2025-06-07"], "months": ["2025-06"],
        "years": ["2025"], "out_of_reach": [], "from_archive": [], "by_volumes": [], "requests": 96, "seconds": 12,
    }  # fmt: skip
    assert "2025-06-06..2025-06-07" in shown.stdout
    assert "96" in shown.stdout
    assert rows(engine) == before
    assert stand_in.requests == []


def test_a_limit_leaves_the_rest_and_says_so(in_folder: Command, light_dagster: dict[str, str]) -> None:
    in_folder.environment |= light_dagster

    some = in_folder("reconcile", *SMALL, "--limit", "1", "--format", "json")

    assert some.exit_code == 1
    assert some.facts["done"]["days_read"] == 1
    assert some.facts["settlement_days"]["not_ingested"] == 1
    assert some.facts["latest_ingested"] == "2025-06-07"


def test_without_a_period_it_is_that_of_the_recordings(in_folder: Command) -> None:
    assert in_folder.script("reconcile").exit_code == 0

    status = in_folder("status", "--format", "json")
    assert status.exit_code == 0
    assert_status_right(status.facts, days=2)


def test_the_schema_is_made_by_migrate_and_only_shown_by_its_dry_run(in_folder: Command) -> None:
    shown = in_folder("migrate", "--dry-run")
    assert shown.exit_code == 0
    assert "would add table proof_of_fetch\n" in shown.stdout
    assert "\nCREATE TABLE proof_of_fetch (" in shown.stdout
    assert not (in_folder.folder / ".recon").exists()

    assert "added table proof_of_fetch" in in_folder.script("migrate").stdout
    assert "up to date" in in_folder("migrate").stdout


# What it says


@ON_SQLITE
def test_table_and_json_tell_the_same(recon: Command, small_days: Engine) -> None:
    # given a state with something of every kind
    execute(
        small_days,
        "DELETE FROM historical_bitcoin_calculations WHERE settlement_period = 10 AND miner_model = 'S9'",
        "UPDATE historical_bitcoin_calculations SET bitcoin_mined = 1 WHERE settlement_period = 11",
        "DELETE FROM curtailment_records WHERE settlement_date = '2025-06-07' AND settlement_period > 30",
        "DELETE FROM monthly_summaries",
    )
    words = ("status", "--from", "2025-06-05", "--to", "2025-06-08")

    # when
    facts, table = recon(*words, "--format", "json").facts, recon(*words).stdout

    # then every line of the table has the numbers of the JSON
    for name in (*facts["models"], "all"):
        tally = facts["models"].get(name, facts)
        line = next(line for line in table.splitlines() if line.startswith(f"{name} "))
        numbers = [tally[key] for key in ("expected", "actual", "missing", "orphaned", "duplicated", "wrong")]
        assert line.split()[1:7] == [f"{number:,}" for number in numbers]
        assert line.split()[7] == f"{tally['completion_pct']:.2f}"
        if name != "all":
            assert line.split()[8] == f"{tally['bitcoin']:,.4f}"
    missing, surplus, wrong = (facts["curtailment"][name] for name in ("missing", "surplus", "wrong"))
    assert f"{facts['curtailment_records']} ({missing} missing, {surplus} surplus, {wrong} wrong)" in table
    assert missing > 0
    days = {name: count for name, count in facts["settlement_days"].items() if count}
    assert days == {"ingested": 2, "not_ingested": 2}
    assert re.search(r"Settlement days +2 ingested, 2 not_ingested", table)
    assert re.search(rf"Stale summaries +{facts['stale_summaries']}\b", table)
    assert (facts["days_behind"], f"{facts['latest_ingested']} (1 day behind)" in table) == (1, True)
    worst = [line.split() for line in table.splitlines() if re.match(r" *2025-06-0\d +\d", line)]
    shown = [[str(value) for value in found.values()] for found in facts["worst_dates"]]
    assert worst == [[*counts, f"{float(share):.2f}"] for *counts, share in shown]
    assert len(worst) == 2


def test_every_command_and_every_option_has_a_help_text() -> None:
    with click.Context(recon_group) as context:
        commands = {name: recon_group.get_command(context, name) for name in recon_group.list_commands(context)}

    assert set(commands) >= {"migrate", "status", "reconcile", "date", "range", "demo", "ui"}
    groups = [command for command in commands.values() if isinstance(command, click.Group)]
    below = [(name, command) for group in groups for name, command in group.commands.items()]
    for name, command in (*commands.items(), *below, ("recon", recon_group)):
        assert command is not None
        assert len(command.help or "") > 15, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"
            else:
                # an argument has no text of its own: the command's names it
                assert (
                    f" {option.make_metavar(click.Context(command)).split(' ')[0].strip('[]')} " in f"{command.help} "
                )


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["reconcile", "--help"], ["--version"]])
def test_help_is_printed_and_is_no_error(in_folder: Command, words: list[str]) -> None:
    helped = in_folder.script(*words)

    assert (helped.exit_code, helped.stderr) == (0, "")
    assert "recon" in helped.stdout


def test_a_terminal_shows_progress(in_folder: Command, light_dagster: dict[str, str]) -> None:
    # given a terminal
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [RECON, "range", "2025-06-06", "2025-06-07"],
        cwd=in_folder.folder,
        env=in_folder.environment | light_dagster | {"TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)

    # when
    seen = b""
    try:
        while chunk := os.read(leader, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(leader)

    # then
    assert process.wait() == 0
    assert b"Reading" in seen
    assert b"Converging" in seen
    assert b"2/2" in seen


# What is asked wrongly: one clear line, exit code 2, nothing lost


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["date", "2025-06-31"], "'2025-06-31' is not a date: write YYYY-MM-DD, for example 2025-06-28"),
        (["date", "6/6/2025"], "'6/6/2025' is not a date"),
        (["range", "2025-06-07", "2025-06-06"], "upside down: 2025-06-07 is after 2025-06-06"),
        (["range", "2025-06-07"], "Missing argument 'B'"),
        (["date", "2021-12-31"], "2021-12-31 is before 2022-01-01, the first day that is kept"),
        (["status", "--month", "2025-13"], "'2025-13' is not a month: write YYYY-MM, for example 2025-06"),
        (["status", "--year", "25"], "'25' is not a year"),
        (["status", "--from", "2025-06-30", "--to", "2025-06-01"], "2025-06-30 is after 2025-06-01"),
        (["status", "--month", "2025-06", "--year", "2025"], "--month and --year exclude each other"),
        (["reconcile", "--month", "2025-06", "--from", "2025-06-01"], "--month and --from/--to exclude each other"),
        (["reconcile", "--order", "oldest"], "'oldest' is not one of 'newest', 'worst'"),
        (["reconcile", "--limit", "0"], "0 is not in the range x>=1"),
        (["reconcile", "--model", "S9"], "No such option '--model'"),
        (["status", "--format", "xml"], "'xml' is not one of 'table', 'json'"),
        (["mine"], "No such command 'mine'"),
    ],
)
def test_wrong_usage_is_one_clear_line(in_folder: Command, words: list[str], complaint: str) -> None:
    ended = in_folder(*words)

    assert ended.exit_code == 2
    assert complaint in ended.complaint
    assert not (in_folder.folder / ".recon").exists()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("DATABASE_URL", "postgres//user:s3cret@host/db", "DATABASE_URL is not a URL"),
        ("DATABASE_URL", "mysql://user:s3cret@host/db", "DATABASE_URL: 'mysql' is not known"),
        ("DATABASE_URL", "postgresql://user:s3cret@127.0.0.1:9/db", "DATABASE_URL: cannot connect to"),
        ("DATABASE_URL", "sqlite:///recordings", "DATABASE_URL: cannot connect to"),
        ("ELEXON_API_URL", "data.elexon.co.uk/s3cret", "ELEXON_API_URL is not a URL"),
        ("ELEXON_API_URL", "file:///no/such/folder", "ELEXON_API_URL: /no/such/folder is not a folder of recordings"),
        ("CURTAILMENT_RULE", "flagged", "CURTAILMENT_RULE: 'flagged' is not a rule: write so_flagged or all_bids"),
        ("ELEXON_REQUESTS_PER_SECOND", "fast", "ELEXON_REQUESTS_PER_SECOND: 'fast' is not a number"),
    ],
)
@pytest.mark.parametrize("words", [("status",), ("reconcile", "--month", "2025-06")])
def test_a_wrong_setting_is_one_line_that_names_the_variable(
    in_folder: Command, words: tuple[str, ...], variable: str, value: str, complaint: str
) -> None:
    ended = in_folder(*words, **{variable: value})

    if (variable, words[0]) == ("ELEXON_API_URL", "status") and value.startswith("file:"):
        complaint = "there is no database"  # which it looks for first: it reads nothing from Elexon
    assert ended.exit_code == 2
    assert complaint in ended.complaint
    assert "s3cret" not in ended.stdout + ended.stderr


def test_settings_are_also_read_from_a_file_in_the_folder(in_folder: Command) -> None:
    (in_folder.folder / ".env").write_text("CURTAILMENT_RULE=most\n")

    assert "CURTAILMENT_RULE: 'most' is not a rule" in in_folder("status").complaint


def test_a_password_is_not_shown_though_everything_else_is(in_folder: Command) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    ended = in_folder("status", DATABASE_URL=f"postgresql://me:s3cret@127.0.0.1:{port}/mine?sslpassword=s3cret")

    assert f"postgresql+psycopg://me:***@127.0.0.1:{port}/mine" in ended.complaint
    assert "s3cret" not in ended.stdout + ended.stderr


def test_a_folder_without_recordings_is_refused(in_folder: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    ended = in_folder("reconcile", "--month", "2025-06", ELEXON_API_URL=(tmp_path / "empty").as_uri())

    assert ended.exit_code == 2
    assert f"ELEXON_API_URL: {tmp_path / 'empty'} holds no recording" in ended.complaint


def test_a_database_that_does_not_exist_is_not_made_by_a_reading_command(in_folder: Command) -> None:
    ended = in_folder("status")

    assert ended.exit_code == 2
    assert "there is no database at" in ended.complaint
    assert not (in_folder.folder / ".recon").exists()


def test_an_empty_database_stays_empty_under_a_reading_command(recon: Command, settings: Settings) -> None:
    # given
    engine = open_engine(settings.database_url)
    with reading(engine):
        pass

    # when
    ended = recon("status")

    # then
    assert ended.exit_code == 2
    assert "holds no curtailment data yet: run for example 'recon daily-check', or set DATABASE_URL" in ended.complaint
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_file_that_is_no_database_stays_as_it_is(in_folder: Command) -> None:
    # given
    file = in_folder.folder / "letter.txt"
    file.write_text("Dear Sir or Madam, " * 100)

    # when
    for words in (("status",), ("date", "2025-06-06"), ("migrate",)):
        ended = in_folder(*words, DATABASE_URL="sqlite:///letter.txt")

        # then
        assert ended.exit_code == 2
        assert "DATABASE_URL: cannot connect to" in ended.complaint
    assert file.read_text() == "Dear Sir or Madam, " * 100


@pytest.mark.parametrize("words", [("status",), ("date", "2025-06-06")])
def test_an_old_database_is_left_to_migrate(recon: Command, settings: Settings, words: tuple[str, ...]) -> None:
    # given the user's own tables
    engine = open_engine(settings.database_url)
    columns = "id INTEGER PRIMARY KEY, settlement_date date, settlement_period integer, farm_id text, volume numeric"
    execute(
        engine,
        f"CREATE TABLE curtailment_records ({columns})",
        "INSERT INTO curtailment_records VALUES (1, '2025-06-06', 1, 'T_SGRWO-1', -5)",
    )

    # when
    ended = recon(*words)

    # then
    assert ended.exit_code == 2
    assert "has tables that recon has not adopted yet: run 'recon migrate'" in ended.complaint
    assert execute(engine, "DELETE FROM curtailment_records WHERE volume = -5") == [1]
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(recon: Command, small_days: Engine) -> None:
    execute(small_days, "UPDATE recon_schema_version SET version_num = '9999'")

    ended = recon("status")

    assert ended.exit_code == 2
    assert "made by a newer version of recon" in ended.complaint


def test_an_unexpected_error_is_one_line_and_debug_shows_where(recon: Command, small_days: Engine) -> None:
    # given a table that somebody took away
    execute(small_days, "DROP TABLE daily_summaries")

    # when
    ended, debugged = recon("status", *SMALL), recon("--debug", "status", *SMALL)

    # then
    assert ended.exit_code == 1
    assert "daily_summaries" in ended.complaint
    assert "--debug" in ended.complaint
    assert "Traceback" in debugged.stderr


def test_a_day_to_come_cannot_be_had_though_there_is_a_recording_of_it(in_folder: Command) -> None:
    shutil.copy(JUNE / "2025-06-06.json.gz", in_folder.folder / "recordings" / "2099-01-01.json.gz")

    ended = in_folder("date", "2099-01-01", "--format", "json")

    assert ended.exit_code == 2
    assert "2099-01-01 is still to come" in ended.complaint
    assert not (in_folder.folder / ".recon").exists()
