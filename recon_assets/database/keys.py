"""The unique keys of the user's tables: which are missing, because rows are there twice, and how to add them later."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from recon_assets.database.kept_tables import USER_TABLES
from recon_assets.database.transactions import LOCK_CLASS, writing
from recon_assets.domain.words import plural
from recon_assets.errors import DiskError, first_line

KEYS_LOCK = 0
"""The advisory lock of whoever adds unique keys; no date has this ordinal."""
TRY_LOCK = f"SELECT pg_try_advisory_xact_lock({LOCK_CLASS}, {KEYS_LOCK})"
"""Without parameters: psycopg keeps the portal of a statement that has some open, and with it a snapshot."""
KIND = text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)")
SCHEMA = text("""
SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(:name)
""")

INVALID = text("""
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(:name) AND NOT i.indisvalid
""")


class Key(NamedTuple):
    """The unique key of a table: the index and its columns."""

    table: str
    name: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"unique key ({', '.join(self.columns)}) of {self.table}"

    def create(self, name: str, *, concurrently: bool = False, schema: str = "") -> str:
        """The statement that makes it under a name; the schema is written as it is put before a name."""
        how = "INDEX CONCURRENTLY" if concurrently else "INDEX"
        return f"CREATE UNIQUE {how} {name} ON {schema}{self.table} ({', '.join(self.columns)})"


KEYS = tuple(
    Key(table.name, str(index.name), tuple(index.columns.keys()))
    for table in USER_TABLES.values()
    for index in table.indexes
    if index.unique
)


def has_unique_key(connection: Connection, table: str, columns: Iterable[str]) -> bool:
    """Whether the database itself forbids two rows with the same values in these columns.

    A partial index forbids only some, and an invalid one (its building failed) was not true when it was built.
    """
    inspector = inspect(connection)
    invalid: set[str] = set()
    if connection.dialect.name == "postgresql":
        invalid = set(connection.execute(INVALID, {"name": table}).scalars())
    keys: list[Sequence[str | None]] = [inspector.get_pk_constraint(table)["constrained_columns"]]
    keys += [constraint["column_names"] for constraint in inspector.get_unique_constraints(table)]
    keys += [
        index["column_names"]
        for index in inspector.get_indexes(table)
        if index["unique"] and index["name"] not in invalid and not _is_partial(index.get("dialect_options", {}))
    ]
    return any(set(key) == set(columns) for key in keys)


def _is_partial(options: dict[str, object]) -> bool:
    return any(name.endswith("_where") for name in options)


def missing_keys(connection: Connection) -> Iterator[tuple[Key, int]]:
    """The unique keys that tables lack, each with the number of rows that are one too many of their key."""
    existing = set(inspect(connection).get_table_names())
    for key in KEYS:
        if key.table not in existing or has_unique_key(connection, key.table, key.columns):
            continue
        columns = ", ".join(key.columns)
        known = " AND ".join(f"{column} IS NOT NULL" for column in key.columns)
        several = f"SELECT count(*) - 1 AS more FROM {key.table} WHERE {known} GROUP BY {columns} HAVING count(*) > 1"
        more = connection.exec_driver_sql(f"SELECT coalesce(sum(more), 0) FROM ({several}) AS twice").scalar_one()
        yield key, int(more)


def pending_keys(connection: Connection) -> dict[str, int]:
    """The tables that wait for their unique key, each with its number of duplicate rows.

    Where that is 0, the next `recon migrate` adds the key.
    """
    return {key.table: duplicates for key, duplicates in missing_keys(connection)}


def pending_line(table: str, duplicates: int) -> str:
    """What to say of a table that waits for its unique key."""
    if not duplicates:
        return f"Unique key of {table}: pending, run 'recon migrate' to add it"
    rows = plural(duplicates, "duplicate row")
    return f"Unique key of {table}: pending, {rows}; run 'recon migrate' when they are gone"


def add_keys(connection: Connection, keys: Iterable[Key]) -> None:
    """Adds unique keys in the transaction, each in place of the index that a migration made instead."""
    for key in keys:
        plain, name = _names(connection, key)
        if plain:
            connection.exec_driver_sql(f"DROP INDEX {plain}")
        connection.exec_driver_sql(key.create(name))


def add_keys_concurrently(engine: Engine, keys: Iterable[Key]) -> dict[Key, str]:
    """Adds unique keys on PostgreSQL while others write; returns why some were not added.

    An index that could not be built is dropped. Outside a transaction, as such a build must be.
    """
    failures: dict[Key, str] = {}
    with writing(engine) as holder:
        # Not waited for, and nothing else is asked here: the build waits for every snapshot, and that of this
        # transaction too.
        if not holder.exec_driver_sql(TRY_LOCK).scalar_one():
            return {key: f"{key} was not added: another 'recon migrate' is at work" for key in keys}
        for key in keys:
            with engine.connect() as connection:
                statements, schema = concurrent_statements(connection, key), _schema(connection, key)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                reason = _add_concurrently(connection, key, statements, schema)
                if reason:
                    failures[key] = f"{key} was not added: {reason}; run 'recon migrate' again"
    return failures


def _building(key: Key) -> str:
    return f"{key.table}_building"


def concurrent_statements(connection: Connection, key: Key) -> list[str]:
    """The statements that add a key on PostgreSQL: the build, and then what gives it the place of a plain index."""
    plain, name = _names(connection, key)
    schema = _schema(connection, key)
    return [
        key.create(_building(key), concurrently=_kind(connection, key.table) != "p", schema=schema),
        *([f"DROP INDEX {schema}{plain}"] if plain else []),
        f"ALTER INDEX {schema}{_building(key)} RENAME TO {name}",
    ]


def _add_concurrently(connection: Connection, key: Key, statements: Sequence[str], schema: str) -> str | None:
    build, *rest = statements
    drop = f"DROP INDEX {'CONCURRENTLY ' if 'CONCURRENTLY' in build else ''}IF EXISTS {schema}{_building(key)}"
    connection.exec_driver_sql(drop)  # of a build that was interrupted
    try:
        connection.exec_driver_sql(build)
    except (DBAPIError, DiskError) as error:
        connection.exec_driver_sql(drop)
        return "duplicate rows appeared" if isinstance(error, IntegrityError) else first_line(error)
    for statement in rest:
        connection.exec_driver_sql(statement)
    return None


def _schema(connection: Connection, key: Key) -> str:
    """What stands before a name in the key's schema: outside a transaction no search path of DATABASE_URL holds."""
    return f"{connection.execute(SCHEMA, {'name': key.table}).scalar_one()}."


def _kind(connection: Connection, table: str) -> str:
    """PostgreSQL's letter for the kind of a table; `p` is partitioned, and has no concurrent build."""
    return str(connection.execute(KIND, {"name": table}).scalar_one())


def _names(connection: Connection, key: Key) -> tuple[str | None, str]:
    """The index that stands in place of a key, if there is one, and the name that the key can have."""
    taken = {index["name"]: index for index in inspect(connection).get_indexes(key.table)}
    there = taken.get(key.name)
    if there is None:
        return None, key.name
    if not there["unique"] and there["column_names"] == list(key.columns):
        return key.name, key.name
    return None, f"{key.name}_unique"
