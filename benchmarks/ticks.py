"""How long the ticks of sensors and automation take on a long history, and how much memory 50 of them leave behind.

    python benchmarks/history.py URL 2022-01-01 2025-12-31
    python -m benchmarks.ticks URL [TICKS]

Every tick is evaluated in this process, as the code server does: instance and cursor last, the database is opened and
closed. The rows are right, so that nothing is asked for. Prints median, longest and growth of the process.
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
import psutil

from recon_assets.orchestration.assembly import build_defs
from recon_assets.orchestration.instance import open_instance
from recon_assets.orchestration.workbench import WORKBENCH, open_workbench
from recon_assets.settings import Settings, Unattended


def main(url: str, ticks: str = "50") -> None:
    """Prints a line for each sensor."""
    environment = {"DATABASE_URL": url, "RECON_ALERT_URLS": "json://127.0.0.1:9/", "MEMPOOL_API_URL": "none"}
    os.environ.update(environment)
    settings = Settings.from_environment(environment, Path.cwd())
    with tempfile.TemporaryDirectory() as home, open_instance(Path(home)) as instance:
        defs = build_defs(unattended=Unattended(everything=True, tick_seconds=60))
        repository = defs.get_repository_def()
        for sensor in defs.sensors or ():
            cursor, took = None, []
            for number in range(int(ticks) + 1):
                began = time.perf_counter()
                with (
                    open_workbench(settings) as workbench,
                    dg.build_sensor_context(
                        instance=instance,
                        cursor=cursor,
                        repository_def=repository,
                        resources={WORKBENCH: workbench},
                        sensor_name=sensor.name,
                    ) as context,
                ):
                    ticked = defs.resolve_sensor_def(sensor.name).evaluate_tick(context)
                cursor = ticked.cursor
                took.append(time.perf_counter() - began)
                if number == 0:
                    gc.collect()
                    before = psutil.Process().memory_info().rss
            gc.collect()
            grown = (psutil.Process().memory_info().rss - before) / 1e6
            print(
                f"{sensor.name:24} {len(took) - 1} ticks: median {statistics.median(took):.2f} s, "
                f"longest {max(took):.2f} s, process {grown:+.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
