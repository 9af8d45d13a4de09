"""The census: the reconciled state of a long history, by value, within seconds.

Belongs here: reading the whole history once, in pieces side by side, from one snapshot. Does not: what the words mean
(state.py), and the rules of the layers (layers.py), which are the same as for a repair.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from math import ceil, fsum
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection, Engine, and_, func, insert, select

from recon_assets import database
from recon_assets.reconcile.audit import Tally, audit, contradicted_days, count_if
from recon_assets.reconcile.layering import YEAR, Layer, in_days, in_scope, is_key_unique
from recon_assets.reconcile.layers import (
    CURTAILMENT,
    SUMMARIES,
    day_bitcoin,
    day_energy,
    day_generation,
    energy_by_day,
    generation_by_day,
)
from recon_assets.reconcile.scope import Scope, load_rewards, period_rewards, plan_for_merges, plan_for_sets
from recon_assets.reconcile.side_by_side import audit_calculations, compare_calculations
from recon_assets.reconcile.state import SettlementDays, State, settlement_days_of
from recon_assets.settlement import Days
from recon_assets.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch

READERS = min(4, os.cpu_count() or 1)
"""Connections that read side by side. One query keeps one core busy, on either engine."""

DAYS_A_PIECE = 183
"""Days that one query speaks of: enough to be worth its start, few enough that two cores end at about the same time."""


Periods = tuple[int, ...]
Calculations = dict[tuple[date, str], Tally]
Generation = tuple[float | None, float | None, float | None]
"""MWh in all, onshore and offshore."""


@dataclass
class _Rows:
    """What the half-hourly tables of some days hold."""

    records: dict[date, Tally] = field(default_factory=dict)
    calculations: Calculations = field(default_factory=dict)
    contradicted: frozenset[date] = frozenset()
    stale: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass
class _Sums:
    """Rows and sums by day."""

    bitcoin: dict[tuple[date, str], tuple[float, int]] = field(default_factory=dict)
    energy: dict[date, tuple[float, float, int]] = field(default_factory=dict)
    generation: dict[date, Generation] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Iterable["_Sums"]) -> "_Sums":
        """The sums of several pieces, which share no day."""
        whole = cls()
        for part in parts:
            whole.bitcoin |= part.bitcoin
            whole.energy |= part.energy
            whole.generation |= part.generation
        return whole


T = TypeVar("T")


def reconciled_state(engine: Engine, scope: Scope, now: datetime, summaries: Sequence[Layer] = SUMMARIES) -> State:
    """The reconciled state of the scope, from the rows as they are at this moment."""
    whole = scope.of(_widest(summaries, scope.days))
    pieces = list(scope.days.cut(DAYS_A_PIECE))
    with _readers(engine, whole) as connections:
        sums = _sums(connections, whole)
        # The longest first.
        work: list[Callable[[Connection], _Rows]] = [_task(_look_at_calculations, scope.of(piece)) for piece in pieces]
        work += [_task(_look_at_records, scope.of(piece)) for piece in pieces]
        work += [lambda connection: _Rows(stale=_stale(connection, sums, summaries, scope))]
        work += [_task(_find_contradicted, scope.of(piece)) for piece in pieces]
        rows = _side_by_side(connections, work)
        contradicted = frozenset[date]().union(*(part.contradicted for part in rows))
        days = settlement_days_of(connections[0], scope, now, contradicted)
    latest = days.latest_ingested
    calculations = {key: tally for part in rows for key, tally in part.calculations.items()}
    for key, (_, count) in sums.bitcoin.items():
        if key[0] in scope.days:
            calculations[key] = calculations.get(key, Tally()) + Tally(surplus=count)
    return State(
        scope=scope,
        days=days.days,
        curtailment={day: tally for part in rows for day, tally in part.records.items() if day not in contradicted},
        calculations=calculations,
        stale_summaries={name: keys for part in rows for name, keys in part.stale.items()},
        bitcoin={
            model: fsum(
                total for (day, name), (total, _) in sums.bitcoin.items() if name == model and day in scope.days
            )
            for model in scope.models
        },
        curtailment_records=sum(count for day, (_, _, count) in sums.energy.items() if day in scope.days),
        days_behind=(scope.days.last - latest).days if latest else len(scope.days),
        contradicted=contradicted,
        unproven=days.unproven,
        generated=frozenset(day for day in sums.generation if day in scope.days),
    )


def stale_summaries(
    engine: Engine, scope: Scope, summaries: Sequence[Layer] = SUMMARIES
) -> Mapping[str, frozenset[str]]:
    """The keys of the summary rows that are not right, by layer, in whole days, months and years of the scope.

    A third of the work of the whole state, because no value of a record or a calculation is compared.
    """
    whole = scope.of(_widest(summaries, scope.days))
    with _readers(engine, whole) as connections:
        return _stale(connections[0], _sums(connections, whole), summaries, scope)


def settlement_days(engine: Engine, scope: Scope, now: datetime) -> SettlementDays:
    """The settlement days alone, without a look at the layers."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _find_contradicted)
        contradicted = frozenset[date]().union(*(part.contradicted for part in found))
        return settlement_days_of(connections[0], scope, now, contradicted)


