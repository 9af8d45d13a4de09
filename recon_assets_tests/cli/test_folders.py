"""Commands in a working folder that cannot be written, and with folders that cannot be written."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets_tests.cli.test_writes_nothing import READING, WRITING
from recon_assets_tests.support.command import RECON, Command
from recon_assets_tests.support.permissions import obey_permissions, protected
from recon_assets_tests.support.serving import PATIENCE_SECONDS, family, free_port, wait_until
from recon_assets_tests.support.steps import JUNE, execute

SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
WORK = {
    "migrate": ("migrate",),
    "reconcile": ("reconcile", *SMALL),
    "date": ("date", "2025-06-06"),
    "range": ("range", "2025-06-06", "2025-06-07"),
    "critical": ("critical", "2025-06-06"),
    "most-critical": ("most-critical", *SMALL),
    "spot-fix": ("spot-fix", "2025-06-06", "4", "T_GRGBW-2"),
    "summaries": ("summaries", *SMALL),
    "wind": ("wind", "2025-06-06", "2025-06-06"),
    "reingest": ("reingest", "2025-06-06"),
    "repair": ("repair", "2025-06-06"),
    "daily-check": ("daily-check",),
    "auto": ("auto", *SMALL),
    "units": ("units", "declare", "T_SGRWO-1", "--wind", "--by", "ann"),
}
"""Every command that writes, but `ui`, which serves until it is stopped, and `demo`, which works in this folder."""
FOLDERS = {
    "DAGSTER_HOME": "dagster_home", "RECON_ARCHIVE": "archive", "RECON_LOGS": "logs", "RECON_REPORTS": "reports",
}  # fmt: skip
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def recon(tmp_path: Path, database_url: str, light_dagster: dict[str, str]) -> Iterator[Command]:
    """The command in a folder that cannot be written, with a place elsewhere for everything."""
    here = tmp_path / "here"
    here.mkdir()
    places = {name: str(tmp_path / folder) for name, folder in FOLDERS.items()} | light_dagster
    recon = Command(here, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri(), **places)
    recon.obeys_permissions = True
    with protected(here):
        yield recon
    assert list(here.iterdir()) == []


@ON_SQLITE
def test_every_command_works_where_nothing_can_be_written(recon: Command, june: Engine, tmp_path: Path) -> None:
    assert {*WORK, "ui", "demo"} == WRITING

    reading = {words[0]: words for words in READING.values()}
    for name, words in {**reading, **WORK}.items():
        ended = recon(*words)
        assert (ended.exit_code, "Error" in ended.stderr) == (0, False), (name, ended)

    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        "daily-check.jsonl", "auto.jsonl", "repair.jsonl",
    }  # fmt: skip
    assert len(list((tmp_path / "reports").iterdir())) == 1


@ON_SQLITE
@pytest.mark.parametrize(
    ("variable", "words", "place"),
    [
        ("DATABASE_URL", ("reconcile", *SMALL), ".recon"),
        ("DAGSTER_HOME", ("reconcile", *SMALL), ".recon/dagster"),
        ("DAGSTER_HOME", ("ui",), ".recon/dagster"),
        ("RECON_ARCHIVE", ("reconcile", *SMALL), ".recon/archive"),
        ("RECON_LOGS", ("auto", *SMALL), ".recon/logs"),
        ("RECON_LOGS", ("repair", "2025-06-06"), ".recon/logs"),
        ("RECON_REPORTS", ("daily-check",), ".recon/reports"),
    ],
)
def test_a_place_that_is_needed_is_named_with_its_variable(
    recon: Command, engine: Engine, stand_in: StandInElexon, variable: str, words: tuple[str, ...], place: str
) -> None:
    del recon.environment[variable]
    if variable == "RECON_ARCHIVE":
        recon.environment["ELEXON_API_URL"] = stand_in.url

    ended = recon(*words)

    assert ended.exit_code == 2, ended
    assert ended.complaint.startswith(f"Error: {variable}: {recon.folder / place} cannot be ")
    assert f"set {variable} to " in ended.complaint
    assert stand_in.requests == []


@ON_SQLITE
def test_the_demo_needs_its_folder(recon: Command, engine: Engine) -> None:
    ended = recon("demo")

    assert ended.exit_code == 2
    assert ended.complaint.startswith(f"Error: the demo cannot use {recon.folder}/.recon/demo: ")
    assert "run it in another folder" in ended.complaint


def in_the_way(path: Path) -> None:
    """Makes a file where a folder should be."""
    if path.exists():
        shutil.rmtree(path)
    path.write_text("in the way")


@ON_SQLITE
@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("DAGSTER_HOME", ("reconcile", *SMALL)),
        ("RECON_ARCHIVE", ("reconcile", *SMALL)),
        ("RECON_LOGS", ("auto", *SMALL)),
        ("RECON_REPORTS", ("daily-check",)),
    ],
)
def test_a_file_in_place_of_a_folder_is_one_clear_line(
    recon: Command, engine: Engine, stand_in: StandInElexon, variable: str, words: tuple[str, ...]
) -> None:
    in_the_way(Path(recon.environment[variable]))
    if variable == "RECON_ARCHIVE":
        recon.environment["ELEXON_API_URL"] = stand_in.url

    ended = recon(*words)

    assert ended.exit_code == 2, ended
    assert ended.complaint.startswith(f"Error: {variable}: {recon.environment[variable]} cannot be ")


@ON_SQLITE
@pytest.mark.parametrize("name", ["recon.db", "."])
def test_a_database_that_cannot_be_written_is_one_clear_line(
    recon: Command, small_days: Engine, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert small_days.url.database
    file = Path(shutil.copy(small_days.url.database, folder))
    recon.environment["DATABASE_URL"] = f"sqlite:///{file}"
    damaged = open_engine(recon.environment["DATABASE_URL"])
    execute(damaged, "DELETE FROM bitcoin_daily_summaries")
    damaged.dispose()

    with protected(folder / name):
        ended = recon("reconcile", *SMALL)

    assert ended.exit_code == 2, ended
    assert ended.complaint.startswith(f"Error: DATABASE_URL: {folder / name} cannot be ")


@ON_SQLITE
@pytest.mark.parametrize(
    "words", [("recon", "ui"), ("dagster", "dev", "-m", "recon_assets.definitions")], ids=["recon ui", "dagster dev"]
)
def test_the_ui_is_served_where_nothing_can_be_written(
    recon: Command, june: Engine, tmp_path: Path, words: tuple[str, ...]
) -> None:
    port = free_port()
    with (tmp_path / "served.log").open("w+") as output:
        process = subprocess.Popen(
            [RECON.with_name(words[0]), *words[1:], "--port", str(port)],
            cwd=recon.folder,
            env=recon.environment,
            stdout=output,
            stderr=output,
            preexec_fn=obey_permissions,
        )
        try:
            wait_until(lambda: assets_at(f"http://127.0.0.1:{port}", process) > 10)
        finally:
            children = family(process.pid)
            process.terminate()
            process.wait(PATIENCE_SECONDS)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        output.seek(0)
        assert "Permission denied" not in output.read()


def assets_at(address: str, process: subprocess.Popen[bytes]) -> int:
    """How many assets the UI shows; 0 before it answers."""
    assert process.poll() is None
    with suppress(requests.ConnectionError):
        answer = requests.post(f"{address}/graphql", json={"query": "{ assetNodes { id } }"}, timeout=PATIENCE_SECONDS)
        return len(answer.json()["data"]["assetNodes"])
    return 0
