"""Random schedules of faults, kills, revisions and restarts all end with the same rows.

A small fixed sample runs with the other tests; `make campaign` draws many more, different ones each time.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from recon_assets.database.engine import open_engine
from recon_assets.database.tables import metadata, settlement_revisions
from recon_assets.elexon.archive import Archive, Kept, read_bodies
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.source import Body
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, FaultKind
from recon_assets.errors import ReconError
from recon_assets.ingest.bids import ingest_day
from recon_assets.settings import Settings
from recon_assets_tests.conftest import CONTENT
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.steps import (
    JUNE,
    JUNE_6,
    JUNE_7,
    NOW,
    SMALL_DAYS,
    change_recording,
    contents,
    converge_layers,
)

DAYS = (JUNE_6, JUNE_7)
PERIODS = (3, 5, 7)
"""Read of each day: all of them have wind bids on the 6th, and the first row of 3 and 7 is a wind unit's."""

COMPARED = [table for table in metadata.tables.values() if table is not settlement_revisions]

FAULTS: tuple[FaultKind, ...] = (
    "reset", "short_body", "too_many_requests", "server_error", "not_found", "html", "null_data", "empty_data",
    "truncated", "wrong_content_type", "null_fields", "duplicate_rows", "unknown_fields", "other_day", "other_period",
)  # fmt: skip
"""All but `stall`, which only waits; test_faults.py has it."""


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it and go on."""


@dataclass(frozen=True)
class Step:
    """One run over all days: what goes wrong meanwhile, and where the process is killed.

    `kill` is None, a number of requests, or a place: after the archive is written, before a commit.
    """

    faults: tuple[tuple[FaultKind, str, int | None], ...]
    kill: int | str | None
    is_restated: bool


paths = st.sampled_from(
    [*(f"/bid/{day}/{period}/" for day in DAYS for period in PERIODS), "/system-prices/", "/acceptance/volumes/"]
)
faults = st.tuples(st.sampled_from(FAULTS), paths, st.sampled_from([1, 2, None]))
steps = st.builds(
    Step,
    faults=st.lists(faults, max_size=3).map(tuple),
    kill=st.one_of(st.none(), st.integers(1, 6), st.sampled_from(["after archive", "before commit"])),
    is_restated=st.booleans(),
)


class KillingSource(HttpSource):
    """Is killed as it sends a request."""

    requests_left: int | None = None

    def stack(self, day: date, period: int) -> Body | None:
        if self.requests_left is not None:
            self.requests_left -= 1
            if self.requests_left < 0:
                raise Killed
        return super().stack(day, period)


class KillingArchive(Archive):
    """Is killed after the archive is written and before the database is."""

    is_killing = False

    def keep(self, *arguments: Any) -> Kept:
        kept = super().keep(*arguments)
        if self.is_killing:
            raise Killed
        return kept


@contextmanager
def killed_before_commit(engine: Engine) -> Iterator[None]:
    """Kills before any commit of written rows. (PostgreSQL's locks are committed before that.)"""
    written: set[Connection] = set()

    def note(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if "wind_bids" in statement and statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH")):
            written.add(connection)

    def kill(connection: Connection) -> None:
        if connection in written:
            raise Killed

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", kill)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "commit", kill)


def read_all(engine: Engine, url: str, archive: KillingArchive, kill: int | str | None) -> list[str]:
    """One run: reads every day, then converges all; the reasons of the days that could not be read."""
    source = KillingSource(url, per_second=10_000, attempts=2, backoff_seconds=0.001)
    source.requests_left = kill if isinstance(kill, int) else None
    archive.is_killing = kill == "after archive"
    reasons = []
    for day in DAYS:
        try:
            ingest_day(engine, Elexon(source), day, NOW, PERIODS, archive)
        except ReconError as error:
            reasons.append(str(error))
    converge_layers(engine, SMALL_DAYS)
    return reasons


def restate(folder: Path) -> None:
    """Revises the recording: one bid changes, another goes, and the acceptance volumes follow."""

    def change(content: dict[str, Any]) -> None:
        first, gone = content["stack_bid"]["3"]["data"][0], content["stack_bid"]["5"]["data"][3]
        first["volume"] -= 4.0
        content["stack_bid"]["5"]["data"].remove(gone)
        for row in list(content["acceptance_volumes_bid"]["data"]):
            key = (row["settlementPeriod"], row["bmUnit"], row["acceptanceId"])
            if key == (3, first["id"], first["acceptanceId"]):
                row["totalVolumeAccepted"] -= 4.0
            if key == (5, gone["id"], gone["acceptanceId"]):
                content["acceptance_volumes_bid"]["data"].remove(row)

    change_recording(folder, JUNE_6, change)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The days as they were published at first (False), and restated (True)."""
    folders = {}
    for is_restated in (False, True):
        folder = tmp_path_factory.mktemp("recordings")
        for day in DAYS:
            shutil.copy(JUNE / f"{day}.json.gz", folder)
        if is_restated:
            restate(folder)
        folders[is_restated] = folder
    return folders


Database = Callable[[], Engine]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Makes databases with the schema, the BM units and the difficulty."""
    folder = tmp_path_factory.mktemp("databases")
    count = Counter[str]()

    def engine_of(url: str) -> Engine:
        return open_engine(Settings.from_environment({"DATABASE_URL": url}, folder).database_url)

    def sqlite() -> Engine:
        template, file = folder / "template.db", folder / f"{count.total()}.db"
        if not template.exists():
            prepare(engine_of(f"sqlite:///{template}"))
        count["made"] += 1
        return engine_of(f"sqlite:///{shutil.copy(template, file)}")

    if request.param == "sqlite":
        return sqlite
    server: PostgresServer = request.getfixturevalue("postgres")
    prepare(engine_of(server.create_database("schedules")))

    def postgresql() -> Engine:
        count["made"] += 1
        return engine_of(server.create_database(f"schedule_{count.total()}", template="schedules"))

    return postgresql


def prepare(engine: Engine) -> None:
    CONTENT["engine"](engine)
    engine.dispose()


@pytest.fixture(scope="module")
def without_faults(
    recorded: dict[bool, Path], new_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Any]:
    """The content of every table without faults, for the first and for the revised days."""
    held = {}
    for is_restated, folder in recorded.items():
        engine, archive = new_database(), KillingArchive(tmp_path_factory.mktemp("without_faults"))
        with StandInElexon(folder) as server:
            assert read_all(engine, server.url, archive, None) == []
        held[is_restated] = contents(engine, *COMPARED)
        engine.dispose()
    return held


CAMPAIGN = settings.get_current_profile_name() == "campaign"


@settings(
    max_examples=settings().max_examples if CAMPAIGN else 6,
    # To shrink a failing schedule takes minutes; the campaign does.
    phases=tuple(Phase) if CAMPAIGN else (Phase.generate,),
    derandomize=not CAMPAIGN,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(schedule=st.lists(steps, min_size=1, max_size=4))
def test_every_schedule_of_faults_and_kills_ends_like_none(
    schedule: list[Step],
    recorded: dict[bool, Path],
    new_database: Database,
    without_faults: dict[bool, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # given a schedule in which Elexon restates the days once, and never takes that back
    engine, archive = new_database(), KillingArchive(tmp_path_factory.mktemp("archive"))
    is_restated = False

    # when
    for step in schedule:
        is_restated = is_restated or step.is_restated
        with StandInElexon(recorded[is_restated]) as server:
            server.faults += [Fault(kind, path, times) for kind, path, times in step.faults]
            try:
                if step.kill == "before commit":
                    with killed_before_commit(engine):
                        read_all(engine, server.url, archive, None)
                else:
                    read_all(engine, server.url, archive, step.kill)
            except Killed:
                engine.dispose()

    # then after one run without any, everything is as if nothing had ever gone wrong
    with StandInElexon(recorded[is_restated]) as server:
        assert read_all(engine, server.url, archive, None) == []
    assert contents(engine, *COMPARED) == without_faults[is_restated]
    assert all(read_bodies(path.read_bytes()) for path in archive.folder.glob("**/*.json.gz"))
    # and a second run changes nothing
    before = contents(engine, *metadata.tables.values())
    with StandInElexon(recorded[is_restated]) as server:
        read_all(engine, server.url, archive, None)
    assert contents(engine, *metadata.tables.values()) == before
    engine.dispose()
