"""What the gap sensors gave up, and whether they run: their states and cursors as Dagster keeps them."""

from dataclasses import dataclass, field
from datetime import date

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData

from recon_assets.orchestration.retry_state import RetryState


@dataclass(frozen=True)
class SensorState:
    """What a gap sensor is about: whether it runs, the days it asked runs for, those of them that it gave up."""

    is_running: bool
    asked: frozenset[date] = frozenset()
    given_up: dict[date, str] = field(default_factory=dict)


def sensor_state(instance: dg.DagsterInstance, sensor: str, *, by_default: bool) -> SensorState:
    """The watch of a sensor; `by_default` says whether it runs where nobody switched it.

    One that was switched off watches nothing: nobody looks after the days that it once asked for.
    """
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if state.instigator_name == sensor and isinstance(data, SensorInstigatorData):
            if state.status is InstigatorStatus.STOPPED:
                return SensorState(False)
            retry_state = RetryState.load((), data.cursor)
            return SensorState(True, frozenset(retry_state.days), retry_state.given_up)
    return SensorState(by_default)
