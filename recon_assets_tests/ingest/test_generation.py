"""Reading wind generation over HTTP.

The bodies are made from Elexon's OpenAPI schema, because no recording has one.
"""

import gzip
import json
import threading
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import Engine, delete

from recon_assets.database.tables import wind_generation_data
from recon_assets.domain.settlement import day_starts_at
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.errors import ElexonError, ReconError, UnpublishedError
from recon_assets.ingest.generation import DATA_SOURCE, GenerationDay, read_wind_generation
from recon_assets.reconcile.apply import Changes
from recon_assets_tests.conftest import CLOCK_CHANGES
from recon_assets_tests.reconcile.test_roll_back import leave_out
from recon_assets_tests.support.content import rows
from recon_assets_tests.support.generation import (
    DAY_MWH,
    OFFSHORE_MW,
    ONSHORE_MW,
    PATH,
    WIND,
    body_of,
    envelope,
    publish,
    row,
    without,
)
from recon_assets_tests.support.locking import store_behind
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, contents, execute, scalar

DAY = timedelta(days=1)


@pytest.fixture
def source(stand_in: StandInElexon) -> HttpSource:
    """The stand-in, asked once and at full speed."""
    return HttpSource(stand_in.url, per_second=1000, attempts=1)


def read(engine: Engine, source: HttpSource, **other: Any) -> GenerationDay:
    """Reads 2025-06-06."""
    return read_wind_generation(engine, Elexon(source), JUNE_6, other.pop("now", NOW), **other)


def stored(engine: Engine, column: str, period: int) -> Any:
    """One value of a half-hour of 2025-06-06."""
    where = f"settlement_date = '2025-06-06' AND settlement_period = {period}"
    return scalar(engine, f"SELECT {column} FROM wind_generation_data WHERE {where}")


def test_a_day_is_stored_as_published_with_one_request(
    engine: Engine, source: HttpSource, stand_in: StandInElexon, recordings: Path
) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))

    day = read(engine, source)

    assert len(stand_in.requests) == 1
    assert (day.settlement_date, day.changes, day.half_hours) == (JUNE_6, Changes(inserted=48), 48)
    found = {"onshore": day.onshore_mwh, "offshore": day.offshore_mwh, "total": day.total_mwh}
    assert found == DAY_MWH
    assert (day.pending, day.halves, day.newer, day.is_whole) == ((), (), (), True)
    held = contents(engine, wind_generation_data)["wind_generation_data"]
    assert set(held.values()) == {1}
    first = datetime(2025, 6, 6, tzinfo=UTC)
    assert (JUNE_6, 1, ONSHORE_MW, OFFSHORE_MW, ONSHORE_MW + OFFSHORE_MW, DATA_SOURCE, first) in held


@pytest.mark.parametrize(("day", "periods"), [("2025-03-30", 46), ("2025-10-26", 50)])
def test_a_clock_change_has_all_its_half_hours(engine: Engine, tmp_path: Path, day: str, periods: int) -> None:
    content = json.loads(gzip.decompress((CLOCK_CHANGES / f"{day}.json.gz").read_bytes()))
    changed = datetime.fromisoformat(day).date()
    content["wind_and_solar"] = body_of(changed)
    (tmp_path / f"{day}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode(), 1))

    with StandInElexon(tmp_path) as server:
        elexon = Elexon(HttpSource(server.url, per_second=1000, attempts=1))
        found = read_wind_generation(engine, elexon, changed, NOW)

    assert (found.half_hours, found.is_whole) == (periods, True)
    assert found.onshore_mwh == ONSHORE_MW * periods / 2


def test_reading_an_unchanged_day_again_changes_no_row(engine: Engine, source: HttpSource, recordings: Path) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))
    read(engine, source)
    before = rows(engine)

    again = read(engine, source, now=NOW + DAY)

    assert (again.changes, again.half_hours) == (Changes(kept=48), 48)
    assert rows(engine) == before


