"""The command `recon` as a process, in a folder and an environment of its own."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import portalocker
import psutil

import recon_assets
from recon_assets.cli import main
from recon_assets_tests.support.permissions import obey_permissions

RECON = Path(sysconfig.get_path("scripts")) / "recon"
PATIENCE_SECONDS = 300
"""A command that takes 15 s alone took 130 s on two cores with ten times as much to do."""
SECONDS_TO_END = 20
"""For the children of a killed command: the process that ends them looks every second."""
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")
"""Variables that a process needs; other settings of the environment of the tests must not reach the command."""
ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000
IMPORTED_FIRST = (
    "recon_assets_tests.support.command",
    *(
        module.name
        for module in walk_packages(recon_assets.__path__, "recon_assets.")
        if not module.name.startswith("recon_assets.database.migrations")
    ),
    "upath",
    "rich.status",
    "recon_assets_tests.support.first_use",
)
"""What the commands import when they are told what to do: all of the project, and all that it uses."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON that `--format json` printed."""
        facts: dict[str, Any] = json.loads(self.stdout)
        return facts

    @property
    def complaint(self) -> str:
        """What stderr says, which must be one line and no traceback."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stdout
        return lines[0]


class Command:
    """`recon` in a folder, with an environment that holds only what is given.

    A call is a process, but not one that starts from nothing: it is forked from a process that has imported Dagster,
    which takes the installed script three seconds each time. `script` and `start_script` run that script.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.obeys_permissions = False
        """Whether permission bits hold for it if root runs the tests; not of `script` and `start_script`."""
        self.environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | environment

    def __call__(self, *words: str, **environment: str) -> Ended:
        """Runs the command to its end; more environment may be given for this call alone."""
        process = self.start(*words, **environment)
        try:
            stdout, stderr = process.communicate(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode is not None
        return Ended(process.returncode, stdout, stderr)

    def start(self, *words: str, **environment: str) -> "Started":
        """Starts the command; more environment may be given for this call alone."""
        return Started(words, self.folder, self.environment | environment, self.obeys_permissions)

    def script(self, *words: str, **environment: str) -> Ended:
        """Runs the installed script to its end, from nothing."""
        process = self.start_script(*words, **environment)
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return Ended(process.returncode, stdout, stderr)

    def start_script(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Starts the installed script."""
        return subprocess.Popen(
            [RECON, *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def dagster(self) -> dg.DagsterInstance:
        """The Dagster instance that the command has used, in its default folder."""
        home = self.environment.get("DAGSTER_HOME", str(self.folder / ".recon" / "dagster"))
        # A command that is still making the databases holds this lock; who opened them meanwhile would break them.
        with portalocker.Lock(Path(home) / "opening.lock", timeout=PATIENCE_SECONDS):
            return dg.DagsterInstance.from_config(home)


class Started:
    """A command that was started, to be used as a `subprocess.Popen`. What it prints goes into files."""

    def __init__(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], obeys_permissions: bool
    ) -> None:
        self._words = words
        self._printed = TemporaryDirectory()
        self._stdout, self._stderr = (Path(self._printed.name, name) for name in ("stdout", "stderr"))
        self._process: ForkServerProcess = _forks().Process(
            target=_run, args=(words, folder, environment, self._stdout, self._stderr, obeys_permissions)
        )
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit code, below 0 for the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; subprocess.TimeoutExpired if it does not come in so many seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end, and gives what it printed to stdout and to stderr."""
        self.wait(timeout)
        return self._stdout.read_text(encoding="utf-8"), self._stderr.read_text(encoding="utf-8")

    def send_signal(self, number: int) -> None:
        """Sends a signal to a process that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it, without a chance to tidy up."""
        self._process.kill()


Process = Started | subprocess.Popen[str]
"""A command that was started, by itself or as the installed script."""


def kill(process: Started) -> None:
    """Kills a process that `start` started, and waits until what it leaves behind is gone.

    Dagster follows what a step prints with `tail`, and starts the process that ends it afterwards. Killed in between, a
    command leaves a `tail` that nobody ends.
    """
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(PATIENCE_SECONDS)
    # What watches over the others ends by itself; a tail that nobody watches does not.
    for child in psutil.wait_procs(children, timeout=SECONDS_TO_END)[1]:
        child.kill()


@cache
def _forks() -> ForkServerContext:
    # The server passes over what it cannot import, and every call would import the rest by itself.
    assert [name for name in IMPORTED_FIRST if find_spec(name) is None] == []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED_FIRST))
    return context


def _run(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    obeys_permissions: bool,
) -> None:
    """Makes this process the command and ends it as the script does.

    A quarter of its time would go into looking for garbage, most of it among what was imported before the fork.
    """
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    if obeys_permissions:
        obey_permissions()
    sys.argv = [str(RECON), *words]
    main()
