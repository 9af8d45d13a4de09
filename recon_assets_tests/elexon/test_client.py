import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault, FaultKind
from recon_assets.errors import ElexonError
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.support.steps import JUNE_6, NOW

STACK = "/balancing/settlement/stack/all/bid/2025-06-06"
SYSTEM_PRICES = "/balancing/settlement/system-prices/2025-06-06"
PERIODS = list(range(1, 49))


@pytest.fixture
def server(recordings: Path) -> Iterator[StandInElexon]:
    with StandInElexon(recordings) as server:
        yield server


@pytest.fixture
def elexon(server: StandInElexon) -> Elexon:
    return client_of(server)


def client_of(server: StandInElexon, *, patience_seconds: float = 10) -> Elexon:
    source = HttpSource(
        server.url,
        per_second=1000,
        in_flight=8,
        attempts=2,
        timeout_seconds=patience_seconds,
        backoff_seconds=0.01,
    )
    return Elexon(source)


def true_stack(recordings: Path) -> SettlementStack:
    """The same day from the recording, without HTTP in between."""
    return Elexon(RecordingSource(recordings)).settlement_stack(JUNE_6, NOW)


def body_of(recordings: Path, name: str, period: int | None = None) -> dict[str, Any]:
    bodies = json.loads(gzip.decompress((recordings / "2025-06-06.json.gz").read_bytes()))
    return bodies[name] if period is None else bodies[name][str(period)]  # type: ignore[no-any-return]


def price_all_periods_but(server: StandInElexon, *unpublished: int) -> None:
    """Makes the system prices list only the other periods."""
    body = body_of(server.recordings, "system_prices")
    body["data"] = [row for row in body["data"] if row["settlementPeriod"] not in unpublished]
    server.overrides[SYSTEM_PRICES] = json.dumps(body).encode()


