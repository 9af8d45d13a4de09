"""Full disks: of a database, and of the files that this process writes."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from recon_assets_tests.support.steps import execute, scalar

SERVER_IS_FULL = "could not extend file: No space left on device"


@contextmanager
def full_database(engine: Engine, table: str = "historical_bitcoin_calculations") -> Iterator[None]:
    """A database that has no room left: an SQLite file that may not grow, a server that says so of new rows of a table.

    No room is set free by rows that are gone already.
    """
    if engine.dialect.name == "postgresql":
        fault = f"BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''{SERVER_IS_FULL}''; END"
        execute(
            engine,
            f"CREATE FUNCTION be_full() RETURNS trigger LANGUAGE plpgsql AS '{fault}'",
            f"CREATE TRIGGER be_full BEFORE INSERT ON {table} EXECUTE FUNCTION be_full()",
        )
        yield
        execute(engine, f"DROP TRIGGER be_full ON {table}")
        return
    with engine.connect() as connection:
        connection.connection.execute("VACUUM")
    pages = scalar(engine, "PRAGMA page_count")

    def limit(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    event.listen(engine, "connect", limit)
    engine.dispose()
    try:
        yield
    finally:
        event.remove(engine, "connect", limit)
        engine.dispose()


@contextmanager
def full_files(longest: int) -> Iterator[None]:
    """Lets no file of this process grow beyond so many bytes; the error is "File too large"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
