"""Sends messages to the receivers in RECON_ALERT_URLS; the URLs hold passwords and are never shown."""

import logging
from collections.abc import Sequence

import apprise

from recon_assets.errors import ConfigurationError, ReconError


class AlertError(ReconError):
    """A message could not be delivered."""


class Alerts:
    """The receivers of messages."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Takes URLs of apprise; ConfigurationError if one is not understood."""
        # apprise logs the URLs that it cannot use, passwords included.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._receivers = apprise.Apprise()
        for number, url in enumerate(urls, start=1):
            if not self._receivers.add(url):
                raise ConfigurationError(
                    f"RECON_ALERT_URLS: URL {number} of {len(urls)} is not understood: write it as on "
                    "https://appriseit.com/services/"
                )

    def send(self, title: str, body: str) -> int:
        """Sends to every receiver; returns how many could not be reached, AlertError if none could."""
        reached = [bool(receiver.notify(title=title, body=body)) for receiver in self._receivers]
        if reached and not any(reached):
            raise AlertError(f"no receiver of RECON_ALERT_URLS could be reached to tell: {title}")
        return reached.count(False)
