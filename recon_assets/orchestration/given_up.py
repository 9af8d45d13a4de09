"""What the gap sensors gave up, and whether they run: their states and cursors as Dagster keeps them."""

from dataclasses import dataclass, field
from datetime import date

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData

from recon_assets.orchestration.retry_state import Attempts


@dataclass(frozen=True)
class Watch:
    """What a gap sensor is about: whether it runs, the days it asked runs for, those of them that it gave up."""

    is_running: bool
    asked: frozenset[date] = frozenset()
    given_up: dict[date, str] = field(default_factory=dict)


def watch_of(instance: dg.DagsterInstance, sensor: str, *, by_default: bool) -> Watch:
    """The watch of a sensor; `by_default` says whether it runs where nobody switched it.

    One that was switched off watches nothing: nobody looks after the days that it once asked for.
    """
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if state.instigator_name == sensor and isinstance(data, SensorInstigatorData):
            if state.status is InstigatorStatus.STOPPED:
                return Watch(False)
            attempts = Attempts.load((), data.cursor)
            return Watch(True, frozenset(attempts.days), attempts.given_up)
    return Watch(by_default)
