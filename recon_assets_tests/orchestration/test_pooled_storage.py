"""Dagster's storage on PostgreSQL with connections that stay open."""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from sqlalchemy import make_url, text

import recon_assets
from recon_assets.orchestration.instance import open_instance, prepare_home
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.postgres import PostgresServer

DATABASE = "dagster_storage"
OPERATIONS = Path(recon_assets.__file__).parent.parent / "docs" / "operations.md"


@pytest.fixture
def home(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of the commands in a folder, whose dagster.yaml names the storage as docs/operations.md says."""
    url = make_url(postgres.create_database(DATABASE)).set(drivername="postgresql+psycopg2")
    (documented,) = re.findall(r"```text\n(storage:\n.*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    home = tmp_path / ".recon" / "dagster"
    prepare_home(home)
    with (home / "dagster.yaml").open("a", encoding="utf-8") as configuration:
        configuration.write("\n" + re.sub(r"postgresql\S+", url.render_as_string(hide_password=False), documented))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    yield home
    postgres.drop_database(DATABASE)


def backend(instance: dg.DagsterInstance) -> int:
    """The server process of the connection that the event log uses."""
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def open_connections(postgres: PostgresServer) -> int:
    """Connections to the database of the storage."""
    with psycopg.connect(postgres.url("postgres")) as connection:
        counted = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [DATABASE]).fetchone()
    assert counted is not None
    return int(counted[0])


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_an_address_without_a_driver_works(home: Path, scheme: str) -> None:
    configuration = home / "dagster.yaml"
    configuration.write_text(configuration.read_text(encoding="utf-8").replace("postgresql+psycopg2:", f"{scheme}:"))

    with open_instance(home) as instance:
        assert instance.get_runs_count() == 0
        assert backend(instance) > 0


def test_one_connection_serves_many_statements_of_many_instances(home: Path, postgres: PostgresServer) -> None:
    backends = set()
    for _ in range(5):
        with open_instance(home) as instance:
            backends |= {backend(instance) for _ in range(5)}

    assert len(backends) == 1
    # The three parts make their tables at the first opening, each with a connection of its own.
    assert open_connections(postgres) <= 2


def test_a_connection_that_the_server_has_ended_is_replaced(home: Path, postgres: PostgresServer) -> None:
    with open_instance(home) as instance:
        before = backend(instance)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as server:
            server.execute("SELECT pg_terminate_backend(%s)", [before])

        assert backend(instance) != before
        assert instance.get_runs_count() == 0


def test_a_command_tells_dagster_there(home: Path, recordings: Path) -> None:
    recon = Command(home.parent.parent, ELEXON_API_URL=recordings.as_uri(), MEMPOOL_API_URL="none")

    ended = recon("date", "2025-06-06")

    assert ended.exit_code == 0, ended.stderr
    with open_instance(home) as instance:
        assert instance.get_materialized_partitions(WIND_BIDS) == {"2025-06-06"}
        assert instance.get_runs_count() > 0
    assert not list(home.rglob("*.db"))
