import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from recon_assets.domain.settlement import Days
from recon_assets.orchestration.incidents import AlertCondition, Incident, Message, closing, compare, opening, unite

NOW = datetime(2026, 1, 15, 12, 0, 30, tzinfo=UTC)
EARLIER = NOW - timedelta(days=1, hours=2)


def of_days(
    first: int | None, last: int | None = None, asset: str = "wind_bids", kind: str = "given up"
) -> AlertCondition:
    """A condition of days of June 2025, or of none."""
    days = None if first is None else Days(date(2025, 6, first), date(2025, 6, last or first))
    return AlertCondition(asset, kind, days, f"why {first}", f"recon date {days}")


def known(*conditions: AlertCondition, since: datetime = EARLIER) -> list[Incident]:
    return [Incident(condition, since) for condition in conditions]


def spans(incidents: list[Incident]) -> list[str]:
    return [str(incident.condition.days) for incident in incidents]


def test_a_problem_begins_goes_on_and_is_over() -> None:
    # when
    on, begun, over = compare([], [of_days(6)], EARLIER)
    assert (on, begun, over) == ([], [Incident(of_days(6), EARLIER)], [])

    on, fresh, over = compare(begun, [of_days(6)], NOW)
    assert (on, fresh, over) == (begun, [], [])

    on, fresh, over = compare(begun, [], NOW)
    assert (on, fresh, over) == ([], [], begun)


@pytest.mark.parametrize(
    ("was", "now"),
    [((1, 5), (1, 5)), ((1, 5), (5, 9)), ((1, 5), (6, 9)), ((6, 9), (1, 5)), ((1, 9), (5, 5)), ((5, 5), (1, 9))],
    ids=["same", "overlapping", "after", "before", "shrinking", "growing"],
)
def test_a_problem_whose_days_touch_is_the_same_one_with_its_first_reason(
    was: tuple[int, int], now: tuple[int, int]
) -> None:
    on, begun, over = compare(known(of_days(*was)), [of_days(*now)], NOW)

    assert on == [Incident(replace(of_days(*now), reason=f"why {was[0]}"), EARLIER)]
    assert (begun, over) == ([], [])


@pytest.mark.parametrize(
    "other",
    [of_days(8), of_days(6, asset="network_difficulty"), of_days(6, kind="a run failed"), of_days(None)],
    ids=["days apart", "asset", "kind", "no days"],
)
def test_another_problem_is_another_incident(other: AlertCondition) -> None:
    assert compare(known(of_days(6)), [other], NOW) == ([], known(other, since=NOW), known(of_days(6)))
    assert compare(known(other), [of_days(6)], NOW) == ([], known(of_days(6), since=NOW), known(other))


def test_a_problem_without_days_is_one_incident_however_often_it_is_found() -> None:
    on, begun, over = compare(known(of_days(None)), [of_days(None), replace(of_days(None), reason="later")], NOW)

    assert (on, begun, over) == (known(of_days(None)), [], [])


def test_days_that_touch_are_one_problem_whatever_their_order() -> None:
    united = unite([of_days(9), of_days(2, 3), of_days(1), of_days(4), of_days(2), of_days(1, asset="a")])

    assert [(condition.asset, str(condition.days)) for condition in united] == [
        ("a", "2025-06-01"),
        ("wind_bids", "2025-06-01..2025-06-04"),
        ("wind_bids", "2025-06-09"),
    ]


def test_incidents_that_grow_together_are_one_since_the_older_began() -> None:
    before = [*known(of_days(6, 7), since=NOW - timedelta(hours=1)), *known(of_days(3))]

    on, begun, over = compare(before, [of_days(3), of_days(4, 5), of_days(6, 7)], NOW)

    assert (spans(on), begun, over) == (["2025-06-03..2025-06-07"], [], [])
    assert (on[0].since, on[0].condition.reason) == (EARLIER, "why 3")


def test_what_comes_back_begins_anew() -> None:
    _, _, over = compare(known(of_days(6)), [], NOW)
    _, begun, _ = compare([], [of_days(6)], NOW + timedelta(hours=1))

    assert spans(over) == spans(begun) == ["2025-06-06"]
    assert begun[0].since == NOW + timedelta(hours=1)


@pytest.mark.parametrize("condition", [of_days(6), of_days(1, 30), of_days(None)])
def test_a_cursor_keeps_everything(condition: AlertCondition) -> None:
    incident = Incident(replace(condition, reason='said "no",\nand £'), EARLIER)

    assert Incident.load(json.loads(json.dumps(incident.dump()))) == incident


def test_a_message_says_what_where_why_how_long_and_what_mends_it() -> None:
    (incident,) = known(of_days(6, 7))

    assert opening(incident) == Message(
        "recon: wind_bids 2025-06-06..2025-06-07: given up",
        "why 6\n\nTo mend it: recon date 2025-06-06..2025-06-07",
    )
    assert closing(incident, NOW) == Message(
        "recon: over: wind_bids 2025-06-06..2025-06-07: given up", "It lasted 1 day, 2:00:00."
    )


def test_what_is_not_about_days_names_none() -> None:
    (incident,) = known(of_days(None, asset="daily_check", kind="a run failed"))

    assert opening(incident).title == "recon: daily_check: a run failed"
    assert closing(incident, EARLIER + timedelta(seconds=61.4)) == Message(
        "recon: over: daily_check: a run failed", "It lasted 0:01:01."
    )
