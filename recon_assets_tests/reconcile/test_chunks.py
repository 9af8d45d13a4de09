import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recon_assets.database.failures import Failure
from recon_assets.database.limits import WorkLimits
from recon_assets.domain.settlement import Days, periods_in
from recon_assets.errors import ReconError, SchemaError
from recon_assets.reconcile.chunks import (
    FRUITLESS_CHUNKS,
    Chunk,
    ChunkResult,
    ChunkRunner,
    Sizes,
    attempt,
    chunk_of,
    part_of,
)
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, JUNE_DAYS, SMALL_DAYS

SHORT_DAY, LONG_DAY = date(2025, 3, 30), date(2025, 10, 26)
"""Of 46 and of 50 settlement periods."""
JULY_DAYS = Days.of_month("2025-07")
Half = tuple[date, int]
"""A half-hour: settlement date and settlement period."""


def halves_of(chunk: Chunk) -> Iterator[Half]:
    """Every half-hour that a chunk is about."""
    for day in chunk.days:
        first, last = chunk.periods or (1, periods_in(day))
        yield from ((day, period) for period in range(first, last + 1))


def evenly(days: Days, rows_a_day: int) -> Sizes:
    """As many rows on each day, all in its first settlement period."""
    return {day: {1: rows_a_day} for day in days}


@dataclass
class SimulatedWork:
    """Work with a simulated clock: each chunk takes the given seconds, and every try is noted."""

    seconds: Callable[[Chunk], float] = lambda chunk: 0.0
    bad: Collection[Half] = ()
    largest: int | None = None
    """The most rows of a chunk that succeeds."""
    error: BaseException = field(default_factory=lambda: ReconError("spoiled"))
    now: float = 0.0
    tries: list[Chunk] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    failed_tries: list[tuple[Chunk, Failure]] = field(default_factory=list)

    def do(self, chunk: Chunk) -> str:
        self.tries.append(chunk)
        self.now += self.seconds(chunk)
        if not set(self.bad).isdisjoint(halves_of(chunk)):
            raise self.error
        if self.largest is not None and chunk.rows > self.largest and chunk.halves({}):
            raise ReconError("too much at once")
        return f"did {chunk}"

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def runner(self, *spans: Days, sizes: Sizes | None = None, **more: Any) -> ChunkRunner[str]:
        return ChunkRunner(
            spans,
            sizes or {},
            self.do,
            tried=lambda chunk, failure: self.failed_tries.append((chunk, failure)),
            sleep=self.sleep,
            clock=lambda: self.now,
            **more,
        )

    def run(self, *spans: Days, **more: Any) -> list[ChunkResult[str]]:
        return list(self.runner(*spans, **more).run())


def names(chunks: Collection[Chunk]) -> list[str]:
    return [str(chunk) for chunk in chunks]


def test_work_begins_with_months_in_the_order_that_is_given() -> None:
    work = SimulatedWork()

    done = work.run(Days(date(2025, 6, 10), date(2025, 7, 2)), Days(date(2024, 2, 28), date(2024, 3, 1)))

    months = ["2025-06-10..2025-06-30", "2025-07-01..2025-07-02", "2024-02-28..2024-02-29", "2024-03-01"]
    assert names(work.tries) == months
    assert [(str(end.chunk), end.result, end.failure) for end in done] == [(m, f"did {m}", None) for m in months]


def test_a_chunk_knows_its_rows() -> None:
    sizes = {JUNE_6: {3: 5, 4: 7, 40: 9}, JUNE_7: {1: 100}}

    assert chunk_of(SMALL_DAYS, sizes).rows == 121
    assert part_of(JUNE_6, 4, 40, sizes).rows == 16
    assert chunk_of(Days(date(2025, 1, 1), date(2025, 1, 1)), sizes).rows == 0


