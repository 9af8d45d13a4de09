"""Repair: makes a layer equal to what the layer below says it must be, by set-based SQL.

Missing rows are inserted, wrong values corrected, rows that must not be there removed, right rows left untouched. The
caller holds the transaction and the days' locks. Nothing else writes these tables.
"""

from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Executable,
    Select,
    and_,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from recon_assets.errors import ReconError
from recon_assets.reconcile.audit import Tally, audit
from recon_assets.reconcile.layering import Layer, is_first_of_key, is_key_unique
from recon_assets.reconcile.layers import CURTAILMENT
from recon_assets.reconcile.scope import Scope
from recon_assets.tables import curtailment_records

CORRECTED_AT = ("calculated_at", "updated_at", "last_updated")
"""Timestamps that follow a correction, where a table has them."""


@dataclass(frozen=True)
class Changes:
    """Rows of each kind that a convergence dealt with."""

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
    """Makes the layer right, and tells what was done per group of the columns `by`.

    ReconError when the database changed other rows than the audit, made in the same snapshot, said: the transaction is
    then to be rolled back.
    """
    tallies = audit(connection, layer, scope, *by)
    total = sum(tallies.values(), Tally())
    removed = _remove(connection, layer, scope) if total.superfluous else 0
    # Where some rows must not be removed, another look tells of which group they are.
    left = audit(connection, layer, scope, *by) if removed < total.superfluous else {}
    corrected = _correct(connection, layer, scope) if total.wrong else 0
    inserted = _insert(connection, layer, scope) if total.missing else 0
    if (corrected, inserted) != (total.wrong, total.missing) or removed > total.superfluous:
        raise ReconError(
            f"{layer.name} {scope.days}: {total.missing} rows were missing, {total.wrong} wrong and "
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


def _remove(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Deletes duplicates, then rows that nothing below accounts for."""
    identity = layer.table.primary_key.columns
    judged = select(*identity).where(layer.judged(scope))
    removed = 0
    if not is_key_unique(connection, layer):
        removed += _delete(connection, layer, judged.where(~is_first_of_key(layer)))
    expected = layer.expected(scope).cte("expected")
    # EXCEPT, because an anti-join from the stored rows made SQLite scan the expected ones for each of them.
    matched = select(*identity).select_from(layer.below(expected, scope))
    return removed + _delete(connection, layer, judged.where(layer.removable(scope)).except_(matched))


def _delete(connection: Connection, layer: Layer, identities: Select[Any] | CompoundSelect[Any]) -> int:
    statement = delete(layer.table).where(tuple_(*layer.table.primary_key.columns).in_(identities))
    return _rows_changed(connection, statement)


def _correct(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Updates the rows whose values are wrong."""
    table, identity = layer.table, layer.table.primary_key.columns
    expected = layer.expected(scope).cte("expected")
    values = [layer.stored(expected.c, name).label(name) for name in (*layer.compared, *layer.carried)]
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


def _insert(connection: Connection, layer: Layer, scope: Scope) -> int:
    """Inserts the rows that are missing, in key order."""
    table = layer.table
    expected = layer.expected(scope).cte("expected")
    names = expected.c.keys()
    missing = (
        select(*(layer.stored(expected.c, name).label(name) for name in names))
        .select_from(layer.below(expected, scope))
        .where(table.c[layer.key[0]].is_(None))
        .order_by(*(expected.c[name] for name in layer.key))
    )
    return _rows_changed(connection, insert(table).from_select(names, missing))


def _rows_changed(connection: Connection, statement: Executable) -> int:
    """Executes and counts; SQLite's driver counts nothing of a statement that begins with WITH."""
    result = connection.execute(statement, execution_options={"preserve_rowcount": True})
    if connection.dialect.name == "sqlite":
        return int(connection.exec_driver_sql("SELECT changes()").scalar_one())
    return result.rowcount


def damaged_days(connection: Connection, scope: Scope) -> frozenset[date]:
    """Ingested days whose curtailment records are not all there: their calculations wait for the repair."""
    expected = CURTAILMENT.expected(scope).cte("expected")
    lost = (
        select(expected.c.settlement_date)
        .select_from(CURTAILMENT.below(expected, scope))
        .where(curtailment_records.c.settlement_date.is_(None))
        .distinct()
    )
    return frozenset(connection.execute(lost).scalars())
