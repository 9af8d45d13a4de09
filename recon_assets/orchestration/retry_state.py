"""The retry state that a sensor keeps in its cursor: which days it asked runs for, how often, and which it gave up."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus, SensorInstigatorData

from recon_assets.domain.settlement import Days, contiguous, london_day


@dataclass(frozen=True)
class Retry:
    """The runs asked for one day: the fingerprint of its gap, how many, when last, and why the day was given up."""

    fingerprint: str
    count: int
    asked_at: datetime
    given_up: str | None = None


class RetryState:
    """The days that a sensor asked runs for and that are not right yet.

    Each pause allows one attempt; after the last attempt an unchanged gap is given up. It is asked for again as soon as
    it changes, and once on every later day, because its cause may not show in the rows (a full disk, a lock).
    """

    def __init__(self, pauses: Sequence[timedelta], known: Mapping[date, Retry] | None = None) -> None:
        self._pauses = pauses
        self._known = dict(known or {})

    @classmethod
    def load(cls, pauses: Sequence[timedelta], cursor: str | None) -> "RetryState":
        """The state from the `days` of a cursor, as `dump` wrote them."""
        known = {
            date.fromisoformat(day): Retry(content, count, datetime.fromisoformat(asked_at), given_up)
            for day, (content, count, asked_at, given_up) in read_cursor(cursor).get("days", {}).items()
        }
        return cls(pauses, known)

    def dump(self) -> dict[str, list[str | int | None]]:
        """The state as JSON, for the `days` of a cursor."""
        return {
            day.isoformat(): [was.fingerprint, was.count, was.asked_at.isoformat(timespec="seconds"), was.given_up]
            for day, was in sorted(self._known.items())
        }

    @property
    def days(self) -> list[date]:
        """The days that runs were asked for and that are not right yet."""
        return sorted(self._known)

    @property
    def given_up(self) -> dict[date, str]:
        """The days that were given up, with the reason of their last failure."""
        return {day: was.given_up for day, was in self._known.items() if was.given_up is not None}

    def forget(self, looked_at: Iterable[date], gaps: Collection[date]) -> None:
        """Forgets the days that were looked at and have no gap now."""
        for day in looked_at:
            if day not in gaps:
                self._known.pop(day, None)

    def is_due(self, day: date, fingerprint: str, now: datetime) -> bool:
        """Whether a run may be asked for a gap that no run works on."""
        was = self._known.get(day)
        if was is None or was.fingerprint != fingerprint:
            return True
        if was.count < len(self._pauses):
            return now >= was.asked_at + self._pauses[was.count]
        return london_day(now) > london_day(was.asked_at)

    def is_exhausted(self, day: date, fingerprint: str) -> bool:
        """Whether an unchanged gap has used up its attempts and was not given up yet."""
        was = self._known.get(day)
        if was is None or was.fingerprint != fingerprint:
            return False
        return was.count >= len(self._pauses) and was.given_up is None

    def give_up(self, day: date, reason: str) -> None:
        """Notes why a day is no longer asked for."""
        self._known[day] = replace(self._known[day], given_up=reason)

    def ask(self, day: date, fingerprint: str, now: datetime) -> None:
        """Notes that a run was asked for."""
        was = self._known.get(day)
        if was is None or was.fingerprint != fingerprint:
            was = Retry(fingerprint, 0, now)
        self._known[day] = replace(was, count=was.count + 1, asked_at=now)

    def __str__(self) -> str:
        """How many days wait for another attempt, and which were given up."""
        given_up = ", ".join(str(span) for span in contiguous(list(self.given_up)))
        waiting = len(self._known) - len(self.given_up)
        return f"{waiting} asked for, given up: {given_up or 'none'}"


def read_cursor(cursor: str | None) -> dict[str, Any]:
    """The content of a sensor's cursor; nothing before the first tick."""
    content: dict[str, Any] = json.loads(cursor) if cursor else {}
    return content


def write_cursor(**content: object) -> str:
    """A sensor's cursor."""
    return json.dumps(content, separators=(",", ":"))


def month_spans(days: Iterable[date]) -> list[Days]:
    """The fewest spans that cover exactly these days, none longer than its calendar month; newest first."""
    return [month for span in reversed(contiguous(list(days))) for month in reversed(span.by_month())]


@dataclass(frozen=True)
class SensorState:
    """A gap sensor now: whether it runs, the days it asked runs for, and those of them that it gave up."""

    is_running: bool
    asked: frozenset[date] = frozenset()
    given_up: dict[date, str] = field(default_factory=dict)


def sensor_state(instance: dg.DagsterInstance, sensor: str, *, by_default: bool) -> SensorState:
    """The state of a sensor, from its cursor; `by_default` says whether it runs if nobody has switched it.

    A sensor that was switched off has no days: nothing retries the days that it once asked runs for.
    """
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if state.instigator_name == sensor and isinstance(data, SensorInstigatorData):
            if state.status is InstigatorStatus.STOPPED:
                return SensorState(False)
            retry_state = RetryState.load((), data.cursor)
            return SensorState(True, frozenset(retry_state.days), retry_state.given_up)
    return SensorState(by_default)
