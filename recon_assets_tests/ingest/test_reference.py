import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from recon_assets.database.tables import network_difficulty, wind_bm_units
from recon_assets.database.transactions import reading, writing
from recon_assets.domain.bm_units import BmUnit, packaged_bm_units
from recon_assets.domain.difficulty import PACKAGED_OBSERVED_AT, Retarget, packaged_retargets
from recon_assets.domain.settlement import Days
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ReconError
from recon_assets.ingest.declarations import Declaration, declare
from recon_assets.ingest.reference import known_bm_units, read_tail, store_bm_units, store_retargets, stored_retargets
from recon_assets.reconcile.scope import difficulty_history
from recon_assets_tests.support.adjustments import PATH, Mempool, Row, answer, serving
from recon_assets_tests.support.steps import NOW, contents, execute

LATER = NOW + timedelta(days=30)
OBSERVED = datetime(2026, 8, 20, 12, tzinfo=UTC)
ADJUSTMENTS = "/v1/mining/difficulty-adjustments/all"


def wind_farm(name: str, owner: str = "Ann") -> BmUnit:
    return BmUnit(name, None, None, owner, "WIND", 100.0)


def store_units(engine: Engine, *units: BmUnit, now: datetime = LATER) -> int:
    with writing(engine) as connection:
        return store_bm_units(connection, units, now)


def store_tail(engine: Engine, *tail: Retarget) -> int:
    with writing(engine) as connection:
        return store_retargets(connection, tail)


def known(engine: Engine) -> tuple[frozenset[str], frozenset[str]]:
    with reading(engine) as connection:
        return known_bm_units(connection)


def test_the_packaged_units_are_known_by_kind(engine: Engine) -> None:
    wind, other = known(engine)

    packaged = packaged_bm_units()
    assert wind == {unit.bm_unit_id for unit in packaged if unit.is_wind}
    assert other == {unit.bm_unit_id for unit in packaged if unit.fuel_type and not unit.is_wind}
    assert [unit.bm_unit_id for unit in packaged if unit.fuel_type is None and unit.bm_unit_id in wind | other] == []
    assert any(unit.fuel_type is None for unit in packaged)
    assert store_units(engine, *packaged) == 0


def test_units_are_added_and_a_vanished_one_stays(engine: Engine) -> None:
    before, _ = known(engine)

    assert store_units(engine, wind_farm("T_NEW-1")) == 1

    assert known(engine)[0] == before | {"T_NEW-1"}


def test_a_changed_owner_is_taken_over_and_the_first_sight_kept(engine: Engine) -> None:
    store_units(engine, wind_farm("T_NEW-1"), now=NOW)

    changed = store_units(engine, wind_farm("T_NEW-1", owner="Bob"), now=LATER)

    with reading(engine) as connection:
        row = connection.execute(select(wind_bm_units).where(wind_bm_units.c.bm_unit_id == "T_NEW-1")).one()
    assert changed == 1
    assert (row.lead_party_name, row.generation_capacity_mw, row.first_seen_at) == ("Bob", 100.0, NOW)


def test_a_unit_once_wind_stays_wind(engine: Engine) -> None:
    store_units(engine, wind_farm("T_NEW-1"))

    store_units(engine, replace(wind_farm("T_NEW-1"), fuel_type="OTHER"))

    wind, other = known(engine)
    assert "T_NEW-1" in wind
    assert "T_NEW-1" not in other


def test_a_unit_that_turns_out_to_be_wind_is_wind(engine: Engine) -> None:
    store_units(engine, replace(wind_farm("T_NEW-1"), fuel_type=None))
    assert not any("T_NEW-1" in units for units in known(engine))

    store_units(engine, wind_farm("T_NEW-1"))

    wind, other = known(engine)
    assert "T_NEW-1" in wind
    assert "T_NEW-1" not in other


def test_a_unit_that_loses_its_fuel_type_in_the_list_stays_known(engine: Engine) -> None:
    store_units(engine, replace(wind_farm("T_GAS-1"), fuel_type="CCGT"))

    assert store_units(engine, replace(wind_farm("T_GAS-1"), fuel_type=None)) == 0

    assert "T_GAS-1" in known(engine)[1]


