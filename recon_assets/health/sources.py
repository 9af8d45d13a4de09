"""Whether the sources can be reached: one cheap request each, without retries, or a look into the recordings."""

import time
from datetime import date
from urllib.parse import urlsplit

import requests

from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ConfigurationError, first_line
from recon_assets.health.facts import Limits, Source
from recon_assets.settings import Settings

SYSTEM_PRICES = "balancing/settlement/system-prices/{day}"
"""The smallest of the answers that reading a day needs: about 50 rows."""

ADJUSTMENTS = "v1/mining/difficulty-adjustments/24h"


def elexon(settings: Settings, day: date, limits: Limits) -> Source:
    """Elexon, asked for a day that it should have; 404 counts as an answer: Elexon does not have the day."""
    if settings.recordings is None:
        return _ask(settings.elexon_api_url, SYSTEM_PRICES.format(day=day), limits, known={200, 404})
    address = settings.elexon_api_url
    started = time.monotonic()
    try:
        source = RecordingSource(settings.recordings)
        days = source.span()
        recordings = sum(source.can_have(day) for day in days or ())
    except (ConfigurationError, OSError) as error:
        return Source(address, error=str(error))
    return Source(
        address,
        is_reachable=True,
        latency_ms=_ms_since(started),
        recordings=recordings,
        first_day=days.first if days else None,
        last_day=days.last if days else None,
    )


def mempool(settings: Settings, limits: Limits) -> Source | None:
    """mempool.space; None if only the packaged difficulty table is used."""
    if settings.mempool_api_url is None:
        return None
    return _ask(settings.mempool_api_url, ADJUSTMENTS, limits, known={200})


def _ask(base_url: str, path: str, limits: Limits, known: set[int]) -> Source:
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2]
    address = parts._replace(netloc=host, query="").geturl()
    started = time.monotonic()
    status = error = None
    try:
        response = requests.get(
            f"{base_url}/{path}", timeout=limits.request_seconds, headers={"Accept": "application/json"}
        )
        status = response.status_code
        if status not in known:
            error = f"HTTP {status}"
        elif status == 200:
            response.json()
    except requests.exceptions.JSONDecodeError:
        error = "the answer is no JSON"
    except requests.RequestException as failure:
        error = first_line(_root(failure)).replace(parts.netloc, host)
    return Source(address, path, error is None, _ms_since(started), status, error)


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _root(error: BaseException) -> BaseException:
    """The innermost error: requests and urllib3 wrap it in errors that repeat the address."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
