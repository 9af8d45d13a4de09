from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recon_assets.domain.settlement import (
    PERIOD,
    Days,
    contiguous,
    day_starts_at,
    due_periods,
    format_periods,
    london_day,
    parse_day,
    parse_periods,
    period_starts_at,
    periods_in,
)
from recon_assets.errors import UsageError

CLOCKS_FORWARD, CLOCKS_BACK, SUMMER = date(2025, 3, 30), date(2025, 10, 26), date(2025, 6, 1)
days = st.dates(date(2022, 1, 1), date(2035, 12, 31))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "periods"),
    [
        (date(2025, 1, 15), 48),
        (SUMMER, 48),
        (CLOCKS_FORWARD, 46),
        (date(2026, 3, 29), 46),
        (CLOCKS_BACK, 50),
        (date(2024, 10, 27), 50),
    ],
)
def test_a_day_has_48_periods_but_for_the_clock_changes(day: date, periods: int) -> None:
    assert periods_in(day) == periods


@pytest.mark.parametrize(
    ("day", "period", "starts_at"),
    [
        (date(2025, 1, 15), 1, "2025-01-15T00:00"),
        (SUMMER, 1, "2025-05-31T23:00"),
        (SUMMER, 48, "2025-06-01T22:30"),
        (CLOCKS_FORWARD, 1, "2025-03-30T00:00"),
        (CLOCKS_FORWARD, 3, "2025-03-30T01:00"),
        (CLOCKS_FORWARD, 46, "2025-03-30T22:30"),
        (CLOCKS_BACK, 1, "2025-10-25T23:00"),
        (CLOCKS_BACK, 50, "2025-10-26T23:30"),
        (date(2024, 4, 20), 1, "2024-04-19T23:00"),
    ],
)
def test_a_period_begins_at_a_utc_instant(day: date, period: int, starts_at: str) -> None:
    assert period_starts_at(day, period) == utc(starts_at)


@given(days)
def test_days_follow_each_other_without_gap_or_overlap(day: date) -> None:
    last = period_starts_at(day, periods_in(day))

    assert last + PERIOD == day_starts_at(day + timedelta(days=1))


@pytest.mark.parametrize(
    ("day", "period"), [(SUMMER, 0), (SUMMER, 49), (SUMMER, -1), (CLOCKS_FORWARD, 47), (CLOCKS_BACK, 51)]
)
def test_a_period_that_the_day_does_not_have_is_an_error(day: date, period: int) -> None:
    with pytest.raises(UsageError, match=f"{day} has settlement periods 1 to {periods_in(day)}, not {period}$"):
        period_starts_at(day, period)


@pytest.mark.parametrize(
    ("day", "now", "due"),
    [
        (SUMMER, "2025-05-31T23:44:59", 0),
        (SUMMER, "2025-05-31T23:45:00", 1),
        (SUMMER, "2025-06-01T12:00:00", 25),
        (SUMMER, "2025-06-01T23:15:00", 48),
        (SUMMER, "2026-06-01T00:00:00", 48),
        (SUMMER, "2025-05-01T00:00:00", 0),
        (CLOCKS_FORWARD, "2025-06-01T00:00:00", 46),
        (CLOCKS_BACK, "2025-10-27T00:14:59", 49),
        (CLOCKS_BACK, "2025-10-27T00:15:00", 50),
    ],
)
def test_a_period_is_due_a_quarter_of_an_hour_after_its_end(day: date, now: str, due: int) -> None:
    assert list(due_periods(day, utc(now))) == list(range(1, due + 1))


def test_the_london_day_of_an_instant() -> None:
    assert london_day(utc("2025-06-01T22:59:59")) == date(2025, 6, 1)
    assert london_day(utc("2025-06-01T23:00:00")) == date(2025, 6, 2)
    assert london_day(utc("2025-01-15T23:59:59")) == date(2025, 1, 15)