@pytest.mark.parametrize("second", [None, "OTHER"])
def test_a_unit_that_the_list_has_twice_is_wind_if_one_entry_says_so(engine: Engine, second: str | None) -> None:
    store_units(engine, wind_farm("T_NEW-1"), replace(wind_farm("T_NEW-1"), fuel_type=second))

    assert "T_NEW-1" in known(engine)[0]


def declare_unit(engine: Engine, unit: str, *, is_wind: bool) -> None:
    with writing(engine) as connection:
        declare(connection, Declaration(unit, is_wind, "ann", NOW))


def test_a_declaration_is_stronger_than_any_list_and_the_newest_counts(engine: Engine) -> None:
    store_units(engine, wind_farm("T_NEW-1"), replace(wind_farm("T_GAS-1"), fuel_type="CCGT"))
    declare_unit(engine, "T_NEW-1", is_wind=False)
    declare_unit(engine, "T_GAS-1", is_wind=True)
    declare_unit(engine, "T_NOWHERE-1", is_wind=True)

    wind, other = known(engine)
    assert {"T_GAS-1", "T_NOWHERE-1"} <= wind - other
    assert "T_NEW-1" in other - wind

    declare_unit(engine, "T_NEW-1", is_wind=True)
    declare_unit(engine, "T_GAS-1", is_wind=False)

    wind, other = known(engine)
    assert "T_NEW-1" in wind - other
    assert "T_GAS-1" in other - wind


def test_the_packaged_retargets_are_stored_to_the_last_digit(engine: Engine) -> None:
    with reading(engine) as connection:
        stored = stored_retargets(connection)

    assert sorted(stored, key=lambda retarget: retarget.height) == packaged_retargets()
    assert store_tail(engine) == 0


def test_a_tail_is_joined_and_stays_when_there_is_none_later(engine: Engine) -> None:
    newest = packaged_retargets()[-1]
    new = Retarget(newest.height + 2016, OBSERVED - timedelta(days=1), True, 1.3e14, "mempool", OBSERVED)
    exact = replace(
        newest,
        starts_at=newest.starts_at + timedelta(seconds=17),
        time_exact=True,
        source="mempool",
        observed_at=OBSERVED,
    )

    assert store_tail(engine, new, exact) == 2
    assert store_tail(engine) == 0

    with reading(engine) as connection:
        stored = {retarget.height: retarget for retarget in stored_retargets(connection)}
    assert stored[new.height] == new
    assert stored[newest.height] == exact
    assert stored[newest.height - 2016].observed_at == PACKAGED_OBSERVED_AT


def test_a_tail_that_contradicts_the_table_changes_nothing(engine: Engine) -> None:
    wrong = replace(packaged_retargets()[-1], difficulty=1.0, observed_at=OBSERVED)
    new = Retarget(wrong.height + 2016, OBSERVED - timedelta(days=1), True, 1.3e14, "mempool", OBSERVED)

    with pytest.raises(ReconError, match="nothing was changed"):
        store_tail(engine, new, wrong)

    assert store_tail(engine) == 0


@pytest.fixture
def mempool(recordings: Path) -> Iterator[StandInElexon]:
    """The stand-in as mempool.space: it serves any body at any path."""
    with StandInElexon(recordings) as server:
        server.overrides[ADJUSTMENTS] = json.dumps(
            [
                [1_786_221_480, 961_632, 127_479_855_693_691.4, 1.00989],
                [1_785_022_740, 959_616, 126_231_507_121_868.19, 0.99],
            ]
        ).encode()
        yield server


def test_the_tail_is_read_over_http(mempool: StandInElexon) -> None:
    tail = read_tail(mempool.url, OBSERVED)

    assert [request.path for request in mempool.requests] == [ADJUSTMENTS]
    assert [retarget.height for retarget in tail] == [961_632, 959_616]
    assert tail[0].starts_at == datetime(2026, 8, 8, 20, 38, tzinfo=UTC)
    assert {retarget.observed_at for retarget in tail} == {OBSERVED}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("server_error"), "503"),
        (Fault("too_many_requests"), "429"),
        (Fault("not_found"), "404"),
        (Fault("html"), ""),
        (Fault("truncated"), ""),
        (Fault("reset"), "ConnectionError"),
        (Fault("stall", seconds=1), ""),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_tail_that_cannot_be_had_is_an_error_that_names_the_variable(
    mempool: StandInElexon, fault: Fault, reason: str
) -> None:
    mempool.faults.append(fault)

    with pytest.raises(
        ReconError, match=f"^MEMPOOL_API_URL: no difficulty from {mempool.url}{ADJUSTMENTS}: .*{reason}"
    ):
        read_tail(mempool.url, OBSERVED, timeout_seconds=0.5)


