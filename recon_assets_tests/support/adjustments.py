"""An answer of mempool.space as the live service gives it, and a real HTTP server that serves it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from recon_assets.domain.difficulty import packaged_retargets

Row = list[Any]
PATH = "/v1/mining/difficulty-adjustments/all"
GENESIS: Row = [1_231_006_505, 0, 1, 0]
FIRST_CHANGE = (datetime(2009, 12, 30, 6, 11, 4, tzinfo=UTC), 32_256, 1.18289953)


def answer(*newer: tuple[datetime, int, float]) -> list[Row]:
    """The 463 rows of August 2026, newest first, back to block 0; and newer ones, as (time, height, difficulty).

    From 2017-11-24 on they are the packaged table. The heights before it are real, their times and difficulties are
    made up. The change ratio has six significant digits, as the service's database keeps it.
    """
    packaged = [(entry.starts_at, entry.height, entry.difficulty) for entry in packaged_retargets()]
    (begin, low, least), (end, high, most) = FIRST_CHANGE, packaged[0]
    shares = [(height, (height - low) / (high - low)) for height in range(low, high, 2016)]
    early = [(begin + (end - begin) * share, height, least * (most / least) ** share) for height, share in shares]
    last = 1.0
    rows: list[Row] = [GENESIS]
    for starts_at, height, difficulty in (*early, *packaged, *newer):
        rows.append([int(starts_at.timestamp()), height, difficulty, float(f"{round(difficulty / last, 6):.6g}")])
        last = difficulty
    return rows[::-1]


class Mempool(ThreadingHTTPServer):
    """A mempool.space: `body` may be changed at any time; `paths` are those that were asked for."""

    def __init__(self, rows: list[Row]) -> None:
        self.status, self.body, self.content_type = 200, json.dumps(rows).encode(), "application/json"
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """For MEMPOOL_API_URL."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(rows: list[Row]) -> Iterator[Mempool]:
    """Serves an answer from a background thread while the `with` lasts."""
    with Mempool(rows) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Mempool

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        is_known = self.path == PATH
        self.send_response(self.server.status if is_known else 404)
        self.send_header("Content-Type", self.server.content_type)
        self.end_headers()
        self.wfile.write(self.server.body if is_known else b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: `paths` is the log."""
