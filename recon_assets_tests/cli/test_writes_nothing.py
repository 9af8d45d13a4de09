"""Commands that read, and every `--dry-run`, leave folder and database exactly as they were."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import Engine, inspect, text

from recon_assets.cli import recon as recon_group
from recon_assets.database import transactions
from recon_assets.database.engine import open_engine
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import build_old_database, migrate_to
from recon_assets_tests.support.command import Command

SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
READING = {
    "status": ("status", *SMALL),
    "status without a period": ("status", "--format", "json"),
    "analyze": ("analyze", *SMALL),
    "report": ("report", *SMALL),
    "watch": ("watch", "--once"),
    "watch as JSON": ("watch", "--format", "json"),
    "doctor": ("doctor", "--format", "json"),
    "units list": ("units", "list"),
    "units show": ("units", "show", "T_SGRWO-1"),
    "verify": ("verify", "2025-06-06"),
    "verify wholly": ("verify", "2025-06-06", "--method", "full"),
    "reconcile --dry-run": ("reconcile", *SMALL, "--dry-run"),
    "reconcile --dry-run without a period": ("reconcile", "--dry-run", "--format", "json"),
    "migrate --dry-run": ("migrate", "--dry-run"),
    "--help": ("--help",),
    "--version": ("--version",),
    "help of a command that writes": ("reconcile", "--help"),
}
"""Every command that only reads."""
WRITING = {
    "migrate", "reconcile", "date", "range", "critical", "most-critical", "spot-fix", "summaries", "wind", "reingest",
    "repair", "daily-check", "auto", "demo", "ui", "units",
}  # fmt: skip


def everything(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file and folder below a folder, with the time and the content of each file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else (0, "folder")
        for path in folder.rglob("*")
    }


def stored(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that there is, of all schemas' tables that the engine sees."""
    with transactions.reading(engine) as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr)
            for name in inspect(connection).get_table_names()
        }


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that the command runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def recon(here: Path, recordings: Path) -> Command:
    """The command in that folder, with recordings of two days that lie elsewhere."""
    return Command(here, ELEXON_API_URL=recordings.as_uri())


def assert_nothing_is_written(recon: Command, look: Callable[[], Any], expected: set[int]) -> None:
    """Runs every reading command, and looks after each."""
    before = look()
    for name, words in READING.items():
        ended = recon(*words)
        assert ended.exit_code in {0, *expected}, (name, ended.stderr)
        assert "--debug" not in ended.stderr, (name, ended.stderr)
        assert look() == before, name


def test_every_command_is_among_those_that_read_or_those_that_write() -> None:
    assert isinstance(recon_group, click.Group)
    assert set(recon_group.commands) == WRITING | {words[0] for words in READING.values() if words[0][0] != "-"}


def test_in_an_empty_folder_nothing_is_made(recon: Command, here: Path) -> None:
    assert_nothing_is_written(recon, lambda: everything(here), {1, 2})


def make_file(file: Path, build: Callable[[Engine], object]) -> None:
    """Makes an SQLite file that is not in WAL mode, as one that recon has not made."""
    engine = open_engine(f"sqlite:///{file}")
    build(engine)
    engine.dispose()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def build_older_database(engine: Engine) -> None:
    """Makes the schema of an older version."""
    migrate_to(engine, "0003")


@pytest.fixture
def file(here: Path, small_days: Engine, recon: Command) -> Path:
    """The file of a database that holds two days, in the folder."""
    assert small_days.url.database is not None
    shutil.copy(small_days.url.database, here / "recon.db")
    recon.environment["DATABASE_URL"] = "sqlite:///recon.db"
    return here / "recon.db"


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@ON_SQLITE
def test_a_file_with_the_current_schema_is_not_touched(recon: Command, file: Path, here: Path) -> None:
    assert_nothing_is_written(recon, lambda: everything(here), {1})
    assert recon("status", *SMALL).exit_code == 0