def test_a_chunk_says_which_days_or_settlement_periods_it_is() -> None:
    assert str(chunk_of(SMALL_DAYS, {})) == "2025-06-06..2025-06-07"
    assert str(part_of(JUNE_6, 7, 12, {})) == "2025-06-06 periods 7-12"
    assert str(part_of(JUNE_6, 7, 7, {})) == "2025-06-06 period 7"


def test_a_failing_chunk_is_tried_again_with_growing_waits() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 7)])
    limits = WorkLimits(attempts=5, backoff_seconds=0.5)

    (done,) = work.run(Days(JUNE_6, JUNE_6), periods=(7, 7), limits=limits)

    assert names(work.tries) == ["2025-06-06 period 7"] * 5
    assert len(work.slept) == 4
    for wait, least in zip(work.slept, (0.5, 1, 2, 4), strict=True):
        assert least <= wait <= least + 0.5
    assert done == ChunkResult(part_of(JUNE_6, 7, 7, {}), None, Failure("spoiled"))
    assert work.failed_tries == [(done.chunk, Failure("spoiled"))] * 5


def test_waits_are_not_all_the_same_so_that_workers_do_not_meet_again() -> None:
    waits = set()
    for _ in range(5):
        work = SimulatedWork(bad=[(JUNE_6, 7)])
        work.run(Days(JUNE_6, JUNE_6), periods=(7, 7))
        waits |= set(work.slept)

    assert len(waits) > 1


def test_a_chunk_that_fails_once_is_done_by_the_next_try_as_a_whole() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 7)])

    def sleep(_: float) -> None:
        work.bad = ()

    runner = work.runner(SMALL_DAYS)
    runner.sleep = sleep
    (done,) = runner.run()

    assert names(work.tries) == ["2025-06-06..2025-06-07"] * 2
    assert (done.result, done.failure) == ("did 2025-06-06..2025-06-07", None)
    assert len(work.failed_tries) == 1


def test_the_seconds_of_a_chunk_are_those_of_its_last_try() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 7)], seconds=lambda chunk: 100)

    def sleep(_: float) -> None:
        work.bad, work.seconds, work.now = (), lambda chunk: 3, 5000

    done, seconds = attempt(part_of(JUNE_6, 7, 7, {}), work.do, WorkLimits(), sleep=sleep, clock=lambda: work.now)

    assert done.failure is None
    assert seconds == 3


def test_what_fails_at_every_try_is_split_down_to_one_period_and_the_rest_is_done_in_order() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 30)])

    done = work.run(Days(date(2025, 6, 5), date(2025, 6, 8)), limits=WorkLimits(attempts=2))

    assert [str(end.chunk) for end in done] == [
        "2025-06-05",
        "2025-06-06 periods 1-24",
        "2025-06-06 periods 25-27",
        "2025-06-06 periods 28-29",
        "2025-06-06 period 30",
        "2025-06-06 periods 31-36",
        "2025-06-06 periods 37-48",
        "2025-06-07..2025-06-08",
    ]
    assert [(end.result, end.failure) for end in done if end.failure] == [(None, Failure("spoiled"))]
    assert Counter(names(work.tries)) == Counter(
        {str(end.chunk): 1 for end in done if not end.failure}
        | dict.fromkeys(
            [
                "2025-06-05..2025-06-08",
                "2025-06-05..2025-06-06",
                "2025-06-06",
                "2025-06-06 periods 25-48",
                "2025-06-06 periods 25-36",
                "2025-06-06 periods 25-30",
                "2025-06-06 periods 28-30",
                "2025-06-06 period 30",
            ],
            2,
        )
    )


def test_where_nothing_succeeds_the_splitting_ends_and_every_period_is_named() -> None:
    work = SimulatedWork(bad={half for day in JUNE_DAYS for half in halves_of(chunk_of(Days(day, day), {}))})

    done = work.run(JUNE_DAYS, limits=WorkLimits(attempts=1))

    assert [half for end in done for half in halves_of(end.chunk)] == [(d, p) for d in JUNE_DAYS for p in range(1, 49)]
    assert all(end.failure for end in done)
    tried = len(work.tries)
    assert FRUITLESS_CHUNKS < tried < 2 * FRUITLESS_CHUNKS


