"""Measures the ticks of sensors and automation on a history of four years: how long, and how much memory stays used.

    python -m benchmarks.history URL 2022-01-01 2025-12-31
    python -m benchmarks.ticks URL [TICKS]

Every tick is evaluated in this process, as in the code server: instance and cursor are kept, the database is opened and
closed. The rows are right, so that no sensor requests a run.
"""

import gc
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import psutil

from benchmarks.figures import Figure, show
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.instance import open_instance
from recon_assets.orchestration.resource import RESOURCE_KEY, open_resource
from recon_assets.settings import Settings, Unattended

PART = "Ticks at four years"
SECONDS, MEGABYTES = 3.0, 1.0
SETTLED = 2
"""Ticks after which the process holds what it keeps: imports, compiled statements, pools of memory."""


def measure(url: str, ticks: int = 5) -> Iterator[Figure]:
    """Two figures for each sensor: the longest tick, and the growth of the process per tick once it has settled."""
    environment = {"DATABASE_URL": url, "RECON_ALERT_URLS": "json://127.0.0.1:9/", "MEMPOOL_API_URL": "none"}
    settings = Settings.from_environment(environment, Path.cwd())
    name = settings.database_url.get_backend_name()
    with (
        _quiet(),
        patch.dict(os.environ, environment),
        tempfile.TemporaryDirectory() as home,
        open_instance(Path(home)) as instance,
    ):
        defs = build_defs(unattended=Unattended(everything=True, tick_seconds=60))
        repository = defs.get_repository_def()
        for sensor in defs.sensors or ():
            cursor, took, before = None, [], 0.0
            for number in range(ticks + 1):
                began = time.perf_counter()
                with (
                    open_resource(settings) as resource,
                    dg.build_sensor_context(
                        instance=instance,
                        cursor=cursor,
                        repository_def=repository,
                        resources={RESOURCE_KEY: resource},
                        sensor_name=sensor.name,
                    ) as context,
                ):
                    ticked = defs.resolve_sensor_def(sensor.name).evaluate_tick(context)
                cursor = ticked.cursor
                took.append(time.perf_counter() - began)
                if number == SETTLED:
                    gc.collect()
                    before = psutil.Process().memory_info().rss
            gc.collect()
            grown = (psutil.Process().memory_info().rss - before) / 1e6 / (ticks - SETTLED)
            yield Figure(PART, f"{sensor.name}, the longest tick", name, max(took), "s", took, SECONDS)
            yield Figure(PART, f"{sensor.name}, growth of the process a tick", name, grown, "MB", at_most=MEGABYTES)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the log lines of sensors, and of alerts that nobody receives."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    show(measure(sys.argv[1], *map(int, sys.argv[2:])))
