"""Fixtures that more than one test file needs: both databases, and recorded days."""

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from recon_assets.bm_units import packaged_bm_units
from recon_assets.database import open_engine, writing
from recon_assets.orchestration.workbench import Workbench, open_workbench
from recon_assets.reference import store_bm_units, store_retargets
from recon_assets.schema import migrate
from recon_assets.settings import Settings
from recon_assets.stand_in import StandInElexon
from recon_assets_tests.postgres import PostgresServer
from recon_assets_tests.steps import JUNE, JUNE_DAYS, NOW, SMALL_DAYS, converge_layers, ingest

CLOCK_CHANGES = Path(__file__).parent / "data"
"""Recordings of 2025-03-30 (46 periods) and 2025-10-26 (50)."""


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A private PostgreSQL server, one for each test process."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The DATABASE_URL of an empty database, on each engine in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'recon.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings for an empty database and the packaged recordings of June 2025."""
    return Settings.from_environment({"DATABASE_URL": database_url, "ELEXON_API_URL": JUNE.as_uri()}, tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on a database with the schema, the packaged BM units and the packaged difficulty."""
    engine = open_engine(settings.database_url)
    prepare(engine)
    yield engine
    engine.dispose()


def prepare(engine: Engine) -> None:
    """Makes an empty database ready for settlement days."""
    migrate(engine)
    with writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), NOW)
        store_retargets(connection)


@pytest.fixture
def small_days(engine: Engine) -> Engine:
    """An engine on a database in which 2025-06-06 and 2025-06-07 are ingested and every layer is right."""
    ingest(engine, SMALL_DAYS)
    converge_layers(engine, SMALL_DAYS)
    return engine


def _build_june(database_url: str) -> None:
    engine = open_engine(Settings.from_environment({"DATABASE_URL": database_url}, Path()).database_url)
    prepare(engine)
    ingest(engine, JUNE_DAYS)
    converge_layers(engine, JUNE_DAYS)
    engine.dispose()


@pytest.fixture(scope="session")
def june_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file that `june` copies."""
    file = tmp_path_factory.mktemp("june") / "june.db"
    _build_june(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def june_template(postgres: PostgresServer) -> str:
    """The PostgreSQL database that `june` copies."""
    _build_june(postgres.create_database("june"))
    return "june"


@pytest.fixture(params=["sqlite", "postgresql"])
def june(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a database of its own in which all of June 2025 is ingested and every layer is right."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("june_file"), tmp_path / "june.db")
        engine = open_engine(f"sqlite:///{tmp_path / 'june.db'}")
        yield engine
        engine.dispose()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"june_{uuid.uuid4().hex}"
    url = server.create_database(name, template=request.getfixturevalue("june_template"))
    engine = open_engine(Settings.from_environment({"DATABASE_URL": url}, tmp_path).database_url)
    yield engine
    engine.dispose()
    server.drop_database(name)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of recordings that the test may spoil: 2025-06-06 and 2025-06-07, two small days."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for day in SMALL_DAYS:
        shutil.copy(JUNE / f"{day}.json.gz", folder)
    return folder


@pytest.fixture
def stand_in(recordings: Path) -> Iterator[StandInElexon]:
    """A server that answers as Elexon would, from `recordings`."""
    with StandInElexon(recordings) as server:
        yield server


@pytest.fixture
def workbench(settings: Settings, stand_in: StandInElexon) -> Iterator[Workbench]:
    """What assets work with: an empty database on each engine, and the stand-in, asked once and at full speed."""
    settings = replace(
        settings,
        elexon_api_url=stand_in.url,
        mempool_api_url=None,
        elexon_requests_per_second=1000,
        elexon_attempts=1,
    )
    with open_workbench(settings) as workbench:
        yield workbench


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
