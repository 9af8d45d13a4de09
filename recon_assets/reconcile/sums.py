"""Sums of base rows by day, and the summaries that differ from them.

The rows of a long history are read once for the summaries of every grain.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from math import isfinite
from typing import Any

from sqlalchemy import Column, Connection, Date, Double, MetaData, Table, Text, func, select
from sqlalchemy.types import TypeEngine

from recon_assets.database.given_rows import given_rows
from recon_assets.database.tables import historical_bitcoin_calculations
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.difference import compare_layer, count_if
from recon_assets.reconcile.expected import (
    bitcoin_by_day,
    energy_by_day,
    generation_by_day,
)
from recon_assets.reconcile.layer import Layer, in_scope
from recon_assets.reconcile.scope import DaySums, Scope

Generation = tuple[float | None, float | None, float | None]
"""MWh in total, onshore and offshore."""


@dataclass
class Sums:
    """By date and miner model: BTC and rows. By date: MWh, GBP and rows; and the wind generation in MWh.

    `other_days` have calculations of other miner models than the scope's; `no_numbers` have records whose volume or
    price is NaN or infinite. No such amount is in a sum.
    """

    bitcoin: dict[tuple[date, str], tuple[float, int]] = field(default_factory=dict)
    energy: dict[date, tuple[float, float, int]] = field(default_factory=dict)
    generation: dict[date, Generation] = field(default_factory=dict)
    other_days: frozenset[date] = frozenset()
    no_numbers: frozenset[date] = frozenset()

    @classmethod
    def of(cls, parts: Iterable["Sums"]) -> "Sums":
        """The sums of several pieces, which share no day."""
        whole = cls()
        for part in parts:
            whole.bitcoin |= part.bitcoin
            whole.energy |= part.energy
            whole.generation |= part.generation
            whole.other_days |= part.other_days
            whole.no_numbers |= part.no_numbers
        return whole


def sum_rows(connection: Connection, scope: Scope) -> Sums:
    """The sums of the scope's days."""
    bitcoin, other_days = _sum_bitcoin(connection, scope)
    energy = connection.execute(energy_by_day(scope)).all()
    return Sums(
        bitcoin=bitcoin,
        other_days=other_days,
        energy={day: (float(mwh), float(gbp), count) for day, mwh, gbp, count, _ in energy},
        no_numbers=frozenset(day for day, *_, no_numbers in energy if no_numbers),
        generation={
            day: (total, onshore, offshore)
            for day, total, onshore, offshore, _ in connection.execute(generation_by_day(scope))
        },
    )


def sum_bitcoin(connection: Connection, scope: Scope) -> dict[tuple[date, str], tuple[float, int]]:
    """The bitcoin and the number of calculations of each day and model."""
    return _sum_bitcoin(connection, scope)[0]


def _sum_bitcoin(
    connection: Connection, scope: Scope
) -> tuple[dict[tuple[date, str], tuple[float, int]], frozenset[date]]:
    """The bitcoin and the number of calculations of each day and model, and the days with rows of other models."""
    stored = historical_bitcoin_calculations.c
    # One column per model: grouped by day alone, the rows come in key order and nothing has to be sorted.
    columns = [
        column
        for model in scope.models
        for column in (
            func.sum(stored.bitcoin_mined).filter(stored.miner_model == model),
            count_if(stored.miner_model == model),
        )
    ]
    by_day = select(stored.settlement_date, func.count(), *columns).where(in_scope(stored, scope))
    found: dict[tuple[date, str], tuple[float, int]] = {}
    other_days = set()
    for day, rows, *sums in connection.execute(by_day.group_by(stored.settlement_date)):
        for model, total, count in zip(scope.models, sums[::2], sums[1::2], strict=True):
            if count:
                found[day, model] = float(total), count
        if sum(sums[1::2]) < rows:
            other_days.add(day)
    # Only these days are summed again without what is no number: asking each row took longer for all days.
    spoilt = [day for (day, _), (total, _) in found.items() if not isfinite(total)]
    if spoilt:
        again = bitcoin_by_day(scope.of(Days(min(spoilt), max(spoilt))))
        totals = {(day, model): float(total or 0) for day, model, total in connection.execute(again)}
        found |= {key: (total, found[key][1]) for key, total in totals.items()}
    return found, frozenset(other_days)


def stale_keys(
    connection: Connection, sums: Sums, summaries: Sequence[Layer], scope: Scope
) -> Mapping[str, frozenset[str]]:
    """By layer, as text: the keys of summaries that are wrong, are missing or have no base rows."""
    found: dict[str, frozenset[str]] = {}
    with _day_sums(connection, sums) as day_sums:
        for layer in summaries:
            wider = replace(scope.of(layer.grain.whole(scope.days)), day_sums=day_sums)
            tallies = compare_layer(connection, layer, wider, *layer.key)
            faulty = (key for key, tally in tallies.items() if tally.faults)
            found[layer.name] = frozenset(" ".join(str(part) for part in key) for key in faulty)
    return found


def _given(name: str, key: Mapping[str, type[TypeEngine[Any]]], *amounts: str) -> Table:
    columns = (Column(of, kind, primary_key=True) for of, kind in key.items())
    return Table(name, MetaData(), *columns, *(Column(of, Double) for of in amounts), prefixes=["TEMPORARY"])


_DAY = {"settlement_date": Date}
_BITCOIN = _given("day_bitcoin", {**_DAY, "miner_model": Text}, "bitcoin_mined")
_ENERGY = _given("day_energy", _DAY, "curtailed_mwh", "payment_gbp")
_GENERATION = _given("day_generation", _DAY, "total_mwh", "onshore_mwh", "offshore_mwh")


@contextmanager
def _day_sums(connection: Connection, sums: Sums) -> Iterator[DaySums]:
    """The sums as relations that queries can join."""
    bitcoin = [(*key, total) for key, (total, _) in sums.bitcoin.items()]
    energy = [(day, mwh, gbp) for day, (mwh, gbp, _) in sums.energy.items()]
    generation = [(day, *mwh) for day, mwh in sums.generation.items()]
    with ExitStack() as given:
        yield DaySums(
            *(
                given.enter_context(
                    given_rows(connection, table, [dict(zip(table.c.keys(), row, strict=True)) for row in rows])
                )
                for table, rows in ((_BITCOIN, bitcoin), (_ENERGY, energy), (_GENERATION, generation))
            )
        )
