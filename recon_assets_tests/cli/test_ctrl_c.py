"""Ctrl-C as a terminal sends it, to every process of the group: one line at any moment, and nothing is left."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets_tests.reconcile.test_span_runner import drop_trigger, make_endless
from recon_assets_tests.support.command import PATIENCE_SECONDS, RECON, Command
from recon_assets_tests.support.content import stacks_asked
from recon_assets_tests.support.serving import free_port
from recon_assets_tests.support.steps import JUNE_6

LINE = "Interrupted: what was committed stays; the same command does the rest."
SECONDS_TO_END = 15
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

AT_IMPORT = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from recon_assets.cli import main
main(sys.argv[2:])
"""
AT_END = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGINT)
from recon_assets.cli import main
main(["status", "--help"])
"""


@pytest.fixture
def recon(database_url: str, tmp_path: Path, elexon: StandInElexon) -> Command:
    """The command with the packaged Dagster configuration, on an empty database."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=elexon.url,
        MEMPOOL_API_URL="none",
        ELEXON_REQUESTS_PER_SECOND="1000",
        ELEXON_ATTEMPTS="1",
        TERM="xterm",
        COLUMNS="100",
    )


class Terminal:
    """A command in the foreground of a terminal of its own."""

    def __init__(self, recon: Command, *words: str) -> None:
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [RECON, *words],
            cwd=recon.folder,
            env=recon.environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self.seen = ""

    def read(self, seconds: float = 0.05) -> None:
        """Reads what was printed, for so many seconds at most."""
        os.set_blocking(self._leader, False)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.seen += os.read(self._leader, 65_536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # nobody holds the other end
                return

    def wait_until(self, holds: Callable[[], object]) -> None:
        """Waits until something holds while the command runs."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert self.process.poll() is None, self.seen
            assert time.monotonic() < end, self.seen
            self.read()

    def ctrl_c(self) -> int:
        """Interrupts every process of the group; the exit code. Nothing of the session may be left."""
        session = self.process.pid
        os.killpg(session, signal.SIGINT)
        end = time.monotonic() + SECONDS_TO_END
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        self.read(1)
        left = [process for process in psutil.process_iter() if _session_of(process) == session]
        for process in left:
            process.kill()
        os.close(self._leader)
        assert left == [], self.seen
        return self.process.wait()


def _session_of(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def said_once(terminal: Terminal) -> bool:
    """Whether the one line was said, and no traceback."""
    return terminal.seen.count(LINE) == 1 and "Traceback" not in terminal.seen and "Exception" not in terminal.seen


def test_while_a_step_reads(recon: Command, elexon: StandInElexon) -> None:
    elexon.faults = [Fault("stall", "/stack/all/bid/2025-06-06/20/", seconds=300)]
    terminal = Terminal(recon, "reconcile", "--from", "2025-06-05", "--to", "2025-06-07")
    terminal.wait_until(lambda: stacks_asked(elexon.requests)["2025-06-06"] == 48)

    assert terminal.ctrl_c() == 130, terminal.seen
    assert said_once(terminal), terminal.seen


@ON_SQLITE
def test_while_a_step_converges(recon: Command, engine: Engine) -> None:
    make_endless(engine, JUNE_6, 7)
    try:
        terminal = Terminal(recon, "date", "2025-06-06")
        terminal.wait_until(lambda: _rows(engine, "SELECT 1 FROM reconciliation_progress WHERE phase = 'converging'"))

        assert terminal.ctrl_c() == 130, terminal.seen
        assert said_once(terminal), terminal.seen
    finally:
        drop_trigger(engine)


@ON_SQLITE
@pytest.mark.parametrize("seen", ["runs.db", "runs"], ids=["as the home is made", "as the first run starts"])
def test_while_dagster_starts(recon: Command, seen: str) -> None:
    terminal = Terminal(recon, "date", "2025-06-06")
    terminal.wait_until(lambda: list((recon.folder / ".recon" / "dagster").rglob(seen)))

    assert terminal.ctrl_c() == 130, terminal.seen
    assert said_once(terminal), terminal.seen


@ON_SQLITE
def test_in_the_demo(recon: Command) -> None:
    terminal = Terminal(recon, "demo")
    terminal.wait_until(lambda: "Reading" in terminal.seen)

    assert terminal.ctrl_c() == 130, terminal.seen
    assert said_once(terminal), terminal.seen


@ON_SQLITE
def test_a_view_and_a_server_just_end(recon: Command, engine: Engine) -> None:
    for words, shown in ((["watch"], "Nothing has been worked on"), (["ui", "--port", str(free_port())], "Serving")):
        terminal = Terminal(recon, *words)
        terminal.wait_until(lambda: shown in terminal.seen)  # noqa: B023

        assert terminal.ctrl_c() == 0, terminal.seen
        assert "Traceback" not in terminal.seen, terminal.seen


@ON_SQLITE
@pytest.mark.parametrize("module", ["recon_assets.cli.main", "click", "sqlalchemy.sql", "rich.table"])
def test_while_modules_are_imported(recon: Command, engine: Engine, module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, "status", "--month", "2025-06"],
        cwd=recon.folder, env=recon.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr.strip()) == (130, LINE)


@ON_SQLITE
def test_when_everything_is_printed_already(recon: Command) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AT_END],
        cwd=recon.folder, env=recon.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr.strip()) == (130, LINE)
    assert "Show the reconciled state" in ended.stdout


def _rows(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).first()
