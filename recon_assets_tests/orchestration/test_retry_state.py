from datetime import UTC, date, datetime, timedelta

from recon_assets.orchestration.retry_state import Attempts, month_spans, read_cursor, write_cursor

DAY, NEXT_DAY = date(2025, 6, 6), date(2025, 6, 7)
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PAUSES = (timedelta(), 10 * MINUTE, HOUR)


def restarted(attempts: Attempts) -> Attempts:
    """What the next tick knows."""
    return Attempts.load(PAUSES, write_cursor(days=attempts.dump()))


def exhausted(at: datetime = NOON) -> Attempts:
    """A day that was asked for as often as there are pauses, all at one moment."""
    attempts = Attempts(PAUSES)
    for _ in PAUSES:
        attempts.ask(DAY, "gap", at)
    return attempts


def test_a_gap_that_was_never_asked_for_is_due() -> None:
    attempts = Attempts(PAUSES)

    assert attempts.is_due(DAY, "gap", NOON)
    assert not attempts.is_exhausted(DAY, "gap")
    assert (attempts.days, attempts.given_up) == ([], {})


def test_each_further_attempt_waits_for_its_pause() -> None:
    attempts = Attempts(PAUSES)

    attempts.ask(DAY, "gap", NOON)
    assert not attempts.is_due(DAY, "gap", NOON + 10 * MINUTE - timedelta(seconds=1))
    assert attempts.is_due(DAY, "gap", NOON + 10 * MINUTE)

    # counted from the second attempt on
    attempts.ask(DAY, "gap", NOON + HOUR)
    assert not attempts.is_due(DAY, "gap", NOON + 2 * HOUR - timedelta(seconds=1))
    assert attempts.is_due(DAY, "gap", NOON + 2 * HOUR)
    assert not attempts.is_exhausted(DAY, "gap")


def test_an_unchanged_gap_is_given_up_after_the_last_attempt() -> None:
    attempts = exhausted()
    assert attempts.is_exhausted(DAY, "gap")

    attempts.give_up(DAY, "the disk is full")

    assert attempts.given_up == {DAY: "the disk is full"}
    assert not attempts.is_exhausted(DAY, "gap")
    assert not attempts.is_due(DAY, "gap", NOON + 11 * HOUR)
    assert str(attempts) == "0 asked for, given up: 2025-06-06"


def test_a_gap_that_changed_is_asked_for_from_the_start_at_once() -> None:
    attempts = exhausted()
    attempts.give_up(DAY, "the disk is full")

    assert attempts.is_due(DAY, "another gap", NOON)
    assert not attempts.is_exhausted(DAY, "another gap")
    attempts.ask(DAY, "another gap", NOON)

    assert attempts.given_up == {}
    assert not attempts.is_exhausted(DAY, "another gap")
    assert attempts.is_due(DAY, "another gap", NOON + 10 * MINUTE)
    assert str(attempts) == "1 asked for, given up: none"


def test_what_was_given_up_is_asked_for_once_on_every_later_day_in_london() -> None:
    # given: half past midnight of 16 June in London
    attempts = exhausted(datetime(2026, 6, 15, 23, 30, tzinfo=UTC))
    attempts.give_up(DAY, "the disk is full")

    # then it is the next day in Greenwich long before it is in London
    assert not attempts.is_due(DAY, "gap", datetime(2026, 6, 16, 22, 59, tzinfo=UTC))
    assert attempts.is_due(DAY, "gap", datetime(2026, 6, 16, 23, 0, tzinfo=UTC))

    attempts.ask(DAY, "gap", datetime(2026, 6, 16, 23, 0, tzinfo=UTC))
    assert not attempts.is_due(DAY, "gap", datetime(2026, 6, 17, 22, 59, tzinfo=UTC))
    assert attempts.is_due(DAY, "gap", datetime(2026, 6, 17, 23, 0, tzinfo=UTC))
    # and stays given up meanwhile
    assert attempts.given_up == {DAY: "the disk is full"}
    assert not attempts.is_exhausted(DAY, "gap")


def test_of_the_days_that_were_looked_at_those_without_a_gap_are_forgotten() -> None:
    attempts = exhausted()
    attempts.ask(NEXT_DAY, "gap", NOON)
    attempts.ask(date(2024, 6, 6), "gap", NOON)

    attempts.forget([DAY, NEXT_DAY], {NEXT_DAY})

    assert attempts.days == [date(2024, 6, 6), NEXT_DAY]
    assert attempts.is_due(DAY, "gap", NOON)


def test_a_restart_forgets_nothing() -> None:
    attempts = exhausted()
    attempts.give_up(DAY, "2025-06-06: \"no\"; trigger 'never'")
    attempts.ask(NEXT_DAY, "other", NOON + HOUR)

    again = restarted(attempts)

    assert again.dump() == attempts.dump()
    assert again.given_up == attempts.given_up
    assert again.days == [DAY, NEXT_DAY]
    assert not again.is_due(DAY, "gap", NOON + HOUR)
    assert again.is_due(DAY, "gap", NOON + timedelta(days=1))
    assert not again.is_due(NEXT_DAY, "other", NOON + HOUR + 9 * MINUTE)
    assert again.is_due(NEXT_DAY, "other", NOON + HOUR + 10 * MINUTE)


def test_before_the_first_tick_nothing_is_known() -> None:
    assert read_cursor(None) == read_cursor("") == {}
    assert Attempts.load(PAUSES, None).days == []
    assert read_cursor(write_cursor(year=2025, days={})) == {"year": 2025, "days": {}}


def test_spans_are_cut_at_the_end_of_a_month_and_the_newest_comes_first() -> None:
    days = [date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2), date(2025, 6, 9), date(2025, 4, 30)]

    spans = [str(span) for span in month_spans(days)]

    assert spans == ["2025-06-09", "2025-06-01..2025-06-02", "2025-05-31", "2025-04-30"]
    assert month_spans([]) == []
