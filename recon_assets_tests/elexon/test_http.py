import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.source import Body, Source
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, FaultKind
from recon_assets.errors import ElexonError, SourceDownError
from recon_assets_tests.support.steps import JUNE_6

PERIOD_7 = "/stack/all/bid/2025-06-06/7/"
TRANSIENT: list[FaultKind] = [
    "reset", "stall", "short_body", "too_many_requests", "server_error", "html", "truncated",
]  # fmt: skip


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


def source(url: str, *, attempts: int = 3, patience_seconds: float = 10) -> HttpSource:
    return HttpSource(
        url, per_second=1000, in_flight=8, attempts=attempts, timeout_seconds=patience_seconds, backoff_seconds=0.01
    )


def content(body: Body | None) -> object:
    """The content of an answer; asserts that there is one."""
    assert body is not None
    return body.content


def patience(kind: FaultKind) -> float:
    """Short only for a stall: on a busy machine the first answer of a server takes a while."""
    return 0.5 if kind == "stall" else 10


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_transient_failure_is_tried_again(server: StandInElexon, recordings: Path, kind: FaultKind) -> None:
    server.faults.append(Fault(kind, PERIOD_7, times=2, seconds=1))

    body = source(server.url, patience_seconds=patience(kind)).stack(JUNE_6, 7)

    assert content(body) == content(RecordingSource(recordings).stack(JUNE_6, 7))
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("reset", "reset by peer"),
        ("stall", "timed out"),
        ("short_body", "more expected"),
        ("too_many_requests", "HTTP 429"),
        ("server_error", "HTTP 503"),
        ("html", "the answer is no JSON"),
        ("truncated", "the answer is no JSON"),
    ],
)
def test_a_lasting_failure_is_one_line_with_address_and_reason(
    server: StandInElexon, kind: FaultKind, reason: str
) -> None:
    server.faults.append(Fault(kind, PERIOD_7, seconds=1))

    with pytest.raises(ElexonError) as failure:
        source(server.url, attempts=2, patience_seconds=patience(kind)).stack(JUNE_6, 7)

    message = str(failure.value)
    assert message.startswith(f"{server.url}/balancing/settlement{PERIOD_7.rstrip('/')}: ")
    assert reason in message
    assert message.endswith("(after 2 attempts)")
    assert "\n" not in message
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refused_request_is_never_sent_again(server: StandInElexon, status: int) -> None:
    server.faults.append(Fault("server_error", PERIOD_7, status=status))

    with pytest.raises(ElexonError, match=f"{PERIOD_7.rstrip('/')}: HTTP {status}$"):
        source(server.url).stack(JUNE_6, 7)

    assert len(server.requests) == 1


def test_a_retry_after_in_seconds_is_honoured(server: StandInElexon) -> None:
    server.faults.append(Fault("too_many_requests", PERIOD_7, times=1, retry_after=1))

    assert source(server.url).stack(JUNE_6, 7) is not None

    refused, answered = server.requests
    assert answered.started - refused.finished >= 1


def test_a_retry_after_as_a_date_is_honoured() -> None:
    arrivals: list[float] = []

    class FirstRefuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrivals.append(time.monotonic())
            self.send_response(429 if len(arrivals) == 1 else 200)
            self.send_header("Retry-After", formatdate(int(time.time()) + 2, usegmt=True))
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), FirstRefuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        body = source(f"http://127.0.0.1:{server.server_port}").bm_units()
        server.shutdown()

    assert content(body) == []
    assert arrivals[1] - arrivals[0] >= 1


def test_not_found_is_an_absent_answer_and_no_failure(server: StandInElexon) -> None:
    live = source(server.url)

    assert live.stack(JUNE_6, 49) is None
    assert live.system_prices(JUNE_6.replace(year=2024)) is None
    assert live.bm_units() is None
    assert len(server.requests) == 3


def test_an_answer_called_plain_text_is_read(server: StandInElexon, recordings: Path) -> None:
    server.faults.append(Fault("wrong_content_type"))

    body = source(server.url).system_prices(JUNE_6)

    assert content(body) == content(RecordingSource(recordings).system_prices(JUNE_6))
    assert body
    assert body.mislabelled


