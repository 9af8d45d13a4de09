"""What a migration did to the schema: the difference of two pictures of it, in plain words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, inspect


class Change(NamedTuple):
    """One thing that a migration does."""

    action: str
    what: str

    def line(self, *, planned: bool = False) -> str:
        """What was done, or would be."""
        if self.action == "allow NULL":
            return f"{self.what}: NULL {'would be ' if planned else ''}allowed"
        past = {"add": "added", "drop": "dropped"}[self.action]
        return f"{f'would {self.action}' if planned else past} {self.what}"


@dataclass
class _Table:
    columns: dict[str, bool] = field(default_factory=dict)
    """Whether a column may be NULL."""
    indexes: dict[str, tuple[bool, tuple[str | None, ...]]] = field(default_factory=dict)
    keys: set[tuple[str | None, ...]] = field(default_factory=set)
    checks: list[str] = field(default_factory=list)


Shape = dict[str, _Table]


def shape_of(connection: Connection) -> Shape:
    """The tables of the database, as far as a migration may change them."""
    # All tables at once: one by one, PostgreSQL is asked eight times for each.
    inspector = inspect(connection)
    indexes, keys = inspector.get_multi_indexes(), inspector.get_multi_unique_constraints()
    checks = inspector.get_multi_check_constraints()
    shape = {}
    for at, columns in sorted(inspector.get_multi_columns().items(), key=lambda found: found[0][1]):
        shape[at[1]] = _Table(
            {column["name"]: bool(column["nullable"]) for column in columns},
            {
                str(index["name"]): (bool(index["unique"]), tuple(index["column_names"]))
                for index in indexes[at]
                if not index.get("duplicates_constraint")
            },
            {tuple(key["column_names"]) for key in keys[at]},
            sorted(check["sqltext"] for check in checks[at]),
        )
    return shape


def changes(before: Shape, after: Shape) -> list[Change]:
    """What became of the schema, table by table."""
    found: list[Change] = []
    for name, table in after.items():
        # A table that was just made is listed alone, without its columns and indexes.
        found += [Change("add", f"table {name}")] if name not in before else _changes_of(name, before[name], table)
    return found


def _changes_of(name: str, before: _Table, after: _Table) -> Iterator[Change]:
    for column, nullable in after.columns.items():
        if column not in before.columns:
            yield Change("add", f"column {column} of {name}")
        elif nullable and not before.columns[column]:
            yield Change("allow NULL", f"column {column} of {name}")
    for index, (unique, columns) in before.indexes.items():
        if unique and after.indexes.get(index) != (unique, columns):
            yield _dropped_key(name, columns)
    for key in sorted(before.keys - after.keys, key=str):
        yield _dropped_key(name, key)
    for index, found in after.indexes.items():
        if before.indexes.get(index) != found:
            yield Change("add", f"{'unique index' if found[0] else 'index'} {index} of {name}")
    for check in before.checks:
        if check not in after.checks:
            yield Change("drop", f"CHECK ({check}) of {name}, which has no name to keep it by")


def _dropped_key(name: str, columns: tuple[str | None, ...]) -> Change:
    shown = ", ".join(str(column) for column in columns)
    return Change("drop", f"unique key ({shown}) of {name}, which allows a farm one acceptance per period")
