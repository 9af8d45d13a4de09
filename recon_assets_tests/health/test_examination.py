import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import SchemaState
from recon_assets.database.tables import metadata
from recon_assets.database.transactions import writing
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault as Misbehaviour
from recon_assets.elexon.stand_in_faults import FaultKind
from recon_assets.health.advice import advise
from recon_assets.health.dagster_home import FAST_STORAGE
from recon_assets.health.examination import examine
from recon_assets.health.facts import (
    ArchiveFolder,
    Connections,
    DagsterHome,
    Disk,
    Fault,
    Health,
    IndexFault,
    Limits,
    ProbeStatus,
    SqliteFile,
    TableSize,
    Timeouts,
)
from recon_assets.orchestration.instance import prepare_home
from recon_assets.settings import Settings
from recon_assets_tests.support.serving import wait_until
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, execute, scalar

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CALCULATIONS = "historical_bitcoin_calculations"
KEY = ("settlement_date", "settlement_period", "farm_id", "miner_model")
UPDATE = f"UPDATE {CALCULATIONS} SET bitcoin_mined = 0"
DATA_PROBES = ["newest_day", "count_day", "count_month", "aggregate_month", "join_month"]


def statuses(health: Health) -> dict[str, ProbeStatus]:
    """How the probes ended; on a busy machine any of them may be slow."""
    return {
        probe.name: ProbeStatus.OK if probe.verdict is ProbeStatus.SLOW else probe.verdict for probe in health.probes
    }


def advice_of(health: Health) -> list[str]:
    """The advice, without that on probes that a busy machine makes slow."""
    slow = [
        line
        for probe in health.probes
        if probe.verdict is ProbeStatus.SLOW
        for line in health.advice
        if probe.what in line
    ]
    return [line for line in health.advice if line not in slow]


def errors(health: Health) -> dict[str, str | None]:
    return {probe.name: probe.error for probe in health.probes}


class Someone:
    """Somebody else's session."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.pid = connection.info.backend_pid

    def execute(self, statement: str) -> None:
        self.connection.execute(statement.encode())


@contextmanager
def session(settings: Settings, *statements: str, name: str = "someone") -> Iterator[Someone]:
    """A session with an open transaction that has executed the statements; rolled back at the end if still alive."""
    url = settings.database_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, application_name=name) as connection:
        someone = Someone(connection)
        for statement in statements:
            someone.execute(statement)
        yield someone
        connection.rollback()


@contextmanager
def in_a_thread(someone: Someone, statement: str) -> Iterator[list[BaseException | None]]:
    """Executes a statement that takes or waits long; afterwards the list holds how it ended."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            someone.execute(statement)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        thread.join(30)


@contextmanager
def one_waits_for_another(settings: Settings) -> Iterator[tuple[Someone, Someone, list[BaseException | None]]]:
    """Two sessions that update one table: who holds the rows, who waits for them, and how its waiting ended."""
    with (
        session(settings, UPDATE, name="holder") as holder,
        session(settings, name="waiter") as waiter,
        in_a_thread(waiter, UPDATE) as ended,
    ):
        try:
            deadline = time.monotonic() + 20
            while not holder.connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield holder, waiter, ended
        finally:
            holder.connection.rollback()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else is given."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


# The database that is as it should be


def test_a_healthy_database_needs_no_advice(small_days: Engine, settings: Settings) -> None:
    health = examine(small_days, settings, NOW)

    assert advice_of(health) == []
    assert health.is_healthy
    assert health.unread == {}
    assert health.database.schema is SchemaState.CURRENT
    assert health.database.newest_day == JUNE_7
    assert (health.database.connect_ms or 0) > 0


def test_the_probes_grow_and_say_how_many_rows_they_read(small_days: Engine, settings: Settings) -> None:
    # given
    of_june_7 = scalar(small_days, f"SELECT count(*) FROM {CALCULATIONS} WHERE settlement_date = '2025-06-07'")
    of_both = scalar(small_days, f"SELECT count(*) FROM {CALCULATIONS}")
    joined = scalar(
        small_days,
        f"SELECT count(*) FROM {CALCULATIONS} AS c JOIN curtailment_records AS r ON r.farm_id = c.farm_id "
        "AND r.settlement_date = c.settlement_date AND r.settlement_period = c.settlement_period",
    )

    # when
    health = examine(small_days, settings, NOW)

    # then
    assert [(probe.name, probe.rows) for probe in health.probes] == [
        ("connect", None),
        ("select_1", None),
        ("newest_day", None),
        ("count_day", of_june_7),
        ("count_month", of_both),
        ("aggregate_month", of_both),
        ("join_month", joined),
    ]
    assert set(statuses(health).values()) == {ProbeStatus.OK}
    assert all((probe.latency_ms or 0) > 0 for probe in health.probes)
    assert 0 < of_june_7 < of_both < joined


