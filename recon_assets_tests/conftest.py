"""Fixtures that more than one test file needs: both databases, and recorded days."""

import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import hypothesis
import portalocker
import pytest
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import migrate
from recon_assets.database.transactions import writing
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.ingest.reference import store_bm_units, store_retargets
from recon_assets.orchestration.resource import ReconResource, open_resource
from recon_assets.settings import Settings
from recon_assets_tests.support.generation import publish
from recon_assets_tests.support.light_dagster import copy_home, light_instance, make_home
from recon_assets_tests.support.paths import DATA
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.quick import why_not_quick
from recon_assets_tests.support.statements import share_statements
from recon_assets_tests.support.steps import BUSY_DAYS, JUNE, JUNE_DAYS, NOW, SMALL_DAYS, converge_layers, ingest

hypothesis.settings.register_profile("campaign", max_examples=500, print_blob=True)

PATIENCE_SECONDS = 300
"""For a template that another test process builds: of all June, on a busy machine."""

CLOCK_CHANGES = DATA
"""Recordings of 2025-03-30 (46 periods) and 2025-10-26 (50)."""


MEMORY = Path("/dev/shm")
ROOM_IN_MEMORY = 4 * 1024**3
"""Bytes. All test processes together write less than one GB before what has passed is removed."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Puts what tests write into memory where there is room: commands waited for the disk a third of their time.

    Statements are compiled once.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_IN_MEMORY:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    share_statements()


LEFT_OUT = pytest.StashKey[dict[str, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what is quick, for `-m quick`."""
    reasons = [why_not_quick(item) for item in items]
    for item, reason in zip(items, reasons, strict=True):
        if reason is None:
            item.add_marker("quick")
    if config.option.markexpr == "quick":
        config.stash[LEFT_OUT] = dict(Counter(filter(None, reasons)))
        if hasattr(config, "workeroutput"):
            config.workeroutput["left_out"] = config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes from a test process what it left out: each collects all tests."""
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what a quick run left out, and why."""
    if left_out := config.stash.get(LEFT_OUT, None):
        counts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        terminalreporter.write_line(f"Left out: {sum(left_out.values()):,} tests ({counts}); see `make test`.")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A private PostgreSQL server, one for each test process."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def _prepare(engine: Engine) -> None:
    migrate(engine)
    with writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), NOW)
        store_retargets(connection)


def _fill(engine: Engine, days: Days) -> None:
    _prepare(engine)
    ingest(engine, days)
    converge_layers(engine, days)


