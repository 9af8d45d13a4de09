"""Elexon's live API over HTTP, with retries and the rate limit.

404 is an absent answer. Any other failure is tried again if that may help, and is an ElexonError in the end.
"""

import json
import threading
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
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

from recon_assets.domain.settlement import Days, day_starts_at
from recon_assets.domain.words import plural
from recon_assets.elexon.source import Body
from recon_assets.elexon.throttle import Throttle
from recon_assets.errors import ElexonError

BROKEN_OFF = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
"""Answers that did not arrive, or not whole."""
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""If Elexon asks to wait longer than this, the request fails with an error that says how long."""
INSTANT = "%Y-%m-%dT%H:%MZ"


class _TransientError(Exception):
    """A failure that may not happen again in another attempt."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class HttpSource:
    """The live API: one session for all threads, the throttle, and retries with exponential backoff and jitter."""

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
        # Without user and password, because errors and logs show it.
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
        # Nobody says whether `to` is included. If not, the start of the last half-hour would leave that one out.
        first, end = day_starts_at(day), day_starts_at(day + timedelta(days=1))
        return self._get(f"generation/actual/per-type/wind-and-solar?from={first:{INSTANT}}&to={end:{INSTANT}}")

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
            raise ElexonError(f"{self.name}/{path}: {error} (after {plural(self._attempts, 'attempt')})") from error

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


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait that the answer asks for, as seconds or as a date; None when it does not."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        asked, answered = (_utc(parsedate_to_datetime(text)) for text in (value, response.headers["Date"]))
    except (ValueError, KeyError):
        return None
    return max(0.0, (asked - answered).total_seconds())


def _utc(instant: datetime) -> datetime:
    """A date of an HTTP header in UTC; HTTP dates are always GMT, but Python reads the zone -0000 as none."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def _innermost(error: BaseException) -> str:
    """The innermost reason of a chain of wrapped network errors, in one line."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.split(": ", 1)[-1] if "object at 0x" in text else text