@pytest.mark.parametrize(("day", "periods"), [(SHORT_DAY, 46), (LONG_DAY, 50)])
def test_a_day_on_which_the_clocks_change_is_split_into_the_periods_that_it_has(day: date, periods: int) -> None:
    work = SimulatedWork(bad=[(day, period) for period in range(1, 51)])

    done = work.run(Days(day, day), limits=WorkLimits(attempts=1))

    assert [end.chunk.periods for end in done] == [(period, period) for period in range(1, periods + 1)]


@pytest.mark.parametrize(("day", "last"), [(SHORT_DAY, 46), (JUNE_6, 48), (LONG_DAY, 50)])
def test_difficult_days_begin_with_few_periods(day: date, last: int) -> None:
    work = SimulatedWork()

    work.run(Days(day, day), limits=WorkLimits(periods_at_first=20))

    assert [chunk.periods for chunk in work.tries] == [(1, 20), (21, 40), (41, last)]


def test_narrow_work_is_about_the_periods_that_a_day_has() -> None:
    """Periods 47 to 50 of three days around the end of summer time."""
    work = SimulatedWork()

    work.run(Days(LONG_DAY - timedelta(days=1), LONG_DAY), Days(SHORT_DAY, SHORT_DAY), periods=(47, 50))

    assert names(work.tries) == ["2025-10-25 periods 47-48", "2025-10-26 periods 47-50"]


def test_narrow_work_on_difficult_days_begins_with_few_periods() -> None:
    work = SimulatedWork()

    work.run(SMALL_DAYS, periods=(44, 48), limits=WorkLimits(periods_at_first=3))

    periods = [(chunk.days.first, chunk.periods) for chunk in work.tries]
    assert periods == [(day, part) for day in SMALL_DAYS for part in ((44, 46), (47, 48))]


def test_a_slow_chunk_makes_the_next_one_as_small_as_would_take_the_target() -> None:
    # given: 30,000 rows that take 60 seconds
    work = SimulatedWork(seconds=lambda chunk: chunk.rows / 500)
    sizes = {**evenly(JUNE_DAYS, 1000), **evenly(JULY_DAYS, 1000)}

    work.run(Days(JUNE_DAYS.first, JULY_DAYS.last), sizes=sizes, limits=WorkLimits(target_seconds=5))

    assert names(work.tries)[:3] == ["2025-06-01..2025-06-30", "2025-07-01..2025-07-02", "2025-07-03..2025-07-04"]
    assert sum(chunk.rows for chunk in work.tries) == 61_000
    assert all(work.seconds(chunk) <= 5 for chunk in work.tries[1:])


def test_after_a_slow_chunk_fast_ones_grow_at_most_twofold_up_to_whole_months() -> None:
    # given: a first month that takes 60 seconds, after which everything is fast
    work = SimulatedWork(seconds=lambda chunk: 60 if chunk.days == JUNE_DAYS else 0.001)
    rest = Days(date(2025, 7, 1), date(2025, 12, 31))
    sizes = {**evenly(JUNE_DAYS, 1000), **evenly(rest, 1000)}

    work.run(JUNE_DAYS, rest, sizes=sizes, limits=WorkLimits(target_seconds=5))

    rows = [chunk.rows for chunk in work.tries]
    assert rows[0] == 30_000
    assert rows[1] == 2_000
    assert all(size <= 2_500 * 2**n for n, size in enumerate(rows[1:]))
    assert any(after > before for before, after in pairwise(rows[1:6]))
    assert rows[-1] == 31_000


