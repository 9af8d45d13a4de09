"""Rows that no layer speaks of: of a miner model that is not declared, of days that are not kept, or without numbers.

They are counted and named. Nothing changes them: only a person can say what they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, func, or_, select

from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.domain.mining import MODELS, model_like
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.expected import has_no_number
from recon_assets.reconcile.layer import DAY, Layer, in_days, in_scope
from recon_assets.reconcile.layers import CALCULATIONS, SUMMARIES
from recon_assets.reconcile.scope import Scope

BITCOIN = tuple(layer for layer in SUMMARIES if "miner_model" in layer.key)
"""The summaries by miner model."""

UNNAMED = "NULL"
"""How a row without a miner model is shown."""

Misnamed = Mapping[tuple[str, str], frozenset[str]]
"""By period of a layer and miner model: the spellings of rows that look like that model's."""


@dataclass(frozen=True)
class UnknownModels:
    """Rows whose miner model is not declared.

    `rows` by table and stored spelling; `days` by settlement date and declared model: the spellings that resemble it.
    """

    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    days: Mapping[tuple[date, str], frozenset[str]] = field(default_factory=dict)

    @property
    def spellings(self) -> dict[str, int]:
        """Stored spelling -> rows of all tables."""
        total: dict[str, int] = {}
        for of_table in self.rows.values():
            for spelling, count in of_table.items():
                total[spelling] = total.get(spelling, 0) + count
        return dict(sorted(total.items()))


def unknown_models(connection: Connection, scope: Scope, other_days: Iterable[date]) -> UnknownModels:
    """The rows of undeclared models in the scope's days; `other_days` are those that have such calculations at all."""
    rows: dict[str, dict[str, int]] = {}
    days: dict[tuple[date, str], frozenset[str]] = {}
    searched = [day for day in other_days if day in scope.days]
    if searched:
        stored = historical_bitcoin_calculations.c
        key = (stored.settlement_date, stored.miner_model)
        within = stored.settlement_date.between(min(searched), max(searched))
        counts = select(*key, func.count()).where(within, is_unknown(stored.miner_model, scope)).group_by(*key)
        for day, spelling, count in connection.execute(counts):
            of_table = rows.setdefault(CALCULATIONS.name, {})
            of_table[_shown(spelling)] = of_table.get(_shown(spelling), 0) + count
            model = model_like(spelling or "")
            if model is not None:
                days[day, model] = days.get((day, model), frozenset()) | {spelling}
    for layer in BITCOIN:
        stored_model = layer.table.c.miner_model
        found = select(stored_model, func.count()).where(_in_periods(layer, scope), is_unknown(stored_model, scope))
        for spelling, count in connection.execute(found.group_by(stored_model)):
            rows.setdefault(layer.name, {})[_shown(spelling)] = count
    return UnknownModels(rows, days)


def records_without_number(
    connection: Connection, scope: Scope, suspected: Iterable[date]
) -> dict[date, tuple[str, ...]]:
    """The records of some days whose volume or price is NaN or infinite, each named by period, farm and id."""
    days = [day for day in suspected if day in scope.days]
    if not days:
        return {}
    records = curtailment_records.c
    rows = select(records.settlement_date, records.settlement_period, records.farm_id, records.id)
    within = records.settlement_date.between(min(days), max(days))
    found: dict[date, tuple[str, ...]] = {}
    for day, period, farm, identity in connection.execute(rows.where(within, has_no_number()).order_by(records.id)):
        found[day] = (*found.get(day, ()), f"period {period} {farm} (id {identity})")
    return found


def misnamed(connection: Connection, layer: Layer, scope: Scope) -> dict[tuple[str, str], frozenset[str]]:
    """The periods and declared models of a layer beside which no row may be inserted: theirs have another spelling.

    A summary is concerned if its own rows are misspelled, or the calculations that it is the sum of.
    """
    if "miner_model" not in layer.key:
        return {}
    calculations = historical_bitcoin_calculations
    found: dict[tuple[str, str], frozenset[str]] = {}
    sources: list[tuple[Table, ColumnElement[Any], ColumnElement[bool]]] = [
        (calculations, layer.grain.of(calculations.c.settlement_date), in_scope(calculations.c, scope))
    ]
    if layer is not CALCULATIONS:
        sources.append((layer.table, layer.table.c[layer.period], _in_periods(layer, scope)))
    for table, period, within in sources:
        named = table.c.miner_model
        for of_period, spelling in connection.execute(
            select(period, named).where(within, is_unknown(named, scope)).distinct()
        ):
            model = model_like(spelling or "")
            if model in scope.models:
                key = (str(of_period), str(model))
                found[key] = found.get(key, frozenset()) | {spelling}
    return found


def around(layer: Layer, scope: Scope, found: Misnamed) -> Iterator[Scope]:
    """The parts of a scope in which the layer may be converged: all but the misnamed periods of each model."""
    concerned = {model for _, model in found}
    if not concerned:
        yield scope
        return
    others = {name: model for name, model in scope.models.items() if name not in concerned}
    if others:
        yield replace(scope, models=others)
    for name in sorted(concerned) if layer.grain is DAY else ():
        days = frozenset(date.fromisoformat(period) for period, model in found if model == name)
        yield replace(scope, models={name: scope.models[name]}).excluding(days)


def why_unfit(layer: Layer, period: str, model: str, spellings: Iterable[str]) -> str:
    """The reason why a period of a layer is left as it is for a miner model."""
    names = ", ".join(f"'{spelling}'" for spelling in sorted(spellings))
    return (
        f"{period}: rows of {model} are stored as {names}, and none is inserted beside them in {layer.name}: "
        "rename them, 'recon analyze' shows how"
    )


def mend(table: str, spelling: str) -> str:
    """What mends the rows of a table that have a spelling of no declared model: a statement, or the choices."""
    model = model_like(spelling)
    if model is None:
        return "no such model is declared: declare it in recon_assets/domain/mining.py, or remove these rows"
    quoted = spelling.replace("'", "''")
    return f"UPDATE {table} SET miner_model = '{model}' WHERE miner_model = '{quoted}';"


def is_unknown(model: Column[Any], scope: Scope) -> ColumnElement[bool]:
    """Whether a stored miner model is not declared."""
    return or_(model.not_in([*MODELS, *scope.models]), model.is_(None))


def outside_days(connection: Connection, kept: Days, layers: Iterable[Layer], *tables: Table) -> dict[str, int]:
    """How many rows each table has before the first kept day or after the last; tables without any are absent."""
    periods = [(layer.table, layer.table.c[layer.period], layer.grain) for layer in layers]
    periods += [(table, table.c.settlement_date, DAY) for table in tables]
    found: dict[str, int] = {}
    for table, period, grain in periods:
        ends = (kept.first, kept.last) if grain is DAY else (grain.label(kept.first), grain.label(kept.last))
        # Two counts, because each reads only one end of the index.
        beyond = (period < ends[0], period > ends[1])
        count = sum(connection.execute(select(func.count()).where(end)).scalar_one() for end in beyond)
        if count:
            found[table.name] = count
    return found


def _in_periods(layer: Layer, scope: Scope) -> ColumnElement[bool]:
    period, label = layer.table.c[layer.period], layer.grain.label
    if layer.grain is DAY:
        return in_days(period, scope)
    return and_(period >= label(scope.days.first), period <= label(scope.days.last))


def _shown(spelling: str | None) -> str:
    return UNNAMED if spelling is None else spelling
