"""A stand-in for Elexon's Insights API: an HTTP server over a folder of recordings, for tests and for work offline.

Paths, statuses and envelopes follow Elexon's OpenAPI file. Every body comes from a recording (`YYYY-MM-DD.json.gz`, and
`bmunits_all.json` beside them); anything not recorded is answered 404. Query parameters are ignored, except `from` and
`to` of wind-and-solar.

    python -m recon_assets.elexon.stand_in FOLDER --latency 0.2 --fault server_error:/stack/all/bid/2025-06-01/7/:2
"""

import gzip
import json
import re
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, get_args
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import click

from recon_assets.elexon.stand_in_faults import UNFINISHED, Fault, FaultKind, Reply, compact, problem, spoil

BASE_PATH = "/bmrs/api/v1"
DAY = r"/(\d{4}-\d\d-\d\d)"
# path -> the name of its body in a recording, and the fields of its rows that the OpenAPI file declares as never null
ENDPOINTS = {
    rf"/balancing/settlement/stack/all/bid{DAY}/(\d+)": ("stack_bid", "sequenceNumber volume repricedIndicator"),
    rf"/balancing/settlement/acceptance/volumes/all/bid{DAY}": (
        "acceptance_volumes_bid",
        "createdDateTime bmUnitType acceptanceId pairVolumes",
    ),
    rf"/balancing/settlement/system-prices{DAY}": (
        "system_prices",
        "createdDateTime systemSellPrice systemBuyPrice bsadDefaulted netImbalanceVolume",
    ),
    rf"/balancing/settlement/indicative/cashflows/all/bid{DAY}": (
        "indicative_cashflows_bid",
        "bmUnitType totalCashflow bidOfferPairCashflows",
    ),
    r"/generation/actual/per-type/wind-and-solar": ("wind_and_solar", "publishTime quantity"),
    r"/reference/bmunits/all": ("bmunits_all", "creditQualifyingStatus demandInProductionFlag"),
}
NEVER_NULL_ANYWHERE = {"settlementDate", "settlementPeriod", "startTime"}


@dataclass(frozen=True)
class SeenRequest:
    """A request that was answered; status 0 when the connection was cut instead."""

    path: str  # below the base, with query
    started: float  # monotonic seconds
    finished: float
    status: int  # 0: no answer was sent (reset, stall)


def _read(recording: Path, mtime_ns: int) -> dict[str, bytes]:
    """The bodies of a recording by name (that of a period is `stack_bid/7`); `mtime_ns` is for the cache alone."""
    bodies = json.loads(gzip.decompress(recording.read_bytes()))
    periods = {f"stack_bid/{period}": body for period, body in bodies.pop("stack_bid", {}).items()}
    return {name: compact(body) for name, body in (bodies | periods).items()}


