"""What a partition of a layer holds: row count, totals, and a fingerprint that tells whether it has changed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Text, cast, func, select

from recon_assets.database import transactions
from recon_assets.reconcile.expected import GENERATED
from recon_assets.reconcile.layer import Layer, in_days
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT
from recon_assets.reconcile.scope import Scope

TOTALS = {
    "volume": "volume_mwh",
    "payment": "payment_gbp",
    "bitcoin_mined": "bitcoin_mined",
    "total_curtailed_energy": "curtailed_mwh",
    "total_payment": "payment_gbp",
    "total_wind_generation": "generated_mwh",
    "wind_onshore_generation": "generated_onshore_mwh",
    "wind_offshore_generation": "generated_offshore_mwh",
}
"""Column of a layer -> name of its total, with the unit."""


@dataclass(frozen=True)
class Content:
    """What a partition of a layer holds: rows, totals, and a fingerprint of the content."""

    rows: int
    totals: Mapping[str, float]
    fingerprint: str


ContentKey = tuple[str, str | None, str]
"""Layer name, miner model or None, period."""


def read_contents(engine: Engine, layers: Sequence[Layer], scope: Scope) -> dict[ContentKey, Content]:
    """What the layers hold; nothing is changed."""
    with transactions.reading(engine) as connection:
        return {key: found for layer in layers for key, found in contents_of(connection, layer, scope)}


def contents_of(connection: Connection, layer: Layer, scope: Scope) -> Iterator[tuple[ContentKey, Content]]:
    """The contents of every period of a layer, including periods without a row."""
    is_of_model = layer is CALCULATIONS
    key = [name for name in layer.key if not is_of_model or name != "miner_model"]
    names = [*key, *(name for name in layer.compared if name not in key)]
    # A generation that was never read has no total, not a total of 0.
    nothing = {TOTALS[name]: 0.0 for name in names if name in TOTALS and name not in GENERATED}
    found = {
        (model, str(period)): Content(rows, nothing | totals, _fingerprint(content))
        for period, model, rows, content, totals in _written_out(connection, layer, scope, names, is_of_model)
    }
    for period in dict.fromkeys(layer.grain.label(day) for day in scope.days):
        for model in scope.models if is_of_model else [None]:
            yield (layer.name, model, period), found.get((model, period), Content(0, nothing, _fingerprint("")))


def _written_out(
    connection: Connection, layer: Layer, scope: Scope, names: Sequence[str], is_of_model: bool
) -> Iterator[tuple[Any, str | None, int, str, dict[str, float]]]:
    """Per period (and model): the number of rows, the rows as one text in key order, and the totals that are known.

    The database writes the text: half a million rows take 0.9 s, where fetching them one by one took 3.4 s.
    """
    stored, period = layer.table.c, layer.table.c[layer.period]
    held = in_days(stored.settlement_date, scope) if layer is CURTAILMENT else layer.owned_rows(scope)
    by = [period.label("of_period"), *([stored.miner_model.label("of_model")] if is_of_model else [])]
    row = reduce(add, (_text(stored[name]) + "|" for name in names if name != layer.period))
    amounts = {TOTALS[name]: stored[name] for name in names if name in TOTALS}
    order = [*by, *(stored[name] for name in layer.key), *layer.table.primary_key.columns]
    totals = [column.label(f"of_{name}") for name, column in amounts.items()]
    rows = select(*by, row.label("row"), *totals).where(held).order_by(*order).subquery("rows")
    groups = [rows.c[column.name] for column in by]
    sums = [func.sum(rows.c[column.name]) for column in totals]
    written = select(func.count(), func.aggregate_strings(rows.c.row, "\n"), *groups, *sums).group_by(*groups)
    for count, content, *rest in connection.execute(written):
        group, measured = rest[: len(by)], rest[len(by) :]
        known = {name: float(total) for name, total in zip(amounts, measured, strict=True) if total is not None}
        yield group[0], group[1] if is_of_model else None, count, content, known


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    return func.coalesce(cast(column, Text), "NULL")


def _fingerprint(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
