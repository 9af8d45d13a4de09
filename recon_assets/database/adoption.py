"""What in a database that recon did not make forbids its adoption: one line for each thing, with what to do.

Refused is only what would go wrong later without an error, or fail again and again. The rows are read once; nothing is
changed.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, text

from recon_assets.database.adoption_columns import column_refusals, quoted
from recon_assets.database.kept_tables import USER_TABLES
from recon_assets.database.tables import metadata

OWN_NAMES = (*(name for name in metadata.tables if name not in USER_TABLES), "recon_progress")
"""Tables that recon makes; a database that it has not adopted must not have them."""

RELATIONS_OF_POSTGRESQL = text("""
SELECT c.relname AS name, n.nspname AS schema, n.nspname = current_schema() AS is_first,
    CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        ELSE 'table' END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY (current_schemas(false))
ORDER BY c.relname
""")
RELATIONS_OF_SQLITE = text("""
SELECT name, 'main' AS schema, 1 AS is_first, type AS kind FROM sqlite_master WHERE type IN ('table', 'view')
ORDER BY name
""")
FOREIGN_KEYS = text("""
SELECT con.conname AS key, con.conrelid::regclass::text AS referring, c.relname AS referred
FROM pg_constraint con JOIN pg_class c ON c.oid = con.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE con.contype = 'f' AND con.confdeltype IN ('a', 'r') AND con.conparentid = 0
    AND n.nspname = current_schema() AND c.relname IN :tables
ORDER BY 3, 1
""").bindparams(bindparam("tables", expanding=True))
"""Foreign keys to a table that keep its rows from being removed."""


class _Relation(NamedTuple):
    name: str
    schema: str
    is_first: bool
    kind: str


def refusals(connection: Connection, *, is_foreign: bool) -> list[str]:
    """Why the database cannot be adopted or upgraded; `is_foreign` when recon has made no table in it yet."""
    is_sqlite = connection.dialect.name == "sqlite"
    rows = connection.execute(RELATIONS_OF_SQLITE if is_sqlite else RELATIONS_OF_POSTGRESQL)
    relations = [_Relation(*row) for row in rows]
    first = {relation.name: relation for relation in relations if relation.is_first}
    found = [*_elsewhere(relations, first), *_misspelt(connection, first)]
    for name, table in USER_TABLES.items():
        if name not in first:
            continue
        if first[name].kind == "table":
            found += column_refusals(connection, table)
        else:
            found.append(_not_a_table(first[name]))
    if is_foreign:
        found += _taken(connection, first)
    if not is_sqlite:
        found += [
            f"table {key.referred} has rows that the foreign key {key.key} of {key.referring} keeps from being "
            f"replaced: ALTER TABLE {key.referring} DROP CONSTRAINT {key.key}"
            for key in connection.execute(FOREIGN_KEYS, {"tables": list(USER_TABLES)})
        ]
    return found


def refusal_message(lines: list[str]) -> str:
    """One message for all refusals; the first line says how many there are."""
    if len(lines) == 1:
        return f"this database cannot be adopted as it is: {lines[0]}"
    first = f"this database cannot be adopted as it is, for {len(lines)} reasons; nothing was changed:"
    return "\n".join([first, *lines])


def _elsewhere(relations: list[_Relation], first: dict[str, _Relation]) -> Iterator[str]:
    """Tables that a query would find in a later schema of the search path, until new ones are made in the first."""
    for relation in relations:
        if relation.name in USER_TABLES and relation.name not in first:
            yield (
                f"table {relation.name} is in the schema {relation.schema}, which is not the first of the search path, "
                f"where recon makes tables: write ?search_path={relation.schema} at the end of DATABASE_URL"
            )


def _misspelt(connection: Connection, first: dict[str, _Relation]) -> Iterator[str]:
    known = {_plain(name): name for name in USER_TABLES}
    for relation in first.values():
        wanted = known.get(_plain(relation.name))
        if wanted is None or relation.name == wanted:
            continue
        spelt = quoted(connection, relation.name)
        alter = "ALTER VIEW" if relation.kind == "view" else "ALTER TABLE"
        if wanted in first:
            yield (
                f"table {spelt} stands beside {wanted}, and recon would not see its rows: move them, and then "
                f"{alter} {spelt} RENAME TO {wanted}_old"
            )
        elif connection.dialect.name == "sqlite":
            # SQLite compares names without case, and refuses to rename a table to what it takes for the same name.
            yield (
                f"table {spelt} must be called {wanted}: {alter} {spelt} RENAME TO {wanted}_new; "
                f"{alter} {wanted}_new RENAME TO {wanted}"
            )
        else:
            yield f"table {spelt} must be called {wanted}: {alter} {spelt} RENAME TO {wanted}"


def _not_a_table(relation: _Relation) -> str:
    return (
        f"{relation.name} is a {relation.kind}, but recon needs a table: give the table under it this name "
        f"(ALTER TABLE ... RENAME TO {relation.name}), and the {relation.kind} another"
    )


def _taken(connection: Connection, first: dict[str, _Relation]) -> Iterator[str]:
    names = set(OWN_NAMES)
    for relation in first.values():
        name = relation.name.lower() if connection.dialect.name == "sqlite" else relation.name
        spelt = quoted(connection, relation.name)
        if name in names:
            yield (
                f"{relation.kind} {spelt} is not recon's, but recon makes a table of that name: "
                f"ALTER TABLE {spelt} RENAME TO {name}_old"
            )
        elif name == "reconciliation_progress" and relation.kind != "table":
            yield _not_a_table(relation)


def _plain(name: str) -> str:
    """A name without case and underscores."""
    return "".join(filter(str.isalnum, name)).lower()