def test_one_fast_chunk_after_a_slow_one_lets_the_next_be_twice_as_large() -> None:
    # given: a month of 30,000 rows that takes 60 seconds, so that 2,500 take 5, and a fast day
    work = SimulatedWork(seconds=lambda chunk: 60 if chunk.days == JUNE_DAYS else 0.001)
    day = Days(date(2025, 5, 1), date(2025, 5, 1))
    sizes = {**evenly(JUNE_DAYS, 1000), **evenly(day, 2000), **evenly(JULY_DAYS, 1000)}

    work.run(JUNE_DAYS, day, JULY_DAYS, sizes=sizes, limits=WorkLimits(target_seconds=5))

    assert names(work.tries)[:3] == ["2025-06-01..2025-06-30", "2025-05-01", "2025-07-01..2025-07-04"]


def test_a_chunk_of_few_rows_says_nothing_against_larger_ones() -> None:
    # given: a month of 30 rows that takes almost the target, and one without rows that takes far longer
    work = SimulatedWork(seconds=lambda chunk: {30: 4.9, 0: 60.0}.get(chunk.rows, 0.1))
    august = Days.of_month("2025-08")
    sizes = {**evenly(JUNE_DAYS, 1), **evenly(august, 5000)}

    work.run(JUNE_DAYS, JULY_DAYS, august, sizes=sizes, limits=WorkLimits(target_seconds=5, batch_size=200_000))

    assert [chunk.days for chunk in work.tries] == [JUNE_DAYS, JULY_DAYS, august]


def test_only_the_batch_size_divides_a_day() -> None:
    """However slow it is: a day in parts must be summed again afterwards."""
    work = SimulatedWork(seconds=lambda chunk: 600)
    sizes = {JUNE_6: {1: 1000}, JUNE_7: {1: 600, 48: 600}, date(2025, 6, 8): {1: 900}}

    work.run(Days(JUNE_6, date(2025, 6, 8)), sizes=sizes, limits=WorkLimits(batch_size=1000))

    assert names(work.tries) == ["2025-06-06", "2025-06-07 periods 1-24", "2025-06-07 periods 25-48", "2025-06-08"]


def test_a_period_of_more_rows_than_a_batch_is_done_alone() -> None:
    work = SimulatedWork()

    work.run(Days(JUNE_6, JUNE_6), sizes={JUNE_6: {1: 10, 2: 5000, 3: 10}}, limits=WorkLimits(batch_size=100))

    (large,) = [chunk for chunk in work.tries if chunk.rows > 100]
    assert large.periods == (2, 2)


def test_there_is_a_pause_between_chunks_and_none_after_the_last() -> None:
    work = SimulatedWork()

    work.run(JUNE_DAYS, JULY_DAYS, SMALL_DAYS, limits=WorkLimits(pause_seconds=2))

    assert work.slept == [2, 2]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_failure_that_nothing_escapes_is_raised_at_once(concurrency: int) -> None:
    everywhere = SchemaError("run 'recon migrate'")
    work = SimulatedWork(bad=[(JUNE_6, 1)], error=everywhere)

    def take_a_moment(chunk: Chunk) -> float:
        time.sleep(0.05 * (chunk.days == JULY_DAYS))
        return 0

    work.seconds = take_a_moment

    with pytest.raises(SchemaError) as raised:
        work.run(Days(JUNE_6, JUNE_6), *[JULY_DAYS] * 20, limits=WorkLimits(concurrency=concurrency))

    assert raised.value is everywhere
    assert names(work.tries).count("2025-06-06") == 1
    assert work.slept == []
    # What was under way beside it may end; the rest is not begun.
    assert len(work.tries) < 15 if concurrency > 1 else len(work.tries) == 1


def test_an_interruption_is_no_failure() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 1)], error=KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        work.run(SMALL_DAYS, JULY_DAYS)

    assert names(work.tries) == ["2025-06-06..2025-06-07"]
    assert work.failed_tries == []


