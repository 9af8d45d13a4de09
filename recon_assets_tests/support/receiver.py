"""A receiver of alerts: an HTTP server on this machine that takes what apprise sends to json://."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Receiver(ThreadingHTTPServer):
    """Takes messages while the `with` lasts; `is_down` may be changed at any time."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.is_down = False
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """The URL for RECON_ALERT_URLS, with a password."""
        return f"json://ann:s3cret@127.0.0.1:{self.server_port}/t0ken/"

    @property
    def titles(self) -> list[str]:
        """The titles of the messages, in the order in which they came."""
        return [message["title"] for message in self.messages]

    def take(self) -> list[dict[str, Any]]:
        """The messages since the last time."""
        taken, self.messages = self.messages, []
        return taken

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.is_down:
            self.send_error(503)
            return
        self.server.messages.append(message)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
