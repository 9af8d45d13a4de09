"""The state of the database schema, and its creation and upgrade with Alembic.

Commands that read only ask for the state. Commands that write create the schema in an empty database. Only
`recon migrate` changes an older schema or a foreign one.
"""

import sqlite3
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, insert, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from recon_assets.database.adoption import refusal_message, refusals
from recon_assets.database.engine import display_url, open_engine_to_read, prepare_to_write, sqlite_file
from recon_assets.database.keys import (
    Key,
    add_keys,
    add_keys_concurrently,
    concurrent_statements,
    missing_keys,
    pending_line,
)
from recon_assets.database.migration import recorded, revisions, upgrade
from recon_assets.database.shape import Change, changes, shape_of
from recon_assets.database.tables import metadata, recon_settings
from recon_assets.database.transactions import reading, writing
from recon_assets.database.trial import trial_refusals
from recon_assets.domain.settlement import FIRST_DAY
from recon_assets.errors import ConfigurationError, SchemaError

VERSION_TABLE = "recon_schema_version"
FIRST_DAY_NAME = "first_day"
"""The name of the first kept day in `recon_settings`."""
SCHEMA_LOCK = date.min
"""No settlement day has this date. Its lock is the lock of the schema."""

FIRST_STEP = "run for example 'recon daily-check', or set DATABASE_URL"


class SchemaState(StrEnum):
    """The state of a database compared with the schema that this version expects."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"


def schema_state(connection: Connection) -> SchemaState:
    """Whether the database has our schema, another version of it, the user's old tables, or none of these."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        return SchemaState.FOREIGN if tables & set(metadata.tables) else SchemaState.EMPTY
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    known = revisions()
    if version not in known:
        return SchemaState.NEWER
    return SchemaState.CURRENT if version == known[0] else SchemaState.OLDER


def require_schema(engine: Engine, *, create: bool, first_day: date = FIRST_DAY) -> None:
    """Makes sure that the schema is current, creating it in an empty database when `create`; else SchemaError.

    ConfigurationError if the database keeps days from another day than `first_day`.
    """
    where = display_url(engine.url)
    file = sqlite_file(engine.url)
    if file is not None and create:
        prepare_to_write(file)
    elif file is not None and not file.exists():
        raise SchemaError(f"there is no database at {file} yet: {FIRST_STEP}")
    with reading(engine) as connection:
        state = schema_state(connection)
        if state is SchemaState.CURRENT:
            check_first_day(connection, first_day)
    if state is SchemaState.EMPTY and create:
        migrate(engine, first_day=first_day)
    elif state is SchemaState.EMPTY:
        raise SchemaError(f"{where} holds no curtailment data yet: {FIRST_STEP}")
    elif state is SchemaState.NEWER:
        raise SchemaError(f"{where} was made by a newer version of recon: install that version")
    elif state is not SchemaState.CURRENT:
        found = "an older schema" if state is SchemaState.OLDER else "tables that recon has not adopted yet"
        raise SchemaError(f"{where} has {found}: run 'recon migrate'")


def check_first_day(connection: Connection, first_day: date) -> bool:
    """Whether the first kept day is in the database; ConfigurationError if it is another one than this process has."""
    found = select(recon_settings.c.value).where(recon_settings.c.name == FIRST_DAY_NAME)
    kept = connection.execute(found).scalar()
    if kept not in (None, first_day.isoformat()):
        raise ConfigurationError(
            f"RECON_FIRST_DAY is {first_day}, but {display_url(connection.engine.url)} keeps days from {kept} on: set "
            f"RECON_FIRST_DAY={kept}, or change the database: UPDATE recon_settings SET value = '{first_day}' "
            f"WHERE name = '{FIRST_DAY_NAME}'"
        )
    return kept is not None


@dataclass(frozen=True)
class Migration:
    """What a migration did, or would do: the changes, what else is worth knowing, and the SQL."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    statements: tuple[str, ...]
    failures: tuple[str, ...] = ()


def migrate(engine: Engine, *, dry_run: bool = False, first_day: date = FIRST_DAY) -> Migration:
    """Creates, adopts or upgrades the schema in one transaction, and adds unique keys for which rows were in the way.

    No row is changed; a failure leaves no trace. SchemaError, with a line for each reason, when an old database cannot
    be adopted. `first_day` is kept in the database, unless it has one: ConfigurationError if that is another.
    """
    file = sqlite_file(engine.url)
    if file is not None and dry_run:
        return _migrate_copy(engine.url, file, first_day)
    if file is not None:
        prepare_to_write(file)
    is_sqlite = engine.dialect.name == "sqlite"
    # Two processes may find the database empty at once. The second waits here and then has nothing to do.
    with writing(engine, [SCHEMA_LOCK]) as connection:
        state = schema_state(connection)
        if state is SchemaState.NEWER:
            raise SchemaError("the database was made by a newer version of recon: install that version")
        is_foreign = state in (SchemaState.FOREIGN, SchemaState.EMPTY)
        if state is not SchemaState.CURRENT:
            _refuse(refusals(connection, is_foreign=is_foreign))
        before = shape_of(connection)
        with recorded(connection) as statements:
            upgrade(connection)
        if state in (SchemaState.FOREIGN, SchemaState.OLDER):
            _refuse(list(trial_refusals(connection)))
        done = changes(before, shape_of(connection))
        if not check_first_day(connection, first_day):
            connection.execute(insert(recon_settings).values(name=FIRST_DAY_NAME, value=first_day.isoformat()))
            # In a database that was empty, the table is listed alone, as every new table is.
            done += [] if state is SchemaState.EMPTY else [Change("add", f"setting {FIRST_DAY_NAME} = {first_day}")]
        missing = list(missing_keys(connection))
        ready = [key for key, duplicates in missing if not duplicates]
        if is_sqlite:
            with recorded(connection) as of_keys:
                add_keys(connection, ready)
            statements += of_keys
        else:
            statements += [line for key in ready for line in concurrent_statements(connection, key)]
        notes = [pending_line(key.table, duplicates) for key, duplicates in missing if duplicates]
        if Change("add", "table recon_progress") in done:
            notes.insert(0, "reconciliation_progress has other columns and is left alone; recon uses recon_progress")
        if dry_run:
            connection.rollback()
    failures: dict[Key, str] = {}
    if not is_sqlite and ready and not dry_run:
        failures = add_keys_concurrently(engine, ready)
    done += [Change("add", str(key)) for key in ready if key not in failures]
    return Migration(tuple(done), tuple(notes), tuple(statements), tuple(failures.values()))


def _refuse(lines: list[str]) -> None:
    if lines:
        raise SchemaError(refusal_message(lines))


def _migrate_copy(url: URL, file: Path, first_day: date) -> Migration:
    """Migrates a copy of an SQLite file, which is gone afterwards: even a rollback would write to the file itself."""
    copy = sqlite3.connect("")  # in memory, and on disk without a name if it is large
    if file.exists():
        original = open_engine_to_read(url)
        with reading(original) as connection:
            driver: Any = connection.connection.driver_connection
            driver.backup(copy)
        original.dispose()
    engine = create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool)
    try:
        return migrate(engine, first_day=first_day)
    finally:
        engine.dispose()
