"""A source that is down is noticed soon, whatever the failure; a day or an endpoint that fails is no outage."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.outage import Outage, Waiting
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ElexonError, SourceDownError
from recon_assets_tests.support.outages import BreakingOff, Clock, refused_url
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW

SOON = 10
"""Seconds; all attempts of all requests of one day would take far longer where the test has real pauses."""


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


def source(
    url: str, *, attempts: int = 5, timeout_seconds: float = 10, patience: float = 15, minutes: float = 0
) -> HttpSource:
    return HttpSource(
        url,
        per_second=1000,
        attempts=attempts,
        timeout_seconds=timeout_seconds,
        backoff_seconds=0.01,
        outage_minutes=minutes,
        patience_seconds=patience,
    )


@contextmanager
def silent_host() -> Iterator[str]:
    """An address that takes no connection and refuses none, as behind a firewall: its queue is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
        for each in waiting:
            each.close()


def assert_is_down(live: HttpSource, reason: str) -> None:
    """A day cannot be read, which is soon clear, is said in one line, and is known from then on."""
    started = time.monotonic()
    with pytest.raises(SourceDownError) as failure:
        Elexon(live).settlement_stack(JUNE_6, NOW)
    assert time.monotonic() - started < SOON
    message = str(failure.value)
    assert message.startswith(f"{live.name} has not answered since 20")
    assert reason in message
    assert "'recon doctor'" in message
    assert "\n" not in message
    asked = live.requests
    for ask in (live.bm_units, lambda: live.stack(JUNE_7, 1), lambda: live.wind_and_solar(JUNE_7)):
        with pytest.raises(SourceDownError) as again:
            ask()
        assert str(again.value) == message
    assert live.requests == asked


def test_a_refused_connection() -> None:
    assert_is_down(source(refused_url()), "Connection refused")


def test_a_name_that_does_not_resolve() -> None:
    assert_is_down(source("http://elexon.invalid"), "Failed to resolve 'elexon.invalid'")


def test_a_server_that_does_not_speak_tls(server: StandInElexon) -> None:
    assert_is_down(source(server.url.replace("http://", "https://")), "SSL")


def test_a_host_that_is_silent() -> None:
    with silent_host() as url:
        assert_is_down(source(url, timeout_seconds=0.3, patience=0.5), "timed out")


def test_all_defaults_come_to_it_within_half_a_minute() -> None:
    started = time.monotonic()

    with pytest.raises(SourceDownError):
        HttpSource(refused_url()).bm_units()

    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("server_error", status=500), "HTTP 500"),
        (Fault("server_error", status=503), "HTTP 503"),
        (Fault("server_error", status=507), "HTTP 507"),
        (Fault("too_many_requests"), "HTTP 429"),
        (Fault("too_many_requests", retry_after=60), "HTTP 429"),
        (Fault("too_many_requests", retry_after=3600), "HTTP 429, to be asked again in 3,600 seconds"),
        (Fault("reset"), "reset by peer"),
        (Fault("html"), "the answer is no JSON"),
    ],
    ids=["500", "503", "507", "429", "429 for a minute", "429 for an hour", "reset", "html"],
)
def test_a_server_that_answers_everything_with_an_error(server: StandInElexon, fault: Fault, reason: str) -> None:
    server.faults.append(fault)

    assert_is_down(source(server.url), reason)

    # eight at a time, five attempts each, and one look whether anything else is answered
    assert len(server.requests) <= 8 * 5 + 1


def test_a_server_that_answers_nothing(server: StandInElexon) -> None:
    server.faults.append(Fault("stall", seconds=1))

    assert_is_down(source(server.url, timeout_seconds=0.3, patience=0.5), "timed out")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("server_error", "/stack/all/bid/2025-06-06/", status=500), "HTTP 500"),
        (Fault("server_error", "/stack/", status=500), "HTTP 500"),
        (Fault("server_error", "/stack/all/bid/2025-06-06/", status=400), "HTTP 400"),
        (Fault("too_many_requests", "/stack/all/bid/2025-06-06/"), "HTTP 429"),
        (Fault("too_many_requests", "/stack/all/bid/2025-06-06/", retry_after=3600), "HTTP 429"),
        (Fault("reset", "/stack/all/bid/2025-06-06/"), "reset by peer"),
        (Fault("html", "/stack/all/bid/2025-06-06/"), "no JSON"),
        (Fault("other_day", "/stack/all/bid/2025-06-06/"), "rows of 2025-06-07"),
    ],
    ids=["500", "endpoint", "400", "429", "429 for an hour", "reset", "html", "other day"],
)
def test_a_day_that_fails_alone_is_no_outage(server: StandInElexon, fault: Fault, reason: str) -> None:
    # given a day of which nothing is answered, as the first that is asked of the source
    server.faults.append(fault)
    elexon = Elexon(source(server.url, attempts=3))

    with pytest.raises(ElexonError, match=rf"^2025-06-06 settlement period 1-48: .*{reason}"):
        elexon.settlement_stack(JUNE_6, NOW)

    if "2025-06-06" in fault.path_contains:
        assert len(elexon.settlement_stack(JUNE_7, NOW).published) == 48
    assert elexon.down is None


