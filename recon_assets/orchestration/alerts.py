"""Alerts: messages to the people that RECON_ALERT_URLS names.

Belongs here: sending, and never showing where to. Does not: when there is something to tell (incidents.py).
"""

import logging
from collections.abc import Sequence

import apprise

from recon_assets.errors import ConfigurationError, ReconError


class AlertError(ReconError):
    """A message could not be delivered."""


class Alerts:
    """The receivers of messages."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Takes URLs of apprise, never shown for their passwords; ConfigurationError when one makes no sense."""
        # It logs the URLs that it cannot use.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._receivers = apprise.Apprise()
        for number, url in enumerate(urls, start=1):
            if not self._receivers.add(url):
                raise ConfigurationError(
                    f"RECON_ALERT_URLS: URL {number} of {len(urls)} is not understood: write it as on "
                    "https://appriseit.com/services/"
                )

    def send(self, title: str, body: str) -> int:
        """Tells every receiver; returns how many could not be reached, AlertError when that is all of them."""
        reached = [bool(receiver.notify(title=title, body=body)) for receiver in self._receivers]
        if reached and not any(reached):
            raise AlertError(f"no receiver of RECON_ALERT_URLS could be reached to tell: {title}")
        return reached.count(False)
