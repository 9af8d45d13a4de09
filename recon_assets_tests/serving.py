"""The Dagster UI as people have it: webserver, daemon and code servers as processes, asked over GraphQL.

Here: starting and asking. Not here: what should come of it.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import requests

from recon_assets_tests.command import Command

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
    """A Dagster UI that is served."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.address = f"http://127.0.0.1:{port}"

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
        assert self.process.poll() is None, self.process.communicate()
        try:
            return requests.get(f"{self.address}/server_info", timeout=5).ok
        except requests.ConnectionError:
            return False

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
        """The ticks of a sensor that ended, the newest first."""
        ticks = self.ask(TICKS, sensor=sensor)["sensorOrError"]["sensorState"]["ticks"]
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

    def daemon(self) -> psutil.Process:
        """The process of Dagster's daemon."""
        (found,) = [child for child in family(self.process.pid) if "dagster._daemon" in child.cmdline()]
        return found


@contextmanager
def serve(recon: Command) -> Iterator[Served]:
    """A UI that is served; whatever is done with it, no process of it is left."""
    port = free_port()
    process = recon.start("ui", "--port", str(port))
    served = Served(process, port)
    try:
        wait_until(served.is_up)
        yield served
    finally:
        for child in family(process.pid):
            child.kill()
        process.kill()
        process.communicate()


def wait_until(holds: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


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
