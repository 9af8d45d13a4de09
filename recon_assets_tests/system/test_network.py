"""`recon` and its database on two hosts: across a network, without it, and after it came back."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recon_assets_tests.support.command import Command, Ended
from recon_assets_tests.support.network import Host
from recon_assets_tests.support.steps import JUNE
from recon_assets_tests.system.conftest import CLIENT_ADDRESS

PERIOD = ("--from", "2025-06-06", "--to", "2025-06-07")
LONGEST_SECONDS = 100
"""A command without a network: 14 s on a busy machine. Linux itself tries to connect for 130 s."""
LOSSES: dict[str, tuple[Callable[[Host, Host], None], Callable[[Host, Host], None]]] = {
    "own link": (lambda _, client: client.take_down(), lambda _, client: client.bring_up()),
    "link of the database": (lambda database, _: database.take_down(), lambda database, _: database.bring_up()),
    "answers, silently": (
        lambda database, _: database.ip("route", "add", "blackhole", CLIENT_ADDRESS),
        lambda database, _: database.ip("route", "delete", "blackhole", CLIENT_ADDRESS),
    ),
}
"""What is lost, how to lose it, and how to get it back."""


@pytest.fixture
def recon(client_host: Host, distant_database: str, tmp_path: Path) -> Callable[..., Ended]:
    """The command on the client's host, with the database on the other one."""
    command = Command(tmp_path, DATABASE_URL=distant_database, ELEXON_API_URL=JUNE.as_uri())

    def run(*words: str) -> Ended:
        # Not a process forked from one that was there before: that one is on no host of ours.
        with client_host.inside():
            return command.script(*words)

    return run


def test_without_a_network_a_command_says_so_and_with_it_again_finishes(
    recon: Callable[..., Ended], database_host: Host, client_host: Host
) -> None:
    # given a network that is lost before the first command
    database_host.take_down()
    assert_says_so_in_time(recon, "reconcile")

    # when
    database_host.bring_up()
    reconciled = recon("reconcile", *PERIOD)

    # then
    assert (reconciled.exit_code, reconciled.stderr) == (0, "")
    before = recon("status", *PERIOD, "--format", "json")
    assert before.exit_code == 0
    assert before.facts["missing"] == before.facts["wrong"] == before.facts["stale_summaries"] == 0
    assert before.facts["curtailment_records"] == 80 + 14

    # when it is lost in other ways
    for lose, restore in LOSSES.values():
        lose(database_host, client_host)
        assert_says_so_in_time(recon, "status")
        restore(database_host, client_host)

    # then
    assert recon("status", *PERIOD, "--format", "json").facts == before.facts


def assert_says_so_in_time(recon: Callable[..., Ended], name: str) -> None:
    started = time.monotonic()
    ended = recon(name, *PERIOD)
    assert time.monotonic() - started < LONGEST_SECONDS
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.complaint.startswith("Error: DATABASE_URL: cannot connect to postgresql")
