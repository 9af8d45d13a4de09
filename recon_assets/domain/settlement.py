"""The settlement calendar: days, their half-hour settlement periods, and which of these should be published by now.

There is no clock here: "now" is always a parameter.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from recon_assets.errors import UsageError

LONDON = ZoneInfo("Europe/London")
MOST_PERIODS = 50
"""The most settlement periods of a day: the clocks go back on it."""
PERIOD = timedelta(minutes=30)
HOURS_A_PERIOD = PERIOD / timedelta(hours=1)
"""The average MW of a settlement period x this = its MWh."""
FIRST_DAY = date(2022, 1, 1)
"""The first settlement day that is kept if RECON_FIRST_DAY names no other."""

PUBLICATION_DELAY = timedelta(minutes=15)
"""Elexon publishes a period about 14 minutes after its end; before this it is not due."""


def day_starts_at(day: date) -> datetime:
    """The instant (UTC) of London midnight at which a settlement day begins.

    >>> day_starts_at(date(2024, 4, 20)).isoformat()
    '2024-04-19T23:00:00+00:00'
    """
    return datetime.combine(day, time(), LONDON).astimezone(UTC)


def periods_in(day: date) -> int:
    """How many settlement periods a day has: 48, 46 when the clocks go forward, 50 when they go back.

    >>> periods_in(date(2025, 3, 30)), periods_in(date(2025, 6, 1)), periods_in(date(2025, 10, 26))
    (46, 48, 50)
    """
    return (day_starts_at(day + timedelta(days=1)) - day_starts_at(day)) // PERIOD


def period_starts_at(day: date, period: int) -> datetime:
    """The instant (UTC) at which a settlement period begins; UsageError when the day has no such period.

    >>> period_starts_at(date(2025, 10, 26), 50).isoformat()
    '2025-10-26T23:30:00+00:00'
    """
    if not 1 <= period <= periods_in(day):
        raise UsageError(f"{day} has settlement periods 1 to {periods_in(day)}, not {period}")
    return day_starts_at(day) + (period - 1) * PERIOD


def due_periods(day: date, now: datetime) -> range:
    """The periods of a day that should be published by `now` (aware), from 1; empty for a future day."""
    elapsed = now - PUBLICATION_DELAY - day_starts_at(day)
    return range(1, max(0, min(periods_in(day), elapsed // PERIOD)) + 1)


def london_day(now: datetime) -> date:
    """The settlement day that `now` (aware) falls in."""
    return now.astimezone(LONDON).date()


@dataclass(frozen=True)
class Days:
    """A span of settlement days, both ends included; UsageError when the last day is before the first.

    >>> [str(part) for part in Days(date(2025, 5, 30), date(2025, 6, 2)).by_month()]
    ['2025-05-30..2025-05-31', '2025-06-01..2025-06-02']
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise UsageError(f"the period is upside down: {self.first} is after {self.last}")

    def __str__(self) -> str:
        return f"{self.first}..{self.last}" if self.first != self.last else str(self.first)

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range(len(self)))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def by_month(self) -> list["Days"]:
        """The same days cut at the ends of months, oldest first."""
        cuts = [day for day in self if day.day == 1 and day != self.first]
        firsts = [self.first, *cuts]
        lasts = [*(cut - timedelta(days=1) for cut in cuts), self.last]
        return [Days(first, last) for first, last in zip(firsts, lasts, strict=True)]

    def cut(self, length: int) -> Iterator["Days"]:
        """The same days in pieces of at most `length` days, oldest first."""
        for start in range(0, len(self), length):
            last = min(self.last, self.first + timedelta(days=start + length - 1))
            yield Days(self.first + timedelta(days=start), last)

    @classmethod
    def of_month(cls, year_month: str) -> "Days":
        """The days of a month written YYYY-MM."""
        first = _parse(f"{year_month}-01", f"{year_month!r} is not a month: write YYYY-MM, for example 2025-06")
        return cls(first, first.replace(day=monthrange(first.year, first.month)[1]))

    @classmethod
    def of_year(cls, year: str) -> "Days":
        """The days of a year written YYYY."""
        first = _parse(f"{year}-01-01", f"{year!r} is not a year: write YYYY, for example 2025")
        return cls(first, first.replace(month=12, day=31))


def all_kept_days(first: date, now: datetime) -> Days:
    """The days that are kept: from the first one to the day in London that `now` (aware) falls in."""
    return Days(first, max(first, london_day(now)))


def parse_day(text: str) -> date:
    """A date written YYYY-MM-DD; UsageError when there is no such day.

    >>> parse_day("2025-06-31")
    Traceback (most recent call last):
    recon_assets.errors.UsageError: '2025-06-31' is not a date: write YYYY-MM-DD, for example 2025-06-28
    """
    return _parse(text, f"{text!r} is not a date: write YYYY-MM-DD, for example 2025-06-28")


def parse_periods(text: str) -> tuple[int, int]:
    """The first and last settlement period of a text A-B, or A alone; UsageError for any other text.

    >>> parse_periods("44-48"), parse_periods("7")
    ((44, 48), (7, 7))
    """
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else True)):
        raise UsageError(f"{text!r} are no settlement periods: write A-B, for example 44-48")
    periods = int(first), int(last or first)
    if not 1 <= periods[0] <= periods[1] <= MOST_PERIODS:
        raise UsageError(f"{text!r} are no settlement periods: a day has 46, 48 or 50 of them, the first is 1")
    return periods


def contiguous(days: Iterable[date]) -> list[Days]:
    """The fewest spans that cover exactly these days, oldest first.

    >>> [str(span) for span in contiguous([date(2025, 6, 3), date(2025, 6, 1), date(2025, 6, 2), date(2025, 6, 9)])]
    ['2025-06-01..2025-06-03', '2025-06-09']
    """
    spans: list[Days] = []
    for day in sorted(set(days)):
        if spans and day - spans[-1].last == timedelta(days=1):
            spans[-1] = Days(spans[-1].first, day)
        else:
            spans.append(Days(day, day))
    return spans


def _parse(text: str, message: str) -> date:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise UsageError(message) from None
    # strptime also takes 2025-6-1 and spaces for zeros.
    if day.isoformat() != text:
        raise UsageError(message)
    return day


def format_periods(periods: Iterable[int]) -> str:
    """Settlement periods as the fewest spans, for a message.

    >>> format_periods([1, 2, 3, 17, 44, 45])
    '1-3, 17, 44-45'
    """
    spans = contiguous(date.min + timedelta(days=period) for period in periods)
    ends = [((span.first - date.min).days, (span.last - date.min).days) for span in spans]
    return ", ".join(f"{first}-{last}" if first != last else f"{first}" for first, last in ends)