def test_a_later_publication_corrects_its_half_hour_alone(engine: Engine, source: HttpSource, recordings: Path) -> None:
    whole = body_of(JUNE_6)
    publish(recordings, JUNE_6, whole)
    read(engine, source)
    execute(engine, "UPDATE wind_generation_data SET last_updated = '2020-01-01 00:00:00'")
    later = [row(JUNE_6, 7, kind, 1.0, NOW) for kind in WIND]
    publish(recordings, JUNE_6, envelope([*later, *whole["data"]]))

    day = read(engine, source)

    assert day.changes == Changes(corrected=1, kept=47)
    assert stored(engine, "total_wind", 7) == 2.0
    touched = scalar(engine, "SELECT count(*) FROM wind_generation_data WHERE last_updated > '2020-01-02'")
    assert (touched, stored(engine, "total_wind", 8)) == (1, ONSHORE_MW + OFFSHORE_MW)


def test_an_older_publication_that_is_read_later_changes_nothing(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6, later=DAY))
    read(engine, source)
    before = rows(engine)
    publish(recordings, JUNE_6, body_of(JUNE_6, mw=500))

    day = read(engine, source)

    assert (day.changes, day.newer) == (Changes(), tuple(range(1, 49)))
    assert day.total_mwh == DAY_MWH["total"]
    assert rows(engine) == before


