"""An SQLite file that is read without locks, where nothing may be written. Commands: cli/test_read_only.py."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from recon_assets.database.read_only import connect_unlocked, require_unchanged
from recon_assets.database.transactions import reading
from recon_assets.errors import ReconError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in WAL mode with one row."""
    file = tmp_path / "recon.db"
    change(file, "PRAGMA journal_mode = WAL", "CREATE TABLE t AS SELECT 1 AS x")
    return file


def change(file: Path, *statements: str) -> None:
    """Changes the file; the last connection that closes empties its write-ahead log into it."""
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_file_that_is_written_to_while_it_is_read_is_no_result(file: Path) -> None:
    """Whoever may write to it does; what was read before and after that may not fit together."""
    engine = create_engine("sqlite://", creator=lambda: connect_unlocked(file), poolclass=NullPool)
    event.listen(engine, "rollback", require_unchanged)

    def read_while_it_is_written() -> None:
        with reading(engine) as connection:
            assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 1
            change(file, "INSERT INTO t VALUES (2)")

    with pytest.raises(ReconError, match=f"^{file} was written to while it was read: run the command again$"):
        read_while_it_is_written()

    # and the next transaction reads what is there now
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 2


def test_a_connection_without_locks_writes_nothing(file: Path) -> None:
    connection = connect_unlocked(file)

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM t")

    connection.close()
    assert [path.name for path in file.parent.iterdir()] == ["recon.db"]