def test_an_answer_is_kept_as_it_was_received(server: StandInElexon) -> None:
    odd = '\ufeff { "data" : [ ] ,\n "metadata":{"note":"\u00a3 1.0e1"} }'
    server.overrides["/balancing/settlement/system-prices/2025-06-06"] = odd.encode()

    body = source(server.url).system_prices(JUNE_6)

    assert body == Body({"data": [], "metadata": {"note": "£ 1.0e1"}}, odd.removeprefix("\ufeff"), mislabelled=False)


def test_every_attempt_is_a_request(server: StandInElexon, recordings: Path) -> None:
    server.faults.append(Fault("server_error", PERIOD_7, times=2))
    live, folder = source(server.url), RecordingSource(recordings)

    for of_both in (live, folder):
        of_both.stack(JUNE_6, 7)
        of_both.stack(JUNE_6, 8)

    assert live.requests == len(server.requests) == 4
    assert folder.requests == 2


def test_an_answer_that_cannot_be_unpacked_is_tried_again() -> None:
    asked: list[str] = []

    class FirstIsBroken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if len(asked) == 1:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), FirstIsBroken) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        body = source(f"http://127.0.0.1:{server.server_port}").bm_units()
        server.shutdown()

    assert content(body) == []
    assert len(asked) == 2


def test_a_password_in_the_address_is_sent_and_never_said(server: StandInElexon) -> None:
    server.faults.append(Fault("server_error", PERIOD_7))
    live = source(server.url.replace("http://", "http://anna:secret@"), attempts=1)

    assert live.name == server.url
    with pytest.raises(ElexonError) as failure:
        live.stack(JUNE_6, 7)
    assert "secret" not in str(failure.value)


def test_who_is_asked_to_wait_for_long_gives_up_and_says_so(server: StandInElexon) -> None:
    server.faults.append(Fault("too_many_requests", PERIOD_7, retry_after=3600))

    with pytest.raises(ElexonError, match=r"HTTP 429, to be asked again in 3,600 seconds$"):
        source(server.url).stack(JUNE_6, 7)

    # It is not tried again; one request for something else shows that the source is not out.
    assert ["/stack/" in request.path for request in server.requests] == [True, False]


def test_a_source_that_asks_everybody_to_wait_for_long_is_down(server: StandInElexon) -> None:
    server.faults.append(Fault("too_many_requests", retry_after=3600))

    with pytest.raises(SourceDownError, match=r"has not answered since .*HTTP 429, to be asked again in 3,600 seconds"):
        source(server.url).stack(JUNE_6, 7)

    assert len(server.requests) == 2


def test_an_unreachable_server_is_a_clear_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

    with pytest.raises(ElexonError) as failure:
        source(url, attempts=2).system_prices(JUNE_6)

    assert str(failure.value).startswith(f"{url}/balancing/settlement/system-prices/2025-06-06: ")
    assert "Connection refused" in str(failure.value)
    assert "object at 0x" not in str(failure.value)


def test_the_live_api_can_have_any_day(server: StandInElexon) -> None:
    live = source(server.url)

    assert live.span() is None
    assert live.can_have(JUNE_6.replace(year=2024))
    assert server.requests == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda source: source.stack(JUNE_6, 7),
        lambda source: source.system_prices(JUNE_6),
        lambda source: source.acceptance_volumes(JUNE_6),
        lambda source: source.bm_units(),
    ],
    ids=["stack", "system_prices", "acceptance_volumes", "bm_units"],
)
def test_recordings_and_the_network_give_the_same_bodies(
    server: StandInElexon, recordings: Path, ask: Callable[[Source], Body | None]
) -> None:
    (recordings / "bmunits_all.json").write_text('[{"elexonBmUnit": "T_SGRWO-1", "fuelType": "WIND"}]')

    recorded = content(ask(RecordingSource(recordings)))

    assert recorded
    assert recorded == content(ask(source(server.url)))