def test_every_table_has_a_size(small_days: Engine, settings: Settings) -> None:
    rows = scalar(small_days, f"SELECT count(*) FROM {CALCULATIONS}")
    execute(small_days, "SELECT 1") if small_days.dialect.name == "sqlite" else analyze(settings)

    sizes = {size.table: size for size in examine(small_days, settings, NOW).tables}

    assert set(sizes) == set(metadata.tables)
    assert sizes[CALCULATIONS].rows_estimate == rows
    assert (sizes[CALCULATIONS].table_bytes or 0) > (sizes["yearly_summaries"].table_bytes or 0) > 0
    assert (sizes[CALCULATIONS].index_bytes or 0) > 0


def analyze(settings: Settings) -> None:
    with session(settings, "ANALYZE") as someone:
        someone.connection.commit()


def test_the_facts_are_json(small_days: Engine, settings: Settings) -> None:
    health = examine(small_days, settings, NOW)
    facts = health.facts()

    assert json.loads(json.dumps(facts)) == facts
    assert facts["is_healthy"] is True
    assert facts["advice"] == list(health.advice)
    assert facts["database"]["newest_day"] == "2025-06-07"
    assert facts["database"]["schema"] == "current"
    assert facts["probes"][3]["verdict"] in ("ok", "slow")


@on_postgres
def test_postgresql_says_what_connections_and_time_outs_it_gives(small_days: Engine, settings: Settings) -> None:
    with session(settings, "SELECT 1"):
        health = examine(small_days, settings, NOW)

    assert health.database.engine == "postgresql"
    assert health.connections is not None
    assert health.connections.max_connections == 60
    assert health.connections.of_this_database == 2
    assert health.connections.in_use >= 2
    assert 1 <= health.connections.of_recon < health.connections.in_use
    assert health.connections.share_used == pytest.approx(health.connections.in_use / 57, abs=1e-3)
    assert health.timeouts == Timeouts(recon_lock="10min")
    assert health.sqlite is None


@on_postgres
def test_the_time_outs_are_those_of_a_session_not_of_the_doctor(small_days: Engine, settings: Settings) -> None:
    options = "-cstatement_timeout=5s -clock_timeout=4s -cidle_in_transaction_session_timeout=3s"
    engine = open_engine(small_days.url.update_query_dict({"options": options}))

    health = examine(engine, settings, NOW)

    assert health.timeouts == Timeouts(5_000, 4_000, 3_000, recon_lock="10min")
    assert advice_of(health) == [
        "statement_timeout is 5,000 ms: a writer that waits for another one is cut off; "
        "ALTER ROLE ... SET statement_timeout = '10min'"
    ]


# Looking changes nothing


@on_sqlite
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_looking_at_a_file_changes_neither_its_journal_mode_nor_a_byte_nor_the_folder(
    engine: Engine, settings: Settings, tmp_path: Path, mode: str
) -> None:
    # given a file in a journal mode
    file = tmp_path / "recon.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    content, names = file.read_bytes(), sorted(tmp_path.iterdir())

    # when
    health = examine(engine, settings, NOW)

    # then
    assert file.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == names
    assert health.sqlite is not None
    assert health.sqlite.journal_mode == mode
    assert health.sqlite.page_count * health.sqlite.page_size_bytes == health.sqlite.size_bytes == len(content)
    assert health.sqlite.recon_journal_mode == "wal"
    assert health.timeouts == Timeouts(recon_busy_ms=30_000)
    assert [line.split(",")[0] for line in advice_of(health)] == (
        ["the journal mode is delete"] if mode == "delete" else []
    )


@on_sqlite
def test_what_recon_sets_is_what_the_doctor_says(engine: Engine, settings: Settings) -> None:
    health = examine(engine, settings, NOW)

    with engine.connect() as connection:
        journal_mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        busy_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    assert health.sqlite is not None
    assert health.timeouts is not None
    assert (health.sqlite.recon_journal_mode, health.sqlite.recon_synchronous) == (journal_mode, "normal")
    assert synchronous == 1  # NORMAL
    assert health.timeouts.recon_busy_ms == busy_ms


@on_sqlite
def test_the_write_ahead_log_is_measured_before_it_is_emptied(engine: Engine, settings: Settings) -> None:
    with engine.connect():
        execute(engine, "UPDATE wind_bm_units SET lead_party_name = 'someone'")
        health = examine(engine, settings, NOW)

    assert health.sqlite is not None
    assert health.sqlite.wal_bytes > 4096


