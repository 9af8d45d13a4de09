"""The command `recon` as a process, in a folder and an environment of its own.

Here: starting it, reading what it printed, opening the Dagster that it used. Not here: what it should have done.
"""

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

RECON = Path(sysconfig.get_path("scripts")) / "recon"
PATIENCE_SECONDS = 120
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")
"""What a process needs of its surroundings; a setting of whoever runs the tests must not reach the command."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def facts(self) -> dict[str, Any]:
        """What `--format json` printed."""
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
    """`recon` in a folder, with an environment that holds only what is given."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | environment

    def __call__(self, *words: str, **environment: str) -> Ended:
        """Runs the command to its end; more environment may be given for this call alone."""
        process = self.start(*words, **environment)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        return Ended(process.returncode, stdout, stderr)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Starts the command."""
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
        """The Dagster instance that the command has used, in the folder where it keeps one when it is not told."""
        return dg.DagsterInstance.from_config(str(self.folder / ".recon" / "dagster"))