def test_the_same_value_published_later_is_not_superseded_by_what_came_between(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    for later, mw in ((timedelta(), 0.0), (2 * DAY, 0.0), (DAY, 500.0)):
        publish(recordings, JUNE_6, body_of(JUNE_6, later=later, mw=mw))
        read(engine, source)

    assert stored(engine, "wind_onshore", 7) == ONSHORE_MW


def test_of_a_half_hour_that_is_stored_twice_the_newest_publication_counts(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    # given the table of an old database, and a publication that is between two that are stored
    execute(engine, "DROP INDEX wind_generation_data_key")
    columns = "settlement_date, settlement_period, wind_onshore, wind_offshore, total_wind, published_at"
    for published in ("2025-06-06 04:00:00", "2025-06-08 04:00:00"):
        execute(
            engine, f"INSERT INTO wind_generation_data ({columns}) VALUES ('2025-06-06', 7, 1, 2, 3, '{published}')"
        )
    publish(recordings, JUNE_6, body_of(JUNE_6, later=DAY))

    assert read(engine, source).newer == (7,)


def test_a_row_that_says_nothing_of_its_publication_is_replaced(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    adopted = "(settlement_date, settlement_period, wind_onshore, wind_offshore, total_wind, data_source) VALUES"
    execute(engine, f"INSERT INTO wind_generation_data {adopted} ('2025-06-06', 7, 1, 2, 3, 'ELEXON')")
    publish(recordings, JUNE_6, body_of(JUNE_6))

    day = read(engine, source)

    assert day.changes == Changes(inserted=47, corrected=1)
    assert (stored(engine, "total_wind", 7), stored(engine, "data_source", 7)) == (
        ONSHORE_MW + OFFSHORE_MW,
        DATA_SOURCE,
    )


def test_what_is_absent_is_not_stored_and_is_named(engine: Engine, source: HttpSource, recordings: Path) -> None:
    publish(recordings, JUNE_6, without(without(body_of(JUNE_6), 47, 48), 3, kind="Wind Offshore"))

    day = read(engine, source)

    assert (day.half_hours, day.pending, day.halves, day.is_whole) == (45, (47, 48), (3,), False)
    absent = "SELECT count(*) FROM wind_generation_data WHERE settlement_period IN (3, 47, 48)"
    assert scalar(engine, absent) == 0


def test_a_shorter_answer_removes_nothing(engine: Engine, source: HttpSource, recordings: Path) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))
    read(engine, source)
    before = rows(engine)
    publish(recordings, JUNE_6, without(body_of(JUNE_6), *range(2, 49)))

    day = read(engine, source)

    assert (day.half_hours, day.changes) == (48, Changes(kept=1))
    assert day.pending == tuple(range(2, 49))
    assert rows(engine) == before


@pytest.mark.parametrize("day", [JUNE_6, date(2025, 3, 30), date(2025, 10, 26)], ids=str)
def test_the_last_half_hour_is_there_whether_or_not_the_end_of_the_request_is_included(day: date) -> None:
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        HttpSource(f"http://127.0.0.1:{server.server_port}", attempts=1).wind_and_solar(day)
        server.shutdown()

    ((first,), (end,)) = asked[0]["from"], asked[0]["to"]
    assert datetime.fromisoformat(first) == day_starts_at(day)
    assert datetime.fromisoformat(end) == day_starts_at(day + DAY)


def test_rows_of_another_day_are_left_out_and_counted(
    engine: Engine, source: HttpSource, stand_in: StandInElexon, recordings: Path
) -> None:
    # given a server that includes the end of the request, and the first half-hour of the next day
    for day in (JUNE_6, JUNE_7):
        publish(recordings, day, body_of(day))

    found = read(engine, source)

    assert (found.changes, found.half_hours, found.is_whole) == (Changes(inserted=48), 48, True)
    assert found.tolerated == {"other_days": 3}
    assert scalar(engine, "SELECT count(*) FROM wind_generation_data WHERE settlement_date <> '2025-06-06'") == 0


def test_a_day_of_which_only_the_next_one_is_published_is_not_published(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    publish(recordings, JUNE_7, body_of(JUNE_7))

    with pytest.raises(UnpublishedError, match=r"^2025-06-06: Elexon has not published the wind generation"):
        read(engine, source)


def test_kinds_that_are_not_known_are_left_out_and_counted(
    engine: Engine, source: HttpSource, recordings: Path
) -> None:
    body = body_of(JUNE_6)
    body["data"] += [row(JUNE_6, 7, "Solar", 1.0, psrType=kind) for kind in ("Wind Airborne", None)]
    publish(recordings, JUNE_6, body)

    found = read(engine, source)

    assert (found.half_hours, found.tolerated) == (48, {"unknown_kinds": 2})


def test_a_last_half_hour_that_is_missing_is_pending(engine: Engine, source: HttpSource, recordings: Path) -> None:
    publish(recordings, JUNE_6, without(body_of(JUNE_6), 48))

    found = read(engine, source)

    assert (found.half_hours, found.pending) == (47, (48,))


def test_only_half_hours_that_are_due_are_pending(engine: Engine, source: HttpSource, recordings: Path) -> None:
    publish(recordings, JUNE_6, without(body_of(JUNE_6), *range(20, 49)))

    day = read(engine, source, now=datetime(2025, 6, 6, 9, 45, tzinfo=UTC))

    assert (day.half_hours, day.pending) == (19, (20, 21))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "2025-06-06: Elexon has not published the wind generation of this day yet"),
        (envelope([]), "2025-06-06: Elexon has not published the wind generation of this day yet"),
        (
            envelope([row(JUNE_6, 7, "Solar", 5)]),
            "2025-06-06: Elexon has not published the wind generation of this day yet",
        ),
        (
            envelope([row(JUNE_6, 7, "Wind Onshore", 5)]),
            "2025-06-06: Elexon has not published the wind generation of this day yet (only one kind of period 7)",
        ),
    ],
    ids=["no body", "no rows", "the sun", "one kind"],
)
def test_a_day_of_which_nothing_is_published_is_an_error_and_stays(
    engine: Engine, source: HttpSource, recordings: Path, body: dict[str, Any] | None, reason: str
) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))
    read(engine, source)
    before = rows(engine)
    publish(recordings, JUNE_6, body)

    with pytest.raises(UnpublishedError) as refused:
        read(engine, source)

    assert str(refused.value) == reason
    assert rows(engine) == before