def compared_records(engine: Engine, scope: Scope) -> dict[date, Tally]:
    """The records of ingested days against their bids, alone."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _look_at_records, _find_contradicted)
    contradicted = frozenset[date]().union(*(part.contradicted for part in found))
    return {day: tally for part in found for day, tally in part.records.items() if day not in contradicted}


def counted_calculations(engine: Engine, scope: Scope) -> dict[tuple[date, str], int]:
    """How many calculations of the scope's miner models are stored, by day and model; none where there is none."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _sum_bitcoin)
    return {key: count for part in found for key, (_, count) in part.items()}


def compared_calculations(engine: Engine, scope: Scope) -> Calculations:
    """The calculations of the scope's miner models against the records, alone, by day and model."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _audit_calculations)
    return {key: tally for part in found for key, tally in part.calculations.items()}


def _widest(summaries: Sequence[Layer], days: Days) -> Days:
    """The days whose rows the summaries of some days are made of."""
    return YEAR.whole(days) if any(layer.grain is YEAR for layer in summaries) else days


@contextmanager
def _readers(engine: Engine, scope: Scope) -> Iterator[list[Connection]]:
    """Connections that share a snapshot, no more than there are pieces to read."""
    with database.snapshots(engine, min(READERS, ceil(len(scope.days) / DAYS_A_PIECE))) as connections:
        for connection in connections:
            plan_for_sets(connection)
        yield connections


def _in_pieces(connections: Sequence[Connection], scope: Scope, *queries: Callable[[Connection, Scope], T]) -> list[T]:
    """What each query finds in each piece of the scope's days."""
    pieces = list(scope.days.cut(DAYS_A_PIECE))
    return _side_by_side(connections, [_task(query, scope.of(piece)) for query in queries for piece in pieces])


def _task(query: Callable[[Connection, Scope], T], scope: Scope) -> Callable[[Connection], T]:
    return lambda connection: query(connection, scope)


def _side_by_side(connections: Sequence[Connection], work: Iterable[Callable[[Connection], T]]) -> list[T]:
    """Does the work on as many threads as there are connections; the first error ends it."""
    if len(connections) == 1:
        return [task(connections[0]) for task in work]
    free: SimpleQueue[Connection] = SimpleQueue()
    for connection in connections:
        free.put(connection)

    def do(task: Callable[[Connection], T]) -> T:
        connection = free.get()
        try:
            return task(connection)
        finally:
            free.put(connection)

    with ThreadPoolExecutor(len(connections)) as pool:
        return list(pool.map(do, work))


def _sums(connections: Sequence[Connection], whole: Scope) -> _Sums:
    return _Sums.of(_in_pieces(connections, whole, _sum))


def _look_at_calculations(
    connection: Connection, scope: Scope, look: Callable[[Connection, Scope], Calculations] = compare_calculations
) -> _Rows:
    load_rewards(connection, scope.days)
    try:
        with plan_for_merges(connection):
            return _Rows(calculations=look(connection, scope))
    finally:
        period_rewards.drop(connection)


def _audit_calculations(connection: Connection, scope: Scope) -> _Rows:
    return _look_at_calculations(connection, scope, audit_calculations)


def _look_at_records(connection: Connection, scope: Scope) -> _Rows:
    with plan_for_merges(connection):
        return _Rows(records=_compare_records(connection, scope))


def _find_contradicted(connection: Connection, scope: Scope) -> _Rows:
    with plan_for_merges(connection):
        return _Rows(contradicted=contradicted_days(connection, scope))