def test_a_mempool_that_cannot_be_reached_is_an_error_that_names_the_variable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

    with pytest.raises(ReconError, match=f"^MEMPOOL_API_URL: no difficulty from {url}"):
        read_tail(url, OBSERVED)


AFTER = (datetime(2026, 9, 5, 20, tzinfo=UTC), 965_664, 1.3e14)
LONG_AFTER = datetime(2026, 9, 30, 12, tzinfo=UTC)


@pytest.fixture
def live() -> Iterator[Mempool]:
    """A mempool.space with two epochs after the packaged table; the first has no row, because it changed nothing."""
    with serving(answer(AFTER)) as server:
        yield server


def test_the_answer_of_the_live_service_extends_what_is_stored(engine: Engine, live: Mempool) -> None:
    tail = read_tail(live.url, LONG_AFTER)

    assert len(tail) == 464
    assert store_tail(engine, *tail) == 43  # 41 approximate times, of which one is the newest packaged one; two epochs
    assert store_tail(engine, *tail) == 0
    with reading(engine) as connection:
        history = difficulty_history(connection)
        stored = {retarget.height: retarget for retarget in stored_retargets(connection)}
    assert all(history.covers(day) for day in Days(date(2026, 8, 1), date(2026, 9, 29)))
    assert [height for height, retarget in stored.items() if not retarget.time_exact] == [963_648]
    assert live.paths == [PATH]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "is no list of rows"),
        ([[1_788_638_400, 965_664, 1.3e14, 1.2]], "a gap or a disorder after block 961632"),
        ([[1_788_638_400, 961_632, 1.3e14, 1.2]], "the difficulty of block 961632 is"),
        ([[1_788_638_400, 963_648, -1, 1.2]], "not what mempool.space documents"),
    ],
)
def test_a_damaged_answer_changes_nothing(engine: Engine, live: Mempool, rows: list[Row], reason: str) -> None:
    store_tail(engine, *read_tail(live.url, LONG_AFTER))
    execute(engine, "DELETE FROM network_difficulty WHERE height > 961632")
    before = contents(engine, network_difficulty)
    live.body = json.dumps(rows).encode()

    with pytest.raises(ReconError, match=f"MEMPOOL_API_URL.*{reason}|{reason}.*MEMPOOL_API_URL"):
        store_tail(engine, *read_tail(live.url, LONG_AFTER))

    assert contents(engine, network_difficulty) == before


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, b"<html>Just a moment...</html>", "text/html"),
        (200, b'{"error":"rate limited"}', "application/json"),
        (200, b"", "application/json"),
        (200, b"null", "application/json"),
        (429, b"Too Many Requests", "text/plain"),
        (500, b"", "text/plain"),
        (502, b"<html>Bad gateway</html>", "text/html"),
        (503, b"[]", "application/json"),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_names_the_variable(
    live: Mempool, status: int, body: bytes, content_type: str
) -> None:
    live.status, live.body, live.content_type = status, body, content_type

    with pytest.raises(ReconError, match=f"^MEMPOOL_API_URL: no difficulty from {live.url}{PATH}: "):
        read_tail(live.url, LONG_AFTER)


def test_an_answer_that_lags_behind_forgets_no_epoch(engine: Engine, live: Mempool) -> None:
    store_tail(engine, *read_tail(live.url, LONG_AFTER))
    before = contents(engine, network_difficulty)
    live.body = json.dumps(answer()).encode()

    assert store_tail(engine, *read_tail(live.url, LONG_AFTER + timedelta(days=1))) == 0
    assert contents(engine, network_difficulty) == before
