"""The interface of a source of Elexon's answers, which HttpSource and RecordingSource implement."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from recon_assets.domain.settlement import Days
from recon_assets.elexon.outage import Outage


@dataclass(frozen=True)
class Body:
    """An answer, as decoded JSON.

    `received` is the text as received (None when it was read from a recording); `mislabelled` says that its content
    type was not JSON.
    """

    content: Any
    received: str | None = None
    mislabelled: bool = False


class Source(Protocol):
    """Returns bodies; None is an absent answer (404), and every failure is an ElexonError, or a SourceDownError.

    `requests` counts requests, every attempt included.
    """

    name: str
    requests: int

    @property
    def outage(self) -> Outage | None:
        """Whether the source answers at all; None for a source that always does."""
        ...

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
        """The actual wind and solar generation of a day, in MW."""
        ...

    def bm_units(self) -> Body | None:
        """The reference list of BM units."""
        ...

    def span(self) -> Days | None:
        """The first and last day that the source can have; None when only the calendar limits it."""
        ...

    def can_have(self, day: date) -> bool:
        """Whether the source may have a day."""
        ...

    def answers(self) -> bool:
        """Whether the source answers now, in one attempt."""
        ...