def test_no_file_is_made_where_none_is(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ELEXON_API_URL": tmp_path.as_uri()}, tmp_path)

    health = examine(open_engine(settings.database_url), settings, NOW)

    assert list(tmp_path.iterdir()) == []
    assert not health.is_healthy
    assert health.database.error == (
        f"there is no database at {tmp_path}/.recon/recon.db yet: "
        "run for example 'recon daily-check', or set DATABASE_URL"
    )
    assert set(statuses(health).values()) == {ProbeStatus.SKIPPED}
    assert errors(health)["count_day"] == "there is no connection"
    assert health.unread == {}


# What cannot be reached or used


def test_a_server_that_is_not_there_is_reported_without_the_password(closed_port: int, settings: Settings) -> None:
    address = f"127.0.0.1:{closed_port}"
    url = f"postgresql+psycopg://ann:s3cret@{address}/wind?password=s3cret"

    health = examine(open_engine(url), replace(settings, database_url=make_url(url)), NOW)

    assert not health.is_healthy
    assert health.database.address == f"postgresql+psycopg://ann:***@{address}/wind"
    assert "Connection refused" in (health.database.error or "")
    assert statuses(health)["connect"] is ProbeStatus.FAILED
    assert statuses(health)["select_1"] is ProbeStatus.SKIPPED
    assert health.elexon.is_reachable
    assert [line for line in advice_of(health) if "Connection refused" in line] == advice_of(health)
    assert len(advice_of(health)) == 1
    assert "s3cret" not in json.dumps(health.facts())


def test_a_file_that_is_no_database_is_reported(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "notes.db").write_text("nothing but words, and enough of them to fill a header" * 10)

    health = examine(open_engine(f"sqlite:///{tmp_path / 'notes.db'}"), settings, NOW)

    assert health.database.error == "DatabaseError: file is not a database"
    assert not health.is_healthy


def test_an_empty_database_is_called_empty(database_url: str, settings: Settings, tmp_path: Path) -> None:
    if settings.database_url.get_backend_name() == "sqlite":
        (tmp_path / "recon.db").touch()

    health = examine(open_engine(settings.database_url), settings, NOW)

    assert not health.is_healthy
    assert health.database.schema is SchemaState.EMPTY
    assert advice_of(health) == ["the database is empty: run for example 'recon daily-check', or set DATABASE_URL"]
    assert statuses(health) == {
        "connect": ProbeStatus.OK,
        "select_1": ProbeStatus.OK,
        **dict.fromkeys(DATA_PROBES, ProbeStatus.SKIPPED),
    }
    assert errors(health)["join_month"] == "there is no table curtailment_records"
    assert health.tables == ()
    assert health.unread == {}


def test_a_schema_without_data_is_healthy(engine: Engine, settings: Settings) -> None:
    health = examine(engine, settings, NOW)

    assert health.is_healthy
    assert errors(health)["newest_day"] is None
    assert errors(health)["count_day"] == "there are no calculations yet"


def test_an_old_database_is_left_to_migrate(database_url: str, settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    execute(engine, f"CREATE TABLE {CALCULATIONS} (settlement_date DATE)")

    health = examine(engine, settings, NOW)

    assert not health.is_healthy
    assert health.database.schema is SchemaState.FOREIGN
    assert advice_of(health) == ["the database has tables that recon has not adopted yet: run 'recon migrate'"]
    assert health.indexes == ()


def test_a_table_that_is_gone_is_named(small_days: Engine, settings: Settings) -> None:
    execute(small_days, "DROP TABLE curtailment_records")

    health = examine(small_days, settings, NOW)

    assert not health.is_healthy
    assert health.database.missing_tables == ("curtailment_records",)
    assert advice_of(health) == [
        "the table curtailment_records is gone though the schema is current: restore it from a backup"
    ]
    assert statuses(health)["aggregate_month"] is ProbeStatus.OK
    assert errors(health)["join_month"] == "there is no table curtailment_records"


# Indexes


def statement(engine: Engine, name: str, *, unique: bool = True) -> str:
    concurrently = "CONCURRENTLY " if engine.dialect.name == "postgresql" else ""
    return f"CREATE {'UNIQUE ' if unique else ''}INDEX {concurrently}{name} ON {CALCULATIONS} ({', '.join(KEY)})"


def test_a_dropped_index_is_found_and_can_be_made_as_told(small_days: Engine, settings: Settings) -> None:
    # given
    execute(small_days, f"DROP INDEX {CALCULATIONS}_key")

    # when
    health = examine(small_days, settings, NOW)

    # then
    mend = statement(small_days, f"{CALCULATIONS}_key")
    assert health.indexes == (IndexFault(CALCULATIONS, f"{CALCULATIONS}_key", KEY, Fault.MISSING, mend),)
    assert advice_of(health) == [f"there is no index on {CALCULATIONS} ({', '.join(KEY)}): {mend}"]
    assert not health.is_healthy

    # when what is advised is done
    if small_days.dialect.name == "sqlite":
        execute(small_days, mend)
    else:
        with small_days.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(mend)
    assert examine(small_days, settings, NOW).is_healthy


@pytest.mark.parametrize(
    "other",
    [
        f"CREATE UNIQUE INDEX theirs ON {CALCULATIONS} ({', '.join(KEY)})",
        f"CREATE UNIQUE INDEX theirs ON {CALCULATIONS} (settlement_date, miner_model, farm_id, settlement_period)",
    ],
)
def test_an_index_of_another_name_serves_as_well(small_days: Engine, settings: Settings, other: str) -> None:
    execute(small_days, f"DROP INDEX {CALCULATIONS}_key", other)

    assert examine(small_days, settings, NOW).indexes == ()


@pytest.mark.parametrize(
    "other",
    [
        f"CREATE UNIQUE INDEX theirs ON {CALCULATIONS} (farm_id, settlement_date, settlement_period, miner_model)",
        f"CREATE UNIQUE INDEX theirs ON {CALCULATIONS} ({', '.join(KEY)}) WHERE miner_model = 'S9'",
        f"CREATE INDEX theirs ON {CALCULATIONS} (settlement_date, settlement_period)",
    ],
)
def test_an_index_that_does_not_find_a_day_by_its_key_does_not_count(
    small_days: Engine, settings: Settings, other: str
) -> None:
    execute(small_days, f"DROP INDEX {CALCULATIONS}_key", other)

    assert [index.fault for index in examine(small_days, settings, NOW).indexes] == [Fault.MISSING]


def test_an_index_that_lets_duplicates_in_is_named_and_no_illness(small_days: Engine, settings: Settings) -> None:
    # given an index as migrate makes it over duplicates
    execute(
        small_days,
        f"DROP INDEX {CALCULATIONS}_key",
        f"CREATE INDEX {CALCULATIONS}_key ON {CALCULATIONS} ({', '.join(KEY)})",
    )

    health = examine(small_days, settings, NOW)

    assert [(index.fault, index.statement) for index in health.indexes] == [
        (Fault.NOT_UNIQUE, statement(small_days, f"{CALCULATIONS}_key_new"))
    ]
    assert health.is_healthy
    assert len(advice_of(health)) == 1


@on_postgres
def test_a_primary_key_that_is_gone_is_found(small_days: Engine, settings: Settings) -> None:
    execute(small_days, "ALTER TABLE wind_bids DROP CONSTRAINT wind_bids_pkey")

    (fault,) = examine(small_days, settings, NOW).indexes

    assert (fault.table, fault.columns, fault.fault) == (
        "wind_bids",
        ("settlement_date", "settlement_period", "sequence_number"),
        Fault.MISSING,
    )


@on_postgres
def test_an_invalid_index_is_found(small_days: Engine, settings: Settings) -> None:
    # given an index that could not be built to its end
    execute(
        small_days,
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{CALCULATIONS}_key'::regclass",
    )

    health = examine(small_days, settings, NOW)

    mend = f"REINDEX INDEX CONCURRENTLY {CALCULATIONS}_key"
    assert health.indexes == (IndexFault(CALCULATIONS, f"{CALCULATIONS}_key", KEY, Fault.INVALID, mend),)
    assert not health.is_healthy


# Time-outs


@on_postgres
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(statement_ms=2_000, lock_ms=60_000), "canceling statement due to statement timeout"),
        (Limits(lock_ms=300), "canceling statement due to lock timeout"),
    ],
)
def test_a_probe_that_does_not_end_is_ended_and_the_others_run(
    small_days: Engine, settings: Settings, limits: Limits, reason: str
) -> None:
    with session(settings, "LOCK TABLE curtailment_records IN ACCESS EXCLUSIVE MODE") as locker:
        health = examine(small_days, settings, NOW, limits)
        locker.execute("SELECT 1")

    assert statuses(health) == {
        **dict.fromkeys(("connect", "select_1", *DATA_PROBES), ProbeStatus.OK),
        "join_month": ProbeStatus.TIMED_OUT,
    }
    assert reason in (errors(health)["join_month"] or "")
    assert 250 < (health.probes[-1].latency_ms or 0) < 10_000
    assert not health.is_healthy
    assert reason in health.unread["tables"]
    assert "indexes" not in health.unread
    assert [line for line in health.advice if line.startswith("joining the calculations")]
    assert [line for line in health.advice if line.startswith("tables could not be read")]


