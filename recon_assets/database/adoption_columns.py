"""Which columns of the user's tables recon cannot work with: names, types, values, and the row's identity."""

from collections.abc import Iterator

from sqlalchemy import Connection, Table, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.types import NullType

from recon_assets.database import adoption_types
from recon_assets.database.kept_tables import PERIOD_COLUMNS
from recon_assets.database.keys import has_unique_key
from recon_assets.domain.words import plural

TYPES_OF_POSTGRESQL = text("""
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped
""")
PARTITIONED_BY = text("""
SELECT coalesce(a.attname, 'an expression') FROM pg_partitioned_table p CROSS JOIN unnest(p.partattrs) AS part
LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = part AND part <> 0
WHERE p.partrelid = to_regclass(:name)
""")


def quoted(connection: Connection, name: str) -> str:
    """A name as SQL needs it."""
    return connection.dialect.identifier_preparer.quote(name)


def declared_types(connection: Connection, table: str) -> dict[str, str]:
    """The types of a table's columns as they were declared."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"PRAGMA table_xinfo({table})").all()
        return {name: kind.lower() for _, name, kind, *_ in rows}
    return {name: kind for name, kind in connection.execute(TYPES_OF_POSTGRESQL, {"name": table})}


def column_refusals(connection: Connection, table: Table) -> Iterator[str]:
    """What is wrong with the columns of one of the user's tables."""
    types = declared_types(connection, table.name)
    columns = {column["name"]: column for column in inspect(connection).get_columns(table.name)}
    misspelt = dict(_misspelt(connection, table, list(columns)))
    yield from misspelt.values()
    for column in table.columns:
        if column.name not in columns and not column.nullable and column.name not in misspelt:
            yield _missing(connection, table, column.name)
    sound: list[str] = []
    for name, found in columns.items():
        wrong = _wrong_column(connection, table, found, types[name])
        if wrong is None:
            sound.append(name)
        else:
            yield wrong
    if "id" in table.c and "id" in columns:
        yield from _identity(connection, table, columns["id"], types["id"])
    yield from _key(connection, table, sound)
    yield from _values(connection, table, sound, types)


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _misspelt(connection: Connection, table: Table, names: list[str]) -> Iterator[tuple[str, str]]:
    """The columns of ours that exist in another spelling, each with what to do."""
    known = {_plain(column.name): column.name for column in table.columns}
    for name in names:
        wanted = known.get(_plain(name))
        if wanted is None or name == wanted:
            continue
        spelt = quoted(connection, name)
        rename = f"ALTER TABLE {table.name} RENAME COLUMN {spelt} TO {wanted}"
        if wanted in names:
            yield (
                wanted,
                f"table {table.name} has the columns {spelt} and {wanted}: put all values into {wanted}, and then "
                f"{rename}_old",
            )
        else:
            yield wanted, f"column {spelt} of {table.name} must be called {wanted}: {rename}"


def _missing(connection: Connection, table: Table, name: str) -> str:
    if name == "id" and connection.dialect.name == "sqlite":
        return f"table {table.name} has no column id, which names its rows: {_copied(table)}"
    if name == "id":
        return (
            f"table {table.name} has no column id, which names its rows: "
            f"ALTER TABLE {table.name} ADD COLUMN id bigserial PRIMARY KEY"
        )
    return (
        f"table {table.name} has no column {name}, and recon cannot know its values: give the column that holds them "
        f"this name (ALTER TABLE {table.name} RENAME COLUMN ... TO {name}), or add it and fill it"
    )


def _wrong_column(connection: Connection, table: Table, column: ReflectedColumn, kind: str) -> str | None:
    name = column["name"]
    if isinstance(column["type"], NullType):
        shown = f"has the type {kind}, which" if kind else "has no type, and"
        return f"column {name} of {table.name} {shown} recon cannot copy: give it another, or drop it"
    if name not in table.c or name == "id":
        return None
    if column.get("computed"):
        mend = (
            "make the table again without that"
            if connection.dialect.name == "sqlite"
            else f"ALTER TABLE {table.name} ALTER COLUMN {name} DROP EXPRESSION"
        )
        return f"column {name} of {table.name} is generated, but recon writes it: {mend}"
    return adoption_types.wrong_type(table.c[name], kind, connection.dialect.name)


