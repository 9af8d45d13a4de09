"""Which types and values of a column can be compared with ours, on each engine, and how others are changed."""

import re
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Column, Date, DateTime, Integer, Numeric, Text

from recon_assets.database.tables import UtcDateTime

DATE, WHOLE, TEXT, AMOUNT, FLAG, INSTANT = "date", "whole number", "text", "amount", "flag", "instant"

POSTGRESQL = {
    DATE: "date",
    WHOLE: "smallint|integer|bigint",
    TEXT: r"text|character varying(\(\d+\))?",
    AMOUNT: r"numeric(\(\d+,-?\d+\))?|double precision",
    FLAG: "boolean",
    INSTANT: r"timestamp.*|date|text|character varying.*",
}
"""Declared types that work, as patterns. `real` keeps 7 digits, so that a value is never right at 1e-9; `char(n)` pads
its values with spaces."""
WANTED = {DATE: "date", WHOLE: "integer", TEXT: "text", AMOUNT: "numeric", FLAG: "boolean", INSTANT: "timestamp"}
REASON = {
    DATE: "which never equals a date",
    WHOLE: "which is not compared as a whole number",
    TEXT: "which never equals a text",
    AMOUNT: "which cannot hold what recon writes",
    FLAG: "which is not true or false",
    INSTANT: "which holds no time",
}
FORMATS = {
    "year_month": ("YYYY-MM", r"^\d{4}-\d{2}$", "[0-9][0-9][0-9][0-9]-[0-9][0-9]"),
    "year": ("YYYY", r"^\d{4}$", "[0-9][0-9][0-9][0-9]"),
}
"""Texts that name a period: the form, and the pattern of each engine."""


class WrongValue(NamedTuple):
    """Values that would never equal ours: a condition in SQL, what they are, and what to do."""

    condition: str
    what: str
    mend: str


def kind_of(column: Column[Any]) -> str:
    """What one of our columns holds."""
    for kind, type_ in (
        (INSTANT, DateTime | UtcDateTime),
        (DATE, Date),
        (WHOLE, Integer),
        (TEXT, Text),
        (FLAG, Boolean),
        (AMOUNT, Numeric),
    ):
        if isinstance(column.type, type_):
            return kind
    raise TypeError(f"{column} has a type that no adoption knows")


def wrong_type(column: Column[Any], declared: str, dialect: str) -> str | None:
    """Why a column of the user's of this declared type cannot stand for ours, and what to do; None if it can."""
    kind = kind_of(column)
    table = column.table.name
    is_sqlite = dialect == "sqlite"
    if _works_on_sqlite(kind, declared) if is_sqlite else re.fullmatch(POSTGRESQL[kind], declared):
        return None
    if not is_sqlite and column.name in ("lead_party_name", "data_source") and declared.startswith("character"):
        return None  # it is written, but never compared
    mend = (
        _copy(column)
        if is_sqlite
        else f"ALTER TABLE {table} ALTER COLUMN {column.name} TYPE {_using(column, declared)}"
    )
    return f"column {column.name} of {table} has the type {declared}, {REASON[kind]}: {mend}"


def _using(column: Column[Any], declared: str) -> str:
    name, kind = column.name, kind_of(column)
    is_date = declared == "date" or declared.startswith("timestamp")
    if kind == TEXT and is_date and name in FORMATS:
        return f"text USING to_char({name}, '{FORMATS[name][0]}')"
    if kind == FLAG and declared in ("smallint", "bigint", "integer"):
        return f"boolean USING {name}::integer::boolean"
    # A real converted by way of text keeps the digits that it shows.
    by_way = "text::" if kind == AMOUNT and declared in ("real", "text") else ""
    return f"{WANTED[kind]} USING {name}::{by_way}{WANTED[kind]}"


def _copy(column: Column[Any]) -> str:
    table, name, kind = column.table.name, column.name, kind_of(column)
    value = {DATE: f"date({name}_old)", TEXT: f"CAST({name}_old AS text)"}.get(
        kind, f"CAST({name}_old AS {WANTED[kind]})"
    )
    return (
        f"ALTER TABLE {table} RENAME COLUMN {name} TO {name}_old; "
        f"ALTER TABLE {table} ADD COLUMN {name} {WANTED[kind]}; UPDATE {table} SET {name} = {value}"
    )


def _works_on_sqlite(kind: str, declared: str) -> bool:
    """SQLite keeps most values as they are, whatever the type; its affinity must not turn ours into another."""
    affinity = _affinity(declared)
    if kind == DATE:
        return "TIME" not in declared.upper() and affinity not in ("INTEGER", "REAL")
    if kind == TEXT:
        return affinity in ("TEXT", "BLOB")
    if kind in (WHOLE, FLAG):
        return affinity in ("INTEGER", "NUMERIC")
    if kind == AMOUNT:
        return affinity in ("INTEGER", "NUMERIC", "REAL")
    return True


def _affinity(declared: str) -> str:
    """SQLite's own rules, in its order (https://www.sqlite.org/datatype3.html)."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in declared or not declared:
        return "BLOB"
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def wrong_value(column: Column[Any], dialect: str) -> WrongValue | None:
    """Which values of a column of a type that works would never equal ours; None where the type forbids them."""
    name, table, kind = column.name, column.table.name, kind_of(column)
    is_sqlite = dialect == "sqlite"
    if name in FORMATS:
        form, of_postgresql, of_sqlite = FORMATS[name]
        condition = f"{name} NOT GLOB '{of_sqlite}'" if is_sqlite else f"{name} !~ '{of_postgresql}'"
        return WrongValue(
            condition, f"not {form}", f"UPDATE {table} SET {name} = ... WHERE {condition}, or delete them"
        )
    if not is_sqlite or kind == INSTANT:
        return None
    if kind == DATE:
        condition = f"{name} IS NOT date({name}, '+0 days')"
        return WrongValue(condition, "not YYYY-MM-DD", f"UPDATE {table} SET {name} = date({name}) WHERE {condition}")
    types = {TEXT: "'text'", WHOLE: "'integer'", FLAG: "'integer'", AMOUNT: "'integer', 'real'"}[kind]
    condition = f"typeof({name}) NOT IN ({types})"
    return WrongValue(condition, f"no {kind}", f"UPDATE {table} SET {name} = ... WHERE {condition}, or delete them")