CONTENT: dict[str, Callable[[Engine], None]] = {
    "june": lambda engine: _fill(engine, JUNE_DAYS),
    "busy_days": lambda engine: _fill(engine, BUSY_DAYS),
    "small_days": lambda engine: _fill(engine, SMALL_DAYS),
    "engine": _prepare,
}
"""The fixtures that promise a database with content, and what makes it. Built once in a test process, then copied."""


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the databases that tests copy."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="session")
def shared_templates(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of those that all test processes of a session copy: files, which no server holds."""
    session = tmp_path_factory.getbasetemp()
    folder = (session if worker_id == "master" else session.parent) / "shared_templates"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def june_database(
    request: pytest.FixtureRequest, templates: Path, shared_templates: Path
) -> Callable[[str, Path], str]:
    """Makes a database of June 2025, every layer right, for tests that share one: of an engine, in a folder."""

    def make(engine: str, folder: Path) -> str:
        return _make_database(request, engine, "june", folder, templates, shared_templates)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, templates: Path, shared_templates: Path
) -> Iterator[str]:
    """The DATABASE_URL of the test's own database, on each engine in turn: empty, but for a fixture in CONTENT."""
    content = next((name for name in CONTENT if name in request.fixturenames), None)
    url = _make_database(request, request.param, content, tmp_path, templates, shared_templates)
    yield url
    if request.param == "postgresql":
        request.getfixturevalue("postgres").drop_database(url.rpartition("/")[2])


def _make_database(
    request: pytest.FixtureRequest,
    engine: str,
    content: str | None,
    folder: Path,
    templates: Path,
    shared_templates: Path,
) -> str:
    if engine == "sqlite":
        if content:
            shutil.copy(_build_once(shared_templates, content), folder / "recon.db")
        return f"sqlite:///{folder / 'recon.db'}"
    built = templates / f"{content}.postgresql"
    server: PostgresServer = request.getfixturevalue("postgres")
    if content and not built.exists():
        _build(server.create_database(content), content)
        built.touch()
    return server.create_database(f"test_{uuid.uuid4().hex}", template=content)


def _build_once(folder: Path, content: str) -> Path:
    """The template of a content, built by the test process that comes first."""
    return _once(folder, content, lambda making: _build(f"sqlite:///{making}", content))


def _once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    built, making = folder / name, folder / f"{name}.making"
    with portalocker.Lock(folder / f"{name}.lock", "a", timeout=PATIENCE_SECONDS):
        if not built.exists():
            make(making)
            making.rename(built)
    return built


def _build(url: str, content: str) -> None:
    engine = open_engine(Settings.from_environment({"DATABASE_URL": url}, Path()).database_url)
    CONTENT[content](engine)
    engine.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings for the test's own database and the packaged recordings of June 2025."""
    return Settings.from_environment({"DATABASE_URL": database_url, "ELEXON_API_URL": JUNE.as_uri()}, tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on a database with the schema, the packaged BM units and the packaged difficulty."""
    engine = open_engine(settings.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def small_days(engine: Engine) -> Engine:
    """An engine on a database in which 2025-06-06 and 2025-06-07 are ingested and every layer is right."""
    return engine


@pytest.fixture
def busy_days(engine: Engine) -> Engine:
    """An engine on a database in which 2025-06-01 and 2025-06-02 are ingested and every layer is right."""
    return engine


@pytest.fixture
def june(engine: Engine) -> Engine:
    """An engine on a database in which all of June 2025 is ingested and every layer is right."""
    return engine


@pytest.fixture(scope="session")
def small_recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 2025-06-06 and 2025-06-07, two small days, without the wind generation."""
    folder = tmp_path_factory.mktemp("small") / "recordings"
    folder.mkdir()
    for day in SMALL_DAYS:
        shutil.copy(JUNE / f"{day}.json.gz", folder)
        publish(folder, day, None)
    return folder


@pytest.fixture
def recordings(tmp_path: Path, small_recordings: Path) -> Path:
    """A folder of recordings that the test may spoil: two small days; whoever needs generation publishes it."""
    return Path(shutil.copytree(small_recordings, tmp_path / "recordings"))


@pytest.fixture
def stand_in(recordings: Path) -> Iterator[StandInElexon]:
    """A server that answers as Elexon would, from `recordings`."""
    with StandInElexon(recordings) as server:
        yield server


@pytest.fixture(scope="session")
def dagster_home(shared_templates: Path) -> Path:
    """A light DAGSTER_HOME to copy."""
    return _once(shared_templates, "dagster_home", make_home)


@pytest.fixture
def light_dagster(tmp_path: Path, dagster_home: Path) -> dict[str, str]:
    """The environment of a command whose Dagster is only as much as its runs need."""
    return copy_home(dagster_home, tmp_path / "dagster_home")


@pytest.fixture
def resource(settings: Settings, stand_in: StandInElexon) -> Iterator[ReconResource]:
    """What assets work with: an empty database on each engine, and the stand-in, asked once and at full speed."""
    settings = replace(
        settings,
        elexon_api_url=stand_in.url,
        mempool_api_url=None,
        elexon_requests_per_second=1000,
        elexon_attempts=1,
    )
    with open_resource(settings) as resource:
        yield resource


@pytest.fixture
def instance(tmp_path: Path, dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that the test has for itself."""
    with light_instance(dagster_home, tmp_path / "dagster_instance") as instance:
        yield instance
