"""Work in chunks: how much is done at once, and how a chunk that fails is tried again and split.

A chunk is at most a month of days. One that fails is tried again with exponential backoff and jitter, then split in
halves, down to one settlement period. What still fails is returned with its reason, and the rest is done.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

import tenacity

from recon_assets.database.failures import Failure, failure_of
from recon_assets.database.limits import WorkLimits
from recon_assets.domain.settlement import MOST_PERIODS, Days, periods_in

T = TypeVar("T")
Sizes = Mapping[date, Mapping[int, int]]
"""Rows per settlement date and settlement period."""


FRUITLESS_CHUNKS = 200
"""Chunks that may fail in a row before no more are split: as many as two days with only bad settlement periods."""


@dataclass(frozen=True)
class Chunk:
    """Some days, or some settlement periods of one day, and the number of their rows."""

    days: Days
    periods: tuple[int, int] | None = None
    rows: int = 0

    def __str__(self) -> str:
        if self.periods is None:
            return str(self.days)
        first, last = self.periods
        return f"{self.days} period {first}" if first == last else f"{self.days} periods {first}-{last}"

    def halves(self, sizes: Sizes) -> tuple["Chunk", "Chunk"] | None:
        """The chunk cut in two; None when it is one settlement period."""
        if len(self.days) > 1:
            first, second = self.days.cut((len(self.days) + 1) // 2)
            return chunk_of(first, sizes), chunk_of(second, sizes)
        low, high = self.periods or (1, periods_in(self.days.first))
        if low == high:
            return None
        middle = (low + high) // 2
        return part_of(self.days.first, low, middle, sizes), part_of(self.days.first, middle + 1, high, sizes)


def chunk_of(days: Days, sizes: Sizes) -> Chunk:
    """A chunk of whole days."""
    return Chunk(days, None, sum(sum(sizes.get(day, {}).values()) for day in days))


def part_of(day: date, first: int, last: int, sizes: Sizes) -> Chunk:
    """A chunk of some settlement periods of a day."""
    of_day = sizes.get(day, {})
    return Chunk(Days(day, day), (first, last), sum(of_day.get(period, 0) for period in range(first, last + 1)))


@dataclass(frozen=True)
class ChunkResult(Generic[T]):
    """A chunk that is finished: its result, or the failure that remained after all attempts."""

    chunk: Chunk
    result: T | None = None
    failure: Failure | None = None


def attempt(
    chunk: Chunk,
    do: Callable[[Chunk], T],
    limits: WorkLimits,
    tried: Callable[[Chunk, Failure], None] = lambda chunk, failure: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = lambda: time.monotonic(),
) -> tuple[ChunkResult[T], float]:
    """Tries a chunk as often as the limits allow; returns its result and the seconds that the last attempt took.

    A failure that every other chunk would share (no connection, no right to write) is raised.
    """
    started = clock()

    def once() -> T:
        nonlocal started
        started = clock()
        return do(chunk)

    def may_pass(error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False
        failure = failure_of(error)
        tried(chunk, failure)
        return not failure.is_everywhere

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(limits.attempts),
        wait=tenacity.wait_exponential(limits.backoff_seconds) + tenacity.wait_random(0, limits.backoff_seconds),
        sleep=sleep,
        reraise=True,
    )
    try:
        result = retrying(once)
    except Exception as error:
        failure = failure_of(error)
        if failure.is_everywhere:
            raise
        return ChunkResult(chunk, failure=failure), clock() - started
    return ChunkResult(chunk, result), clock() - started


@dataclass
class ChunkRunner(Generic[T]):
    """Works through spans of days in their order, chunk by chunk."""

    spans: Iterable[Days]
    sizes: Sizes
    do: Callable[[Chunk], T]
    limits: WorkLimits = field(default_factory=WorkLimits)
    periods: tuple[int, int] | None = None
    tried: Callable[[Chunk, Failure], None] = lambda chunk, failure: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = lambda: time.monotonic()

    def __post_init__(self) -> None:
        self._rows = float(self.limits.batch_size)
        self._fruitless = 0
        self._waiting = deque(self._first_chunks())

    def run(self) -> Iterator[ChunkResult[T]]:
        """Yields each chunk as it ends. A failure that every other chunk would share is raised."""
        if self.limits.concurrency == 1:
            # In this thread, so that Ctrl-C stops the running statement.
            while self._waiting:
                yield from self._ended(*self._tried(self._next()))
            return
        with ThreadPoolExecutor(self.limits.concurrency) as pool:
            working: set[Future[tuple[ChunkResult[T], float]]] = set()
            while self._waiting or working:
                while self._waiting and len(working) < self.limits.concurrency:
                    working.add(pool.submit(self._tried, self._next()))
                ended, working = wait(working, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield from self._ended(*future.result())

    def _first_chunks(self) -> Iterator[Chunk]:
        for span in self.spans:
            whole = self.periods is None and self.limits.periods_at_first is None
            for days in span.by_month() if whole else span.cut(1):
                if whole:
                    yield chunk_of(days, self.sizes)
                    continue
                first, last = self.periods or (1, MOST_PERIODS)
                last = min(last, periods_in(days.first))
                step = self.limits.periods_at_first or MOST_PERIODS
                for low in range(first, last + 1, step):
                    yield part_of(days.first, low, min(last, low + step - 1), self.sizes)

    def _next(self) -> Chunk:
        """The next chunk, cut to the size that may be done at once."""
        chunk = self._waiting.popleft()
        limit = min(self._rows, self.limits.batch_size)
        while chunk.rows > limit and (parts := chunk.halves(self.sizes)):
            # A day is cut only above the maximum, because its summaries need the whole day.
            if len(chunk.days) == 1 and chunk.rows <= self.limits.batch_size:
                break
            chunk = parts[0]
            self._waiting.appendleft(parts[1])
        return chunk

    def _tried(self, chunk: Chunk) -> tuple[ChunkResult[T], float]:
        return attempt(chunk, self.do, self.limits, self.tried, self.sleep, self.clock)

    def _ended(self, done: ChunkResult[T], seconds: float) -> Iterator[ChunkResult[T]]:
        parts = None
        if done.failure is None:
            self._fruitless = 0
            self._adapt(done.chunk, seconds)
        else:
            self._fruitless += 1
            # If nothing succeeds, splitting further would only take very long to report the same.
            parts = done.chunk.halves(self.sizes) if self._fruitless <= FRUITLESS_CHUNKS else None
        if parts:
            self._waiting.extendleft(reversed(parts))
        else:
            yield done
        if self._waiting and self.limits.pause_seconds:
            self.sleep(self.limits.pause_seconds)

    def _adapt(self, chunk: Chunk, seconds: float) -> None:
        """Fewer rows at once if the last chunk took longer than the target, more if there was time for more."""
        if not chunk.rows or seconds <= 0:
            return
        fitting = chunk.rows * self.limits.target_seconds / seconds
        if seconds > self.limits.target_seconds:
            self._rows = max(1.0, fitting)
        else:
            # A small chunk is mostly start-up time: it never lowers the number of rows.
            self._rows = min(self.limits.batch_size, max(self._rows, min(fitting, self._rows * 2)))
