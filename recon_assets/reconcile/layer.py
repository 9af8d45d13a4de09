"""What a layer is: a table, its grain, the rows that it must hold, and how far a stored value may be from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    FromClause,
    Inspector,
    Join,
    Numeric,
    Select,
    Table,
    Text,
    Transaction,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    inspect,
    literal_column,
    or_,
    text,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from recon_assets.database.keys import has_unique_key
from recon_assets.database.tables import AMOUNT
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.scope import Scope

Columns = Mapping[str, ColumnElement[Any]] | ReadOnlyColumnCollection[str, Any]
Written = Callable[[Columns], ColumnElement[Any]]
Differs = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]


def is_number(amount: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a stored amount is finite: PostgreSQL stores NaN and Infinity, SQLite infinities. NULL for NULL."""
    # Written out, because a bound double would convert every numeric through text. PostgreSQL sorts NaN above all.
    return func.abs(amount) < literal_column("1e30")


def beyond(*, relative: float, absolute: float = 0.0) -> Differs:
    """True where two numbers differ by more than **both** tolerances, or exactly one of the two is NULL.

    NaN and infinities differ from everything: a sum of them is no value that a row could be right by.
    """

    def differs(stored: ColumnElement[Any], expected: ColumnElement[Any]) -> ColumnElement[bool]:
        number = cast(stored, Double)
        gap = func.abs(number - expected)
        # Inside a CASE both databases stop at the first true condition, usually the first.
        within = or_(
            gap <= absolute if absolute else and_(number == expected, is_number(expected)),
            and_(gap <= relative * func.abs(expected), is_number(expected)),
            and_(stored.is_(None), expected.is_(None)),
        )
        return case((within, false()), else_=true())

    return differs


class in_decimals(FunctionElement[float]):  # noqa: N801 - it is written as a function
    """A double rounded once, to so many decimals, as the engine stores amounts; at most 9.2e18 units of the last one.

    It is converted through a whole number: PostgreSQL's own way from double to numeric, through text, takes three times
    as long.
    """

    inherit_cache = True
    type = AMOUNT
    name = "in_decimals"

    def __init__(self, value: ColumnElement[Any], decimals: int) -> None:
        super().__init__(value, literal_column(str(10**decimals)), literal_column(f"{Decimal(1).scaleb(-decimals):f}"))


@compiles(in_decimals)
def _in_decimals(element: in_decimals, compiler: SQLCompiler, **options: Any) -> str:
    value, units, _ = (compiler.process(clause, **options) for clause in element.clauses)
    return f"round(({value}) * {units}.0) / {units}.0"


@compiles(in_decimals, "postgresql")
def _in_decimals_of_postgresql(element: in_decimals, compiler: SQLCompiler, **options: Any) -> str:
    value, units, unit = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(round(({value}) * {units}) AS BIGINT) * {unit}"


def where_known(differs: Differs) -> Differs:
    """The same comparison, but never true where the expected value is NULL."""

    def differs_from_known(stored: ColumnElement[Any], expected: ColumnElement[Any]) -> ColumnElement[bool]:
        return and_(expected.is_not(None), differs(stored, expected))

    return differs_from_known


def distinct_from(stored: ColumnElement[Any], expected: ColumnElement[Any]) -> ColumnElement[bool]:
    """True where a stored text or flag is not the expected one; NULL equals NULL."""
    return stored.is_distinct_from(expected)


@dataclass(frozen=True)
class Grain:
    """Days, months or years: the summary column that holds one, and how much of an ISO date names it."""

    column: str
    length: int

    def of(self, day: ColumnElement[Any]) -> ColumnElement[Any]:
        """The period that a date column falls in (dates are ISO text on SQLite)."""
        return day if self is DAY else func.substr(cast(day, Text), 1, self.length)

    def label(self, day: date) -> str:
        """The period that a date falls in, for example '2025-06'."""
        return day.isoformat()[: self.length]

    def whole(self, days: Days) -> Days:
        """The days widened to whole periods."""
        if self is MONTH:
            return Days(days.first.replace(day=1), Days.of_month(MONTH.label(days.last)).last)
        if self is YEAR:
            return Days(days.first.replace(month=1, day=1), days.last.replace(month=12, day=31))
        return days


DAY = Grain("summary_date", 10)
MONTH = Grain("year_month", 7)
YEAR = Grain("year", 4)


