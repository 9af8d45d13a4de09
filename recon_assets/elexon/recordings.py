"""Reads Elexon's answers from a folder of recordings instead of the network.

A recording is `YYYY-MM-DD.json.gz`, an object with `settlementDate`, `stack_bid` (period -> body), and optionally
`acceptance_volumes_bid`, `system_prices` and `wind_and_solar`. A period or body that it lacks is an absent answer, as
404 is.
"""

import gzip
import json
import threading
import zlib
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from recon_assets.domain.settlement import Days
from recon_assets.elexon.source import Body
from recon_assets.errors import ConfigurationError, ElexonError


class RecordingSource:
    """A source that reads a folder of recordings."""

    def __init__(self, folder: Path) -> None:
        """ConfigurationError when the folder does not exist or has no recording."""
        self.name = folder.resolve().as_uri()
        self.requests = 0
        self.outage = None
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

    def answers(self) -> bool:
        """See Source."""
        return True

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
        # With the lock, eight threads that ask for the same day decode it once.
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
