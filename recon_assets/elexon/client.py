"""Reads whole settlement days from Elexon: the bid stack, acceptance volumes and wind generation; and the BM units.

A period is *published* (with rows, or confirmed empty), *not yet published*, or the read failed: three different
values. A 404 or an empty list alone proves nothing, because a published GB period always has rows of other units. The
calendar says whether the period is due, and the day's system prices say whether it is published.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar

import pandas as pd

from recon_assets.domain.bm_units import BmUnit, parse_bm_units
from recon_assets.domain.settlement import due_periods, format_periods
from recon_assets.elexon.generation import generation_frame, rows_of_the_day
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.outage import Waiting
from recon_assets.elexon.payloads import rows_of, stack_frame, volumes_frame
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.source import Body, Source
from recon_assets.errors import ElexonError, SourceDownError
from recon_assets.settings import Settings

T = TypeVar("T")

STACKS, VOLUMES, PRICES, GENERATION = "stack_bid", "acceptance_volumes_bid", "system_prices", "wind_and_solar"
"""The names that the bodies of a settlement day have in a recording."""

REASONS_NAMED = 3
"""The most reasons in one error: if a server is down, all forty-eight periods fail, each with its own address."""


@dataclass(frozen=True)
class SettlementStack:
    """A settlement day as Elexon published it.

    `rows` follows payloads.STACK; `published` are the periods that were read whole (some may be confirmed empty);
    `pending` are due periods that Elexon has not published yet; `tolerated` counts oddities by kind
    (payloads.TOLERATED); `received` are the answers as received, by name (that of a period is `stack_bid/7`).
    """

    settlement_date: date
    rows: pd.DataFrame
    published: Sequence[int]
    pending: Sequence[int]
    tolerated: Mapping[str, int] = field(default_factory=dict)
    received: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AcceptanceVolumes:
    """A settlement day's accepted bid volumes: `rows` follows payloads.VOLUMES; the others as in SettlementStack."""

    rows: pd.DataFrame
    tolerated: Mapping[str, int]
    received: Mapping[str, str]


@dataclass(frozen=True)
class WindGeneration:
    """A settlement day's wind generation: `rows` follows generation.GENERATION; `halves` are periods with only one kind
    of wind published; `tolerated` counts rows that were left out, by kind (generation.TOLERATED_OF_GENERATION).
    """

    settlement_date: date
    rows: pd.DataFrame
    halves: Sequence[int]
    tolerated: Mapping[str, int]
    received: Mapping[str, str]


