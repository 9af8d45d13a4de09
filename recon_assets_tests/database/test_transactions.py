import multiprocessing
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, exc, text

from recon_assets.database.engine import display_url, open_engine
from recon_assets.database.transactions import reading, snapshots, writing
from recon_assets.errors import ConfigurationError
from recon_assets.settings import Settings
from recon_assets_tests.support.postgres import PostgresServer

JUNE_1, JUNE_2 = date(2025, 6, 1), date(2025, 6, 2)
# Every writing process imports this module, so that it leaves pandas and Dagster alone.
WRITERS, ROUNDS = 3, 40
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def counter(settings: Settings) -> Iterator[Engine]:
    """A database, on each engine, with a table that holds one number, 0."""
    engine = open_engine(settings.database_url)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))
    yield engine
    engine.dispose()


def count(counter: Engine) -> int:
    with reading(counter) as connection:
        return int(connection.execute(text("SELECT n FROM counter")).scalar_one())


@pytest.fixture
def postgres_engine(postgres: PostgresServer, tmp_path: Path) -> Iterator[Engine]:
    name = f"test_{uuid.uuid4().hex}"
    settings = Settings.from_environment({"DATABASE_URL": postgres.create_database(name)}, tmp_path)
    engine = open_engine(settings.database_url)
    yield engine
    engine.dispose()
    postgres.drop_database(name)


def count_up(url: str, rounds: int) -> None:
    """Reads a number, then writes it one higher, again and again."""
    engine = open_engine(url)
    for _ in range(rounds):
        with writing(engine, [JUNE_1]) as connection:
            n = connection.execute(text("SELECT n FROM counter")).scalar_one()
            connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})


def test_writers_in_several_processes_neither_fail_nor_lose_a_write(counter: Engine) -> None:
    url = counter.url.render_as_string(hide_password=False)
    writers = [spawn.Process(target=count_up, args=(url, ROUNDS)) for _ in range(WRITERS)]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert count(counter) == WRITERS * ROUNDS


def test_writers_in_several_threads_neither_fail_nor_lose_a_write(counter: Engine) -> None:
    url = counter.url.render_as_string(hide_password=False)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            count_up(url, ROUNDS)
        except BaseException as error:
            failures.append(error)

    run_together(*[write] * WRITERS)

    assert failures == []
    assert count(counter) == WRITERS * ROUNDS


