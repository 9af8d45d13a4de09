"""Elexon's bodies as they are parsed.

Those of wind generation are made from Elexon's OpenAPI schema, because no recording has one.
"""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from recon_assets.elexon.generation import generation_frame
from recon_assets.elexon.source import Body
from recon_assets.errors import ElexonError
from recon_assets_tests.support.generation import OFFSHORE_MW, ONSHORE_MW, WIND, body_of, envelope, row, without
from recon_assets_tests.support.steps import JUNE_6

EARLY, LATE = datetime(2025, 6, 6, 1, tzinfo=UTC), datetime(2025, 6, 7, 1, tzinfo=UTC)


def read(*rows: dict[str, Any], day: date = JUNE_6) -> tuple[list[tuple[Any, ...]], list[int]]:
    """The frame as plain rows, and the periods of one kind."""
    frame, halves = generation_frame(day, Body(envelope(rows)))
    assert list(frame.columns) == ["settlement_period", "wind_onshore", "wind_offshore", "published_at"]
    return [tuple(values) for values in frame.to_numpy().tolist()], halves


@pytest.mark.parametrize(("day", "periods"), [(JUNE_6, 48), (date(2025, 3, 30), 46), (date(2025, 10, 26), 50)], ids=str)
def test_a_day_has_a_row_per_settlement_period_without_the_sun(day: date, periods: int) -> None:
    rows, halves = read(*body_of(day)["data"], day=day)

    assert [found[:3] for found in rows] == [(n, ONSHORE_MW, OFFSHORE_MW) for n in range(1, periods + 1)]
    assert halves == []


@pytest.mark.parametrize("turned", [False, True])
def test_the_newest_publication_of_each_kind_wins_in_whatever_order(turned: bool) -> None:
    published = [
        row(JUNE_6, 7, "Wind Onshore", 10, EARLY),
        row(JUNE_6, 7, "Wind Onshore", 11, EARLY),  # two at once, both superseded
        row(JUNE_6, 7, "Wind Onshore", 12.5, LATE),
        row(JUNE_6, 7, "Wind Onshore", 12.5, LATE),  # the same again
        row(JUNE_6, 7, "Wind Offshore", 20, EARLY),
    ]

    assert read(*(published[::-1] if turned else published)) == ([(7, 12.5, 20.0, LATE)], [])


def test_a_half_hour_of_one_kind_is_named_and_has_no_row() -> None:
    whole = body_of(JUNE_6)
    body = without(without(whole, 3, 4, kind="Wind Onshore"), 9, kind="Wind Offshore")

    rows, halves = read(*without(body, 48)["data"])

    assert halves == [3, 4, 9]
    assert [found[0] for found in rows] == [n for n in range(1, 48) if n not in (3, 4, 9)]


def test_zero_is_a_value() -> None:
    assert read(*(row(JUNE_6, 7, kind, 0, EARLY) for kind in WIND)) == ([(7, 0.0, 0.0, EARLY)], [])


@pytest.mark.parametrize("data", [None, []])
def test_no_rows_are_no_error(data: list[Any] | None) -> None:
    frame, halves = generation_frame(JUNE_6, Body({"data": data}))

    assert (len(frame), halves) == (0, [])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [row(JUNE_6, 7, "Wind Onshore", 10, LATE), row(JUNE_6, 7, "Wind Onshore", 11, LATE)],
            "settlement period 7 has two values that were published at 2025-06-07 01:00:00",
        ),
        ([row(JUNE_6, 7, "Solar", 1, settlementDate="2025-06-07")], "the answer holds rows of 2025-06-07"),
        (
            [row(JUNE_6, 7, "Wind Onshore", 1, settlementPeriod=8)],
            "settlement period 8 does not start at 2025-06-06",
        ),
        ([row(JUNE_6, 7, "Wind Onshore", 1, settlementPeriod=49)], "the answer has a settlement period 49"),
        ([row(JUNE_6, 7, "Wind Onshore", 1, settlementPeriod=None)], "the answer has a settlement period None"),
        ([row(JUNE_6, 7, "Wind Onshore", None)], "settlement period 7 has None, which is no number of MW"),
        ([row(JUNE_6, 7, "Wind Onshore", "12")], "settlement period 7 has '12', which is no number of MW"),
        ([row(JUNE_6, 7, "Wind Onshore", True)], "settlement period 7 has True, which is no number of MW"),
        ([row(JUNE_6, 7, "Wind Onshore", float("nan"))], "settlement period 7 has nan, which is no number of MW"),
        (
            [row(JUNE_6, 7, "Wind Onshore", 1, publishTime="soon")],
            "the answer has a publishTime that is no time",
        ),
        ([row(JUNE_6, 7, "Wind Onshore", 1, publishTime=None)], "the answer has a publishTime that is no time: None"),
        (
            [row(JUNE_6, 7, "Wind Onshore", 1, publishTime="2025-06-06T01:00:00")],
            "the answer has a publishTime without a time zone",
        ),
    ],
)
def test_rows_that_make_no_sense_are_an_error_of_one_line(rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ElexonError) as refused:
        read(*rows)

    assert str(refused.value).startswith(complaint)
    assert "\n" not in str(refused.value)