def _copied(table: Table) -> str:
    return (
        f"ALTER TABLE {table.name} RENAME TO {table.name}_old; "
        f"CREATE TABLE {table.name} (id INTEGER PRIMARY KEY, ...); "
        f"INSERT INTO {table.name} (...) SELECT ... FROM {table.name}_old"
    )


def _identity(connection: Connection, table: Table, column: ReflectedColumn, kind: str) -> Iterator[str]:
    """The id must name a row, and the database must give it, because no insert of ours or of the user's does."""
    name = table.name
    key = inspect(connection).get_pk_constraint(name)["constrained_columns"]
    if connection.dialect.name == "sqlite":
        # Only this spelling makes an id that SQLite fills.
        if kind != "integer" or key != ["id"]:
            yield f"column id of {name} is not INTEGER PRIMARY KEY, so that a new row has no id: {_copied(table)}"
        return
    partitioned = connection.execute(PARTITIONED_BY, {"name": name}).scalars().all()
    if not has_unique_key(connection, name, ("id", *partitioned)):
        mend = f"ALTER TABLE {name} ADD PRIMARY KEY (id)"
        yield f"column id of {name} is not unique, and recon removes rows by it: {mend}"
    if column["default"] is None and not column.get("identity"):
        mend = f"ALTER TABLE {name} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY"
        if "int" not in kind:
            mend = f"ALTER TABLE {name} ALTER COLUMN id SET DEFAULT ..."
        elif column["nullable"]:
            mend = f"ALTER TABLE {name} ALTER COLUMN id SET NOT NULL; {mend}"
        yield (
            f"column id of {name} has no default, so that a new row has no id: {mend}"
            + (f"; SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}" if "int" in kind else "")
        )


def _key(connection: Connection, table: Table, names: list[str]) -> Iterator[str]:
    """A table without an id needs a unique period; the key of a partitioned one holds what it is partitioned by."""
    if "id" not in table.c:
        (period,) = table.primary_key.columns.keys()
        if period in names and not has_unique_key(connection, table.name, (period,)):
            yield (
                f"table {table.name} may hold a {period} twice: "
                f"CREATE UNIQUE INDEX {table.name}_key ON {table.name} ({period})"
            )
    if connection.dialect.name == "sqlite":
        return
    key = next((index.columns.keys() for index in table.indexes if index.unique), table.primary_key.columns.keys())
    for part in connection.execute(PARTITIONED_BY, {"name": table.name}).scalars():
        if part not in key:
            yield (
                f"table {table.name} is partitioned by {part}, so that its key ({', '.join(key)}) cannot be unique: "
                f"partition it by {key[0]}"
            )


def _values(connection: Connection, table: Table, names: list[str], types: dict[str, str]) -> Iterator[str]:
    """Rows without a value in the key, and values that would never equal ours; one query reads the table."""
    conditions: list[tuple[str, str, adoption_types.WrongValue | None]] = []
    for column in table.columns:
        if column.name not in names or column.name == "id":
            continue
        if _is_key(table, column.name):
            conditions.append((column.name, f"{column.name} IS NULL", None))
        wrong = adoption_types.wrong_value(column, connection.dialect.name)
        if wrong is not None:
            conditions.append((column.name, f"{column.name} IS NOT NULL AND {wrong.condition}", wrong))
    if not conditions:
        return
    counts = ", ".join(f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)" for _, condition, _ in conditions)
    for count, (name, condition, wrong) in zip(
        connection.exec_driver_sql(f"SELECT {counts} FROM {table.name}").one(), conditions, strict=True
    ):
        if not count:
            continue
        rows = plural(count, "row")
        if wrong is None:
            yield (
                f"column {name} of {table.name} is NULL in {rows}, which no key can find: fill it, or "
                f"DELETE FROM {table.name} WHERE {name} IS NULL"
            )
        else:
            example = connection.exec_driver_sql(f"SELECT {name} FROM {table.name} WHERE {condition} LIMIT 1").scalar()
            yield (
                f"column {name} of {table.name} has the type {types[name]}, but in {rows} a value that is "
                f"{wrong.what}, such as {example!r}: {wrong.mend}"
            )


def _is_key(table: Table, name: str) -> bool:
    return name in PERIOD_COLUMNS or name in ("settlement_period", "farm_id", "miner_model")