class Elexon:
    """Reads whole settlement days from a source; the periods of a day in parallel."""

    def __init__(self, source: Source, *, in_flight: int = 8) -> None:
        self.source = source
        self._in_flight = in_flight

    @property
    def down(self) -> str | None:
        """Why nothing is asked of the source any more, in one line; None while something may be."""
        return self.source.outage.down if self.source.outage else None

    def patiently(self, work: Callable[[], T], heard: Callable[[Waiting], object]) -> T:
        """What the work returns; if the source goes out meanwhile, waits until it answers again, and works again.

        `heard` is told of the wait. SourceDownError if the source is down. The work must not be in a transaction, which
        would hold its locks during the wait.
        """
        deadline: float | None = None
        while True:
            try:
                return work()
            except SourceDownError as error:
                outage = self.source.outage
                deadline = outage.wait(self.source.answers, heard, deadline) if outage else None
                if deadline is None:
                    raise SourceDownError(self.down or str(error)) from error

    def bm_units(self) -> tuple[list[BmUnit], str | None] | None:
        """The current BM units and the answer as received; None when the source has no such list."""
        body = self.source.bm_units()
        return None if body is None else (parse_bm_units(body.content), body.received)

    def settlement_stack(self, day: date, now: datetime, periods: Iterable[int] | None = None) -> SettlementStack:
        """The bid stack of a day's periods that are due by `now` (or of those named).

        ElexonError, with every period that could not be read; the rest of the day must then not be stored.
        """
        wanted = list(periods if periods is not None else due_periods(day, now))
        pool = ThreadPoolExecutor(max_workers=self._in_flight)
        try:
            answers = dict(zip(wanted, pool.map(lambda period: self._period(day, period), wanted), strict=True))
        finally:
            # So that Ctrl-C does not wait for a server that hangs; with all attempts that took two and a half minutes.
            pool.shutdown(wait=False, cancel_futures=True)
        failures = {period: answer for period, answer in answers.items() if isinstance(answer, ElexonError)}
        if failures:
            raise ElexonError(_failure_reasons(day, failures))
        stacks = {period: answer for period, answer in answers.items() if not isinstance(answer, ElexonError)}
        bodies = {f"{STACKS}/{period}": stack.body for period, stack in stacks.items() if stack.body}
        unsure = [period for period, stack in stacks.items() if not stack.rows]
        listed, prices = self._listed_periods(day) if unsure else (set(), None)
        if prices is not None:
            bodies[PRICES] = prices
        vanished = [period for period in unsure if stacks[period].body is None and period in listed]
        if vanished:
            raise ElexonError(
                f"{day} settlement period {format_periods(vanished)}: Elexon lists it as published but answers 404"
            )
        pending = [period for period in unsure if period not in listed]
        # An empty answer that the system prices do not confirm is not kept.
        received = _received({name: body for name, body in bodies.items() if name not in _names(pending)})
        frame, tolerated = stack_frame(day, [row for stack in stacks.values() for row in stack.rows])
        tolerated += Counter(
            mislabelled_answers=sum(body.mislabelled for body in bodies.values()),
            null_answers=sum(stack.is_null for stack in stacks.values()),
        )
        published = [period for period in wanted if period not in pending]
        return SettlementStack(day, frame, published, pending, +tolerated, received)

    def acceptance_volumes(self, day: date) -> AcceptanceVolumes | None:
        """The day's accepted bid volumes; None if there are none yet."""
        try:
            body = self.source.acceptance_volumes(day)
            if body is None:
                return None
            return AcceptanceVolumes(*volumes_frame(day, body), _received({VOLUMES: body}))
        except ElexonError as error:
            raise ElexonError(f"{day} acceptance volumes: {error}") from error

    def wind_generation(self, day: date) -> WindGeneration | None:
        """The day's actual wind generation; None when the source has none yet."""
        try:
            body = self.source.wind_and_solar(day)
            if body is None:
                return None
            rows, halves = generation_frame(day, body)
            _, others = rows_of_the_day(day, body)
        except ElexonError as error:
            raise ElexonError(f"{day} wind generation: {error}") from error
        return WindGeneration(day, rows, halves, others, _received({GENERATION: body}))

    def _period(self, day: date, period: int) -> "_PeriodStack | ElexonError":
        try:
            body = self.source.stack(day, period)
            if body is None:
                return _PeriodStack(None, [])
            rows = rows_of(body, day, period)
            return _PeriodStack(body, rows, is_null=body.content["data"] is None)
        except ElexonError as error:
            return error

    def _listed_periods(self, day: date) -> tuple[set[int], Body | None]:
        """The periods that the system prices list as published (none if there are no prices yet), and the answer."""
        try:
            body = self.source.system_prices(day)
            periods = [] if body is None else [row.get("settlementPeriod") for row in rows_of(body, day)]
            return {period for period in periods if isinstance(period, int)}, body
        except ElexonError as error:
            raise ElexonError(f"{day} system prices: {error}") from error


@dataclass(frozen=True)
class _PeriodStack:
    """The answer for one period; `body` is None for 404."""

    body: Body | None
    rows: list[dict[str, Any]]
    is_null: bool = False


def _names(periods: Iterable[int]) -> set[str]:
    return {f"{STACKS}/{period}" for period in periods}


def _received(bodies: Mapping[str, Body]) -> dict[str, str]:
    return {name: body.received for name, body in bodies.items() if body.received is not None}


def _failure_reasons(day: date, failures: dict[int, ElexonError]) -> str:
    reasons = list(dict.fromkeys(str(failures[period]) for period in sorted(failures)))
    if len(reasons) > REASONS_NAMED + 1:
        reasons[REASONS_NAMED:] = [f"and {len(reasons) - REASONS_NAMED} further reasons"]
    return f"{day} settlement period {format_periods(failures)}: {'; '.join(reasons)}"


def open_source(settings: Settings) -> Source:
    """The source that ELEXON_API_URL names; ConfigurationError when a folder holds no recordings."""
    if settings.recordings is not None:
        return RecordingSource(settings.recordings)
    return HttpSource(
        settings.elexon_api_url,
        per_second=settings.elexon_requests_per_second,
        in_flight=settings.elexon_requests_in_flight,
        attempts=settings.elexon_attempts,
        timeout_seconds=settings.elexon_timeout_seconds,
        outage_minutes=settings.outage_minutes,
    )
