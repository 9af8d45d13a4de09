import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, Engine, event, exc, text

from recon_assets.database.engine import open_engine
from recon_assets.database.failures import Failure, failure_of
from recon_assets.database.transactions import reading, writing
from recon_assets.errors import (
    ConfigurationError,
    ElexonError,
    ReconError,
    SchemaError,
    UsageError,
)
from recon_assets_tests.support.steps import ENDLESS, JUNE_6, execute

# What is local to some rows or passes with time must not end the work on all the others; what is not must.
Step = str | Callable[[Connection], object]
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def other(engine: Engine) -> Iterator[Engine]:
    """An engine on the same database, like that of another process; it does not wait long for a lock of SQLite."""
    other = open_engine(engine.url)
    if other.dialect.name == "sqlite":
        event.listen(other, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 50"))
    yield other
    other.dispose()


def write(engine: Engine, *steps: Step, timeout_seconds: float | None = None) -> None:
    """Executes statements in a transaction, with what happens between them."""
    with writing(engine, [JUNE_6], timeout_seconds=timeout_seconds) as connection:
        for step in steps:
            if isinstance(step, str):
                connection.execute(text(step))
            else:
                step(connection)


def failure_in(engine: Engine, *steps: Step, timeout_seconds: float | None = None) -> Failure:
    """The Failure that recon makes of the error of the last step."""
    with pytest.raises(exc.DBAPIError) as raised:
        write(engine, *steps, timeout_seconds=timeout_seconds)
    return failure_of(raised.value)


def test_a_statement_that_took_too_long_is_a_time_out(engine: Engine) -> None:
    failure = failure_in(engine, ENDLESS, timeout_seconds=0.2)

    said = {
        "sqlite": "timed out: OperationalError: interrupted",
        "postgresql": "timed out: QueryCanceled: canceling statement due to statement timeout",
    }
    assert failure == Failure(said[engine.dialect.name], is_timeout=True)


@only_postgres
def test_a_row_that_another_writer_holds_for_too_long_is_a_time_out(engine: Engine, other: Engine) -> None:
    change = "UPDATE network_difficulty SET source = 'x'"
    with writing(other) as connection:
        connection.execute(text(change))

        failure = failure_in(engine, "SET LOCAL lock_timeout = '50ms'", change)

    assert failure.is_timeout
    assert not failure.is_everywhere
    assert failure.reason.startswith("timed out: LockNotAvailable: ")


@only_sqlite
def test_a_file_that_another_writer_holds_for_too_long_is_a_time_out(engine: Engine, other: Engine) -> None:
    with writing(engine):
        failure = failure_in(other, "SELECT 1")

    assert failure == Failure("timed out: OperationalError: database is locked", is_timeout=True)


@only_postgres
def test_a_change_of_what_another_writer_just_changed_may_be_tried_again(engine: Engine, other: Engine) -> None:
    change = "UPDATE network_difficulty SET source = source || 'x'"

    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SELECT 1"))
        execute(other, change)
        with pytest.raises(exc.DBAPIError) as raised:
            connection.execute(text(change))

    said = "SerializationFailure: could not serialize access due to concurrent update"
    assert failure_of(raised.value) == Failure(said)


@only_postgres
def test_a_deadlock_may_be_tried_again(engine: Engine, other: Engine) -> None:
    """Two writers that each wait for the other's row; PostgreSQL ends one of them."""
    lowest = "(SELECT min(height) FROM network_difficulty)"
    highest = "(SELECT max(height) FROM network_difficulty)"
    met, failures = threading.Barrier(2), []

    def change(engine: Engine, first: str, second: str) -> None:
        update = "UPDATE network_difficulty SET source = 'x' WHERE height ="
        steps: list[Step] = ["SET LOCAL deadlock_timeout = '50ms'", f"{update} {first}", lambda _: met.wait(10)]
        try:
            with engine.begin() as connection:
                for step in [*steps, f"{update} {second}"]:
                    connection.execute(text(step)) if isinstance(step, str) else step(connection)
        except exc.DBAPIError as error:
            failures.append(failure_of(error))

    threads = [
        threading.Thread(target=change, args=(engine, lowest, highest)),
        threading.Thread(target=change, args=(other, highest, lowest)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert Failure("DeadlockDetected: deadlock detected") in failures
    assert not any(failure.is_everywhere for failure in failures)


def test_rows_that_break_a_rule_of_the_database_say_nothing_about_other_rows(engine: Engine) -> None:
    values = f"'{JUNE_6}', 1, '2026-01-01 00:00:00', 1, 1, 1, 1, 1, 1, NULL, 'x', 'stack'"
    row = f"INSERT INTO proof_of_fetch VALUES ({values})"

    failure = failure_in(engine, row, row)

    assert not failure.is_everywhere
    assert not failure.is_timeout
    assert "unique" in failure.reason.lower()


@only_postgres
def test_a_number_that_does_not_fit_says_nothing_about_other_rows(engine: Engine) -> None:
    failure = failure_in(engine, "SELECT CAST(9999999999 AS integer)")

    assert failure == Failure("NumericValueOutOfRange: integer out of range")


def test_a_table_that_does_not_exist_fails_everything(engine: Engine) -> None:
    failure = failure_in(engine, "SELECT * FROM nowhere")

    assert failure.is_everywhere
    assert "nowhere" in failure.reason


def test_a_statement_that_the_database_does_not_understand_fails_everything(engine: Engine) -> None:
    assert failure_in(engine, "SELEKT 1").is_everywhere


@only_postgres
def test_a_missing_permission_fails_everything(engine: Engine) -> None:
    failure = failure_in(engine, "SET LOCAL ROLE pg_monitor", "DELETE FROM curtailment_records")

    said = "InsufficientPrivilege: permission denied for table curtailment_records"
    assert failure == Failure(said, is_everywhere=True)


def test_a_database_that_may_only_be_read_fails_everything(engine: Engine, other: Engine) -> None:
    """A standby server, or a file on a medium that is write-protected."""
    protect = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}

    failure = failure_in(other, protect[engine.dialect.name], "DELETE FROM curtailment_records")

    assert failure.is_everywhere
    assert "read" in failure.reason


def end_session(connection: Connection) -> None:
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with connection.engine.connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({pid})"))


def cut_wire(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    with closing(socket.socket(fileno=os.dup(driver.fileno()))) as wire:
        wire.shutdown(socket.SHUT_RDWR)


@only_postgres
@pytest.mark.parametrize("lose", [end_session, cut_wire])
def test_a_lost_connection_may_come_back(engine: Engine, lose: Step) -> None:
    failure = failure_in(engine, lose, "SELECT 1")

    assert not failure.is_everywhere
    assert not failure.is_timeout
    assert "\n" not in failure.reason
    # and: the engine connects again, and the lost connection no longer holds the lock of the day
    write(engine, "SELECT 1")


def test_a_server_that_cannot_be_reached_fails_everything() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

    with pytest.raises(ReconError) as raised, reading(open_engine(f"postgresql+psycopg://ann@{address}/wind")):
        pass

    assert failure_of(raised.value).is_everywhere


@pytest.mark.parametrize("kind", [ConfigurationError, SchemaError, UsageError])
def test_what_the_user_must_mend_fails_everything(kind: type[ReconError]) -> None:
    assert failure_of(kind("set it right")) == Failure("set it right", is_everywhere=True)


@pytest.mark.parametrize("kind", [ReconError, ElexonError])
def test_what_was_found_in_the_data_says_nothing_about_other_data(kind: type[ReconError]) -> None:
    assert failure_of(kind("2025-06-06: not so")) == Failure("2025-06-06: not so")


def test_an_error_in_the_program_fails_everything() -> None:
    failure = failure_of(KeyError("T_SGRWO-1"))

    assert failure == Failure("KeyError: 'T_SGRWO-1'", is_everywhere=True)


def test_a_reason_is_one_line_without_the_statement(engine: Engine) -> None:
    reason = failure_in(engine, "SELECT *\nFROM nowhere\nWHERE true").reason

    assert "\n" not in reason
    assert "WHERE" not in reason
