"""Makes a table equal to rows that were fetched, and leaves right rows untouched.

The rows are the expected side of a layer.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Float, FromClause, Integer, MetaData, Numeric, Table, select

from recon_assets.database.given_rows import given_rows
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import Changes, converge_by
from recon_assets.reconcile.layer import DAY, Layer, beyond, distinct_from
from recon_assets.reconcile.scope import Scope

KEY = ("settlement_date", "settlement_period")


def sync_rows(
    connection: Connection,
    table: Table,
    rows: list[dict[str, Any]],
    day: date,
    periods: Iterable[int],
    *,
    key: tuple[str, ...],
    carried: Collection[str] = (),
) -> Mapping[int, Changes]:
    """Makes a half-hourly table equal to the rows, in some periods of a day; returns what was done, by period.

    Columns in `carried` are updated only together with others; a difference in them alone is ignored. Columns that the
    rows do not have stay as they are.
    """
    named = [column for column in table.columns if column.name in (rows[0] if rows else table.c.keys())]
    fetched = Table(
        f"fetched_{table.name}",
        MetaData(),
        *(Column(column.name, column.type) for column in named),
        prefixes=["TEMPORARY"],
    )
    with given_rows(connection, fetched, rows) as given:
        layer = _layer(table, given, list(periods), key, tuple(carried))
        changes = converge_by(connection, layer, Scope(Days(day, day), CurtailmentRule.ALL_BIDS), "settlement_period")
    return {period: made for (period,), made in changes.items()}


def _layer(
    table: Table, fetched: FromClause, periods: list[int], key: tuple[str, ...], carried: tuple[str, ...]
) -> Layer:
    content = [column for column in fetched.c if column.name not in (*key, *carried)]
    numeric = beyond(relative=1e-12)

    def owned(scope: Scope) -> ColumnElement[bool]:
        return (table.c.settlement_date == scope.days.first) & table.c.settlement_period.in_(periods)

    return Layer(
        table=table,
        grain=DAY,
        period="settlement_date",
        key=key,
        compared={
            column.name: numeric if isinstance(column.type, Float | Integer | Numeric) else distinct_from
            for column in content
        },
        expected=lambda scope: select(fetched),
        owned_rows=owned,
        join_filter=owned,
        carried=carried,
    )
