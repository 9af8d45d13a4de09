"""One engine for each SQLite file of a process."""

import gc
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, Engine, text

from recon_assets.orchestration.sqlite_engines import ENGINES, MOST_FILES, SqliteEngines

DESCRIPTORS = 3
"""Of an open file: the database, its write-ahead log and the index of that."""


@pytest.fixture
def engines() -> Iterator[SqliteEngines]:
    """A process without open files."""
    engines = SqliteEngines()
    yield engines
    engines.close_all()


def make_table(path: Path) -> None:
    """Makes a file as Dagster does, with a write-ahead log."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS words (word TEXT)")
    connection.close()


def open_file(engines: SqliteEngines, path: Path) -> Engine:
    return engines.engine(path, {"timeout": 30}, lambda: make_table(path))


def write(connection: Connection, word: str) -> None:
    connection.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})


def words(path: Path) -> list[str]:
    """What another process would read."""
    connection = sqlite3.connect(path)
    found = [word for (word,) in connection.execute("SELECT word FROM words ORDER BY rowid")]
    connection.close()
    return found


def driver_connection(connection: Connection) -> int:
    return id(connection.connection.dbapi_connection)


def test_a_file_has_one_engine_and_keeps_its_connection(engines: SqliteEngines, tmp_path: Path) -> None:
    made, used = set(), set()
    for _ in range(5):
        made.add(engine := open_file(engines, tmp_path / "file.db"))
        with engine.begin() as connection:
            used.add(driver_connection(connection))

    assert (len(made), len(used)) == (1, 1)


def test_threads_never_share_a_connection(engines: SqliteEngines, tmp_path: Path) -> None:
    # given
    used, together = [], threading.Barrier(8)

    def work() -> None:
        together.wait()
        engine = open_file(engines, tmp_path / "file.db")
        with engine.connect() as connection:
            used.append(driver_connection(connection))
            together.wait()
        for number in range(20):
            with engine.begin() as connection:
                write(connection, str(number))

    # when
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # then
    assert len(set(used)) == 8
    assert sorted(words(tmp_path / "file.db")) == sorted(str(number) for number in range(20) for _ in threads)
    assert engines.open_files() == [tmp_path / "file.db"]


def test_only_so_many_files_are_open(engines: SqliteEngines, tmp_path: Path) -> None:
    # given
    gc.collect()  # what earlier tests left open
    before = psutil.Process().num_fds()

    # when there is a file for each run, and one that is used all the time
    for number in range(3 * MOST_FILES):
        for path in (tmp_path / f"run_{number}.db", tmp_path / "index.db"):
            with open_file(engines, path).begin() as connection:
                write(connection, "word")

    # then
    files = engines.open_files()
    assert len(files) == MOST_FILES
    assert tmp_path / "index.db" in files
    assert psutil.Process().num_fds() - before <= DESCRIPTORS * MOST_FILES
    assert len(words(tmp_path / "index.db")) == 3 * MOST_FILES

    # when
    engines.close_all()

    # then nothing is left open, and the files are whole without their logs
    assert psutil.Process().num_fds() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".db"] == []


def test_a_file_that_is_closed_while_it_is_used_is_written_to_the_end(engines: SqliteEngines, tmp_path: Path) -> None:
    gc.collect()  # what earlier tests left open
    before = psutil.Process().num_fds()
    with open_file(engines, tmp_path / "file.db").begin() as connection:
        engines.close(tmp_path / "file.db")
        write(connection, "word")

    assert words(tmp_path / "file.db") == ["word"]
    del connection
    gc.collect()
    assert psutil.Process().num_fds() == before


def test_a_file_that_was_replaced_is_opened_again(engines: SqliteEngines, tmp_path: Path) -> None:
    # given
    path = tmp_path / "file.db"
    with open_file(engines, path).begin() as connection:
        write(connection, "old")

    # when
    for file in tmp_path.iterdir():
        file.unlink()
    with open_file(engines, path).begin() as connection:
        write(connection, "new")

    # then
    assert words(path) == ["new"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_uses_no_connection_of_its_parent(tmp_path: Path) -> None:
    # given a parent that has written, and a thread of it in the middle of a transaction
    engines = ENGINES  # those that are told of forks
    path, other = tmp_path / "file.db", tmp_path / "other.db"
    with open_file(engines, path).begin() as connection:
        write(connection, "parent")
    with open_file(engines, other).begin() as connection:
        write(connection, "parent")
    busy, forked = threading.Event(), threading.Event()

    def work() -> None:
        with open_file(engines, other).begin() as connection:
            write(connection, "thread")
            busy.set()
            forked.wait()

    thread = threading.Thread(target=work)
    thread.start()
    busy.wait()
    inherited = open_file(engines, path)

    # when
    child = os.fork()
    if child == 0:
        mine = open_file(engines, path)
        with mine.begin() as connection:
            write(connection, "child")
        with open_file(engines, other).connect() as connection:
            seen = connection.execute(text("SELECT word FROM words")).scalars().all()
        open_at_parent = [file for file in psutil.Process().open_files() if file.path.startswith(str(path))]
        # One connection: that of the parent was closed before the fork.
        is_right = mine is not inherited and seen == ["parent"] and len(open_at_parent) <= DESCRIPTORS
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    forked.set()
    thread.join()

    # then
    assert status == 0
    assert open_file(engines, path) is inherited
    with inherited.begin() as connection:
        write(connection, "parent again")
    assert words(path) == ["parent", "child", "parent again"]
    assert words(other) == ["parent", "thread"]
    engines.close_folder(tmp_path)
    for file in (path, other):
        checked = sqlite3.connect(file)
        assert checked.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        checked.close()