@pytest.mark.parametrize("path", ["/reference/bmunits/all", "/system-prices/", "/wind-and-solar"])
def test_an_endpoint_that_fails_alone_is_no_outage(server: StandInElexon, path: str) -> None:
    server.faults.append(Fault("server_error", path, status=500))
    live = source(server.url)
    ask: dict[str, Callable[[], object]] = {
        "/reference/bmunits/all": live.bm_units,
        "/system-prices/": lambda: live.system_prices(JUNE_6),
        "/wind-and-solar": lambda: live.wind_and_solar(JUNE_6),
    }

    with pytest.raises(ElexonError, match=r"HTTP 500 \(after 5 attempts\)$"):
        ask[path]()

    assert live.stack(JUNE_6, 1) is not None


def test_a_long_retry_after_is_waited_for_if_others_are_answered(server: StandInElexon) -> None:
    # given a first request that is to wait for longer than a source without any answer is tried
    server.faults.append(Fault("too_many_requests", "/bid/2025-06-06/7/", times=1, retry_after=1))

    assert source(server.url, patience=0.5).stack(JUNE_6, 7) is not None

    refused, *_, answered = server.requests
    assert answered.started - refused.finished >= 1


# Waiting


def go_out(outage: Outage, reason: str = "HTTP 503") -> None:
    for _ in range(3):
        outage.failed(reason)
    with pytest.raises(SourceDownError):
        outage.confirm(lambda: False)


def test_a_source_that_has_answered_is_waited_for_and_down_when_the_time_is_over() -> None:
    clock, heard, looks = Clock(), list[Waiting](), list[float]()
    outage = clock.outage(minutes=30)
    outage.answered()
    go_out(outage)
    assert outage.down is None

    def answers() -> bool:
        looks.append(clock.now - 1000)
        return False

    assert outage.wait(answers, heard.append) is None

    assert clock.now == 1000 + 30 * 60
    assert looks[:6] == [1, 3, 7, 15, 30, 45]
    assert [round(news.seconds_left or 0) for news in heard[:3]] == [1800, 1799, 1798]
    assert heard[1].text.endswith("(HTTP 503); waiting for it, for 29:59 at most")
    # a line in a log each minute, and one at the end
    assert sum(news.is_line for news in heard) == 30 + 1
    assert outage.down is not None
    assert "longer than RECON_OUTAGE_MINUTES (30)" in outage.down
    with pytest.raises(SourceDownError, match="longer than"):
        outage.require_up()
    outage.answered()
    assert outage.down is not None


def test_a_source_that_answers_again_is_asked_again() -> None:
    clock, heard = Clock(), list[Waiting]()
    outage = clock.outage(minutes=30)
    outage.answered()
    go_out(outage)

    def answers() -> bool:
        if clock.now < 1060:
            return False
        outage.answered()
        return True

    assert outage.wait(answers, heard.append) == 1000 + 1800

    outage.require_up()
    assert (heard[-1].text, heard[-1].seconds_left) == ("Elexon answers again, after 1:00", None)


def test_a_source_that_never_answered_is_not_waited_for() -> None:
    clock, heard = Clock(), list[Waiting]()
    outage = clock.outage(minutes=30)
    go_out(outage)

    assert outage.wait(lambda: False, heard.append) is None
    assert (clock.now, heard) == (1000, [])


def test_failures_that_are_not_in_a_row_are_no_outage() -> None:
    outage = Clock().outage(minutes=30)
    for _ in range(5):
        outage.failed("HTTP 503")
        outage.failed("HTTP 503")
        outage.confirm(lambda: False)
        outage.answered()


def test_work_that_is_broken_off_again_and_again_ends() -> None:
    # given a source that answers whoever looks, and nothing else
    clock = Clock()
    live = source("http://elexon.invalid")
    live.outage = clock.outage(minutes=1)
    live.answers = lambda: True  # type: ignore[method-assign]
    worked = 0

    def work() -> None:
        nonlocal worked
        worked += 1
        live.outage.answered()
        go_out(live.outage)
        live.outage.require_up()

    with pytest.raises(SourceDownError, match="longer than"):
        Elexon(live).patiently(work, lambda _: None)

    assert 2 < worked <= 61


def test_a_day_during_which_the_source_goes_out_is_read_whole(recordings: Path) -> None:
    # given a server that answers nothing from the 20th request to the 80th
    with BreakingOff(recordings, 20, 80) as server:
        live, heard = source(server.url, attempts=3), list[Waiting]()
        live.outage = Clock().outage(minutes=30)
        elexon = Elexon(live)

        stack = elexon.patiently(lambda: elexon.settlement_stack(JUNE_6, NOW), heard.append)

    assert len(stack.published) == 48
    assert heard[-1].text.startswith("Elexon answers again, after ")
    assert elexon.down is None