@on_sqlite
def test_a_probe_of_sqlite_is_ended_at_its_limit(small_days: Engine, settings: Settings) -> None:
    # given so many rows that summing them takes long
    execute(
        small_days,
        f"INSERT INTO {CALCULATIONS} (settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined) "
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000) "
        "SELECT '2025-06-07', 1, 'farm ' || n, 'S9', 1 FROM n",
    )

    # when
    health = examine(small_days, settings, NOW, Limits(statement_ms=1))

    # then
    assert statuses(health)["newest_day"] is ProbeStatus.OK
    assert statuses(health)["aggregate_month"] is ProbeStatus.TIMED_OUT
    assert statuses(health)["join_month"] is ProbeStatus.TIMED_OUT
    assert errors(health)["aggregate_month"] == "OperationalError: interrupted"
    assert not health.is_healthy
    assert not examine(small_days, settings, NOW).unread


@on_sqlite
def test_a_file_that_someone_holds_locked_is_reported_in_time(engine: Engine, settings: Settings) -> None:
    with closing(sqlite3.connect(engine.url.database or "", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = delete")
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()

        health = examine(engine, settings, NOW, Limits(lock_ms=200))

    assert health.database.error == "OperationalError: database is locked"
    assert statuses(health)["connect"] is ProbeStatus.TIMED_OUT
    assert len(advice_of(health)) == 1
    assert time.monotonic() - started < 5


@on_sqlite
def test_a_day_that_is_no_date_is_reported(small_days: Engine, settings: Settings) -> None:
    execute(small_days, f"UPDATE {CALCULATIONS} SET settlement_date = 'tomorrow' WHERE id = 1")

    health = examine(small_days, settings, NOW)

    assert statuses(health)["newest_day"] is ProbeStatus.FAILED
    assert "tomorrow" in (errors(health)["newest_day"] or "")
    assert errors(health)["count_day"] == "the newest day is not known"
    assert not health.is_healthy


# Sessions


@on_postgres
def test_a_blocked_session_is_named_with_who_blocks_it_and_lives_on(small_days: Engine, settings: Settings) -> None:
    with one_waits_for_another(settings) as (holder, waiter, ended):
        # when
        health = examine(small_days, settings, NOW)

        # then
        assert health.sessions is not None
        (found,) = health.sessions.blocked
        assert (found.pid, found.application, found.state) == (waiter.pid, "waiter", "active")
        assert (found.blocked_by, found.waits_for) == ((holder.pid,), "ShareLock on transactionid")
        assert found.query == UPDATE
        (line,) = advice_of(health)
        assert line.startswith(f"pid {waiter.pid} (waiter, postgres) has waited for ")
        assert f"that pid {holder.pid} holds" in line
        assert health.is_healthy
        holder.execute("SELECT 1")
        assert ended == []
    assert ended == [None]


@on_postgres
@pytest.mark.parametrize(
    ("mode", "says", "is_healthy"),
    [
        ("ACCESS EXCLUSIVE", "nobody can read or write there", False),
        ("EXCLUSIVE", "nobody can write there", True),
        ("SHARE", "nobody can write there", True),
    ],
)
def test_who_holds_a_table_locked_is_named_if_nobody_but_the_doctor_waits(
    small_days: Engine, settings: Settings, mode: str, says: str, is_healthy: bool
) -> None:
    lock = f"LOCK TABLE {CALCULATIONS} IN {mode} MODE"
    with session(settings, lock, name="old script") as holder:
        time.sleep(0.3)
        health = examine(small_days, settings, NOW, Limits(lock_ms=200))
        holder.execute("SELECT 1")

    assert health.sessions is not None
    assert health.sessions.blocked == ()
    (found,) = health.sessions.table_locks
    assert (found.pid, found.application, found.tables) == (holder.pid, "old script", (CALCULATIONS,))
    assert (found.query, found.keeps_readers_out) == (lock, not is_healthy)
    assert 0.3 <= (found.age_seconds or 0) < 60
    (line,) = [line for line in health.advice if "has locked" in line]
    assert line.startswith(f"pid {holder.pid} (old script, postgres) has locked {CALCULATIONS} since 20")
    assert line.endswith(f", and {says}: let it commit or end (its last query: {lock})")
    assert health.is_healthy == is_healthy


@on_postgres
def test_a_table_lock_that_is_gone_when_the_doctor_is_through_is_named_too(
    small_days: Engine, settings: Settings
) -> None:
    with session(settings, f"LOCK TABLE {CALCULATIONS}", name="old script") as holder:
        timer = threading.Timer(1.5, holder.connection.rollback)
        timer.start()
        health = examine(small_days, settings, NOW, Limits(lock_ms=500))
        timer.join()

    assert statuses(health)["newest_day"] is ProbeStatus.TIMED_OUT
    assert health.sessions is not None
    assert [lock.pid for lock in health.sessions.table_locks] == [holder.pid]


@on_postgres
def test_a_role_that_may_see_little_still_names_who_holds_a_table(small_days: Engine, settings: Settings) -> None:
    execute(
        small_days,
        "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    with session(settings, f"LOCK TABLE {CALCULATIONS}", name="old script") as holder:
        reader = open_engine(small_days.url.set(username="reader"))
        health = examine(reader, settings, NOW, Limits(lock_ms=200))

    (line,) = [line for line in health.advice if "has locked" in line]
    assert line.startswith(f"pid {holder.pid} (old script, postgres) has locked {CALCULATIONS}, and nobody can read")


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
connection.execute(sys.argv[3])
if sys.argv[3] == "BEGIN":
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
print("held", flush=True)
input()
"""


@contextmanager
def holding(file: Path, journal_mode: str, statement: str) -> Iterator[int]:
    """A process that has executed a statement on an SQLite file; its pid."""
    words = [sys.executable, "-c", HOLD, str(file), journal_mode, statement]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


@on_sqlite
@pytest.mark.parametrize(
    ("journal_mode", "statement", "says"),
    [
        ("wal", "BEGIN IMMEDIATE", "has locked the file for 0.3 s or more, and nobody else can write: let it finish"),
        ("delete", "BEGIN IMMEDIATE", "has locked the file for 0.3 s or more, and nobody else can write: let it"),
        ("delete", "BEGIN EXCLUSIVE", "cannot be used: OperationalError: database is locked; locked by pid "),
        ("wal", "BEGIN", None),
        ("delete", "BEGIN", None),
    ],
)
def test_who_holds_a_file_locked_is_named(
    small_days: Engine, settings: Settings, journal_mode: str, statement: str, says: str | None
) -> None:
    small_days.dispose()
    with holding(Path(small_days.url.database or ""), journal_mode, statement) as pid:
        health = examine(small_days, settings, NOW, Limits(lock_ms=300))

    lines = [line for line in health.advice if "locked" in line]
    if says is None:
        assert lines == []
        return
    (line,) = lines
    assert says in line
    assert f"pid {pid} (python" in line
    assert health.file_locks is not None
    assert [lock.keeps_readers_out for lock in health.file_locks.holders] == ["EXCLUSIVE" in statement]


@on_postgres
def test_a_transaction_that_was_left_open_is_named_and_stays_open(small_days: Engine, settings: Settings) -> None:
    with session(settings, "SELECT\n 1", name="forgotten") as forgotten:
        time.sleep(0.3)
        health = examine(small_days, settings, NOW, Limits(idle_in_transaction_seconds=0.2))
        database = examine(small_days, settings, NOW)
        state = forgotten.connection.info.transaction_status.name
        forgotten.execute("SELECT 1")

    assert health.sessions is not None
    (found,) = health.sessions.idle_in_transaction
    assert (found.pid, found.state, found.query) == (forgotten.pid, "idle in transaction", "SELECT 1")
    assert 0.2 < (found.age_seconds or 0) < 30
    assert advice_of(health)[0].startswith(f"pid {found.pid} (forgotten, postgres) has left a transaction open for ")
    assert advice_of(database) == []
    assert state == "INTRANS"


@on_postgres
def test_a_long_query_is_named_and_runs_to_its_end(small_days: Engine, settings: Settings) -> None:
    with session(settings, name="slow") as slow, in_a_thread(slow, "SELECT pg_sleep(1.5)") as ended:
        time.sleep(0.4)
        health = examine(small_days, settings, NOW, Limits(long_query_seconds=0.2))

    assert health.sessions is not None
    assert [found.application for found in health.sessions.long_queries] == ["slow"]
    assert advice_of(health)[0].startswith(
        f"pid {health.sessions.long_queries[0].pid} (slow, postgres) has been running"
    )
    assert ended == [None]


@on_postgres
def test_the_days_that_a_writer_has_locked_are_told(small_days: Engine, settings: Settings) -> None:
    with writing(small_days, [JUNE_6, JUNE_7]):
        sessions = examine(small_days, settings, NOW).sessions
    after = examine(small_days, settings, NOW).sessions

    assert sessions is not None
    (locks,) = sessions.day_locks
    assert (locks.application, locks.is_granted, locks.days) == ("recon", True, 2)
    assert (locks.first_day, locks.last_day) == (JUNE_6, JUNE_7)
    assert after is not None
    assert after.day_locks == ()


@on_postgres
def test_a_role_that_may_see_little_is_told_what_it_may_see(small_days: Engine, settings: Settings) -> None:
    # given a role that may read the tables and no other role's session
    execute(
        small_days,
        "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    engine = open_engine(small_days.url.set(username="reader"))

    # when
    with one_waits_for_another(settings) as (holder, waiter, _):
        health = examine(engine, settings, NOW)

    # then
    assert health.sessions is not None
    (found,) = health.sessions.blocked
    assert (found.pid, found.blocked_by) == (waiter.pid, (holder.pid,))
    assert (found.state, found.age_seconds) == (None, None)
    assert found.query == "<insufficient privilege>"
    assert health.connections is not None
    assert health.connections.of_this_database >= 3
    assert health.is_healthy


# Sources


def with_elexon(settings: Settings, url: str) -> Settings:
    return replace(settings, elexon_api_url=url)


@on_sqlite
def test_recordings_are_counted(small_days: Engine, settings: Settings, recordings: Path) -> None:
    elexon = examine(small_days, with_elexon(settings, recordings.as_uri()), NOW).elexon

    assert (elexon.is_reachable, elexon.recordings, elexon.error) == (True, 2, None)
    assert (elexon.first_day, elexon.last_day) == (JUNE_6, JUNE_7)


@on_sqlite
def test_a_folder_without_recordings_is_reported(small_days: Engine, settings: Settings, tmp_path: Path) -> None:
    health = examine(small_days, with_elexon(settings, (tmp_path / "nowhere").as_uri()), NOW)

    assert not health.is_healthy
    assert not health.elexon.is_reachable
    assert "is not a folder of recordings" in (health.elexon.error or "")


@on_sqlite
def test_elexon_is_asked_once_for_the_newest_day(
    small_days: Engine, settings: Settings, stand_in: StandInElexon
) -> None:
    health = examine(small_days, with_elexon(settings, stand_in.url), NOW)

    assert [request.path for request in stand_in.requests] == ["/balancing/settlement/system-prices/2025-06-07"]
    assert (health.elexon.is_reachable, health.elexon.http_status, health.elexon.error) == (True, 200, None)
    assert (health.elexon.latency_ms or 0) > 0
    assert health.is_healthy
    assert advice_of(health) == []


@on_sqlite
def test_elexon_is_asked_for_yesterday_where_there_are_no_data(
    engine: Engine, settings: Settings, stand_in: StandInElexon
) -> None:
    health = examine(engine, with_elexon(settings, stand_in.url), NOW)

    assert [request.path for request in stand_in.requests] == ["/balancing/settlement/system-prices/2026-01-14"]
    assert (health.elexon.is_reachable, health.elexon.http_status) == (True, 404)
    assert health.is_healthy
    assert advice_of(health) == [
        f"{stand_in.url} does not know balancing/settlement/system-prices/2026-01-14 (HTTP 404): "
        "check that ELEXON_API_URL is the right address"
    ]


@on_sqlite
@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("server_error", 503, "HTTP 503"),
        ("html", 200, "the answer is no JSON"),
        ("reset", None, "Connection reset by peer"),
        ("stall", None, "timed out"),
    ],
)
def test_elexon_in_trouble_is_reported_after_one_request(
    small_days: Engine, settings: Settings, stand_in: StandInElexon, kind: FaultKind, status: int | None, reason: str
) -> None:
    stand_in.faults.append(Misbehaviour(kind, seconds=3))
    patience = Limits(request_seconds=0.5) if kind == "stall" else Limits()

    health = examine(small_days, with_elexon(settings, stand_in.url), NOW, patience)

    assert not health.is_healthy
    assert (health.elexon.is_reachable, health.elexon.http_status) == (False, status)
    assert reason in (health.elexon.error or "")
    assert "\n" not in (health.elexon.error or "")
    wait_until(lambda: bool(stand_in.requests))  # who gave up waiting may be faster than the server's note of it
    assert len(stand_in.requests) == 1
    assert advice_of(health) == [
        f"{stand_in.url} cannot be read ({health.elexon.error}): check the network and ELEXON_API_URL"
    ]


@on_sqlite
@pytest.mark.parametrize("address", ["ann:s3cret@127.0.0.1:{port}/bmrs", "ann:s3cret@127.0.0.1:port/bmrs"])
def test_an_address_of_elexon_is_shown_without_its_password(
    small_days: Engine, settings: Settings, closed_port: int, address: str
) -> None:
    url = f"http://{address.format(port=closed_port)}"

    health = examine(small_days, with_elexon(settings, url), NOW)

    assert not health.elexon.is_reachable
    assert health.elexon.address == url.replace("ann:s3cret@", "")
    assert "s3cret" not in json.dumps(health.facts())


@on_sqlite
def test_mempool_is_asked_when_it_is_set(small_days: Engine, settings: Settings, stand_in: StandInElexon) -> None:
    settings = replace(settings, mempool_api_url=stand_in.url)
    unknown = examine(small_days, settings, NOW)
    stand_in.overrides["/v1/mining/difficulty-adjustments/24h"] = b"[]"

    known = examine(small_days, settings, NOW)

    assert known.mempool is not None
    assert (known.mempool.is_reachable, known.mempool.http_status, known.is_healthy) == (True, 200, True)
    assert unknown.mempool is not None
    assert (unknown.mempool.is_reachable, unknown.mempool.error, unknown.is_healthy) == (False, "HTTP 404", False)
    assert advice_of(unknown) == [f"{stand_in.url} cannot be read (HTTP 404): check the network and MEMPOOL_API_URL"]


# The archive


@pytest.fixture
def archive(settings: Settings) -> Archive:
    """The archive of two days: of one two earlier versions, the second of them a corrupt one."""
    archive = Archive(settings.archive_folder)
    for day, body in ((JUNE_6, "1"), (JUNE_7, "1"), (JUNE_7, "2")):
        archive.keep(day, {"stack_bid/7": body}, NOW)
    (archive.folder / "2025-06-07.json.gz").write_bytes(b"spoiled")
    archive.keep(JUNE_7, {"stack_bid/7": "3"}, NOW + timedelta(days=1))
    archive.keep_reference("[]")
    return archive


@on_sqlite
def test_the_archive_is_measured_and_left_as_it_is(
    small_days: Engine, settings: Settings, stand_in: StandInElexon, archive: Archive
) -> None:
    files = {path: path.read_bytes() for path in archive.folder.rglob("*") if path.is_file()}

    health = examine(small_days, with_elexon(settings, stand_in.url), NOW)

    assert health.archive == ArchiveFolder(
        path=str(archive.folder),
        recordings=2,
        first_day=JUNE_6,
        last_day=JUNE_7,
        earlier=2,
        corrupt=1,
        size_bytes=sum(map(len, files.values())),
        retention="nothing is deleted",
    )
    assert {path: path.read_bytes() for path in archive.folder.rglob("*") if path.is_file()} == files
    assert str(archive.folder) in {disk.path for disk in health.disks}
    assert health.is_healthy


@on_sqlite
def test_an_archive_that_is_not_there_yet_is_empty_and_not_made(
    small_days: Engine, settings: Settings, stand_in: StandInElexon
) -> None:
    health = examine(small_days, with_elexon(settings, stand_in.url), NOW)

    assert health.archive == ArchiveFolder(str(settings.archive_folder))
    assert not settings.archive_folder.exists()
    assert health.is_healthy


@on_sqlite
def test_where_recordings_are_read_nothing_is_archived(small_days: Engine, settings: Settings) -> None:
    assert examine(small_days, settings, NOW).facts()["archive"] is None


@on_sqlite
@pytest.mark.parametrize("name", ["taken", "taken/archive"])
def test_an_archive_that_cannot_be_written_is_no_health(
    small_days: Engine, settings: Settings, stand_in: StandInElexon, tmp_path: Path, name: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    settings = replace(with_elexon(settings, stand_in.url), archive_folder=tmp_path / name)

    health = examine(small_days, settings, NOW)

    assert not health.is_healthy
    assert advice_of(health) == [
        f"the archive at {tmp_path / name} cannot be used ({tmp_path / 'taken'} is no folder), so that no day can be "
        "read: let this user write there, or set RECON_ARCHIVE"
    ]


# Advice from figures that no test can bring about


HEALTHY_FILE = SqliteFile("/data/recon.db", 1_000_000_000, 4_000_000, "wal", 4096, 250_000, 0, "wal", "normal")


@pytest.fixture
def healthy(small_days: Engine, settings: Settings) -> Health:
    health = examine(small_days, settings, NOW)
    return replace(health, probes=tuple(replace(probe, verdict=ProbeStatus.OK) for probe in health.probes))


def size(table_bytes: int = 9_000_000, *, has_statistics: bool = True, dead_rows: int | None = 0) -> TableSize:
    return TableSize("wind_bids", 100_000, table_bytes, 0, has_statistics, dead_rows)


@on_sqlite
@pytest.mark.parametrize(
    ("section", "value", "advice"),
    [
        ("connections", Connections(60, 3, 46, 9, 1, 46 / 57), "46 of 57 connections are in use: raise"),
        ("connections", Connections(60, 3, 45, 9, 1, 45 / 57), None),
        ("timeouts", Timeouts(59_000, recon_lock="10min"), "statement_timeout is 59,000 ms: "),
        ("timeouts", Timeouts(60_000, 1, 1, recon_lock="10min"), None),
        ("tables", (size(has_statistics=False),), "wind_bids has 9.0 MB and no statistics: ANALYZE wind_bids"),
        ("tables", (size(900_000, has_statistics=False),), None),
        ("tables", (size(has_statistics=False, dead_rows=None),), None),
        ("tables", (size(dead_rows=40_001),), "wind_bids has 40,001 dead rows beside 100,000: VACUUM wind_bids"),
        ("tables", (size(dead_rows=40_000),), None),
        ("sqlite", HEALTHY_FILE, None),
        ("sqlite", replace(HEALTHY_FILE, wal_bytes=300_000_000), "the write-ahead log has 300 MB: "),
        ("sqlite", replace(HEALTHY_FILE, free_pages=70_000), "287 MB of 1,000 MB of /data/recon.db are empty: VACUUM"),
        ("sqlite", replace(HEALTHY_FILE, free_pages=60_000), None),
        ("disks", (Disk("database", "/data", 999_000_000, 10**12),), "999 MB are free at /data (database): make room"),
        ("disks", (Disk("database", "/data", 1_000_000_000, 10**12),), None),
    ],
)
def test_a_figure_beyond_its_threshold_is_worth_a_line(
    healthy: Health, section: str, value: object, advice: str | None
) -> None:
    lines = list(advise(replace(healthy, **{section: value})))  # type: ignore[arg-type]

    assert len(lines) == (advice is not None)
    assert all(line.startswith(advice or "") for line in lines)


@on_sqlite
def test_a_slow_probe_is_worth_a_line_and_no_illness(healthy: Health) -> None:
    slow = [replace(probe, verdict=ProbeStatus.SLOW, latency_ms=6_789.0) for probe in healthy.probes]

    health = replace(healthy, probes=tuple(slow))

    assert health.is_healthy
    assert list(advise(health))[:2] == [
        "connecting (the median of 3) took 6,789 ms, more than 500 ms: run recon nearer to the database",
        "a round trip (SELECT 1) took 6,789 ms, more than 50 ms: run recon nearer to the database",
    ]
    assert len(list(advise(health))) == len(slow)


# The Dagster home


@pytest.mark.parametrize(
    ("written", "is_slow"),
    [
        ("", True),
        ("telemetry:\n  enabled: false\n# storage: none is named\n", True),
        ("storage:\n  sqlite:\n    base_dir: /somewhere\n", True),
        (FAST_STORAGE, False),
        ("storage:\n  postgres:\n    postgres_url: postgresql://host/dagster\n", False),
        ("event_log_storage:\n  module: some\n  class: Other\n", False),
    ],
)
@on_sqlite
def test_a_home_whose_storage_is_slow_is_told_what_to_write(
    small_days: Engine, settings: Settings, written: str, is_slow: bool
) -> None:
    # given
    configuration = settings.dagster_home / "dagster.yaml"
    settings.dagster_home.mkdir(parents=True)
    configuration.write_text(written)

    # when
    health = examine(small_days, settings, NOW)

    # then
    assert health.dagster == DagsterHome(str(configuration), is_slow)
    assert [line for line in advice_of(health) if str(configuration) in line and FAST_STORAGE in line] == (
        advice_of(health) if is_slow else []
    )
    assert health.is_healthy


@on_sqlite
def test_a_home_of_this_version_needs_no_advice(small_days: Engine, settings: Settings) -> None:
    assert examine(small_days, settings, NOW).dagster is None

    prepare_home(settings.dagster_home)

    assert FAST_STORAGE in (settings.dagster_home / "dagster.yaml").read_text(encoding="utf-8")
    assert advice_of(examine(small_days, settings, NOW)) == []
