"""The Dagster UI as people have it: webserver, daemon and code servers as processes, asked over GraphQL."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import requests

from recon_assets.orchestration.instance import EVENTS_AT_ONCE, open_instance
from recon_assets.orchestration.server import PROGRAMS
from recon_assets_tests.support.command import Command

WORKSPACE = str(files("recon_assets.data") / "workspace.yaml")

PATIENCE_SECONDS = 180
UNDER_WAY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")

LAUNCH = """
mutation($job: String!, $tags: [ExecutionTag!], $config: RunConfigData) {
  launchPipelineExecution(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "recon", pipelineName: $job},
    runConfigData: $config, executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
RUN = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status tags { key value } } } }"
RUNS = """
query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {
  runId status jobName startTime endTime assetSelection { path } tags { key value }
} } } }
"""
BACKFILL = """
mutation($assets: [AssetKeyInput!], $partitions: [String!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $partitions, fromFailure: false}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_STATUS = (
    "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
TICKS = """
query($sensor: String!) { sensorOrError(sensorSelector: {
  repositoryName: "__repository__", repositoryLocationName: "recon", sensorName: $sensor
}) { ... on Sensor { sensorState { status ticks(limit: 100) {
  status timestamp skipReason cursor runIds error { message }
} } } } }
"""
CHECKS = """
{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name executionForLatestMaterialization { status runId timestamp }
} } } } }
"""


class Served:
    """Webserver and daemon, each with code servers of its own, as a service manager would start them."""

    def __init__(self, recon: Command, workspace: Path | str = WORKSPACE) -> None:
        self._recon, self._workspace = recon, str(workspace)
        self._home = recon.folder / ".recon" / "dagster"
        self._output = (recon.folder / "served.log").open("a", encoding="utf-8")
        # As `recon ui` does: two processes that find no databases both make them, and one of them may fail.
        with open_instance(self._home):
            port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._webserver = self._start(PROGRAMS["webserver"], "--host", "127.0.0.1", "--port", str(port))
        self._daemon = self._start(PROGRAMS["daemon"])

    def _start(self, program: Sequence[str], *words: str) -> subprocess.Popen[str]:
        # Nobody empties a pipe; one that is full would stop them.
        return subprocess.Popen(
            [sys.executable, *program, "--workspace", self._workspace, *words],
            cwd=self._recon.folder,
            env=EVENTS_AT_ONCE | self._recon.environment | {"DAGSTER_HOME": str(self._home)},
            stdout=self._output,
            stderr=self._output,
            text=True,
        )

    def kill_daemon(self) -> None:
        """Kills the daemon alone, as if it had run out of memory."""
        self._daemon.kill()
        self._daemon.wait()

    def start_daemon(self) -> None:
        """Starts the daemon again."""
        self._daemon = self._start(PROGRAMS["daemon"])

    def end(self) -> None:
        """Ends all of its processes."""
        for process in (self._webserver, self._daemon):
            for child in family(process.pid):
                child.kill()
            process.kill()
            process.wait()
        self._output.close()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What GraphQL answers."""
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=PATIENCE_SECONDS
        ).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def is_up(self) -> bool:
        """Whether the webserver answers yet."""
        assert self._webserver.poll() is None, Path(self._output.name).read_text(encoding="utf-8")
        return _answers(self.address)

    def launch(self, job: str, config: Mapping[str, Any] | None = None, **tags: str) -> dict[str, Any]:
        """Launches a job as the launchpad does and waits until it ended; the run."""
        listed = [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]
        launched = self.ask(LAUNCH, job=job, tags=listed, config=config or {})["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        wait_until(lambda: self.ask(RUN, run=run_id)["runOrError"]["status"] not in UNDER_WAY)
        run: dict[str, Any] = self.ask(RUN, run=run_id)["runOrError"]
        return run

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """All runs that have these tags of recon, the newest first, their tags as a mapping."""
        listed = [{"key": f"recon/{name}", "value": value} for name, value in tags.items()]
        found = self.ask(RUNS, filter={"tags": listed})["runsOrError"]["results"]
        for run in found:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return list(found)

    def backfill(self, assets: list[list[str]], partitions: list[str]) -> str:
        """Launches a backfill as the button of the UI does; its id."""
        keys = [{"path": path} for path in assets]
        launched = self.ask(BACKFILL, assets=keys, partitions=partitions)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        """REQUESTED until it ended."""
        return str(self.ask(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The ticks of a sensor that ended, the newest first; none before the code location is loaded."""
        assert self._daemon.poll() is None, Path(self._output.name).read_text(encoding="utf-8")
        found = self.ask(TICKS, sensor=sensor)["sensorOrError"]
        ticks = found["sensorState"]["ticks"] if found else []
        return [tick for tick in ticks if tick["status"] != "STARTED"]

    def checks(self) -> dict[str, str]:
        """The status of every check's last evaluation."""
        return {
            "/".join([*node["assetKey"]["path"], check["name"]]): (
                check["executionForLatestMaterialization"] or {"status": "NEVER"}
            )["status"]
            for node in self.ask(CHECKS)["assetNodes"]
            for check in node["assetChecksOrError"].get("checks", [])
        }


@contextmanager
def serve(recon: Command, workspace: Path | str = WORKSPACE) -> Iterator[Served]:
    """A Dagster that is served, in the folder and the environment of a command."""
    served = Served(recon, workspace)
    try:
        wait_until(served.is_up)
        yield served
    finally:
        served.end()


@contextmanager
def served_by_command(recon: Command) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`recon ui` on a free port: its process and its address. Whatever happens then, nothing of it is left."""
    port = free_port()
    process, address = recon.start_script("ui", "--port", str(port)), f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, process.communicate()
        return _answers(address)

    try:
        wait_until(answers)
        yield process, address
    finally:
        for child in family(process.pid):
            child.kill()
        process.kill()
        process.communicate()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/server_info", timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_until(holds: Callable[[], object], seconds: float = PATIENCE_SECONDS, every: float = 0.2) -> None:
    """Waits until something holds, looking every so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"It does not hold after {seconds} s."
        time.sleep(every)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def family(pid: int) -> list[psutil.Process]:
    """The children of a process and theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