def test_a_span_holds_both_its_ends() -> None:
    span = Days(date(2025, 5, 30), date(2025, 6, 2))

    assert list(span) == [date(2025, 5, 30), date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2)]
    assert len(span) == 4
    assert span.first in span
    assert span.last in span
    assert date(2025, 6, 3) not in span
    assert date(2025, 5, 29) not in span
    assert str(span) == "2025-05-30..2025-06-02"
    assert str(Days(SUMMER, SUMMER)) == "2025-06-01"


def test_a_span_upside_down_is_an_error() -> None:
    with pytest.raises(UsageError, match="upside down: 2025-06-02 is after 2025-06-01"):
        Days(date(2025, 6, 2), date(2025, 6, 1))


@hypothesis_settings(deadline=None)
@given(days, st.integers(0, 400))
def test_a_span_cut_by_month_is_the_same_days_each_part_in_one_month(first: date, more: int) -> None:
    span = Days(first, first + timedelta(days=more))

    parts = span.by_month()

    assert [day for part in parts for day in part] == list(span)
    assert all((part.first.year, part.first.month) == (part.last.year, part.last.month) for part in parts)
    assert len({(part.first.year, part.first.month) for part in parts}) == len(parts)


@hypothesis_settings(deadline=None)
@given(days, st.integers(0, 400), st.integers(1, 200))
def test_a_span_cut_in_pieces_is_the_same_days_in_the_fewest_pieces(first: date, more: int, length: int) -> None:
    span = Days(first, first + timedelta(days=more))

    pieces = list(span.cut(length))

    assert [day for piece in pieces for day in piece] == list(span)
    assert [len(piece) for piece in pieces[:-1]] == [length] * (len(pieces) - 1)
    assert len(pieces[-1]) <= length


@given(st.lists(days, max_size=12))
def test_contiguous_spans_are_the_same_days_apart_from_each_other(some: list[date]) -> None:
    spans = contiguous(some)

    assert [day for span in spans for day in span] == sorted(set(some))
    assert all((after.first - before.last).days > 1 for before, after in pairwise(spans))


def test_a_month_and_a_year_are_spans() -> None:
    assert Days.of_month("2025-06") == Days(date(2025, 6, 1), date(2025, 6, 30))
    assert Days.of_month("2024-02") == Days(date(2024, 2, 1), date(2024, 2, 29))
    assert Days.of_month("9999-12").last == date(9999, 12, 31)
    assert Days.of_year("2024") == Days(date(2024, 1, 1), date(2024, 12, 31))


def test_a_date_is_read_as_it_is_written() -> None:
    assert parse_day("2024-02-29") == date(2024, 2, 29)


@pytest.mark.parametrize(
    "text",
    ["2025-06-31", "2025-02-29", "2025-6-1", "2025-06- 1", "20250601", "2025-W23-1", "01-06-2025", "yesterday", ""],
)
def test_an_impossible_date_is_an_error_that_repeats_it(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is not a date: write YYYY-MM-DD"):
        parse_day(text)


@pytest.mark.parametrize("text", ["2025-13", "2025-6", "2025", "2025-06-01", "June"])
def test_an_impossible_month_is_an_error_that_repeats_it(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is not a month: write YYYY-MM"):
        Days.of_month(text)


@pytest.mark.parametrize("text", ["25", "2025-06", "last", "0000"])
def test_an_impossible_year_is_an_error_that_repeats_it(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is not a year: write YYYY"):
        Days.of_year(text)


@pytest.mark.parametrize(("text", "periods"), [("7", (7, 7)), ("44-48", (44, 48)), ("1-50", (1, 50))])
def test_settlement_periods_are_read_up_to_the_last_that_a_day_can_have(text: str, periods: tuple[int, int]) -> None:
    assert parse_periods(text) == periods


@pytest.mark.parametrize("text", ["0", "0-3", "51", "44-51", "5-4", "-3", "3-", "1-2-3", "first", " 3", ""])
def test_impossible_settlement_periods_are_an_error_that_repeats_them(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' are no settlement periods: "):
        parse_periods(text)


@pytest.mark.parametrize(("periods", "words"), [([], ""), ([7], "7"), ([49, 50], "49-50"), ([4, 1, 3], "1, 3-4")])
def test_periods_are_spelled_as_spans(periods: list[int], words: str) -> None:
    assert format_periods(periods) == words
