"""The fixtures of the system tests: a pooler, and two hosts joined by a link."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recon_assets_tests.support.network import Host
from recon_assets_tests.support.pgbouncer import Pgbouncer
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.system import REQUIRED

DATABASE_ADDRESS, CLIENT_ADDRESS = "192.0.2.1", "192.0.2.2"
"""Of a network that is reserved for examples."""


def pytest_sessionstart() -> None:
    REQUIRED.insist()


@pytest.fixture
def pooler(postgres: PostgresServer, tmp_path: Path) -> Iterator[Pgbouncer]:
    """A pooler in session mode before the test session's PostgreSQL server."""
    with Pgbouncer(postgres, tmp_path) as pooler:
        yield pooler


@pytest.fixture
def database_host() -> Iterator[Host]:
    """The host of a database."""
    with Host() as host:
        yield host


@pytest.fixture
def client_host(database_host: Host) -> Iterator[Host]:
    """A host joined to that of the database."""
    with Host() as host:
        database_host.join(host, f"{DATABASE_ADDRESS}/24", f"{CLIENT_ADDRESS}/24")
        yield host


@pytest.fixture
def distant_database(database_host: Host, client_host: Host, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database on the database's host, from both hosts."""
    with ExitStack() as stack:
        with database_host.inside():
            server = stack.enter_context(PostgresServer(tmp_path, address=DATABASE_ADDRESS))
            address = server.create_database("recon")
        yield address
