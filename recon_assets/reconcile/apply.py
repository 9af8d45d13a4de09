"""Makes a layer equal to what the layer below says it must hold, by set-based SQL.

Missing rows are inserted, wrong values corrected, rows that must not exist removed, right rows left untouched. The
caller holds the transaction and the days' locks. Nothing else writes these tables.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    CompoundSelect,
    Connection,
    Executable,
    Select,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from recon_assets.database.tables import curtailment_records
from recon_assets.domain.words import plural
from recon_assets.errors import ReconError
from recon_assets.reconcile.difference import Tally, compare_calculations, compare_layer
from recon_assets.reconcile.layer import Layer, is_first_of_key, is_key_unique, may_skip_rows
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT
from recon_assets.reconcile.scope import Scope, plan_for_merges

CORRECTED_AT = ("calculated_at", "updated_at", "last_updated")
"""Timestamps that are set to now when a row is corrected, if the table has them."""


@dataclass(frozen=True)
class Changes:
    """How many rows were inserted, corrected, removed and left as they were."""

    inserted: int = 0
    corrected: int = 0
    removed: int = 0
    kept: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """Rows that were changed."""
        return self.inserted + self.corrected + self.removed


def converge(connection: Connection, layer: Layer, scope: Scope) -> Changes:
    """Makes the layer right for the scope; a second call changes nothing."""
    return sum(converge_by(connection, layer, scope).values(), Changes())


def converge_by(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Changes]:
    """Makes the layer right, and returns what was done per group of the columns `by`.

    ReconError when the database changed other numbers of rows than the difference contains, for example because
    something other than recon wrote meanwhile. The caller must then roll back the transaction.
    """
    with _joins(connection, layer):
        return _converge(connection, layer, scope, *by)


def _converge(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Changes]:
    if not _holds_any(connection, layer, scope):
        return _fill(connection, layer, scope, *by)
    tallies = _compare(connection, layer, scope, *by)
    total = sum(tallies.values(), Tally())
    removed = _remove(connection, layer, scope) if total.superfluous else 0
    # If some rows must not be removed, a second comparison shows which groups they belong to.
    left = _compare(connection, layer, scope, *by) if removed < total.superfluous else {}
    stayed = _count_superfluous(connection, layer, scope) if removed < total.superfluous else 0
    corrected = _correct(connection, layer, scope) if total.wrong else 0
    inserted = _insert_missing(connection, layer, scope) if total.missing else 0
    remaining = sum(tally.superfluous for tally in left.values())
    done = (corrected, inserted, removed + remaining, stayed)
    if done != (total.wrong, total.missing, total.superfluous, 0):
        raise ReconError(
            f"{layer.name} {scope.days}: {plural(total.missing, 'row')} missing, {total.wrong} wrong and "
            f"{total.superfluous} superfluous, but {inserted} were inserted, {corrected} corrected and {removed} "
            "removed; rolled back"
        )
    return {
        group: Changes(
            inserted=tally.missing,
            corrected=tally.wrong,
            removed=tally.superfluous - left.get(group, Tally()).superfluous,
            kept=tally.actual - tally.wrong,
        )
        for group, tally in tallies.items()
    }


def _joins(connection: Connection, layer: Layer) -> AbstractContextManager[None]:
    """How the database joins the rows of a layer; those of the largest along the indexes of their keys."""
    return plan_for_merges(connection) if layer is CALCULATIONS else nullcontext()


def fill_missing(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Changes]:
    """Inserts what is missing and leaves every stored row as it is; raises and counts as converge_by does."""
    with _joins(connection, layer):
        tallies = _compare(connection, layer, scope, *by)
        missing = sum(tally.missing for tally in tallies.values())
        inserted = _insert_missing(connection, layer, scope) if missing else 0
    if inserted != missing:
        raise ReconError(
            f"{layer.name} {scope.days}: {plural(missing, 'row')} missing, but {inserted} were inserted; rolled back"
        )
    return {group: Changes(inserted=tally.missing, kept=tally.actual) for group, tally in tallies.items()}


def _compare(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Tally]:
    if layer is not CALCULATIONS:
        return compare_layer(connection, layer, scope, *by)
    tallies: dict[tuple[Any, ...], Tally] = {}
    for (day, model), tally in compare_calculations(connection, scope).items():
        parts = {"settlement_date": day, "miner_model": model}
        group = tuple(parts[name] for name in by)
        tallies[group] = tallies.get(group, Tally()) + tally
    return tallies


def _holds_any(connection: Connection, layer: Layer, scope: Scope) -> bool:
    one = select(literal(1)).select_from(layer.table).where(layer.join_filter(scope)).limit(1)
    return connection.execute(one).first() is not None


def _fill(connection: Connection, layer: Layer, scope: Scope, *by: str) -> dict[tuple[Any, ...], Changes]:
    """Inserts every expected row into a layer that has none: there is nothing to compare, and counts check it."""
    expected = layer.expected(scope).cte("expected")
    missing = None
    # Counting the expected rows computes them a second time. Only a trigger or a rule can leave one of them out.
    if may_skip_rows(connection):
        missing = connection.execute(select(func.count()).select_from(expected)).scalar_one()
    inserted = _insert(connection, layer, expected, select(expected))
    groups = [layer.table.c[name] for name in by]
    held = select(*groups, func.count()).where(layer.owned_rows(scope)).group_by(*groups)
    found = {tuple(group): Changes(inserted=rows) for *group, rows in connection.execute(held) if rows}
    counted = sum(found.values(), Changes()).inserted
    if counted != inserted or missing not in (None, inserted):
        lacking = plural(inserted if missing is None else missing, "row")
        raise ReconError(
            f"{layer.name} {scope.days}: {lacking} missing, but {inserted} were inserted "
            f"and {counted} are there; rolled back"
        )
    return found


def _remove(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Deletes duplicates, then rows that the layer below does not expect."""
    table, identity = layer.table, tuple_(*layer.table.primary_key.columns)
    return sum(
        _rows_changed(connection, delete(table).where(identity.in_(identities)))
        for identities in _superfluous(connection, layer, scope)
    )


