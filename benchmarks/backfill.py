"""Measures a backfill of calculations, launched in the same way as from the Dagster UI.

    python -m benchmarks.history URL
    python -m benchmarks.backfill URL [FIRST LAST] [--kill-daemon]

It deletes the calculations of the days, starts webserver, daemon and code servers in their own folder, launches the
backfill over GraphQL, and waits until every row is right. Dagster's own storage uses the same engine: SQLite files, or
another PostgreSQL database on the same server. With `--kill-daemon` the daemon is killed while runs execute, and
started again after 10 s.
"""

import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import URL, ColumnElement, Engine, delete, func, make_url, select

from benchmarks.figures import Figure, engine_of, scope_of
from benchmarks.history import HISTORY
from recon_assets.database import transactions
from recon_assets.database.tables import historical_bitcoin_calculations
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days, parse_day
from recon_assets.orchestration.active_runs import PARTITION_TAG, RANGE_TAGS
from recon_assets.orchestration.instance import prepare_home
from recon_assets.orchestration.specs import calculations_key
from recon_assets.reconcile.layers import BITCOIN_DAILY, BITCOIN_MONTHLY, BITCOIN_YEARLY
from recon_assets.reconcile.read_state import stale_summaries
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.serving import WORKSPACE, Served, family, serve, wait_until

PART = "Backfill of three years through Dagster"
AT_MOST = {"sqlite": 180.0, "postgresql": 150.0}
DOWN_SECONDS = 10
PATIENCE_SECONDS = 1200
COMPLETED = "COMPLETED_SUCCESS"
NOT_ENDED = ("REQUESTED", "COMPLETING")
EMPTY_WORKSPACE = (
    "load_from:\n  - python_module:\n      module_name: benchmarks.empty_bodies\n      location_name: recon\n"
)
POOLED = """
storage:
  custom:
    module: recon_assets.orchestration.pooled_storage
    class: PooledPostgresStorage
    config:
      postgres_url: {url}
"""
ROOT = str(Path(__file__).parent.parent)
LOADED = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
SAMPLE_SECONDS = 2
SUMS = (BITCOIN_DAILY, BITCOIN_MONTHLY, BITCOIN_YEARLY)
YEAR = Days(HISTORY.first, HISTORY.first.replace(month=12, day=31))
KEYS = [list(calculations_key(model).path) for model in MODELS]


@dataclass
class BackfillResult:
    """How a backfill went: seconds until all rows were there and until Dagster called it complete; runs; memory."""

    filled: float
    ended: float
    status: str
    runs: int
    ranges: int
    most_successes: int
    peak_mb: float

    def figure(self, what: str, engine: str, at_most: float | None = None) -> Figure:
        """The seconds until Dagster called it complete; RuntimeError when it did not succeed."""
        if self.status != COMPLETED:
            raise RuntimeError(f"the backfill of {what} ended as {self.status}")
        words = f"{what}: complete, {self.runs} runs"
        return Figure(PART, words, engine, self.ended, at_most=at_most, peak_mb=self.peak_mb)


def measure(url: str) -> Iterator[Figure]:
    """The figures of one engine; the database holds three years, which are right before and afterwards."""
    engine = engine_of(url)
    name = engine.dialect.name
    result = calculations(url, HISTORY)
    yield Figure(PART, "calculations: all rows there", name, result.filled)
    yield result.figure("calculations", name, AT_MOST[name])
    empty = run(url, YEAR, KEYS, lambda: True, workspace=EMPTY_WORKSPACE)
    yield empty.figure("empty bodies in the place of one year's calculations", name)
    if name == "sqlite":
        # On one engine only: most of the time is the daemon's polling, every 30 s, for days, months and the year.
        yield summaries(url, YEAR).figure("sums of days, months and the year, of one year", name)


def calculations(url: str, days: Days, *, kill_daemon: bool = False) -> BackfillResult:
    """Deletes and backfills the calculations of some days."""
    engine, table = engine_of(url), historical_bitcoin_calculations
    of_days = table.c.settlement_date.between(days.first, days.last)
    expected = _count(engine, of_days)
    with transactions.writing(engine) as connection:
        connection.execute(delete(table).where(of_days))

    def stored() -> int:
        return _count(engine, of_days)

    def kill(served: Served) -> None:
        wait_until(lambda: 0 < stored() < expected, PATIENCE_SECONDS, every=1)
        served.kill_daemon()
        time.sleep(DOWN_SECONDS)
        served.start_daemon()

    return run(url, days, KEYS, lambda: stored() == expected, meanwhile=kill if kill_daemon else None)


