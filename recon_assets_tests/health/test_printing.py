import io
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import SCHEMA_LOCK
from recon_assets.database.tables import metadata
from recon_assets.database.transactions import writing
from recon_assets.database.work_log import WORK_LOG_LOCK
from recon_assets.health.examination import examine
from recon_assets.health.facts import ArchiveFolder, DayLocks, Disk, Health, ProbeStatus, Session, Sessions, Source
from recon_assets.health.printing import print_health
from recon_assets.ingest.reference import REFERENCE_LOCK
from recon_assets.reports.state import open_console
from recon_assets.settings import Settings
from recon_assets_tests.support.steps import JUNE, JUNE_6, JUNE_7, NOW, execute

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def printed(facts: dict[str, Any], width: int = 200) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        print_health(console, facts)
    return [line.rstrip() for line in captured.get().splitlines()]


def sections(lines: list[str]) -> dict[str, list[str]]:
    """The lines beside each label, up to the first empty line."""
    found: dict[str, list[str]] = {}
    for line in lines[1 : lines.index("")]:
        label, *text = line.split("  ", 1)
        if label:
            found[label] = []
        list(found.values())[-1].append("".join(text).strip())
    return found


def at_ease(health: Health) -> dict[str, Any]:
    """The facts with all probes quick, because on a busy machine some are slow and would add advice."""
    probes = tuple(replace(probe, verdict=ProbeStatus.OK, latency_ms=1.25) for probe in health.probes)
    lines = tuple(line for line in health.advice if " ms, more than " not in line)
    return replace(health, probes=probes, advice=lines).facts()


def test_a_healthy_database_is_told_in_full(small_days: Engine, settings: Settings) -> None:
    facts = at_ease(examine(small_days, settings, NOW))

    lines = printed(facts)

    assert lines[0] == "Health: healthy"
    assert lines[-1] == "Nothing to change."
    printed_sections = sections(lines)
    address, engine, schema = printed_sections["Database"]
    assert address == facts["database"]["address"]
    assert engine.startswith("SQLite 3" if small_days.dialect.name == "sqlite" else "PostgreSQL 1")
    assert schema == "schema current, newest day 2025-06-07"
    assert printed_sections["Indexes"] == ["as declared"]
    assert printed_sections["Elexon"] == [settings.elexon_api_url, "30 recordings 2025-06-01..2025-06-30"]
    assert printed_sections["mempool"] == ["not asked: only the packaged difficulty table is used"]
    assert printed_sections["Archive"] == ["nothing is archived: recordings are read"]
    tables = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in metadata.tables]
    assert sorted(tables) == sorted(metadata.tables)
    (counted,) = [line for line in lines if line.startswith("counting the calculations of 2025-06-07")]
    assert counted.split()[-4:] == ["1.2", "200", f"{facts['probes'][3]['rows']:,}", "ok"]


@on_sqlite
def test_a_file_has_its_size_its_mode_and_its_disk(small_days: Engine, settings: Settings) -> None:
    facts = at_ease(examine(small_days, settings, NOW))
    facts["sqlite"] |= {"size_bytes": 28_426_240, "page_count": 6_940, "free_pages": 96, "wal_bytes": 4_150_000}
    facts["disks"] = [{"what": "dagster_home", "path": "/x", "free_bytes": 79_461_199_872, "total_bytes": 27 * 10**10}]

    printed_sections = sections(printed(facts))

    assert printed_sections["File"] == [
        "28.4 MB: 6,940 pages of 4,096 bytes, 96 of them empty",
        "journal mode wal, write-ahead log 4.2 MB",
    ]
    assert printed_sections["Disk of dagster home"] == ["79.5 of 270.0 GB free at /x"]
    assert printed_sections["Time-outs"] == ["recon waits 30 s for a lock"]
    assert "Connections" not in printed_sections
    assert "Sessions" not in printed_sections


