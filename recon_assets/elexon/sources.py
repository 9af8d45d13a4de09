"""Where Elexon's answers come from: the live API over HTTP, or a folder of recordings.

Belongs here: getting a body, retries, the format of a recording. Does not: what a body means (published.py); both
sources give the same decoded JSON to the same parsing.

A recording is `YYYY-MM-DD.json.gz`: `settlementDate`, `stack_bid` (period -> body), and where there is one
`acceptance_volumes_bid`, `system_prices` and `wind_and_solar`. A period or a body that is not in it is an absent
answer, as 404 is.
"""

import gzip
import json
import threading
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import portalocker
import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from recon_assets.domain.settlement import Days, day_starts_at, period_starts_at, periods_in
from recon_assets.elexon.throttle import Throttle
from recon_assets.errors import ConfigurationError, ElexonError
from recon_assets.settings import Settings

BROKEN_OFF = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
"""Answers that did not come, or not whole."""
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""Who is asked to wait longer gives up, and says how long."""
INSTANT = "%Y-%m-%dT%H:%MZ"


@dataclass(frozen=True)
class Body:
    """An answer: what it says, decoded.

    `received` is the text as it came (None when it was read from a recording); `mislabelled` says that it came as
    something else than JSON.
    """

    content: Any
    received: str | None = None
    mislabelled: bool = False


class Source(Protocol):
    """Gives bodies; None is an absent answer (404), anything that went wrong is an ElexonError.

    `requests` counts the bodies that were asked for, every attempt of each.
    """

    name: str
    requests: int

    def stack(self, day: date, period: int) -> Body | None:
        """The bid stack of one settlement period."""
        ...

    def system_prices(self, day: date) -> Body | None:
        """The system prices of a day: one row per published period."""
        ...

    def acceptance_volumes(self, day: date) -> Body | None:
        """The accepted bid volumes of a day."""
        ...

    def wind_and_solar(self, day: date) -> Body | None:
        """The actual generation of a day by wind and sun, in MW."""
        ...

    def bm_units(self) -> Body | None:
        """The reference list of BM units."""
        ...

    def span(self) -> Days | None:
        """The first and the last day that the source can have; None when only the calendar limits it."""
        ...

    def can_have(self, day: date) -> bool:
        """Whether it makes sense to ask for a day."""
        ...


class _TransientError(Exception):
    """A failure that another attempt may not meet."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class HttpSource:
    """The live API, one session for all threads, retried with exponential backoff and jitter inside the throttle."""

    def __init__(
        self,
        base_url: str,
        *,
        per_second: float = 8,
        in_flight: int = 8,
        attempts: int = 5,
        timeout_seconds: float = 30,
        backoff_seconds: float = 0.5,
    ) -> None:
        self._address = base_url.rstrip("/")
        # Without a user and a password, because it is said in errors and logs.
        parts = urlsplit(self._address)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.requests = 0
        self._counting = threading.Lock()
        self._throttle = Throttle(self.name, per_second=per_second, in_flight=in_flight)
        self._attempts = attempts
        self._timeout = timeout_seconds
        self._backoff = wait_exponential(multiplier=backoff_seconds, max=30) + wait_random(0, backoff_seconds)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=in_flight, pool_block=True))

    def stack(self, day: date, period: int) -> Body | None:
        """See Source."""
        return self._get(f"balancing/settlement/stack/all/bid/{day}/{period}")

    def system_prices(self, day: date) -> Body | None:
        """See Source."""
        return self._get(f"balancing/settlement/system-prices/{day}")

    def acceptance_volumes(self, day: date) -> Body | None:
        """See Source."""
        return self._get(f"balancing/settlement/acceptance/volumes/all/bid/{day}")

    def wind_and_solar(self, day: date) -> Body | None:
        """See Source."""
        first, last = day_starts_at(day), period_starts_at(day, periods_in(day))
        return self._get(f"generation/actual/per-type/wind-and-solar?from={first:{INSTANT}}&to={last:{INSTANT}}")

    def bm_units(self) -> Body | None:
        """See Source."""
        return self._get("reference/bmunits/all")

    def span(self) -> Days | None:
        """See Source."""
        return None

    def can_have(self, day: date) -> bool:
        """See Source."""
        return True

    def _get(self, path: str) -> Body | None:
        retrying = Retrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_attempt(self._attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            return retrying(self._attempt, path)
        except _TransientError as error:
            raise ElexonError(f"{self.name}/{path}: {error} (after {self._attempts} attempts)") from error

    def _attempt(self, path: str) -> Body | None:
        with self._counting:
            self.requests += 1
        try:
            with self._throttle.turn():
                response = self._session.get(
                    f"{self._address}/{path}", timeout=self._timeout, headers={"Accept": "application/json"}
                )
        except portalocker.LockException as error:
            raise _TransientError("other processes held all places among the requests") from error
        except BROKEN_OFF as error:
            raise _TransientError(_innermost(error)) from error
        except requests.RequestException as error:
            raise ElexonError(f"ELEXON_API_URL: {error}") from error
        if response.status_code == 404:
            return None
        if response.status_code in RETRIED_STATUSES:
            asked = _retry_after(response)
            if asked is not None and asked > LONGEST_RETRY_AFTER_SECONDS:
                raise ElexonError(
                    f"{self.name}/{path}: HTTP {response.status_code}, to be asked again in {asked:,.0f} seconds"
                )
            raise _TransientError(f"HTTP {response.status_code}", asked)
        if response.status_code != 200:
            raise ElexonError(f"{self.name}/{path}: HTTP {response.status_code}")
        label = response.headers.get("Content-Type", "").partition(";")[0].strip()
        try:
            received = response.content.decode("utf-8-sig")
            return Body(json.loads(received), received, mislabelled=not label.endswith("json"))
        except ValueError as error:
            raise _TransientError(f"the answer is no JSON, and labelled {label or 'nothing'}") from error

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after_seconds if isinstance(failure, _TransientError) else None
        return self._backoff(state) if asked is None else asked


class RecordingSource:
    """A folder of recordings, read instead of the network."""

    def __init__(self, folder: Path) -> None:
        """ConfigurationError when the folder holds no recording."""
        self.name = folder.resolve().as_uri()
        self.requests = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._read_day = lru_cache(maxsize=2)(self._decode)
        if not folder.is_dir():
            raise ConfigurationError(f"ELEXON_API_URL: {folder} is not a folder of recordings")
        if not self._days():
            raise ConfigurationError(f"ELEXON_API_URL: {folder} holds no recording (YYYY-MM-DD.json.gz)")

    def stack(self, day: date, period: int) -> Body | None:
        """See Source."""
        return self._body(day, "stack_bid", str(period))

    def system_prices(self, day: date) -> Body | None:
        """See Source."""
        return self._body(day, "system_prices")

    def acceptance_volumes(self, day: date) -> Body | None:
        """See Source."""
        return self._body(day, "acceptance_volumes_bid")

    def wind_and_solar(self, day: date) -> Body | None:
        """See Source."""
        return self._body(day, "wind_and_solar")

    def bm_units(self) -> Body | None:
        """See Source."""
        path = self._folder / "bmunits_all.json"
        if not path.exists():
            return None
        try:
            return Body(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ElexonError(f"the recording {path} is corrupt: {error}") from error

    def span(self) -> Days | None:
        """See Source."""
        days = self._days()
        return Days(min(days), max(days))

    def can_have(self, day: date) -> bool:
        """See Source."""
        return self._path(day).exists()

    def _days(self) -> set[date]:
        days = set()
        for path in self._folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json.gz"):
            try:
                days.add(date.fromisoformat(path.name.removesuffix(".json.gz")))
            except ValueError:
                raise ConfigurationError(f"ELEXON_API_URL: {path} is named after a day that does not exist") from None
        return days

    def _path(self, day: date) -> Path:
        return self._folder / f"{day}.json.gz"

    def _body(self, day: date, *keys: str) -> Body | None:
        # The lock makes eight threads that ask for one day decode it once.
        with self._lock:
            self.requests += 1
            content: Any = self._read_day(day)
        for key in keys:
            content = None if content is None else content.get(key)
        return None if content is None else Body(content)

    def _decode(self, day: date) -> dict[str, Any] | None:
        path = self._path(day)
        if not path.exists():
            return None
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                recording = json.load(file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ElexonError(f"the recording {path} is corrupt: {error}") from error
        if not isinstance(recording, dict) or not isinstance(recording.get("stack_bid"), dict):
            raise ElexonError(f"the recording {path} is corrupt: it has no object 'stack_bid'")
        if recording.get("settlementDate") != day.isoformat():
            raise ElexonError(f"the recording {path} is of {recording.get('settlementDate')}")
        return recording


def open_source(settings: Settings) -> Source:
    """The source that ELEXON_API_URL names; ConfigurationError when a folder holds no recordings."""
    if settings.recordings is not None:
        return RecordingSource(settings.recordings)
    return HttpSource(
        settings.elexon_api_url,
        per_second=settings.elexon_requests_per_second,
        in_flight=settings.elexon_requests_in_flight,
        attempts=settings.elexon_attempts,
        timeout_seconds=settings.elexon_timeout_seconds,
    )


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the answer asks to wait, given as seconds or as a date; None when it asks nothing."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        asked, answered = (_utc(parsedate_to_datetime(text)) for text in (value, response.headers["Date"]))
    except (ValueError, KeyError):
        return None
    return max(0.0, (asked - answered).total_seconds())


def _utc(instant: datetime) -> datetime:
    """A date of an HTTP header: always GMT, also where it says -0000, which Python takes to be no zone."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of a chain of wrapped network errors, in one line."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.split(": ", 1)[-1] if "object at 0x" in text else text
