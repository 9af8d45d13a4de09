"""All measurements, on a fresh SQLite file and a fresh PostgreSQL server with default settings: `make bench`.

    python -m benchmarks [sqlite | postgresql]

Prints each figure as it is measured, and writes benchmarks/RESULTS.md with its picture, benchmarks/results.png.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import text

from benchmarks import backfill, core, growth, ingest, startup, state, ticks
from benchmarks.figures import Figure, engine_of, show
from benchmarks.history import converge, fill
from benchmarks.results import write_results
from recon_assets.database import reading
from recon_assets_tests.postgres import PostgresServer

ENGINES = ("sqlite", "postgresql")
FOLDER = Path(__file__).parent


def main(*chosen: str) -> None:
    """Measures the engines that are chosen, or both."""
    began = time.monotonic()
    figures: list[Figure] = []
    machine = [f"{platform.machine()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB"]
    machine += [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("dagster", "sqlalchemy")),
    ]
    for engine in chosen or ENGINES:
        with TemporaryDirectory() as folder, databases(engine, Path(folder)) as (url, empty):
            machine.append(_version(url))
            figures += show(measure(url, empty))
    figures += show(ingest.against_the_bound())
    figures += show(startup.measure())
    minutes = (time.monotonic() - began) / 60
    write_results(FOLDER, figures, [*machine, f"measured in {minutes:.0f} minutes"])
    missed = [figure for figure in figures if figure.is_reached is False]
    print(f"\n{len(figures)} figures in {minutes:.1f} minutes; {len(missed)} not reached:", *missed, sep="\n  ")


def measure(url: str, empty: str) -> Iterator[Figure]:
    """Every figure of an engine, on one history that grows; `empty` is another database."""
    year: dict[str, float] = {}
    fill(engine_of(url), growth.years(1))
    converge(engine_of(url), growth.years(1))
    yield from growth.history(url, 1, year)
    yield from growth.models(url)
    yield from growth.side_by_side(url)
    growth.extend(url, 1, 3)
    yield from core.measure(url)
    yield from state.measure(url)
    yield from backfill.measure(url)
    yield from growth.history(url, 3, year)
    growth.extend(url, 3, 4)
    yield from ticks.measure(url)
    growth.extend(url, 4, 10)
    yield from growth.history(url, 10, year)
    yield from ingest.measure(empty)


@contextmanager
def databases(engine: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Two empty databases."""
    if engine == "sqlite":
        yield f"sqlite:///{folder / 'history.db'}", f"sqlite:///{folder / 'empty.db'}"
        return
    with PostgresServer(folder, is_durable=True) as server:
        yield server.create_database("history"), server.create_database("empty")


def _version(url: str) -> str:
    engine = engine_of(url)
    asked = "SELECT sqlite_version()" if engine.dialect.name == "sqlite" else "SHOW server_version"
    with reading(engine) as connection:
        return f"{engine.dialect.name} {connection.execute(text(asked)).scalar_one()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