@on_postgres
def test_a_server_has_its_connections_its_time_outs_and_its_locks(small_days: Engine, settings: Settings) -> None:
    # given a writer of two days, somebody who migrates, and writers of the work log and of the reference data
    other = open_engine(small_days.url)
    with (
        writing(small_days, [JUNE_6, JUNE_7]),
        writing(other, [SCHEMA_LOCK]),
        writing(other, [WORK_LOG_LOCK]),
        writing(other, [REFERENCE_LOCK]),
    ):
        facts = at_ease(examine(small_days, settings, NOW))
    facts["timeouts"] |= {"statement_ms": 90_000, "lock_ms": 250}

    # when
    printed_sections = sections(printed(facts))

    # then
    assert printed_sections["Connections"][0].endswith("5 to this database, 5 of recon")
    assert "Pool" not in printed_sections
    assert printed_sections["Time-outs"] == [
        "statement 90 s, lock 250 ms, idle in transaction none; recon waits 10min for a lock"
    ]
    assert sorted(line.split(") ")[1] for line in printed_sections["Sessions"]) == [
        "holds the lock of 2 days 2025-06-06..2025-06-07",
        "holds the lock of reference data",
        "holds the lock of schema",
        "holds the lock of work log",
    ]


@on_postgres
def test_sessions_that_stand_in_the_way_are_named(small_days: Engine, settings: Settings) -> None:
    # given what roles may see of others, and what they may not
    blocked = Session(7, "ann", "psql", "active", 12.4, "UPDATE x", (8, 9), "ShareLock on transactionid")
    sessions = Sessions(
        long_queries=(Session(8, None, "", "active", 99, "SELECT pg_sleep(1000)"),),
        idle_in_transaction=(Session(9, "eve", "psql", "idle in transaction", 3_600, None),),
        blocked=(blocked, Session(6, None, None, None, None, None, (9,))),
        day_locks=(DayLocks(5, "ann", "recon", False, 1, JUNE_6, JUNE_6),),
    )
    health = examine(small_days, settings, NOW)
    calm = replace(health, sessions=Sessions((), (), (), ()))

    # then
    assert sections(printed(replace(health, sessions=sessions).facts()))["Sessions"] == [
        "pid 7 (psql, ann) has waited for 12 s for ShareLock on transactionid of pid 8, 9",
        "pid 6 (no name, unknown user) has waited for a lock of pid 9",
        "pid 8 (no name, unknown user) has been running one query for 99 s: SELECT pg_sleep(1000)",
        "pid 9 (psql, eve) has left a transaction open for 3,600 s",
        "pid 5 (recon, ann) waits for the lock of 1 day 2025-06-06",
    ]
    assert sections(printed(calm.facts()))["Sessions"] == ["nobody is in the way"]


@pytest.mark.parametrize("error", [None, "/data is no folder"])
def test_the_archive_has_its_days_its_size_and_its_retention(
    small_days: Engine, settings: Settings, error: str | None
) -> None:
    archive = ArchiveFolder("/data/archive", error, 1_096, date(2022, 1, 1), date(2024, 12, 31), 75, 1, 104_150_000)

    facts = replace(examine(small_days, settings, NOW), archive=archive).facts()

    assert sections(printed(facts))["Archive"] == [
        "/data/archive",
        "1,096 recordings 2022-01-01..2024-12-31, 104.2 MB",
        "earlier versions: 75, of them corrupt: 1",
        f"{f'cannot be used: {error}' if error else 'can be written'}; nothing is deleted",
    ]


def test_an_empty_archive_has_no_days(small_days: Engine, settings: Settings) -> None:
    facts = replace(examine(small_days, settings, NOW), archive=ArchiveFolder("/data/archive")).facts()

    assert sections(printed(facts))["Archive"][1] == "0 recordings, 0.0 MB"


def test_what_is_wrong_and_what_to_change_is_said_last(small_days: Engine, settings: Settings) -> None:
    execute(small_days, "DROP INDEX historical_bitcoin_calculations_key", "DROP TABLE yearly_summaries")

    facts = at_ease(examine(small_days, settings, NOW))
    lines = printed(facts)

    assert lines[0] == "Health: not healthy"
    assert sections(lines)["Database"][-1] == "missing: yearly_summaries"
    (fault,) = sections(lines)["Indexes"]
    assert fault.startswith("missing: historical_bitcoin_calculations (settlement_date, ")
    start = lines.index("What to change")
    said = "\n".join(lines[start + 1 :]).replace("\n  ", " ")
    assert [line.removeprefix("- ") for line in said.splitlines()] == facts["advice"]
    assert len(facts["advice"]) == 2


