import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from recon_assets.elexon.stand_in import StandInElexon, main
from recon_assets.elexon.stand_in_faults import Fault

STACK = "/balancing/settlement/stack/all/bid/2025-06-06"


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


def get(server: StandInElexon, path: str) -> requests.Response:
    return requests.get(server.url + path, timeout=5)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{STACK}/7", lambda bodies: bodies["stack_bid"]["7"]),
        ("/balancing/settlement/system-prices/2025-06-06", lambda bodies: bodies["system_prices"]),
        (
            "/balancing/settlement/acceptance/volumes/all/bid/2025-06-06",
            lambda bodies: bodies["acceptance_volumes_bid"],
        ),
    ],
)
def test_a_recorded_body_is_served(server: StandInElexon, recordings: Path, path: str, body: Any) -> None:
    recorded = json.loads(gzip.decompress((recordings / "2025-06-06.json.gz").read_bytes()))

    response = get(server, path)

    assert response.status_code == 200
    assert response.json() == body(recorded)


@pytest.mark.parametrize(
    "path",
    [
        f"{STACK}/49",
        "/balancing/settlement/stack/all/bid/2024-06-06/7",
        "/balancing/settlement/stack/all/offer/2025-06-06/7",
        "/reference/bmunits/all",
        "/",
    ],
)
def test_what_is_not_recorded_is_not_found(server: StandInElexon, path: str) -> None:
    assert get(server, path).status_code == 404


def test_a_fault_wears_off_and_keeps_to_its_paths(server: StandInElexon) -> None:
    server.faults.append(Fault("server_error", f"{STACK}/4/", times=2, status=500))

    statuses = [get(server, f"{STACK}/{period}").status_code for period in (4, 40, 4, 4)]

    assert statuses == [500, 200, 500, 200]
    assert [request.status for request in server.requests] == statuses


def test_a_refusal_says_when_to_come_again(server: StandInElexon) -> None:
    server.faults.append(Fault("too_many_requests", retry_after=3))

    response = get(server, f"{STACK}/7")

    assert (response.status_code, response.headers["Retry-After"]) == (429, "3")


def test_an_override_is_served_in_place_of_the_recording(server: StandInElexon) -> None:
    server.overrides[f"{STACK}/7"] = b'{"data": []}'

    assert get(server, f"{STACK}/7").json() == {"data": []}


def test_requests_in_flight_are_counted(server: StandInElexon) -> None:
    server.latency_seconds = 0.3
    clients = [threading.Thread(target=get, args=(server, f"{STACK}/{period}")) for period in (1, 2, 3)]

    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert server.in_flight_peak == 3
    assert len(server.requests) == 3


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="'mood' is not a kind of fault; there are reset, stall"):
        Fault("mood")  # type: ignore[arg-type]


def test_the_command_refuses_an_unknown_fault(recordings: Path) -> None:
    result = CliRunner().invoke(main, [str(recordings), "--fault", "mood:/stack"])

    assert result.exit_code == 2
    assert "'mood' is not a kind of fault" in result.output