def run_together(*jobs: Callable[[], object]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_a_new_sqlite_file_may_be_busy_when_it_is_opened(tmp_path: Path) -> None:
    # given: another process that is just writing to a file whose work_log mode is still the default
    file = tmp_path / "new.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (n INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.execute, ["COMMIT"]).start()

    with closing(other), reading(open_engine(f"sqlite:///{file}")) as connection:
        assert connection.execute(text("SELECT count(*) FROM theirs")).scalar_one() == 0


def fail_after_a_write(engine: Engine) -> None:
    with writing(engine, [JUNE_1]) as connection:
        connection.execute(text("UPDATE counter SET n = 7"))
        raise ZeroDivisionError


def test_a_failed_transaction_leaves_no_trace_and_no_lock(counter: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_after_a_write(counter)

    assert count(counter) == 0
    count_up(counter.url.render_as_string(hide_password=False), 1)
    assert count(counter) == 1


def test_a_reader_sees_one_snapshot(counter: Engine) -> None:
    with reading(counter) as connection:
        before = connection.execute(text("SELECT n FROM counter")).scalar_one()
        count_up(counter.url.render_as_string(hide_password=False), 1)
        after = connection.execute(text("SELECT n FROM counter")).scalar_one()

    assert (before, after) == (0, 0)
    assert count(counter) == 1


def test_a_reader_changes_nothing(counter: Engine) -> None:
    with reading(counter) as connection:
        connection.execute(text("UPDATE counter SET n = 7"))

    assert count(counter) == 0


def enter_in_a_thread(engine: Engine, days: list[date]) -> tuple[threading.Thread, threading.Event]:
    entered = threading.Event()

    def enter() -> None:
        with writing(engine, days):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    return thread, entered


def test_writers_of_one_day_wait_for_one_another(postgres_engine: Engine) -> None:
    with writing(postgres_engine, [JUNE_1]):
        thread, entered = enter_in_a_thread(postgres_engine, [JUNE_2, JUNE_1])
        assert not entered.wait(0.3)

    assert entered.wait(10)
    thread.join()


def test_writers_of_other_days_do_not_wait(postgres_engine: Engine) -> None:
    with writing(postgres_engine, [JUNE_1]):
        thread, entered = enter_in_a_thread(postgres_engine, [JUNE_2])
        assert entered.wait(10)
        thread.join()


def test_a_writer_that_waited_sees_what_the_other_one_wrote(counter: Engine) -> None:
    url = counter.url.render_as_string(hide_password=False)
    with writing(counter, [JUNE_1]) as connection:
        waiting = threading.Thread(target=count_up, args=(url, 1))
        waiting.start()
        time.sleep(0.3)
        connection.execute(text("UPDATE counter SET n = 100"))
    waiting.join()

    assert count(counter) == 101


def test_writers_that_name_the_same_days_in_another_order_do_not_block_each_other(postgres_engine: Engine) -> None:
    def write(days: list[date]) -> None:
        for _ in range(20):
            with writing(postgres_engine, days):
                pass

    run_together(lambda: write([JUNE_1, JUNE_2]), lambda: write([JUNE_2, JUNE_1]))


def test_a_lock_that_is_not_given_says_so_and_leaves_the_engine_usable(postgres_engine: Engine) -> None:
    impatient = open_engine(postgres_engine.url.update_query_dict({"options": "-cstatement_timeout=200"}))

    with writing(postgres_engine, [JUNE_1]):
        with pytest.raises(exc.OperationalError, match="statement timeout"), writing(impatient, [JUNE_1, JUNE_2]):
            pass
        thread, entered = enter_in_a_thread(impatient, [JUNE_2])
        assert entered.wait(10)
        thread.join()
    impatient.dispose()


def test_a_server_that_cannot_be_reached_is_a_wrong_setting() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    engine = open_engine(f"postgresql+psycopg://ann:s3cret@{address}/wind?password=s3cret")

    for connect in (reading, writing):
        with pytest.raises(ConfigurationError) as failure, connect(engine):
            pass
        message = str(failure.value)
        assert message.startswith(f"DATABASE_URL: cannot connect to postgresql+psycopg://ann:***@{address}/wind: ")
        assert "Connection refused" in message
        assert "s3cret" not in message
        assert "\n" not in message


def test_an_option_that_does_not_exist_is_a_wrong_setting() -> None:
    engine = open_engine("postgresql+psycopg://ann:s3cret@127.0.0.1/wind?sslmud=require")

    with pytest.raises(ConfigurationError, match=r'^DATABASE_URL: cannot connect .*"sslmud"$'), reading(engine):
        pass


def test_a_database_that_does_not_exist_is_a_wrong_setting(postgres: PostgresServer) -> None:
    engine = open_engine(postgres.url("nowhere").replace("postgresql:", "postgresql+psycopg:"))

    with (
        pytest.raises(ConfigurationError, match=r'^DATABASE_URL: .*database "nowhere" does not exist$'),
        reading(engine),
    ):
        pass


def test_a_file_that_is_no_database_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("nothing but words, and enough of them to fill a header" * 10)

    with (
        pytest.raises(
            ConfigurationError, match=r"^DATABASE_URL: cannot connect to .*notes\.db: file is not a database$"
        ),
        reading(open_engine(f"sqlite:///{tmp_path / 'notes.db'}")),
    ):
        pass


def test_a_file_in_a_folder_that_does_not_exist_is_a_wrong_setting(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ConfigurationError, match=r"^DATABASE_URL: cannot connect to .*nowhere/recon\.db: unable to open"
        ),
        reading(open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'recon.db'}")),
    ):
        pass


def test_an_address_in_print_has_no_password_and_no_options() -> None:
    url = open_engine("postgresql+psycopg://ann:s3cret@db/wind?password=s3cret&sslmode=require").url

    assert display_url(url) == "postgresql+psycopg://ann:***@db/wind"


A_WHILE = "WITH RECURSIVE few(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM few WHERE n < {}) SELECT max(n) FROM few"
"""Counting so far: a million takes about 0.2 s."""
ENDLESS = A_WHILE.format(10**15).replace("SELECT 1", "SELECT CAST(1 AS bigint)")


def seen_by(connection: Connection) -> int:
    return int(connection.execute(text("SELECT n FROM counter")).scalar_one())


def write_within(engine: Engine, timeout_seconds: float, *statements: str) -> None:
    with writing(engine, [JUNE_1], timeout_seconds=timeout_seconds) as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_one_snapshot_is_a_reader(counter: Engine) -> None:
    with snapshots(counter, 1) as (connection,):
        connection.execute(text("UPDATE counter SET n = 7"))

    assert count(counter) == 0


def test_snapshots_do_not_see_what_is_written_beside_them(counter: Engine) -> None:
    url = counter.url.render_as_string(hide_password=False)

    with snapshots(counter, 3) as connections:
        before = seen_by(connections[0])
        count_up(url, 1)
        after = [seen_by(connection) for connection in connections]

    assert (before, after) == (0, [0, 0, 0])
    assert count(counter) == 1
    with snapshots(counter, 3) as connections:
        assert [seen_by(connection) for connection in connections] == [1, 1, 1]


def test_snapshots_see_the_same_though_others_write_while_they_are_taken(counter: Engine) -> None:
    # given: another process, which writes before each of the first statements with which they are taken
    url = counter.url.render_as_string(hide_password=False)
    written: list[int] = []

    def write(*_: object) -> None:
        if len(written) < 8:
            written.append(1)
            count_up(url, 1)

    event.listen(counter, "before_cursor_execute", write)
    with snapshots(counter, 3) as connections:
        event.remove(counter, "before_cursor_execute", write)
        seen = [seen_by(connection) for connection in connections]

    assert len(set(seen)) == 1
    assert len(written) >= 3
    assert count(counter) == len(written)


def test_snapshots_are_read_side_by_side(counter: Engine) -> None:
    met, seen = threading.Barrier(3), []

    def look(connection: Connection) -> None:
        met.wait(10)
        seen.append(seen_by(connection))
        met.wait(10)

    with snapshots(counter, 3) as connections:
        run_together(*(lambda connection=connection: look(connection) for connection in connections))

    assert seen == [0, 0, 0]


def test_a_statement_that_takes_too_long_is_ended_and_leaves_no_trace(counter: Engine) -> None:
    started = time.monotonic()

    with pytest.raises(exc.OperationalError, match=r"interrupted|statement timeout"):
        write_within(counter, 0.2, "UPDATE counter SET n = 7", ENDLESS)

    assert 0.2 <= time.monotonic() - started < 5
    assert count(counter) == 0


def test_a_write_that_takes_too_long_is_ended_and_leaves_no_trace(counter: Engine) -> None:
    """SQLite rolls back by itself when it ends a statement that writes."""
    with pytest.raises(exc.OperationalError, match=r"interrupted|statement timeout"):
        write_within(counter, 0.2, "UPDATE counter SET n = 7", f"UPDATE counter SET n = ({ENDLESS})")

    assert count(counter) == 0
    count_up(counter.url.render_as_string(hide_password=False), 1)


@pytest.mark.parametrize("fails", [True, False])
def test_a_time_out_ends_with_its_transaction(counter: Engine, fails: bool) -> None:
    with pytest.raises(exc.OperationalError) if fails else nullcontext():
        write_within(counter, 0.05, ENDLESS if fails else "UPDATE counter SET n = 1")

    # then: what takes longer is not ended, on the same connection to the database
    started = time.monotonic()
    with writing(counter) as connection:
        connection.execute(text(A_WHILE.format(1_000_000)))
    assert time.monotonic() - started > 0.05


def test_work_within_its_time_is_committed(counter: Engine) -> None:
    write_within(counter, 30, "UPDATE counter SET n = 7")

    assert count(counter) == 7


def test_on_sqlite_all_statements_of_a_transaction_share_the_time(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'recon.db'}")
    started = time.monotonic()

    with pytest.raises(exc.OperationalError, match="interrupted"):
        write_within(engine, 0.3, *[A_WHILE.format(200_000)] * 200)

    assert time.monotonic() - started >= 0.3
    engine.dispose()


def test_on_sqlite_the_time_begins_when_the_file_is_locked(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'recon.db'}")
    other = sqlite3.connect(tmp_path / "recon.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (n INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.execute, ["COMMIT"]).start()

    with closing(other), writing(engine, timeout_seconds=0.4) as connection:
        connection.execute(text(A_WHILE.format(200_000)))
    engine.dispose()


def test_on_postgresql_each_statement_has_the_time_and_the_wait_for_the_days_has_none(postgres_engine: Engine) -> None:
    with writing(postgres_engine, [JUNE_1]):
        done = threading.Event()

        def write() -> None:
            with writing(postgres_engine, [JUNE_1], timeout_seconds=0.3) as connection:
                for _ in range(3):
                    connection.execute(text("SELECT pg_sleep(0.15)"))
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.5)

    assert done.wait(10)
    thread.join()
