"""Measures how long the command and the code location take to start, as whole processes.

python -m benchmarks.startup
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure, Taken, in_turn, seconds_of, show

PART = "Start-up"
TURNS = 3


def measure() -> Iterator[Figure]:
    """The figures on the demo database."""
    with TemporaryDirectory() as folder:
        recon = [sys.executable, "-m", "recon_assets.cli"]
        whole_process(folder, [*recon, "demo"])
        june = ["--from", "2025-06-01", "--to", "2025-06-30"]
        taken = in_turn(
            {
                "status": ((folder, [*recon, "status", *june]), whole_process),
                "help": ((folder, [*recon, "--help"]), whole_process),
                "location": ((folder, [sys.executable, "-c", "import recon_assets.definitions"]), whole_process),
                "dagster": ((folder, [sys.executable, "-c", "import dagster"]), whole_process),
            },
            TURNS,
        )
    yield _figure(taken["status"], "`recon status` on the demo database", 1.0)
    yield _figure(taken["help"], "`recon --help`", None)
    yield _figure(taken["location"], "import of the code location", 2.5)
    yield _figure(taken["dagster"], "of which `import dagster` alone", None)


def whole_process(folder: str, words: list[str]) -> float:
    """The seconds of a whole process, from its start to its end."""
    environment = {name: text for name, text in os.environ.items() if name not in ("DATABASE_URL", "DAGSTER_HOME")}
    return seconds_of(lambda: subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=True))


def _figure(taken: Taken, what: str, at_most: float | None) -> Figure:
    # Without peak memory, which would be that of the parent process.
    return Figure(PART, what, "sqlite", taken.seconds, "s", taken.raw, at_most)


if __name__ == "__main__":
    show(measure())
