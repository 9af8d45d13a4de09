from datetime import UTC, date, datetime, timedelta

from recon_assets.orchestration.retry_state import RetryState, month_spans, read_cursor, write_cursor

DAY, NEXT_DAY = date(2025, 6, 6), date(2025, 6, 7)
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PAUSES = (timedelta(), 10 * MINUTE, HOUR)


def restarted(retry_state: RetryState) -> RetryState:
    """The state as the next tick loads it."""
    return RetryState.load(PAUSES, write_cursor(days=retry_state.dump()))


def exhausted(at: datetime = NOON) -> RetryState:
    """The state after all attempts of a day were asked for, at one moment."""
    retry_state = RetryState(PAUSES)
    for _ in PAUSES:
        retry_state.ask(DAY, "gap", at)
    return retry_state


def test_a_gap_that_was_never_asked_for_is_due() -> None:
    retry_state = RetryState(PAUSES)

    assert retry_state.is_due(DAY, "gap", NOON)
    assert not retry_state.is_exhausted(DAY, "gap")
    assert (retry_state.days, retry_state.given_up) == ([], {})


def test_each_further_attempt_waits_for_its_pause() -> None:
    retry_state = RetryState(PAUSES)

    retry_state.ask(DAY, "gap", NOON)
    assert not retry_state.is_due(DAY, "gap", NOON + 10 * MINUTE - timedelta(seconds=1))
    assert retry_state.is_due(DAY, "gap", NOON + 10 * MINUTE)

    # counted from the second attempt on
    retry_state.ask(DAY, "gap", NOON + HOUR)
    assert not retry_state.is_due(DAY, "gap", NOON + 2 * HOUR - timedelta(seconds=1))
    assert retry_state.is_due(DAY, "gap", NOON + 2 * HOUR)
    assert not retry_state.is_exhausted(DAY, "gap")


def test_an_unchanged_gap_is_given_up_after_the_last_attempt() -> None:
    retry_state = exhausted()
    assert retry_state.is_exhausted(DAY, "gap")

    retry_state.give_up(DAY, "the disk is full")

    assert retry_state.given_up == {DAY: "the disk is full"}
    assert not retry_state.is_exhausted(DAY, "gap")
    assert not retry_state.is_due(DAY, "gap", NOON + 11 * HOUR)
    assert str(retry_state) == "0 asked for, given up: 2025-06-06"


def test_a_gap_that_changed_is_asked_for_from_the_start_at_once() -> None:
    retry_state = exhausted()
    retry_state.give_up(DAY, "the disk is full")

    assert retry_state.is_due(DAY, "another gap", NOON)
    assert not retry_state.is_exhausted(DAY, "another gap")
    retry_state.ask(DAY, "another gap", NOON)

    assert retry_state.given_up == {}
    assert not retry_state.is_exhausted(DAY, "another gap")
    assert retry_state.is_due(DAY, "another gap", NOON + 10 * MINUTE)
    assert str(retry_state) == "1 asked for, given up: none"


def test_what_was_given_up_is_asked_for_once_on_every_later_day_in_london() -> None:
    # given: half past midnight of 16 June in London
    retry_state = exhausted(datetime(2026, 6, 15, 23, 30, tzinfo=UTC))
    retry_state.give_up(DAY, "the disk is full")

    # then it is the next day in Greenwich long before it is in London
    assert not retry_state.is_due(DAY, "gap", datetime(2026, 6, 16, 22, 59, tzinfo=UTC))
    assert retry_state.is_due(DAY, "gap", datetime(2026, 6, 16, 23, 0, tzinfo=UTC))

    retry_state.ask(DAY, "gap", datetime(2026, 6, 16, 23, 0, tzinfo=UTC))
    assert not retry_state.is_due(DAY, "gap", datetime(2026, 6, 17, 22, 59, tzinfo=UTC))
    assert retry_state.is_due(DAY, "gap", datetime(2026, 6, 17, 23, 0, tzinfo=UTC))
    # and stays given up meanwhile
    assert retry_state.given_up == {DAY: "the disk is full"}
    assert not retry_state.is_exhausted(DAY, "gap")


def test_of_the_days_that_were_looked_at_those_without_a_gap_are_forgotten() -> None:
    retry_state = exhausted()
    retry_state.ask(NEXT_DAY, "gap", NOON)
    retry_state.ask(date(2024, 6, 6), "gap", NOON)

    retry_state.forget([DAY, NEXT_DAY], {NEXT_DAY})

    assert retry_state.days == [date(2024, 6, 6), NEXT_DAY]
    assert retry_state.is_due(DAY, "gap", NOON)


def test_a_restart_forgets_nothing() -> None:
    retry_state = exhausted()
    retry_state.give_up(DAY, "2025-06-06: \"no\"; trigger 'never'")
    retry_state.ask(NEXT_DAY, "other", NOON + HOUR)

    again = restarted(retry_state)

    assert again.dump() == retry_state.dump()
    assert again.given_up == retry_state.given_up
    assert again.days == [DAY, NEXT_DAY]
    assert not again.is_due(DAY, "gap", NOON + HOUR)
    assert again.is_due(DAY, "gap", NOON + timedelta(days=1))
    assert not again.is_due(NEXT_DAY, "other", NOON + HOUR + 9 * MINUTE)
    assert again.is_due(NEXT_DAY, "other", NOON + HOUR + 10 * MINUTE)


def test_before_the_first_tick_nothing_is_known() -> None:
    assert read_cursor(None) == read_cursor("") == {}
    assert RetryState.load(PAUSES, None).days == []
    assert read_cursor(write_cursor(year=2025, days={})) == {"year": 2025, "days": {}}


def test_spans_are_cut_at_the_end_of_a_month_and_the_newest_comes_first() -> None:
    days = [date(2025, 5, 31), date(2025, 6, 1), date(2025, 6, 2), date(2025, 6, 9), date(2025, 4, 30)]

    spans = [str(span) for span in month_spans(days)]

    assert spans == ["2025-06-09", "2025-06-01..2025-06-02", "2025-05-31", "2025-04-30"]
    assert month_spans([]) == []
