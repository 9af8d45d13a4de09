"""Sources of Elexon's data that are down, or go out for a while."""

import socket
from pathlib import Path

from recon_assets.elexon.outage import Outage
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, Reply


def refused_url() -> str:
    """The address of a port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


class BreakingOff(StandInElexon):
    """Answers 503 from one request on up to another, counted from 1."""

    def __init__(self, recordings: Path, first: int, last: int) -> None:
        super().__init__(recordings)
        self._first, self._last = first, last

    def reply(self, target: str) -> tuple[Reply, Fault | None]:
        """See StandInElexon."""
        self.faults = [Fault("server_error")] if self._first <= len(self.requests) + 1 <= self._last else []
        return super().reply(target)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds

    def outage(self, minutes: float, name: str = "Elexon") -> Outage:
        """The state of a source, by this clock."""
        return Outage(name, minutes=minutes, clock=lambda: self.now, sleep=self.sleep)
