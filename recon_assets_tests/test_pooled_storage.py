"""Dagster's storage on PostgreSQL with connections that stay open."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from recon_assets.orchestration.catalogue import WIND_BIDS
from recon_assets.orchestration.instance import open_instance, prepare_home
from recon_assets_tests.command import Command
from recon_assets_tests.postgres import PostgresServer

STORAGE = """
storage:
  custom:
    module: recon_assets.orchestration.pooled_storage
    class: PooledPostgresStorage
    config:
      postgres_url: {url}
"""


@pytest.fixture
def home(postgres: PostgresServer, tmp_path: Path) -> Iterator[Path]:
    """The home of the commands in a folder, whose dagster.yaml names the storage."""
    url = make_url(postgres.create_database("dagster_storage")).set(drivername="postgresql+psycopg2")
    home = tmp_path / ".recon" / "dagster"
    prepare_home(home)
    with (home / "dagster.yaml").open("a", encoding="utf-8") as configuration:
        configuration.write(STORAGE.format(url=url.render_as_string(hide_password=False)))
    yield home
    postgres.drop_database("dagster_storage")


def test_one_connection_serves_many_statements(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with open_instance(home) as instance:

        def backend() -> int:
            with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
                return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

        assert len({backend() for _ in range(5)}) == 1


def test_a_command_tells_dagster_there(home: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    recon = Command(home.parent.parent, ELEXON_API_URL=recordings.as_uri(), MEMPOOL_API_URL="none")

    ended = recon("date", "2025-06-06")

    assert ended.exit_code == 0, ended.stderr
    with open_instance(home) as instance:
        assert instance.get_materialized_partitions(WIND_BIDS) == {"2025-06-06"}
        assert instance.get_runs_count() > 0
    assert not list(home.rglob("*.db"))