def test_a_database_that_is_not_there_leaves_no_questions(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ELEXON_API_URL": JUNE.as_uri()}, tmp_path)
    health = examine(open_engine(settings.database_url), settings, NOW)

    lines = printed(health.facts())

    assert sections(lines)["Database"][1].startswith("cannot be used: there is no database at ")
    assert len([line for line in lines if line.split()[-2:] == ["-", "skipped"]]) == len(health.probes)
    assert "connect:" not in "\n".join(lines)
    (advice,) = health.advice
    assert " ".join(" ".join(lines).split()).endswith(f"What to change - {advice}")


def test_the_reason_of_probes_that_were_not_answered_is_said_once(engine: Engine, settings: Settings) -> None:
    # given a schema without data, a section that could not be read, and a source that answers with an error
    health = examine(engine, settings, NOW)
    health = replace(
        health,
        unread={"indexes": "OperationalError: [locked] out"},
        mempool=Source("http://m", "x", False, 12.5, 503, "HTTP 503"),
        elexon=Source("http://e", "x", True, 1234, 200),
    )

    lines = printed(health.facts())

    reason = "skipped, there are no calculations yet"
    assert [line for line in lines if reason in line] == [
        f"count_day, count_month, aggregate_month, join_month: {reason}"
    ]
    printed_sections = sections(lines)
    assert printed_sections["Not read"] == ["indexes: OperationalError: [locked] out"]
    assert "Indexes" not in printed_sections
    assert printed_sections["mempool"] == ["http://m", "cannot be read: HTTP 503"]
    assert printed_sections["Elexon"] == ["http://e", "HTTP 200 in 1.234 s"]


@pytest.mark.parametrize("width", [80, 100])
def test_no_table_is_wrapped_or_cut(small_days: Engine, settings: Settings, width: int) -> None:
    # given a large database whose longest advice is longer than a line
    health = examine(small_days, settings, NOW)
    probes = tuple(
        replace(probe, verdict=ProbeStatus.TIMED_OUT, latency_ms=30_000.4, rows=172_413, error="late " * 30)
        for probe in health.probes
    )
    tables = tuple(
        replace(size, rows_estimate=1_514_223, table_bytes=10**9, index_bytes=10**9, has_statistics=True)
        for size in health.tables
    )
    disks = (Disk("database", "/a/rather/long/path/to/where/the/database/is/kept", 10**9, 10**12),)
    facts = replace(health, probes=probes, tables=tables, disks=disks, advice=("do this " * 30,)).facts()

    # when
    lines = printed(facts, width)

    # then
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    for probe in probes:
        (line,) = [line for line in lines if line.startswith(f"{probe.what} ")]
        assert line.endswith(" timed out")
    for size in tables:
        (line,) = [line for line in lines if line.startswith(f"{size.table} ")]
        assert line.split()[1:4] == ["1,514,223", "1,000.0", "1,000.0"]
    assert " ".join("".join(lines[lines.index("What to change") :]).split()).count("do this") == 30


def test_without_a_terminal_it_is_a_hundred_columns_wide(
    small_days: Engine, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    print_health(open_console(), examine(small_days, settings, NOW).facts())

    assert any("slow from" in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("last", [date.min, JUNE_7])
def test_the_schemas_lock_is_no_day(last: date, small_days: Engine, settings: Settings) -> None:
    locks = DayLocks(5, "ann", "recon", True, 1 if last == date.min else 3, date.min, last)
    facts = replace(examine(small_days, settings, NOW), sessions=Sessions((), (), (), (locks,))).facts()

    (said,) = sections(printed(facts))["Sessions"]

    assert "0001-01-01" not in said
    assert said.endswith("the lock of schema" if last == date.min else "schema and of 2 days up to 2025-06-07")