def summaries(url: str, days: Days) -> BackfillResult:
    """Deletes and backfills the bitcoin summaries of whole years; RuntimeError when they are not right afterwards."""
    engine, scope = engine_of(url), scope_of(days)
    with transactions.writing(engine) as connection:
        for layer in SUMS:
            connection.execute(delete(layer.table).where(layer.owned_rows(scope)))
    result = run(url, days, [[layer.name] for layer in SUMS], lambda: True)
    if any(stale_summaries(engine, scope).values()):
        raise RuntimeError("the sums are not right after their backfill")
    return result


def run(
    url: str,
    days: Days,
    keys: list[list[str]],
    is_filled: Callable[[], bool],
    *,
    workspace: str | None = None,
    meanwhile: Callable[[Served], None] | None = None,
) -> BackfillResult:
    """Serves Dagster in its own folder, backfills assets and waits for the end."""
    with tempfile.TemporaryDirectory() as folder, _dagster_storage(url) as storage:
        home = Path(folder, ".recon", "dagster")
        prepare_home(home)
        with (home / "dagster.yaml").open("a", encoding="utf-8") as configuration:
            configuration.write(storage)
        served_from = Path(folder, "workspace.yaml")
        served_from.write_text(workspace or Path(WORKSPACE).read_text(encoding="utf-8"), encoding="utf-8")
        # Sensors tick once an hour, because they would fill the same gap at the same time.
        environment = {"DATABASE_URL": url, "MEMPOOL_API_URL": "none", "RECON_TICK_SECONDS": "3600", "PYTHONPATH": ROOT}
        recon = Command(Path(folder), **environment)
        with serve(recon, served_from) as served, _peak_of_children() as peak:
            wait_until(lambda: served.ask(LOADED)["repositoriesOrError"].get("nodes"))
            began = time.monotonic()
            backfill = served.backfill(keys, [day.isoformat() for day in days])
            if meanwhile:
                meanwhile(served)
            wait_until(is_filled, PATIENCE_SECONDS, every=1)
            filled = time.monotonic() - began
            wait_until(lambda: served.backfill_status(backfill) not in NOT_ENDED, PATIENCE_SECONDS, every=0.5)
            ended, status = time.monotonic() - began, served.backfill_status(backfill)
            runs = served.runs()
    good = Counter(
        run["tags"].get(RANGE_TAGS[0], run["tags"].get(PARTITION_TAG)) for run in runs if run["status"] == "SUCCESS"
    )
    return BackfillResult(filled, ended, status, len(runs), len(good), max(good.values()), max(peak))


@contextmanager
def _dagster_storage(url: str) -> Iterator[str]:
    """The storage in dagster.yaml: nothing for SQLite, else a separate database on the same server."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        yield ""
        return
    with psycopg.connect(
        address.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as server:
        server.execute("DROP DATABASE IF EXISTS dagster WITH (FORCE)")
        server.execute("CREATE DATABASE dagster")
        own = address.set(drivername="postgresql+psycopg2", database="dagster")
        yield POOLED.format(url=_text_of(own))
        server.execute("DROP DATABASE dagster WITH (FORCE)")


def _text_of(address: URL) -> str:
    return address.render_as_string(hide_password=False)


@contextmanager
def _peak_of_children() -> Iterator[list[float]]:
    """Appends the private memory (MB) of all child processes to a list, every few seconds."""
    seen, over = [0.0], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            seen.append(sum(_own_memory(process) for process in family(os.getpid())) / 1e6)

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _own_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def _count(engine: Engine, where: ColumnElement[bool]) -> int:
    with transactions.reading(engine) as connection:
        return int(connection.execute(select(func.count()).where(where)).scalar_one())


def main(url: str, *words: str) -> None:
    """Runs a backfill of calculations and prints how it went."""
    dates = [parse_day(word) for word in words if not word.startswith("--")]
    result = calculations(url, Days(*dates) if dates else HISTORY, kill_daemon="--kill-daemon" in words)
    print(
        f"all there after {result.filled:.0f} s, {result.status} after {result.ended:.0f} s; {result.runs} runs, "
        f"{result.ranges} ranges, each {result.most_successes} time(s) at most; {result.peak_mb:,.0f} MB"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