def _count_superfluous(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Rows that `_remove` would delete."""
    counts = (select(func.count()).select_from(rows.subquery()) for rows in _superfluous(connection, layer, scope))
    return sum(connection.execute(count).scalar_one() for count in counts)


def _superfluous(connection: Connection, layer: Layer, scope: Scope) -> Iterator[Select[Any] | CompoundSelect[Any]]:
    """The primary keys of duplicates, if the database allows them, and of rows that the layer below does not expect."""
    identity = layer.table.primary_key.columns
    owned = select(*identity).where(layer.owned_rows(scope))
    if not is_key_unique(connection, layer):
        yield owned.where(~is_first_of_key(layer))
    expected = layer.expected(scope).cte("expected")
    # EXCEPT, because for an anti-join SQLite scanned all expected rows for each stored row.
    matched = select(*identity).select_from(layer.below(expected, scope))
    yield owned.where(layer.removable(scope)).except_(matched)


def _correct(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Updates the rows whose values are wrong."""
    table, identity = layer.table, layer.table.primary_key.columns
    expected = layer.expected(scope).cte("expected")
    values = [
        (func.coalesce(value, table.c[name]) if name in layer.preserved else value).label(name)
        for name in (*layer.compared, *layer.carried)
        for value in (layer.stored(expected.c, name),)
    ]
    wrong = (
        select(*(column.label(f"row_{column.name}") for column in identity), *values)
        .select_from(layer.below(expected, scope))
        .where(table.c[layer.key[0]].is_not(None), layer.differs(connection, expected))
        .subquery("wrong")
    )
    same_row = and_(*(column == wrong.c[f"row_{column.name}"] for column in identity))
    new = {value.name: wrong.c[value.name] for value in values}
    stamps = {name: func.now() for name in CORRECTED_AT if name in table.c}
    return _rows_changed(connection, update(table).values(new | stamps).where(same_row))


def _insert_missing(connection: Connection, layer: Layer, scope: Scope) -> int:
    expected = layer.expected(scope).cte("expected")
    stored = layer.below(expected, scope)
    return _insert(
        connection, layer, expected, select().select_from(stored).where(layer.table.c[layer.key[0]].is_(None))
    )


def _insert(connection: Connection, layer: Layer, expected: CTE, rows: Select[Any]) -> int:
    """Inserts expected rows in key order, so that the index grows at its end."""
    names = [column.name for column in expected.c if column.name in layer.table.c]
    values = [layer.stored(expected.c, name).label(name) for name in names]
    ordered = rows.with_only_columns(*values).order_by(*(expected.c[name] for name in layer.key))
    return _rows_changed(connection, insert(layer.table).from_select(names, ordered))


def _rows_changed(connection: Connection, statement: Executable) -> int:
    """Executes a statement and returns how many rows it changed; SQLite's driver gives no count after a WITH."""
    result = connection.execute(statement, execution_options={"preserve_rowcount": True})
    if connection.dialect.name == "sqlite":
        return int(connection.exec_driver_sql("SELECT changes()").scalar_one())
    return result.rowcount


def damaged_days(connection: Connection, scope: Scope) -> frozenset[date]:
    """Ingested days with missing curtailment records; their calculations wait until the records are right."""
    expected = CURTAILMENT.expected(scope).cte("expected")
    lost = (
        select(expected.c.settlement_date)
        .select_from(CURTAILMENT.below(expected, scope))
        .where(curtailment_records.c.settlement_date.is_(None))
        .distinct()
    )
    return frozenset(connection.execute(lost).scalars())
