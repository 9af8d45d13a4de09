"""Whether the source answers at all: what its requests found, when it counts as out, and the wait for its return.

A request that fails says little: a single day or endpoint may be broken. The source is out if several attempts in a row
got no answer from it, and a request of another kind gets none either. Then nothing more is asked of it. If it has
answered this process before, work may wait until it answers again; else, or if it takes too long, it is down for good.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from recon_assets.errors import SourceDownError

FAILURES_IN_A_ROW = 3
"""Attempts without an answer, of all requests, before a source may count as out."""

PATIENCE_SECONDS = 15.0
"""How long a source that has never answered is tried, whatever pauses the attempts have: a command on a source that is
down is to end within half a minute."""

LONGEST_PAUSE_SECONDS = 15.0
"""Between two looks at a source that is out; the first pauses are 1, 2, 4 and 8 s."""

SECONDS_A_LINE = 60
"""Between two lines about a wait, where there is no countdown."""


@dataclass(frozen=True)
class Waiting:
    """News of a wait for a source, once a second. `seconds_left` is None when it is over.

    `is_line` says that it belongs in a log, too.
    """

    text: str
    seconds: float
    seconds_left: float | None
    is_line: bool


class Outage:
    """The state of a source, for all threads that ask it."""

    def __init__(
        self,
        name: str,
        *,
        minutes: float = 0,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = lambda: time.monotonic(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`minutes` is how long `wait` waits for a source that has answered before."""
        self._name = name
        self._seconds = 60 * minutes
        self._patience = patience_seconds
        self._clock, self._sleep = clock, sleep
        self._noting, self._confirming = threading.Lock(), threading.Lock()
        self._is_out = threading.Event()
        self._has_answered = False
        self._failures = 0
        self._since, self._began = datetime.now(UTC), clock()
        self._reason = ""
        self.down: str | None = None
        """Why nothing is asked of the source any more, in this process; None while something may be."""

    def answered(self) -> None:
        """Notes an answer, also one that refuses the request."""
        with self._noting:
            self._has_answered = True
            self._failures = 0
            if self.down is None:
                self._is_out.clear()

    def failed(self, reason: str) -> None:
        """Notes an attempt without an answer."""
        with self._noting:
            if not self._failures:
                self._since, self._began = datetime.now(UTC), self._clock()
            self._failures += 1
            if not self._is_out.is_set():
                self._reason = reason

    def require_up(self) -> None:
        """SourceDownError while the source is out: nothing is asked of it then."""
        if self._is_out.is_set():
            raise SourceDownError(self.down or f"{self._said}; nothing is asked of it until it answers")

    def is_tried_enough(self, pause_seconds: float) -> bool:
        """Whether a source that has never answered was tried for long enough, or will be after the next pause."""
        with self._noting:
            is_failing = self._failures > 0 and not self._has_answered
            return is_failing and self._clock() + pause_seconds - self._began > self._patience

    def confirm(self, answers_others: Callable[[], bool], pause_seconds: float = 0) -> None:
        """SourceDownError if the source is out; `answers_others` asks it for something else than what has failed.

        `pause_seconds` is how long the request that failed would wait before its next attempt, if it has one.
        """
        with self._confirming:
            self.require_up()
            if self._failures < FAILURES_IN_A_ROW and not self.is_tried_enough(pause_seconds):
                return
            if answers_others():
                return
            self._is_out.set()
            if not self._has_answered:
                self._end("")
            self.require_up()

    def pause(self, seconds: float) -> None:
        """The pause before another attempt; it ends at once when the source counts as out."""
        self._is_out.wait(seconds)

    def wait(
        self, answers: Callable[[], bool], heard: Callable[[Waiting], object], deadline: float | None = None
    ) -> float | None:
        """Waits until the source answers again, and tells of it; None if the source is down for good.

        Returns the deadline of the wait, by the clock: work that the source breaks off again and again gives it back.
        """
        if self.down is not None:
            return None
        began, text = self._began, f"{self._said}; waiting for it"
        deadline = began + self._seconds if deadline is None else deadline
        pause, told = 1.0, None
        while (left := deadline - self._clock()) > 0:
            next_look = self._clock() + min(pause, left)
            while (now := self._clock()) < next_look:
                is_line = told is None or now - told >= SECONDS_A_LINE
                told = now if is_line else told
                heard(Waiting(f"{text}, for {_minutes(deadline - now)} at most", now - began, deadline - now, is_line))
                self._sleep(min(1.0, next_look - now))
            if answers():
                spent = self._clock() - began
                heard(Waiting(f"{self._name} answers again, after {_minutes(spent)}", spent, None, True))
                return deadline
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._end(f", which is longer than RECON_OUTAGE_MINUTES ({self._seconds / 60:g})")
        heard(Waiting(f"{self._said}; no longer waiting for it", self._clock() - began, None, True))
        return None

    @property
    def _said(self) -> str:
        return f"{self._name} has not answered since {self._since:%Y-%m-%d %H:%M:%SZ} ({self._reason})"

    def _end(self, remark: str) -> None:
        """Nothing is asked of the source any more."""
        self.down = (
            f"{self._said}{remark}: nothing more is asked of it, and what was to be read stays as it was; check "
            "ELEXON_API_URL and the network ('recon doctor'), then run the same command again"
        )
        self._is_out.set()


def _minutes(seconds: float) -> str:
    """A duration as 29:58."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02}"
