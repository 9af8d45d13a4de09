"""Runs the webserver and the daemon as processes of one command, which end with it."""

import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

from recon_assets.orchestration.instance import open_instance

PROGRAMS = {"webserver": ["-m", "dagster_webserver"], "daemon": ["-m", "dagster._daemon", "run"]}
"""Not `dagster dev`, which wraps both: it once ignored a termination signal for 100 s."""

PATIENCE_SECONDS = 15


def serve(home: Path, host: str, port: int) -> int:
    """Runs both until one ends or Ctrl-C comes; returns the exit code of the one that ended by itself, else 0."""
    with open_instance(home):
        environment = {**os.environ, "DAGSTER_HOME": str(home)}
    workspace = ["--workspace", str(files("recon_assets.data") / "workspace.yaml")]
    listening = {"webserver": ["--host", host, "--port", str(port)]}
    processes = [
        subprocess.Popen(
            [sys.executable, *words, *workspace, *listening.get(name, [])], env=environment, start_new_session=True
        )
        for name, words in PROGRAMS.items()
    ]
    # Handle both: a shell makes a background command ignore SIGINT, and a service manager sends SIGTERM.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        return next(process.returncode for process in processes if process.returncode is not None)
    except KeyboardInterrupt:
        return 0
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