@dataclass(frozen=True, eq=False)
class Layer:
    """One table of the chain.

    - `period`: the column with the day, month or year (the grain) of a row.
    - `key`: the columns that identify a row.
    - `compared`: columns that make a row wrong, each with its tolerance.
    - `expected`: the rows that the layer must hold.
    - `owned_rows`: stored rows that this layer may change.
    - `join_filter`: narrows the stored rows that an expected row can match, so that a join reads no others.
    - `removable`: owned rows that may be removed when no row is expected for them.
    - `carried`: columns that follow a correction and never make a row wrong.
    - `written`: how an expected value is stored, for columns that are not stored as they are compared.
    - `preserved`: columns whose stored value stays if the expected value is NULL.
    """

    table: Table
    grain: Grain
    period: str
    key: tuple[str, ...]
    compared: Mapping[str, Differs]
    expected: Callable[[Scope], Select[Any]]
    owned_rows: Callable[[Scope], ColumnElement[bool]]
    join_filter: Callable[[Scope], ColumnElement[bool]]
    removable: Callable[[Scope], ColumnElement[bool]] = lambda scope: true()
    carried: tuple[str, ...] = ()
    written: Mapping[str, Written] = field(default_factory=dict)
    preserved: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The table's name, which is also the asset's name."""
        return self.table.name

    def stored(self, expected: Columns, name: str) -> ColumnElement[Any]:
        """The expected value of a column in the form that is stored."""
        return self.written[name](expected) if name in self.written else expected[name]

    def differs(self, connection: Connection, expected: FromClause) -> ColumnElement[bool]:
        """Whether a stored row's values are wrong."""
        return self.differs_in(connection, self.table.c, expected.c)

    def differs_in(self, connection: Connection, stored: Columns, expected: Columns) -> ColumnElement[bool]:
        """Whether any compared column of `stored` differs from the expected value, as far as the column can hold it."""
        decimals = kept_decimals(connection, self)
        return or_(*(self._differs(connection, stored, expected, name, decimals.get(name)) for name in self.compared))

    def _differs(
        self, connection: Connection, stored: Columns, expected: Columns, name: str, decimals: int | None
    ) -> ColumnElement[bool]:
        differs = self.compared[name](stored[name], expected[name])
        if decimals is not None:
            kept = as_kept(self.stored(expected, name), decimals)
            return and_(differs, stored[name].is_distinct_from(kept))
        if name in self.written and connection.dialect.name == "postgresql":
            # Most rows equal what would be written. Comparing that first avoids the conversion of numeric to double,
            # which PostgreSQL does through text.
            return case((stored[name] == self.stored(expected, name), false()), else_=differs)
        return differs

    def below(self, expected: FromClause, scope: Scope, *only: ColumnElement[bool]) -> Join:
        """Every expected row with its stored row; the columns of a missing stored row are NULL."""
        same_key = (self.table.c[name] == expected.c[name] for name in self.key)
        return expected.outerjoin(self.table, and_(*same_key, self.join_filter(scope), *only))


def in_days(day: ColumnElement[Any], scope: Scope) -> ColumnElement[bool]:
    """Whether a date lies in the scope's days."""
    within = day.between(scope.days.first, scope.days.last)
    return and_(within, day.not_in(sorted(scope.excluded))) if scope.excluded else within


def in_scope(columns: ReadOnlyColumnCollection[str, Column[Any]], scope: Scope) -> ColumnElement[bool]:
    """Whether a row of a half-hourly table lies in the scope's days, and in its periods and farm if it has them."""
    within = [in_days(columns.settlement_date, scope)]
    if scope.periods:
        within.append(columns.settlement_period.between(*scope.periods))
    farm = columns.get("farm_id", columns.get("bm_unit_id"))
    if scope.farm and farm is not None:
        within.append(farm == scope.farm)
    return and_(*within)


_KNOWN: WeakKeyDictionary[Transaction, dict[tuple[str, str], Any]] = WeakKeyDictionary()
"""What was read about tables, once per transaction: recon changes no table then."""

T = TypeVar("T")


def _once(connection: Connection, layer: Layer, what: str, ask: Callable[[Inspector], T]) -> T:
    transaction = connection.get_transaction()
    known = {} if transaction is None else _KNOWN.setdefault(transaction, {})
    if (layer.name, what) not in known:
        known[layer.name, what] = ask(inspect(connection))
    answer: T = known[layer.name, what]
    return answer


def is_key_unique(connection: Connection, layer: Layer) -> bool:
    """Whether the database itself forbids two rows of one key; an adopted table may lack that constraint."""

    def ask(_: Inspector) -> bool:
        return has_unique_key(connection, layer.name, layer.key)

    return _once(connection, layer, "is_key_unique", ask)


_TRIGGERS_OF_SQLITE = text("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger')")
_TRIGGERS_OF_POSTGRESQL = text("""
SELECT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal)
    OR EXISTS (SELECT FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relkind IN ('r', 'p'))
""")


def may_skip_rows(connection: Connection) -> bool:
    """Whether the database has a trigger or a rule, which may leave out a row of a statement without an error."""
    is_sqlite = connection.dialect.name == "sqlite"
    return bool(connection.execute(_TRIGGERS_OF_SQLITE if is_sqlite else _TRIGGERS_OF_POSTGRESQL).scalar_one())


def kept_decimals(connection: Connection, layer: Layer) -> dict[str, int]:
    """The scale of columns that round what they are given, for example numeric(18,8) of an old database."""
    if connection.dialect.name != "postgresql":
        return {}

    def ask(inspector: Inspector) -> dict[str, int]:
        columns = inspector.get_columns(layer.name)
        return {
            column["name"]: column["type"].scale
            for column in columns
            if isinstance(column["type"], Numeric) and column["type"].scale is not None
        }

    return _once(connection, layer, "kept_decimals", ask)


def as_kept(value: ColumnElement[Any], decimals: int) -> ColumnElement[Any]:
    """A number as a column with so many decimals stores it."""
    return func.round(cast(value, Numeric), decimals)


def is_first_of_key(layer: Layer, rows: FromClause | None = None) -> ColumnElement[bool]:
    """Whether a stored row (of the table or an alias of it) is the oldest of its key; the others are duplicates."""
    (identity,) = layer.table.primary_key.columns
    stored = (layer.table if rows is None else rows).c
    twin = layer.table.alias("twin")
    same_key = (twin.c[name] == stored[name] for name in layer.key)
    return ~exists().where(*same_key, twin.c[identity.name] < stored[identity.name])
