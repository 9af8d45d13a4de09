"""Finds the declared indexes that the database lacks, and the statements that create them.

Indexes are compared by their columns, because an adopted database has other names. Indexes beyond the declared ones are
reported only if they are invalid.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Inspector, Table, inspect

from recon_assets.database.tables import metadata
from recon_assets.health.facts import Fault, IndexFault
from recon_assets.health.postgres import invalid_indexes


class _Found(NamedTuple):
    columns: tuple[str | None, ...]
    is_unique: bool


def index_faults(connection: Connection) -> list[IndexFault]:
    """What is wrong with the indexes and primary keys of our tables.

    An index can replace a declared one if it begins with the same columns in any order, but with the same first
    column, which every query filters by.
    """
    inspector = inspect(connection)
    is_postgres = connection.dialect.name == "postgresql"
    existing = set(inspector.get_table_names())
    faults = invalid_indexes(connection) if is_postgres else []
    taken, found = _found(inspector, existing)
    for table in metadata.sorted_tables:
        for name, columns, unique in _declared(table) if table.name in existing else ():
            fault = _fault(columns, unique, found[table.name])
            if fault is not None:
                new = name if name not in taken else f"{name}_new"
                kind = f"{'UNIQUE ' if unique else ''}INDEX {'CONCURRENTLY ' if is_postgres else ''}"
                statement = f"CREATE {kind}{new} ON {table.name} ({', '.join(columns)})"
                faults.append(IndexFault(table.name, name, columns, fault, statement))
    return faults


def _fault(columns: tuple[str, ...], unique: bool, found: list[_Found]) -> Fault | None:
    def serves(index: _Found) -> bool:
        return index.columns[0] == columns[0] and set(index.columns[: len(columns)]) == set(columns)

    if not any(serves(index) for index in found):
        return Fault.MISSING
    if unique and not any(index.is_unique and set(index.columns) <= set(columns) for index in found):
        return Fault.NOT_UNIQUE
    return None


def _declared(table: Table) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    if table.primary_key.columns:  # what a proof replaced is kept in tables without a key
        yield f"{table.name}_pkey", tuple(table.primary_key.columns.keys()), True
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield str(index.name), tuple(index.columns.keys()), bool(index.unique)


def _found(inspector: Inspector, tables: set[str]) -> tuple[set[str], dict[str, list[_Found]]]:
    """The index names in use, and the indexes of each table but partial ones, which no query of recon uses."""
    ours = [table for table in metadata.tables if table in tables]
    taken: set[str] = set()
    found: dict[str, list[_Found]] = {table: [] for table in ours}
    for (_, table), indexes in inspector.get_multi_indexes(filter_names=ours).items():
        for index in indexes:
            taken.add(str(index["name"]))
            if not any(option.endswith("_where") for option in index.get("dialect_options", {})):
                found[table].append(_Found(tuple(index["column_names"]), bool(index["unique"])))
    for (_, table), constraints in inspector.get_multi_unique_constraints(filter_names=ours).items():
        found[table] += [_Found(tuple(constraint["column_names"]), True) for constraint in constraints]
    for (_, table), key in inspector.get_multi_pk_constraint(filter_names=ours).items():
        if key["constrained_columns"]:
            found[table].append(_Found(tuple(key["constrained_columns"]), True))
    return taken, found
