"""Measures reading 30 real days over HTTP from a server on this machine: speed, parts of the time, memory.

    python -m benchmarks.ingest URL

The server is the stand-in (elexon/stand_in.py) with the packaged recordings of June 2025, in its own process. It runs
without delay and without a rate limit, then with 100 ms per request and the default rate limit, which is the bound. The
parts are differences: fetching alone, fetching and parsing, storing as well. The database must be empty.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import delete

from benchmarks.figures import Figure, engine_of, peak_mb, scope_of, seconds_of, show
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch, wind_bids
from recon_assets.database.transactions import writing
from recon_assets.domain.settlement import Days, parse_day, periods_in
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.ingest.bids import ingest_day
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS

PART = "Ingest 30 real days over HTTP"
JUNE = Days(parse_day("2025-06-01"), parse_day("2025-06-30"))
FIVE_DAYS = Days(parse_day("2025-06-01"), parse_day("2025-06-05"))
THREE_DAYS = Days(parse_day("2025-06-01"), parse_day("2025-06-03"))
LATENCY_SECONDS = 0.1
PER_SECOND = 8
MOST_MB = 400
SAMPLE_SECONDS = 0.1


def measure(url: str) -> Iterator[Figure]:
    """The figures of one engine."""
    name = engine_of(url).dialect.name
    days = len(JUNE)
    with stand_in(0) as address, TemporaryDirectory() as folder:
        command, peak = recon_range(url, address, JUNE, Path(folder))
        whole = Figure(
            PART, "`recon range`, through Dagster: all layers, archive, checks", name, command, "s", peak_mb=peak
        )
        yield whole
        yield Figure(PART, "the same as days a second", name, days / command, "days/s")
        yield Figure(PART, "peak memory of the command", name, peak, "MB", at_most=MOST_MB)
        _empty(url)
        parts = by_part(url, address, Path(folder, "again"))
    for what, seconds in parts.items():
        yield Figure(PART, f"a day: {what}", name, seconds, "s")
    rest = command / days - sum(parts.values())
    yield Figure(PART, "a day: Dagster, start-up, checks and the progress bar", name, rest, "s")


def against_the_bound() -> Iterator[Figure]:
    """How close fetching comes to what the rate limit allows, without a database."""
    with stand_in(LATENCY_SECONDS) as address:
        requests = sum(periods_in(day) + 1 for day in THREE_DAYS)
        elexon = Elexon(HttpSource(address, per_second=PER_SECOND))
        seconds = seconds_of(lambda: [elexon.settlement_stack(day, datetime.now(UTC)) for day in THREE_DAYS])
    what = f"three days with {LATENCY_SECONDS:g} s a request, against the bound of {PER_SECOND} requests a second"
    yield Figure(PART, what, "none", seconds / (requests / PER_SECOND), "x", [seconds])


def by_part(url: str, address: str, archive: Path) -> dict[str, float]:
    """The seconds that each part of a day takes, measured over five days."""
    engine, now = engine_of(url), datetime.now(UTC)
    source = HttpSource(address, per_second=1e6)
    elexon = Elexon(source)

    def fetch() -> None:
        with ThreadPoolExecutor(8) as pool:
            for day in FIVE_DAYS:
                list(pool.map(lambda period, day=day: source.stack(day, period), range(1, periods_in(day) + 1)))

    def calculate() -> None:
        for day in FIVE_DAYS:
            converge_span(engine, DAILY_LAYERS, scope_of(Days(day, day)), now)

    steps: dict[str, Callable[[], object]] = {
        "HTTP": fetch,
        "parse": lambda: [elexon.settlement_stack(day, now) for day in FIVE_DAYS],
        "store, archive included": lambda: [
            ingest_day(engine, elexon, day, now, None, Archive(archive)) for day in FIVE_DAYS
        ],
    }
    fetch()  # the server unpacks each recording when it is first asked for it
    taken, before = {}, 0.0
    for what, step in steps.items():
        seconds = seconds_of(step) / len(FIVE_DAYS)
        taken[what], before = seconds - before, seconds
    return taken | {"calculate, all daily layers and fingerprints": seconds_of(calculate) / len(FIVE_DAYS)}


def recon_range(url: str, address: str, days: Days, folder: Path) -> tuple[float, float]:
    """The seconds of the command, and its peak memory (MB)."""
    environment = {**os.environ, "DATABASE_URL": url, "ELEXON_API_URL": address, "ELEXON_REQUESTS_PER_SECOND": "100000"}
    environment["MEMPOOL_API_URL"] = "none"
    words = [sys.executable, "-m", "recon_assets.cli", "range", str(days.first), str(days.last)]
    with (folder / "output").open("w", encoding="utf-8") as output:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=output)
        peak = 0.0
        while process.poll() is None:
            with suppress(ValueError):  # it has just ended
                peak = peak_mb(process.pid)
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError((folder / "output").read_text(encoding="utf-8"))
    return time.perf_counter() - began, peak


@contextmanager
def stand_in(latency_seconds: float) -> Iterator[str]:
    """The address of a stand-in with the packaged recordings."""
    recordings = str(files("recon_assets.data") / "recordings")
    words = [
        sys.executable,
        "-m",
        "recon_assets.elexon.stand_in",
        recordings,
        "--port",
        "0",
        "--latency",
        str(latency_seconds),
    ]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip().removeprefix("ELEXON_API_URL=")
    finally:
        server.kill()
        server.wait()


def _empty(url: str) -> None:
    with writing(engine_of(url)) as connection:
        for table in (wind_bids, proof_of_fetch, curtailment_records, historical_bitcoin_calculations):
            connection.execute(delete(table))


if __name__ == "__main__":
    show(measure(sys.argv[1]))
    show(against_the_bound())
