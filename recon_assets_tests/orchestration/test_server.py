"""`recon ui` serves the Dagster UI: GraphQL answers, launched runs are done, and everything ends on request."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from sqlalchemy import Engine

from recon_assets_tests.support.command import Command
from recon_assets_tests.support.content import all_hold, partitions
from recon_assets_tests.support.serving import family, free_port, served_by_command, wait_until
from recon_assets_tests.support.steps import JUNE

PATIENCE_SECONDS = 90
LAUNCH = """
mutation($job: String!, $tags: [ExecutionTag!]) {
  launchPipelineExecution(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "recon", pipelineName: $job},
    executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
RUN = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status tags { key value } } } }"


class Ui:
    """A served UI."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What GraphQL answers."""
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=PATIENCE_SECONDS
        ).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def run(self, job: str, **tags: str) -> dict[str, str]:
        """Launches a job and waits until it is done; gives the tags of the run."""
        listed = [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]
        launched = self.ask(LAUNCH, job=job, tags=listed)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        wait_until(lambda: self.ask(RUN, run=run_id)["runOrError"]["status"] not in UNDER_WAY)
        found = self.ask(RUN, run=run_id)["runOrError"]
        assert found["status"] == "SUCCESS"
        return {tag["key"]: tag["value"] for tag in found["tags"]}


UNDER_WAY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED")


@pytest.fixture
def recon(database_url: str, tmp_path: Path) -> Command:
    """The command on the test's own database, with the packaged recordings."""
    return Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri())


@pytest.fixture
def ui(recon: Command) -> Iterator[Ui]:
    """A served UI; none of its processes outlives the test."""
    with served_by_command(recon) as (process, address):
        yield Ui(process, address)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # where processes get in each other's way
def test_the_ui_shows_the_assets_and_does_what_is_launched_there(engine: Engine, ui: Ui, recon: Command) -> None:
    # given a database that knows the wind units and the difficulty
    location = ui.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }")
    assert location["repositoriesOrError"]["nodes"] == [{"location": {"name": "recon"}}]
    assets = ui.ask("{ assetNodes { groupName isMaterializable assetKey { path } } }")["assetNodes"]
    assert len(assets) == 14
    assert all(asset["isMaterializable"] for asset in assets)

    # when a day is materialized from the launchpad
    ui.run("ingest_days", partition="2025-06-07")
    tags = ui.run("converge_days", partition="2025-06-07")

    # then the run named its process, the command sees its work, and the UI sees the command's
    assert int(tags["recon/pid"]) != ui.process.pid
    assert "recon/process_started" in tags
    status = recon("status", "--from", "2025-06-07", "--to", "2025-06-07", "--format", "json")
    assert status.facts["missing"] == status.facts["wrong"] == 0
    assert status.facts["curtailment_records"] == 14
    assert recon("date", "2025-06-07").exit_code == 0
    months = ui.ask(
        "query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {"
        ' latestMaterializationByPartition(partitions: ["2025-06"]) { partition } } } }',
        key={"path": ["monthly_summaries"]},
    )
    assert months["assetNodeOrError"]["latestMaterializationByPartition"] == [{"partition": "2025-06"}]
    with recon.dagster() as instance:
        assert partitions(instance) == all_hold(["2025-06-07"])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_all_its_children_when_it_is_told(ui: Ui, stop: signal.Signals) -> None:
    # given webserver, daemon and their code servers
    wait_until(lambda: len(family(ui.process.pid)) >= 4)
    children = family(ui.process.pid)

    # when
    asked_to_end = time.monotonic()
    ui.process.send_signal(stop)
    said, complaint = ui.process.communicate(timeout=20)

    # then
    assert ui.process.returncode == 0, complaint
    assert psutil.wait_procs(children, timeout=15 - (time.monotonic() - asked_to_end))[1] == []
    assert said.startswith(f"Dagster UI on {ui.address} ")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_port_that_is_taken_ends_it_with_an_error(recon: Command) -> None:
    # given
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        # when
        process = recon.start_script("ui", "--port", str(taken.getsockname()[1]))
        _, complaint = process.communicate(timeout=PATIENCE_SECONDS)

    # then
    assert process.returncode != 0
    assert "address already in use" in complaint
    assert family(process.pid) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RECON_UNATTENDED", "maybe", "'maybe' is no switch: write on or off"),
        ("RECON_TICK_SECONDS", "0", "0 is not a positive number"),
        ("RECON_ALERT_URLS", "nowhere://s3cret", "URL 1 of 1 is not understood"),
    ],
)
def test_what_is_set_wrongly_is_one_line_before_anything_is_served(
    recon: Command, variable: str, value: str, says: str
) -> None:
    ended = recon("ui", "--port", str(free_port()), **{variable: value})

    assert ended.exit_code == 2
    assert ended.complaint.startswith(f"Error: {variable}: {says}")
    assert "s3cret" not in ended.stdout + ended.stderr