def change_rows(server: StandInElexon, period: int, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Serves a period after changing its rows in place."""
    body = body_of(server.recordings, "stack_bid", period)
    change(body["data"])
    server.overrides[f"{STACK}/{period}"] = json.dumps(body).encode()


def without_period(frame: pd.DataFrame, period: int) -> pd.DataFrame:
    return frame[frame["settlement_period"] != period].reset_index(drop=True)


def test_a_day_over_http_is_the_day_in_the_recording(elexon: Elexon, recordings: Path) -> None:
    stack = elexon.settlement_stack(JUNE_6, NOW)

    recorded = true_stack(recordings)
    assert_frame_equal(stack.rows, recorded.rows)
    assert len(stack.rows) == 741
    assert stack.settlement_date == JUNE_6
    assert list(stack.published) == list(recorded.published) == PERIODS
    assert list(stack.pending) == []
    assert stack.tolerated == {"null_flags": 1}


def test_a_row_is_read_as_published(elexon: Elexon) -> None:
    first = elexon.settlement_stack(JUNE_6, NOW, [1]).rows.iloc[0]

    assert first.to_dict() == {
        "settlement_period": 1,
        "sequence_number": 1,
        "bm_unit_id": "T_COVNB-1",
        "acceptance_id": 80551,
        "bid_offer_pair_id": -1,
        "volume": -5.249205,
        "original_price": 88.56,
        "final_price": 88.56,
        "transmission_loss_multiplier": 0.990305,
        "so_flag": True,
        "cadl_flag": False,
        "created_at": "2025-06-06T09:52:19Z",
    }


@pytest.mark.parametrize(("day", "periods"), [(date(2025, 3, 30), 46), (date(2025, 10, 26), 50)])
def test_a_clock_change_is_fetched_with_exactly_its_requests(day: date, periods: int) -> None:
    with StandInElexon(CLOCK_CHANGES) as server:
        server.latency_seconds = 0.02
        stack = Elexon(HttpSource(server.url, per_second=1000)).settlement_stack(day, NOW)

    assert list(stack.published) == list(range(1, periods + 1))
    path = f"/balancing/settlement/stack/all/bid/{day}"
    assert sorted(request.path for request in server.requests) == sorted(f"{path}/{n}" for n in stack.published)
    assert server.in_flight_peak == 8


def test_only_due_periods_are_asked_for(elexon: Elexon, server: StandInElexon) -> None:
    stack = elexon.settlement_stack(JUNE_6, datetime(2025, 6, 6, 12, tzinfo=UTC))

    assert list(stack.published) == list(range(1, 26))
    assert sorted(request.path for request in server.requests) == sorted(f"{STACK}/{n}" for n in range(1, 26))


def test_named_periods_alone_are_asked_for(elexon: Elexon, server: StandInElexon) -> None:
    stack = elexon.settlement_stack(JUNE_6, NOW, [44, 45])

    assert list(stack.published) == [44, 45]
    assert set(stack.rows["settlement_period"]) == {44, 45}
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["unknown_fields", "wrong_content_type", "duplicate_rows"])
def test_rows_that_come_otherwise_but_true_are_right(
    elexon: Elexon, server: StandInElexon, recordings: Path, kind: FaultKind
) -> None:
    server.faults.append(Fault(kind))

    stack = elexon.settlement_stack(JUNE_6, NOW)

    assert_frame_equal(stack.rows.reset_index(drop=True), true_stack(recordings).rows)
    assert stack.tolerated.get("repeated_rows", 0) == (741 if kind == "duplicate_rows" else 0)


def test_nullable_fields_may_be_null_and_a_null_flag_is_false(elexon: Elexon, server: StandInElexon) -> None:
    server.faults.append(Fault("null_fields", f"{STACK}/7/"))

    stack = elexon.settlement_stack(JUNE_6, NOW)

    spoilt = stack.rows[stack.rows["settlement_period"] == 7].iloc[0]
    assert spoilt[["bm_unit_id", "acceptance_id", "original_price", "final_price", "created_at"]].isna().all()
    assert not spoilt["so_flag"]
    assert not spoilt["cadl_flag"]
    assert len(stack.rows) == 741


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("reset", "reset by peer"),
        ("short_body", "more expected"),
        ("too_many_requests", "HTTP 429"),
        ("server_error", "HTTP 503"),
        ("not_found", "Elexon lists it as published but answers 404"),
        ("html", "the answer is no JSON"),
        ("truncated", "the answer is no JSON"),
        ("other_day", "the answer holds rows of 2025-06-07"),
        ("other_period", "the answer holds rows of settlement period 6"),
    ],
)
def test_a_period_that_fails_fails_the_day_and_is_named(
    elexon: Elexon, server: StandInElexon, kind: FaultKind, reason: str
) -> None:
    server.faults.append(Fault(kind, f"{STACK}/7/"))

    with pytest.raises(ElexonError, match=f"^2025-06-06 settlement period 7: .*{reason}"):
        elexon.settlement_stack(JUNE_6, NOW)


def test_a_period_that_stalls_fails_the_day_and_is_named(server: StandInElexon) -> None:
    server.faults.append(Fault("stall", f"{STACK}/7/", seconds=1))

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 7: .*timed out"):
        client_of(server, patience_seconds=0.5).settlement_stack(JUNE_6, NOW)


def test_a_day_that_failed_whole_says_why_in_a_line_that_can_be_read(elexon: Elexon, server: StandInElexon) -> None:
    server.faults.append(Fault("server_error", STACK))

    with pytest.raises(ElexonError) as failure:
        elexon.settlement_stack(JUNE_6, NOW)

    message = str(failure.value)
    assert message.startswith("2025-06-06 settlement period 1-48: ")
    assert message.endswith("; and 45 further reasons")
    assert message.count("HTTP 503") == 3


def test_every_failed_period_is_named(elexon: Elexon, server: StandInElexon) -> None:
    server.faults.extend(Fault("server_error", f"{STACK}/{period}/") for period in (44, 7))
    server.faults.append(Fault("other_day", f"{STACK}/31/"))

    with pytest.raises(ElexonError) as failure:
        elexon.settlement_stack(JUNE_6, NOW)

    message = str(failure.value)
    assert message.startswith("2025-06-06 settlement period 7, 31, 44: ")
    assert "HTTP 503" in message
    assert "rows of 2025-06-07" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["not_found", "null_data", "empty_data"])
def test_a_period_without_rows_that_no_witness_lists_is_pending(
    elexon: Elexon, server: StandInElexon, recordings: Path, kind: FaultKind
) -> None:
    server.faults.append(Fault(kind, f"{STACK}/48/"))
    price_all_periods_but(server, 48)

    stack = elexon.settlement_stack(JUNE_6, NOW)

    assert list(stack.pending) == [48]
    assert list(stack.published) == PERIODS[:-1]
    assert_frame_equal(stack.rows, without_period(true_stack(recordings).rows, 48))


@pytest.mark.parametrize("kind", ["null_data", "empty_data"])
def test_an_empty_period_that_the_witness_lists_is_published(
    elexon: Elexon, server: StandInElexon, recordings: Path, kind: FaultKind
) -> None:
    server.faults.append(Fault(kind, f"{STACK}/7/"))

    stack = elexon.settlement_stack(JUNE_6, NOW)

    assert list(stack.published) == PERIODS
    assert list(stack.pending) == []
    assert_frame_equal(stack.rows, without_period(true_stack(recordings).rows, 7))


def test_every_vanished_period_is_named(elexon: Elexon, server: StandInElexon) -> None:
    server.faults.extend(Fault("not_found", f"{STACK}/{period}/") for period in (9, 3))

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 3, 9: Elexon lists it as published"):
        elexon.settlement_stack(JUNE_6, NOW)


def test_a_day_without_any_answer_is_pending_throughout(elexon: Elexon) -> None:
    stack = elexon.settlement_stack(JUNE_6.replace(day=1), NOW)

    assert list(stack.published) == []
    assert list(stack.pending) == PERIODS
    assert stack.rows.empty


def test_the_witness_is_only_asked_when_there_is_doubt(elexon: Elexon, server: StandInElexon) -> None:
    elexon.settlement_stack(JUNE_6, NOW)
    assert SYSTEM_PRICES not in [request.path for request in server.requests]

    server.faults.append(Fault("empty_data", f"{STACK}/7/"))
    elexon.settlement_stack(JUNE_6, NOW)
    assert [request.path for request in server.requests].count(SYSTEM_PRICES) == 1


@pytest.mark.parametrize(
    "kind", ["reset", "short_body", "too_many_requests", "server_error", "html", "truncated", "other_day"]
)
def test_a_witness_that_fails_is_an_error_and_no_verdict(
    elexon: Elexon, server: StandInElexon, kind: FaultKind
) -> None:
    server.faults.append(Fault("not_found", f"{STACK}/48/"))
    server.faults.append(Fault(kind, SYSTEM_PRICES))

    with pytest.raises(ElexonError, match=r"^2025-06-06 system prices: "):
        elexon.settlement_stack(JUNE_6, NOW)


@pytest.mark.parametrize("body", [b"[]", b'{"rows": []}', b'{"data": {}}', b'{"data": "none"}', b'{"data": [1]}', b"7"])
def test_a_body_that_is_no_envelope_is_an_error(elexon: Elexon, server: StandInElexon, body: bytes) -> None:
    server.overrides[f"{STACK}/7"] = body

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 7: the answer "):
        elexon.settlement_stack(JUNE_6, NOW)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda rows: rows[0].update(volume=None), "volume"),
        (lambda rows: rows[0].update(volume="much"), "volume"),
        (lambda rows: rows[0].pop("sequenceNumber"), "sequence_number"),
        (lambda rows: rows[0].update(acceptanceId="A1"), "acceptance_id"),
        (lambda rows: rows[0].update(soFlag="true"), "so_flag"),
        (lambda rows: rows[0].update(cadlFlag=1), "cadl_flag"),
        (lambda rows: rows[0].update(sequenceNumber=3.7), "sequence_number"),
        (lambda rows: rows[0].update(volume="-3"), "volume"),
        (lambda rows: rows[0].update(volume=float("-inf")), "volume"),
        (lambda rows: rows[0].update(originalPrice=float("nan")), "original_price"),
        (lambda rows: rows[0].update(id={"name": "T_SGRWO-1"}), "bm_unit_id"),
        (lambda rows: rows.append(rows[0] | {"volume": -99.0}), "sequence_number"),
    ],
    ids=[
        "no volume",
        "volume no number",
        "no sequence",
        "acceptance no number",
        "flag a text",
        "flag a number",
        "sequence a fraction",
        "volume a text",
        "volume infinite",
        "price no number",
        "unit an object",
        "one sequence, two volumes",
    ],
)
def test_rows_that_break_the_schema_are_an_error_that_names_the_day(
    elexon: Elexon, server: StandInElexon, change: Callable[[list[dict[str, Any]]], object], column: str
) -> None:
    change_rows(server, 7, change)

    with pytest.raises(ElexonError, match=f"^2025-06-06: the bid stack breaks Elexon's schema: .*{column}") as failure:
        elexon.settlement_stack(JUNE_6, NOW)
    assert "\n" not in str(failure.value)


def test_a_settlement_period_that_is_a_text_is_called_one(elexon: Elexon, server: StandInElexon) -> None:
    change_rows(server, 7, lambda rows: rows[0].update(settlementPeriod="7"))

    with pytest.raises(ElexonError, match=r"^2025-06-06 settlement period 7: .*settlementPeriod is the text '7'$"):
        elexon.settlement_stack(JUNE_6, NOW)


def test_a_number_as_text_is_called_one(elexon: Elexon, server: StandInElexon) -> None:
    change_rows(server, 7, lambda rows: rows[0].update(originalPrice="88.56"))

    with pytest.raises(ElexonError, match=r"original_price is the text '88\.56'$"):
        elexon.settlement_stack(JUNE_6, NOW)


def test_a_period_of_the_system_prices_that_is_a_text_is_no_verdict(elexon: Elexon, server: StandInElexon) -> None:
    server.faults.append(Fault("empty_data", f"{STACK}/7/"))
    body = body_of(server.recordings, "system_prices")
    body["data"][6]["settlementPeriod"] = "7"
    server.overrides[SYSTEM_PRICES] = json.dumps(body).encode()

    with pytest.raises(ElexonError, match=r"^2025-06-06 system prices: .*settlementPeriod is the text '7'$"):
        elexon.settlement_stack(JUNE_6, NOW)


def test_bm_units_are_read_where_the_source_has_them(elexon: Elexon, recordings: Path) -> None:
    assert elexon.bm_units() is None

    (recordings / "bmunits_all.json").write_text('[{"elexonBmUnit": "T_SGRWO-1", "fuelType": "WIND"}]')

    answer = elexon.bm_units()
    assert answer is not None
    assert [(unit.bm_unit_id, unit.is_wind) for unit in answer[0]] == [("T_SGRWO-1", True)]