class StandInElexon(ThreadingHTTPServer):
    """Serves `recordings` at `url`, on 127.0.0.1, from a background thread while the `with` lasts. Port 0: any.

    `faults`, `overrides` (path below the base, without query -> the body served instead) and `latency_seconds` may be
    changed at any time. The first fault that matches applies, also to overrides. `requests` and `in_flight_peak` record
    what the clients did.
    """

    request_queue_size = 128  # the default of 5 makes a burst of connections wait a second for its next SYN

    def __init__(self, recordings: Path, *, port: int = 0) -> None:
        self.recordings = recordings
        self.latency_seconds = 0.0
        self.faults: list[Fault] = []
        self.overrides: dict[str, bytes] = {}
        self.requests: list[SeenRequest] = []
        self.in_flight_peak = 0
        self.stopping = threading.Event()
        self._in_flight = 0
        self._counting, self._reading = threading.Lock(), threading.Lock()
        self._read = lru_cache(maxsize=8)(_read)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """The base URL, for ELEXON_API_URL."""
        return f"http://127.0.0.1:{self.server_port}{BASE_PATH}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Reports errors of the server; see socketserver."""
        if not isinstance(sys.exception(), ConnectionError):  # a client that gave up is no error of the server
            super().handle_error(request, client_address)

    def reply(self, target: str) -> tuple[Reply, Fault | None]:
        """The answer to a path below the base, and the fault that applies to it.

        The request counts as finished here, before anything is sent, because a client that has its answer may read
        `requests`, or send its next request on another connection, at once.
        """
        started, status = time.monotonic(), 0
        with self._counting:
            self._in_flight += 1
            self.in_flight_peak = max(self.in_flight_peak, self._in_flight)
            fault = next((f for f in list(self.faults) if f.times != 0 and f.path_contains in f"{target}/"), None)
            if fault and fault.times:
                fault.times -= 1
        try:
            self.stopping.wait(self.latency_seconds)
            reply = self._answer(target, fault)
            status = 0 if fault and fault.kind in ("reset", "stall") else reply.status
            return reply, fault
        finally:
            with self._counting:
                self._in_flight -= 1
                self.requests.append(SeenRequest(target, started, time.monotonic(), status))

    def _answer(self, target: str, fault: Fault | None) -> Reply:
        url = urlsplit(target)
        endpoint, never_null = [], ""
        for path, (name, fields) in ENDPOINTS.items():
            if found := re.fullmatch(path, url.path):
                endpoint, never_null = [name, *found.groups()], fields
        reply = self._recorded(endpoint, parse_qs(url.query))
        if url.path in self.overrides:
            reply = Reply(200, self.overrides[url.path])
        return spoil(fault, reply, {*NEVER_NULL_ANYWHERE, *never_null.split()}) if fault else reply

    def _recorded(self, endpoint: list[str], query: dict[str, list[str]]) -> Reply:
        body = None
        match endpoint:
            case ["wind_and_solar"]:
                return self._wind_and_solar(query)
            case ["bmunits_all"] if (units := self.recordings / "bmunits_all.json").is_file():
                body = units.read_bytes()
            case [name, day, *period]:
                body = self._day(day).get("/".join([name, *period]))
        return Reply(200, body) if body else problem(404)

    def _day(self, day: str) -> dict[str, bytes]:
        recording = self.recordings / f"{day}.json.gz"
        if not recording.is_file():
            return {}
        with self._reading:  # the requests of a day come together: only the first one reads the file
            return self._read(recording, recording.stat().st_mtime_ns)

    def _wind_and_solar(self, query: dict[str, list[str]]) -> Reply:
        """Rows that start within from..to, both included; the OpenAPI file says so for BOALF, but not for this path."""
        try:
            asked = [datetime.fromisoformat(query[name][0]) for name in ("from", "to")]
        except (KeyError, ValueError):
            return problem(400)
        start, end = (at if at.tzinfo else at.replace(tzinfo=UTC) for at in asked)
        if not timedelta() <= end - start <= timedelta(days=7):
            return problem(400)
        first, last = (at.astimezone(ZoneInfo("Europe/London")).date() for at in (start, end))
        days = [self._day(str(first + timedelta(days=n))) for n in range((last - first).days + 1)]
        bodies = [json.loads(day.get("wind_and_solar", b"null")) for day in days]
        bodies = [body for body in bodies if body is not None]
        rows = [row for body in bodies for row in body["data"] or []]
        rows = [row for row in rows if start <= datetime.fromisoformat(row["startTime"]) <= end]
        return Reply(200, compact(bodies[0] | {"data": rows})) if bodies else problem(404)


class _Handler(BaseHTTPRequestHandler):
    server: StandInElexon
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; Nagle's algorithm delays the second by 40 ms

    def do_GET(self) -> None:
        reply, fault = self.server.reply(self.path.removeprefix(BASE_PATH))
        kind = fault.kind if fault else None
        if fault and kind == "stall":
            self.server.stopping.wait(fault.seconds)
        elif kind == "reset" or self.server.stopping.is_set():  # a kept-alive connection outlives the listening socket
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # it shares the socket, and while it is open, close() sends a FIN, not a RST
            self.connection.close()
        else:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.retry_after is not None:
                self.send_header("Retry-After", str(reply.retry_after))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if kind == "short_body" else reply.body)
        self.close_connection |= kind in UNFINISHED or self.server.stopping.is_set()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: `requests` is the log."""


def _fault_option(text: str) -> Fault:
    kind, path_contains, times = [*text.split(":", 2), "", ""][:3]
    try:
        return Fault(kind, path_contains, int(times) if times else None)  # type: ignore[arg-type]  # Fault checks it
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0: any free port.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Wait before each answer.")
@click.option("--fault", "faults", type=_fault_option, multiple=True, metavar="KIND:PATH_CONTAINS[:TIMES]",
              help=f"Misbehave on these paths; may be repeated. KIND: {', '.join(get_args(FaultKind))}.")  # fmt: skip
def main(folder: Path, port: int, latency: float, faults: tuple[Fault, ...]) -> None:
    """Serve a FOLDER of recordings as Elexon's API would, until Ctrl-C."""
    try:
        server = StandInElexon(folder, port=port)
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror}") from error
    server.latency_seconds = latency
    server.faults.extend(faults)
    with suppress(KeyboardInterrupt), server:
        click.echo(f"ELEXON_API_URL={server.url}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
