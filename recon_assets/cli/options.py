"""Parameters that several commands share: dates, settlement periods, spans of days, limits, and the format."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import wraps
from math import isfinite
from typing import Any

import click

from recon_assets.database.limits import MOST_WRITERS
from recon_assets.domain.settlement import Days, london_day, parse_day, parse_periods
from recon_assets.errors import UsageError
from recon_assets.settings import Settings


class DayParameter(click.ParamType[date]):
    """A settlement date written YYYY-MM-DD, which is not still to come."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date; a usage error if there is no such day yet."""
        if isinstance(value, date):
            return value
        try:
            day = parse_day(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if day > london_day(datetime.now(UTC)):
            self.fail(f"{day} is still to come", param, ctx)
        return day


class PeriodsParameter(click.ParamType[tuple[int, int]]):
    """Settlement periods written A-B."""

    name = "A-B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """The first and the last period; a usage error if the text is not understood."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_periods(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class TextParameter(click.ParamType[str]):
    """A text that is not blank."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; a usage error if it is blank, which is most often a variable that is not set."""
        text = str(value)
        if not text.strip():
            self.fail("the text is empty", param, ctx)
        return text


class NumberParameter(click.FloatRange):
    """A number in a range; infinity and NaN, which Python reads from 1e400, inf and nan, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error if it is not finite, or beyond the range."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


DAY = DayParameter()
TEXT = TextParameter()
PERIODS = PeriodsParameter()


def period_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --from, --to, --month and --year, handed to the command as `period`."""

    @click.option("--from", "first", type=DAY, help="First settlement date of the period.")
    @click.option("--to", "last", type=DAY, help="Last settlement date of the period.")
    @click.option("--month", type=TEXT, metavar="YYYY-MM", help="A month instead of --from and --to.")
    @click.option("--year", type=TEXT, metavar="YYYY", help="A year instead of --from and --to.")
    @wraps(command)
    def with_period(
        *args: Any, first: date | None, last: date | None, month: str | None, year: str | None, **options: Any
    ) -> Any:
        return command(*args, period=Period(first, last, month, year), **options)

    return with_period


class Period:
    """The span of days that a command was given; the database and the source close an open start or end."""

    def __init__(self, first: date | None, last: date | None, month: str | None, year: str | None) -> None:
        named = [
            name
            for name, value in (("--month", month), ("--year", year), ("--from/--to", first or last))
            if value is not None
        ]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} exclude each other: name the period once")
        self._days = None
        if month is not None:
            self._days = Days.of_month(month)
        elif year is not None:
            self._days = Days.of_year(year)
        self._first, self._last = first, last
        if first and last:
            self._days = Days(first, last)

    def resolve(self, settings: Settings, first_day: date | None) -> Days:
        """The days; an open start means `first_day`, an open end yesterday (or the newest recording)."""
        return kept_days(self._resolve(settings, first_day), settings)

    def _resolve(self, settings: Settings, first_day: date | None) -> Days:
        today = london_day(datetime.now(UTC))
        if self._days is not None:
            if self._days.first > today:
                raise UsageError(f"{self._days} is still to come")
            # A running month or year ends with today.
            return Days(self._days.first, min(self._days.last, today))
        span = _recorded_span(settings)
        first = self._first or first_day or (max(span.first, settings.first_day) if span else None)
        if first is None:
            raise UsageError("the database holds no data yet: name a period, for example --month 2025-06")
        if first > today:
            raise UsageError(f"{first} is still to come")
        last = newest_day(settings) if self._last is None else min(self._last, today)
        return Days(first, max(first, last) if self._last is None else last)


def kept_days(days: Days, settings: Settings) -> Days:
    """The days; UsageError if some are before the first day that is kept."""
    if days.first < settings.first_day:
        raise UsageError(f"{days.first} is before {settings.first_day}, the first day that is kept")
    return days


def newest_day(settings: Settings) -> date:
    """The newest day that the source should have whole: yesterday in London, or the newest recording."""
    span = _recorded_span(settings)
    return span.last if span else london_day(datetime.now(UTC)) - timedelta(days=1)


def _recorded_span(settings: Settings) -> Days | None:
    if settings.recordings is None:
        return None
    from recon_assets.elexon.recordings import RecordingSource

    return RecordingSource(settings.recordings).span()


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --format."""
    return click.option(
        "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output."
    )(command)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that override the limits, handed to the command as `run_config`, which holds only what is given."""

    @click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Rows that one transaction may touch at most  [default: RECON_BATCH_SIZE or 200000, less when it is slow]",
    )
    @click.option(
        "--pause", type=NumberParameter(min=0), metavar="SECONDS", help="Pause after each chunk  [default: none]"
    )
    @click.option(
        "--concurrency",
        type=click.IntRange(1, MOST_WRITERS),
        metavar="N",
        help="Chunks at once  [default: RECON_CONCURRENCY or 1]",
    )
    @wraps(command)
    def with_limits(
        *args: Any, batch_size: int | None, pause: float | None, concurrency: int | None, **rest: Any
    ) -> Any:
        given = {"batch_size": batch_size, "pause_seconds": pause, "concurrency": concurrency}
        return command(*args, run_config={name: value for name, value in given.items() if value is not None}, **rest)

    return with_limits


STRICT = "recon.strict"


def strict_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --strict, which exit_code_of (shared.py) reads from the context."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[STRICT] = value

    return click.option(
        "--strict",
        is_flag=True,
        expose_value=False,
        callback=note,
        help="Exit with 1 also while days of an old database are not proven.",
    )(command)
