import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from datetime import date
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.throttle import Throttle

# Every process imports this module, so that it leaves pandas and Dagster alone.
JUNE_6 = date(2025, 6, 6)
PROCESSES, REQUESTS_EACH = 3, 12
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


def ask(url: str, per_second: float, in_flight: int) -> None:
    source = HttpSource(url, per_second=per_second, in_flight=in_flight, attempts=1)
    for period in range(1, REQUESTS_EACH + 1):
        source.stack(JUNE_6, period)


def ask_from_three_processes(server: StandInElexon, *, per_second: float, in_flight: int) -> list[float]:
    """The instants at which the server saw the requests, in order."""
    processes = [spawn.Process(target=ask, args=(server.url, per_second, in_flight)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    return sorted(request.started for request in server.requests)


def test_processes_together_keep_the_rate(server: StandInElexon) -> None:
    started = ask_from_three_processes(server, per_second=20, in_flight=20)

    assert len(started) == PROCESSES * REQUESTS_EACH
    # Late wake-ups are allowed for; without a common limit all 36 come within a second.
    assert started[-1] - started[0] > (len(started) - 1) / 20 - 0.1
    assert max(sum(first <= at < first + 1 for at in started) for first in started) <= 25


def test_processes_together_keep_the_requests_in_flight(server: StandInElexon) -> None:
    server.latency_seconds = 0.03

    started = ask_from_three_processes(server, per_second=1000, in_flight=2)

    assert len(started) == PROCESSES * REQUESTS_EACH
    assert server.in_flight_peak == 2


def test_addresses_do_not_wait_for_one_another(tmp_path: Path) -> None:
    with Throttle(f"{tmp_path}/one", per_second=1000, in_flight=1).turn():
        began = time.monotonic()
        with Throttle(f"{tmp_path}/two", per_second=1000, in_flight=1).turn():
            assert time.monotonic() - began < 1


def hold_for_ever(name: str, held: Event) -> None:
    with Throttle(name, per_second=1000, in_flight=1).turn():
        held.set()
        time.sleep(60)


def test_the_place_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    held = spawn.Event()
    process = spawn.Process(target=hold_for_ever, args=(str(tmp_path), held))
    process.start()
    assert held.wait(20)
    assert process.pid is not None

    os.kill(process.pid, signal.SIGKILL)
    process.join()

    began = time.monotonic()
    with Throttle(str(tmp_path), per_second=1000, in_flight=1).turn():
        assert time.monotonic() - began < 5


def test_a_place_is_free_again_after_a_failure(tmp_path: Path) -> None:
    throttle = Throttle(str(tmp_path), per_second=1000, in_flight=1)
    with pytest.raises(ZeroDivisionError), throttle.turn():
        raise ZeroDivisionError

    began = time.monotonic()
    with throttle.turn():
        assert time.monotonic() - began < 1
