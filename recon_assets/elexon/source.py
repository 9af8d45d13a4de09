"""What a source of Elexon's answers is: it gives bodies, over HTTP (http.py) or from recordings (recordings.py).

Both give the same decoded JSON to the same parsing (payloads.py).
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from recon_assets.domain.settlement import Days


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