def test_a_day_that_is_not_due_is_not_asked_for(engine: Engine, source: HttpSource, stand_in: StandInElexon) -> None:
    with pytest.raises(UnpublishedError, match=r"^2025-06-06: no settlement period of this day is due yet$"):
        read(engine, source, now=datetime(2025, 6, 5, 23, tzinfo=UTC))

    assert stand_in.requests == []


def test_a_day_without_a_recording_is_an_error(engine: Engine, recordings: Path) -> None:
    with pytest.raises(UnpublishedError, match=r"^2025-06-05: file:.* has no recording of this day$"):
        read_wind_generation(engine, Elexon(RecordingSource(recordings)), JUNE_6 - DAY, NOW)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("server_error", PATH), "HTTP 503"),
        (Fault("truncated", PATH), "the answer is no JSON"),
        (Fault("other_day", PATH), "the answer holds rows of 2025-06-07"),
        (Fault("other_period", PATH), "does not start at"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_an_answer_that_cannot_be_believed_changes_nothing_and_names_the_day(
    engine: Engine, source: HttpSource, stand_in: StandInElexon, recordings: Path, fault: Fault, reason: str
) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))
    stand_in.faults = [fault]

    with pytest.raises(ElexonError) as refused:
        read(engine, source)

    assert str(refused.value).startswith("2025-06-06 wind generation: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert scalar(engine, "SELECT count(*) FROM wind_generation_data") == 0


def test_answers_are_kept_before_they_are_stored(
    engine: Engine, source: HttpSource, recordings: Path, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    publish(recordings, JUNE_6, body_of(JUNE_6))

    day = read(engine, source, archive=archive)

    assert day.kept is not None
    kept = json.loads(gzip.decompress(day.kept.recording.read_bytes()))
    assert kept["wind_and_solar"] == body_of(JUNE_6)
    # and it can be read from there
    elexon = Elexon(RecordingSource(tmp_path / "archive"))
    assert read_wind_generation(engine, elexon, JUNE_6, NOW).changes == Changes(kept=48)


def test_a_day_is_stored_under_its_lock(engine: Engine, source: HttpSource, recordings: Path) -> None:
    # given a day that is stored
    publish(recordings, JUNE_6, body_of(JUNE_6))
    read(engine, source)

    # when it is read again while another writer changes it
    half_hours = wind_generation_data.c
    again = store_behind(
        engine,
        JUNE_6,
        lambda holder: holder.execute(delete(wind_generation_data).where(half_hours.settlement_period == 11)),
        lambda: read(engine, source),
    )

    # then it waited, and the half-hour that was removed is there again
    assert (again.changes, again.half_hours) == (Changes(inserted=1, kept=47), 48)


def test_a_half_hour_that_the_database_leaves_out_stores_none_and_what_was_received_is_kept(
    engine: Engine, source: HttpSource, recordings: Path, tmp_path: Path
) -> None:
    publish(recordings, JUNE_6, body_of(JUNE_6))
    leave_out(engine, "INSERT", "wind_generation_data", 7)

    with pytest.raises(ReconError, match=r"^wind_generation_data 2025-06-06: 48 .* 47 were inserted.*; rolled back$"):
        read(engine, source, archive=Archive(tmp_path / "archive"))

    assert scalar(engine, "SELECT count(*) FROM wind_generation_data") == 0
    assert (tmp_path / "archive" / "2025-06-06.json.gz").exists()


def test_other_days_are_left_alone(engine: Engine, source: HttpSource, recordings: Path) -> None:
    for day in (JUNE_6, JUNE_7):
        publish(recordings, day, body_of(day))
    read_wind_generation(engine, Elexon(source), JUNE_7, NOW)

    assert read(engine, source).changes == Changes(inserted=48)
    assert scalar(engine, "SELECT count(*) FROM wind_generation_data") == 96
