"""Elexon's live API over HTTP, with retries and the rate limit.

404 is an absent answer. Any other failure is tried again if that may help, and is an ElexonError in the end. If the
source answers nothing at all, it is a SourceDownError (outage.py).
"""

import json
import threading
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import portalocker
import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    wait_exponential,
    wait_random,
)

from recon_assets.domain.settlement import FIRST_DAY, Days, day_starts_at
from recon_assets.domain.words import plural
from recon_assets.elexon.outage import PATIENCE_SECONDS, Outage
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
TOO_MANY_REQUESTS, FIRST_SERVER_ERROR = 429, 500
CONNECT_SECONDS = 10.0
"""A connection that takes longer is not made: the first packet was sent four times by then."""
PROBE_SECONDS = 10.0
PROBES = (f"balancing/settlement/system-prices/{FIRST_DAY}", "reference/bmunits/all")
"""What is asked to see whether the source answers at all: the first, or the second if it is the first that fails."""
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""If Elexon asks to wait longer than this, the request fails with an error that says how long."""
INSTANT = "%Y-%m-%dT%H:%MZ"


class _NoAnswerError(Exception):
    """An attempt without an answer.

    `is_final`: another attempt does not help. `is_of_source`: this is the source's failure. `is_of_host`: no connection
    was made, so that what was asked for does not matter.
    """

    def __init__(
        self,
        reason: str,
        retry_after_seconds: float | None = None,
        *,
        is_final: bool = False,
        is_of_source: bool = True,
        is_of_host: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds
        self.is_final = is_final
        self.is_of_source = is_of_source
        self.is_of_host = is_of_host


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
        outage_minutes: float = 0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._address = base_url.rstrip("/")
        # Without user and password, because errors and logs show it.
        parts = urlsplit(self._address)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.requests = 0
        self.outage = Outage(self.name, minutes=outage_minutes, patience_seconds=patience_seconds)
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

    def answers(self) -> bool:
        """See Source."""
        return self._answers_others("")

    def _get(self, path: str) -> Body | None:
        def is_last(state: RetryCallState) -> bool:
            if state.attempt_number < self._attempts and self.outage.is_tried_enough(state.upcoming_sleep):
                self._confirm(path, state.outcome.exception() if state.outcome else None, state.upcoming_sleep)
            return state.attempt_number >= self._attempts

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _NoAnswerError) and not error.is_final),
            stop=is_last,
            wait=self._wait,
            sleep=self.outage.pause,
            reraise=True,
        )
        try:
            return retrying(self._attempt, path)
        except _NoAnswerError as error:
            self._confirm(path, error, (error.retry_after_seconds or 0) if error.is_final else 0)
            tried = "" if error.is_final else f" (after {plural(self._attempts, 'attempt')})"
            raise ElexonError(f"{self.name}/{path}: {error}{tried}") from error

    def _confirm(self, path: str, error: BaseException | None, pause_seconds: float = 0) -> None:
        """SourceDownError if the failure of a request means that the source is out."""
        if isinstance(error, _NoAnswerError) and error.is_of_source:
            self.outage.confirm(lambda: not error.is_of_host and self._answers_others(path), pause_seconds)

    def _answers_others(self, path: str) -> bool:
        """Whether the source answers, in one attempt, a request of another kind than `path`."""
        probe = next(probe for probe in PROBES if not path.startswith(probe.rpartition("/")[0]))
        try:
            self._ask(probe, min(self._timeout, PROBE_SECONDS))
        except _NoAnswerError:
            return False
        except ElexonError as refusal:
            return not isinstance(refusal.__cause__, requests.RequestException)
        return True

    def _attempt(self, path: str) -> Body | None:
        self.outage.require_up()
        try:
            return self._ask(path, self._timeout)
        except _NoAnswerError as error:
            if error.is_of_source:
                self.outage.failed(str(error))
            raise

    def _ask(self, path: str, timeout_seconds: float) -> Body | None:
        with self._counting:
            self.requests += 1
        try:
            with self._throttle.turn():
                response = self._session.get(
                    f"{self._address}/{path}",
                    timeout=(min(timeout_seconds, CONNECT_SECONDS), timeout_seconds),
                    headers={"Accept": "application/json"},
                )
        except portalocker.LockException as error:
            raise _NoAnswerError("other processes held all places among the requests", is_of_source=False) from error
        except BROKEN_OFF as error:
            raise _NoAnswerError(_innermost(error), is_of_host=_is_of_host(error)) from error
        except requests.RequestException as error:
            raise ElexonError(f"ELEXON_API_URL: {error}") from error
        if response.status_code == TOO_MANY_REQUESTS or response.status_code >= FIRST_SERVER_ERROR:
            asked = _retry_after(response)
            if asked is not None and asked > LONGEST_RETRY_AFTER_SECONDS:
                reason = f"HTTP {response.status_code}, to be asked again in {asked:,.0f} seconds"
                raise _NoAnswerError(reason, asked, is_final=True)
            raise _NoAnswerError(f"HTTP {response.status_code}", asked)
        if response.status_code in (200, 404):
            body = None if response.status_code == 404 else _body_of(response)
            self.outage.answered()
            return body
        self.outage.answered()
        raise ElexonError(f"{self.name}/{path}: HTTP {response.status_code}")

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after_seconds if isinstance(failure, _NoAnswerError) else None
        return self._backoff(state) if asked is None else asked


def _body_of(response: requests.Response) -> Body:
    label = response.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        received = response.content.decode("utf-8-sig")
        return Body(json.loads(received), received, mislabelled=not label.endswith("json"))
    except ValueError as error:
        raise _NoAnswerError(f"the answer is no JSON, and labelled {label or 'nothing'}") from error


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


def _is_of_host(error: requests.RequestException) -> bool:
    """Whether no connection was made: the name is unknown, nobody listens, or the certificate is not believed."""
    if isinstance(error, requests.exceptions.SSLError | requests.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _innermost(error: BaseException) -> str:
    """The innermost reason of a chain of wrapped network errors, in one line."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.split(": ", 1)[-1] if text.startswith(("<", "HTTP")) else text
