"""Runs all benchmarks on a fresh SQLite file and a fresh PostgreSQL server with default settings: `make bench`.

    python -m benchmarks [sqlite | postgresql]

Prints each figure as it is measured, and writes benchmarks/RESULTS.md with its picture, benchmarks/results.png.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import text

from benchmarks import backfill, core, growth, ingest, startup, state, ticks
from benchmarks.figures import Figure, engine_of, show
from benchmarks.history import HISTORY, converge, fill
from benchmarks.results import write_results
from recon_assets.database.transactions import reading
from recon_assets.domain.settlement import Days
from recon_assets_tests.support.postgres import PostgresServer

ENGINES = ("sqlite", "postgresql")
FOLDER = Path(__file__).parent


def main(*chosen: str) -> None:
    """Measures the chosen engines, or both."""
    began = time.monotonic()
    figures: list[Figure] = []
    machine = [f"{platform.machine()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB"]
    machine += [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("dagster", "sqlalchemy")),
    ]
    for engine in chosen or ENGINES:
        with TemporaryDirectory() as folder, databases(engine, Path(folder)) as urls:
            machine.append(_version(urls["history"]))
            figures += show(measure(urls))
    figures += show(ingest.against_the_bound())
    figures += show(startup.measure())
    minutes = (time.monotonic() - began) / 60
    write_results(FOLDER, figures, [*machine, f"measured in {minutes:.0f} minutes"])
    missed = [figure for figure in figures if figure.is_reached is False]
    print(f"\n{len(figures)} figures in {minutes:.1f} minutes; {len(missed)} not reached:", *missed, sep="\n  ")


def measure(urls: Mapping[str, str]) -> Iterator[Figure]:
    """Every figure of an engine."""
    history, fourth = urls["history"], Days(HISTORY.last + timedelta(days=1), HISTORY.last.replace(year=2025))
    fill(engine_of(history))
    converge(engine_of(history))
    yield from core.measure(history)
    yield from state.measure(history)
    yield from backfill.measure(history)
    fill(engine_of(history), fourth)
    converge(engine_of(history), fourth)
    yield from ticks.measure(history)
    yield from growth.measure(urls["growth"])
    yield from ingest.measure(urls["ingest"])


@contextmanager
def databases(engine: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """An empty database for each name."""
    names = ("history", "growth", "ingest")
    if engine == "sqlite":
        yield {name: f"sqlite:///{folder / name}.db" for name in names}
        return
    with PostgresServer(folder, is_durable=True) as server:
        yield {name: server.create_database(name) for name in names}


def _version(url: str) -> str:
    engine = engine_of(url)
    asked = "SELECT sqlite_version()" if engine.dialect.name == "sqlite" else "SHOW server_version"
    with reading(engine) as connection:
        return f"{engine.dialect.name} {connection.execute(text(asked)).scalar_one()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
