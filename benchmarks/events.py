"""Measures what an event costs on Dagster's own SQLite storage and on ours, alone and in a batch.

python -m benchmarks.events
"""

import tempfile
import time
from pathlib import Path

import dagster as dg

from recon_assets.orchestration.instance import prepare_home
from recon_assets.orchestration.pooled_sqlite import together

ALONE, IN_A_BATCH = 200, 2000


def measure(instance: dg.DagsterInstance, events: int) -> str:
    """Milliseconds that an event takes: of the clock, and of the processor."""
    began, worked = time.monotonic(), time.process_time()
    for number in range(events):
        tags = {"dagster/data_version": str(number), "dagster/input_event_pointer/upstream": "1"}
        instance.report_runless_asset_event(dg.AssetMaterialization("asset", partition=str(number), tags=tags))
    wall, processor = time.monotonic() - began, time.process_time() - worked
    return f"{wall / events * 1000:.2f} ms, of the processor {processor / events * 1000:.2f} ms"


def main() -> None:
    """Prints both."""
    with tempfile.TemporaryDirectory() as folder:
        own, ours = Path(folder, "own"), Path(folder, "ours")
        own.mkdir()
        (own / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
        with dg.DagsterInstance.from_config(str(own)) as instance:
            measure(instance, 1)  # makes the files
            print(f"Dagster's storage: {measure(instance, ALONE)}")
        prepare_home(ours)
        with dg.DagsterInstance.from_config(str(ours)) as instance:
            measure(instance, 1)
            print(f"ours, alone: {measure(instance, ALONE)}")
            began, worked = time.monotonic(), time.process_time()
            with together(instance):
                measure(instance, IN_A_BATCH)
            wall, processor = time.monotonic() - began, time.process_time() - worked
            each = 1000 / IN_A_BATCH
            print(f"ours, in a batch: {wall * each:.2f} ms, of the processor {processor * each:.2f} ms")


if __name__ == "__main__":
    main()