@pytest.mark.parametrize("build", [build_older_database, build_old_database])
def test_a_file_with_another_schema_is_not_touched(
    recon: Command, here: Path, build: Callable[[Engine], object]
) -> None:
    make_file(here / "recon.db", build)
    recon.environment["DATABASE_URL"] = "sqlite:///recon.db"

    assert_nothing_is_written(recon, lambda: everything(here), {1, 2})


@ON_SQLITE
def test_an_empty_file_is_not_touched(recon: Command, file: Path, here: Path) -> None:
    file.write_bytes(b"")

    assert_nothing_is_written(recon, lambda: everything(here), {1, 2})


@ON_SQLITE
def test_what_a_killed_process_left_beside_the_file_is_read_and_stays(
    recon: Command, file: Path, here: Path, tmp_path: Path
) -> None:
    # given a change that is only in the write-ahead log
    writer = sqlite3.connect(file)
    writer.execute("DELETE FROM bitcoin_monthly_summaries")
    writer.commit()
    copy = tmp_path / "copy"
    shutil.copytree(here, copy)
    writer.close()
    shutil.rmtree(here)
    shutil.copytree(copy, here)
    names = {"recon.db", "recon.db-shm", "recon.db-wal"}

    def look() -> dict[str, str]:
        # The -shm file is an index that every reader may make again.
        found = everything(here)
        assert set(found) == names
        return {name: content for name, (_, content) in found.items() if name != "recon.db-shm"}

    assert_nothing_is_written(recon, look, {1, 2})
    assert recon("status", *SMALL, "--format", "json").facts["stale_summaries"] == 3


@pytest.fixture
def on_server(settings: Settings, recon: Command) -> Iterator[Engine]:
    """The test's own PostgreSQL database."""
    recon.environment["DATABASE_URL"] = settings.database_url.render_as_string(hide_password=False)
    engine = open_engine(settings.database_url)
    yield engine
    engine.dispose()


ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@ON_POSTGRESQL
def test_an_empty_database_on_a_server_stays_empty(recon: Command, on_server: Engine, here: Path) -> None:
    assert_nothing_is_written(recon, lambda: (everything(here), stored(on_server)), {1, 2})
    assert stored(on_server) == {}


@ON_POSTGRESQL
@pytest.mark.parametrize("build", [build_older_database, build_old_database])
def test_a_database_on_a_server_with_another_schema_is_not_changed(
    recon: Command, on_server: Engine, here: Path, build: Callable[[Engine], object]
) -> None:
    build(on_server)

    assert_nothing_is_written(recon, lambda: (everything(here), stored(on_server)), {1, 2})


@ON_POSTGRESQL
def test_a_database_on_a_server_is_not_changed(
    recon: Command, small_days: Engine, on_server: Engine, here: Path
) -> None:
    assert_nothing_is_written(recon, lambda: (everything(here), stored(on_server)), {1})


def test_without_a_database_a_dry_run_says_what_a_first_run_does(recon: Command, here: Path) -> None:
    planned = recon("reconcile", "--dry-run", "--format", "json")

    assert planned.exit_code == 1
    assert planned.facts["ingest"] == ["2025-06-06", "2025-06-07"]
    assert planned.facts["requests"] == 96
    assert "holds no data yet: the first run creates the tables and does this" in planned.complaint
    assert list(here.iterdir()) == []


def test_a_dry_run_of_an_adoption_says_the_same_as_the_adoption(recon: Command, here: Path) -> None:
    engine = open_engine(f"sqlite:///{here / 'recon.db'}")
    build_old_database(engine)
    engine.dispose()
    recon.environment["DATABASE_URL"] = "sqlite:///recon.db"

    planned = recon("migrate", "--dry-run", "--format", "json").facts
    done = recon("migrate", "--format", "json").facts

    words = {"would add": "added", "would drop": "dropped", "would be allowed": "allowed"}
    said = [reduce(lambda line, word: line.replace(word, words[word]), words, line) for line in planned["changes"]]
    assert (said, planned["notes"]) == (done["changes"], done["notes"])
    assert "added column sequence_number of curtailment_records" in done["changes"]
