import multiprocessing
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, exc, text

from recon_assets.database import open_engine, reading, shown, writing
from recon_assets.errors import ConfigurationError
from recon_assets.settings import Settings
from recon_assets_tests.postgres import PostgresServer

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
    # given: another process that is just writing to a file whose journal mode is still the default
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

    assert shown(url) == "postgresql+psycopg://ann:***@db/wind"