def test_as_many_chunks_as_the_limits_say_are_done_at_once() -> None:
    """Each of six waits until three are there; a fourth would be noted."""
    met, lock, at_once = threading.Barrier(3), threading.Lock(), Counter[str]()

    def do(chunk: Chunk) -> None:
        with lock:
            at_once["now"] += 1
            at_once["most"] = max(at_once["most"], at_once["now"])
        met.wait(10)
        with lock:
            at_once["now"] -= 1

    months = list(Days(date(2025, 1, 1), date(2025, 6, 30)).by_month())
    done = list(ChunkRunner(months, {}, do, WorkLimits(concurrency=3)).run())

    assert at_once["most"] == 3
    assert {str(end.chunk) for end in done} == {str(month) for month in months}
    assert not any(end.failure for end in done)


def test_a_failing_chunk_beside_others_is_split_and_all_the_rest_is_done() -> None:
    work = SimulatedWork(bad=[(JUNE_6, 30), (JUNE_7, 1)])

    alone = work.run(JUNE_DAYS, JULY_DAYS, limits=WorkLimits(attempts=1))
    together = work.run(JUNE_DAYS, JULY_DAYS, limits=WorkLimits(attempts=1, concurrency=4))

    assert Counter(str(end) for end in together) == Counter(str(end) for end in alone)


some_days = st.sampled_from([Days(SHORT_DAY, date(2025, 4, 2)), Days(LONG_DAY, date(2025, 11, 1)), JUNE_DAYS])
halves = st.tuples(st.sampled_from([SHORT_DAY, LONG_DAY, JUNE_6, JUNE_7]), st.integers(1, 50))


@hypothesis_settings(deadline=None, max_examples=150)
@given(
    spans=st.lists(some_days, min_size=1, max_size=3, unique=True),
    rows=st.dictionaries(halves, st.integers(0, 500), max_size=40),
    everywhere=st.integers(0, 30),
    bad=st.frozensets(halves, max_size=4),
    largest=st.none() | st.integers(1, 3000),
    seconds=st.lists(st.floats(0, 100), min_size=1, max_size=5),
    periods=st.none() | st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda ends: (min(ends), max(ends))),
    limits=st.builds(
        WorkLimits,
        batch_size=st.integers(1, 20_000),
        target_seconds=st.floats(0.01, 100),
        concurrency=st.sampled_from([1, 1, 3]),
        attempts=st.integers(1, 3),
        periods_at_first=st.none() | st.integers(1, 50),
    ),
)
def test_every_half_hour_is_done_exactly_once_whatever_fails_and_however_much_there_is(
    spans: list[Days],
    rows: Mapping[Half, int],
    everywhere: int,
    bad: frozenset[Half],
    largest: int | None,
    seconds: list[float],
    periods: tuple[int, int] | None,
    limits: WorkLimits,
) -> None:
    # given: rows in some half-hours and a few in all, and chunks that fail for a half-hour or for their size
    wanted = [half for span in spans for day in span for half in halves_of(chunk_of(Days(day, day), {}))]
    sizes: dict[date, dict[int, int]] = {}
    for day, period in wanted:
        sizes.setdefault(day, {})[period] = rows.get((day, period), everywhere)
    work = SimulatedWork(bad=bad, largest=largest)
    work.seconds = lambda chunk: seconds[len(work.tries) % len(seconds)]

    # when
    done = work.run(*spans, sizes=sizes, periods=periods, limits=limits)

    # then
    first, last = periods or (1, 50)
    within = {half for half in wanted if first <= half[1] <= last}
    assert Counter(half for end in done for half in halves_of(end.chunk)) == Counter(within)
    assert {half for end in done if end.failure for half in halves_of(end.chunk)} == within & bad
    assert all((end.result is None) == (end.failure is not None) for end in done)
    for chunk in work.tries:
        assert chunk.rows == sum(sizes[day][period] for day, period in halves_of(chunk))
        assert chunk.rows <= limits.batch_size or len(list(halves_of(chunk))) == 1