def _compare_records(connection: Connection, scope: Scope) -> dict[date, Tally]:
    """The records of proven periods, by day."""
    if not is_key_unique(connection, CURTAILMENT):
        return {day: tally for (day,), tally in audit(connection, CURTAILMENT, scope, "settlement_date").items()}
    expected = CURTAILMENT.expected(scope).subquery("expected")
    matched = curtailment_records.c.settlement_date.is_not(None)
    compared = (
        select(
            expected.c.settlement_date,
            func.count(),
            count_if(matched),
            count_if(and_(matched, CURTAILMENT.differs(connection, expected))),
        )
        .select_from(CURTAILMENT.below(expected, scope))
        .group_by(expected.c.settlement_date)
    )
    # Counted by period, because counting the rows of proven periods one by one took as long as comparing them.
    records, proofs = curtailment_records.c, proof_of_fetch.c
    period = (records.settlement_date, records.settlement_period)
    held = select(*period, func.count().label("rows")).where(in_scope(records, scope)).group_by(*period).subquery()
    same = and_(held.c.settlement_date == proofs.settlement_date, held.c.settlement_period == proofs.settlement_period)
    stored = (
        select(held.c.settlement_date, func.sum(held.c.rows))
        .select_from(held)
        .join(proof_of_fetch, same)
        .where(in_days(proofs.settlement_date, scope))
        .group_by(held.c.settlement_date)
    )
    tallies = {
        day: Tally(count, actual, -actual, 0, wrong) for day, count, actual, wrong in connection.execute(compared)
    }
    for day, rows in connection.execute(stored):
        tallies[day] = tallies.get(day, Tally()) + Tally(surplus=int(rows))
    return tallies


def _sum(connection: Connection, scope: Scope) -> _Sums:
    return _Sums(
        bitcoin=_sum_bitcoin(connection, scope),
        energy={
            day: (float(mwh), float(gbp), count) for day, mwh, gbp, count in connection.execute(energy_by_day(scope))
        },
        generation={
            day: (total, onshore, offshore)
            for day, total, onshore, offshore, _ in connection.execute(generation_by_day(scope))
        },
    )


def _sum_bitcoin(connection: Connection, scope: Scope) -> dict[tuple[date, str], tuple[float, int]]:
    """The bitcoin and the calculations of each day and model."""
    stored = historical_bitcoin_calculations.c
    # The models beside each other: grouped by day alone, the rows come in the order of their key and none is sorted.
    columns = [
        column
        for model in scope.models
        for column in (
            func.sum(stored.bitcoin_mined).filter(stored.miner_model == model),
            count_if(stored.miner_model == model),
        )
    ]
    by_day = select(stored.settlement_date, *columns).where(in_scope(stored, scope)).group_by(stored.settlement_date)
    return {
        (day, model): (float(total), count)
        for day, *sums in connection.execute(by_day)
        for model, total, count in zip(scope.models, sums[::2], sums[1::2], strict=True)
        if count
    }


def _stale(
    connection: Connection, sums: _Sums, summaries: Sequence[Layer], scope: Scope
) -> Mapping[str, frozenset[str]]:
    """The keys of the summary rows that differ from their base rows, lack them or are lacking, as text, by layer."""
    _load_sums(connection, sums)
    found: dict[str, frozenset[str]] = {}
    for layer in summaries:
        wider = replace(scope.of(layer.grain.whole(scope.days)), summed=True)
        tallies = audit(connection, layer, wider, *layer.key)
        faulty = (key for key, tally in tallies.items() if tally.faults)
        found[layer.name] = frozenset(" ".join(str(part) for part in key) for key in faulty)
    return found


def _load_sums(connection: Connection, sums: _Sums) -> None:
    """Fills the temporary tables that summaries are made from where the scope says `summed`."""
    for table in (day_bitcoin, day_energy, day_generation):
        table.create(connection, checkfirst=False)
    if sums.bitcoin:
        bitcoin = ((day, model, total) for (day, model), (total, _) in sums.bitcoin.items())
        names = ("settlement_date", "miner_model", "bitcoin_mined")
        connection.execute(insert(day_bitcoin), [dict(zip(names, row, strict=True)) for row in bitcoin])
    if sums.energy:
        rows = [{"settlement_date": d, "curtailed_mwh": m, "payment_gbp": p} for d, (m, p, _) in sums.energy.items()]
        connection.execute(insert(day_energy), rows)
    if sums.generation:
        names = ("total_mwh", "onshore_mwh", "offshore_mwh")
        rows = [{"settlement_date": day, **dict(zip(names, mwh, strict=True))} for day, mwh in sums.generation.items()]
        connection.execute(insert(day_generation), rows)
