"""Reads the reconciled state of a long history, every value compared, within seconds.

The whole history is read once, from one snapshot, in pieces on several connections.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from math import ceil, fsum
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection, Engine, and_, func, select

from recon_assets.database import transactions
from recon_assets.database.tables import curtailment_records, proof_of_fetch, wind_generation_data
from recon_assets.domain.settlement import Days, all_kept_days
from recon_assets.reconcile.difference import (
    Tally,
    compare_calculations,
    compare_expected_calculations,
    compare_layer,
    contradicted_days,
    count_if,
)
from recon_assets.reconcile.evidence import is_within
from recon_assets.reconcile.layer import YEAR, Layer, in_days, in_scope, is_key_unique
from recon_assets.reconcile.layers import CURTAILMENT, LAYERS, SUMMARIES
from recon_assets.reconcile.looked_past import outside_days, records_without_number, unknown_models
from recon_assets.reconcile.scope import Scope, plan_for_merges, plan_for_sets, with_rewards
from recon_assets.reconcile.settlement_days import SettlementDays, days_with_evidence
from recon_assets.reconcile.state import State
from recon_assets.reconcile.sums import Sums, stale_keys, sum_bitcoin, sum_rows

READERS = min(4, os.cpu_count() or 1)
"""Connections that read in parallel. One query keeps one core busy, on either engine."""

DAYS_A_PIECE = 183
"""Days that one query reads: enough to be worth its start, few enough that two cores end at about the same time."""

Calculations = dict[tuple[date, str], Tally]
T = TypeVar("T")


@dataclass
class _Rows:
    """What was found in some days, by one query or another."""

    records: dict[date, Tally] = field(default_factory=dict)
    calculations: Calculations = field(default_factory=dict)
    contradicted: frozenset[date] = frozenset()
    stale: Mapping[str, frozenset[str]] = field(default_factory=dict)


def reconciled_state(engine: Engine, scope: Scope, now: datetime, summaries: Sequence[Layer] = SUMMARIES) -> State:
    """The reconciled state of the scope, from the rows as they are now."""
    whole = scope.of(_widest(summaries, scope.days))
    pieces = list(scope.days.cut(DAYS_A_PIECE))
    with _readers(engine, whole) as connections:
        sums = _sums(connections, whole)
        # The longest tasks first.
        work: list[Callable[[Connection], _Rows]] = [_task(_read_calculations, scope.of(piece)) for piece in pieces]
        work += [_task(_read_records, scope.of(piece)) for piece in pieces]
        work += [lambda connection: _Rows(stale=stale_keys(connection, sums, summaries, scope))]
        work += [_task(_find_contradicted, scope.of(piece)) for piece in pieces]
        rows = _side_by_side(connections, work)
        contradicted = frozenset[date]().union(*(part.contradicted for part in rows))
        calculations = {key: tally for part in rows for key, tally in part.calculations.items()}
        for key, (_, count) in sums.bitcoin.items():
            if key[0] in scope.days:
                calculations[key] = calculations.get(key, Tally()) + Tally(surplus=count)
        suspects = {day for (day, _), tally in calculations.items() if tally.surplus}

        def sum_up(days: Days) -> Sums:
            return sums if is_within(days, whole.days) else _sums(connections, scope.of(days))

        days = days_with_evidence(connections[0], scope, now, contradicted, sum_up, suspects=suspects)
        unknown = unknown_models(connections[0], scope, sums.other_days)
        no_numbers = records_without_number(connections[0], scope, sums.no_numbers)
        outside = outside_days(connections[0], all_kept_days(scope.first_day, now), LAYERS, wind_generation_data)
    latest = days.latest_ingested
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
        lost=days.lost,
        lost_periods=days.lost_periods,
        new_wind_days=days.new_wind_days,
        generated=frozenset(day for day in sums.generation if day in scope.days),
        unknown_models=unknown.spellings,
        unknown_rows=unknown.rows,
        misnamed=unknown.days,
        outside_days=outside,
        no_numbers=no_numbers,
    )


def stale_summaries(
    engine: Engine, scope: Scope, summaries: Sequence[Layer] = SUMMARIES
) -> Mapping[str, frozenset[str]]:
    """The keys of the summary rows that are not right, by layer, in whole days, months and years of the scope.

    It takes a third of the time of the whole state, because no value of a record or calculation is compared.
    """
    whole = scope.of(_widest(summaries, scope.days))
    with _readers(engine, whole) as connections:
        return stale_keys(connections[0], _sums(connections, whole), summaries, scope)


def settlement_days(engine: Engine, scope: Scope, now: datetime) -> SettlementDays:
    """The state of the settlement days alone, without comparing the layers."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _find_contradicted)
        contradicted = frozenset[date]().union(*(part.contradicted for part in found))
        return days_with_evidence(
            connections[0], scope, now, contradicted, lambda days: _sums(connections, scope.of(days))
        )


def compared_records(engine: Engine, scope: Scope) -> dict[date, Tally]:
    """The records of ingested days compared with their bids, and nothing else."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _read_records, _find_contradicted)
    contradicted = frozenset[date]().union(*(part.contradicted for part in found))
    return {day: tally for part in found for day, tally in part.records.items() if day not in contradicted}


def counted_calculations(engine: Engine, scope: Scope) -> dict[tuple[date, str], int]:
    """How many calculations of the scope's miner models are stored, by day and model; absent where there are none."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, sum_bitcoin)
    return {key: count for part in found for key, (_, count) in part.items()}


def compared_calculations(engine: Engine, scope: Scope) -> Calculations:
    """The calculations of the scope's miner models compared with the records, by day and model, and nothing else."""
    with _readers(engine, scope) as connections:
        found = _in_pieces(connections, scope, _read_all_calculations)
    return {key: tally for part in found for key, tally in part.calculations.items()}


def _widest(summaries: Sequence[Layer], days: Days) -> Days:
    """The days whose rows the summaries of some days are made from."""
    return YEAR.whole(days) if any(layer.grain is YEAR for layer in summaries) else days


@contextmanager
def _readers(engine: Engine, scope: Scope) -> Iterator[list[Connection]]:
    """Connections that share a snapshot; no more than there are pieces to read."""
    with transactions.snapshots(engine, min(READERS, ceil(len(scope.days) / DAYS_A_PIECE))) as connections:
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
    """Runs the work on as many threads as there are connections; the first error ends it."""
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


def _sums(connections: Sequence[Connection], whole: Scope) -> Sums:
    return Sums.of(_in_pieces(connections, whole, sum_rows))


def _read_calculations(
    connection: Connection,
    scope: Scope,
    compare: Callable[[Connection, Scope], Calculations] = compare_expected_calculations,
) -> _Rows:
    with with_rewards(connection, scope) as rewarded, plan_for_merges(connection):
        return _Rows(calculations=compare(connection, rewarded))


def _read_all_calculations(connection: Connection, scope: Scope) -> _Rows:
    return _read_calculations(connection, scope, compare_calculations)


def _read_records(connection: Connection, scope: Scope) -> _Rows:
    with plan_for_merges(connection):
        return _Rows(records=_compare_records(connection, scope))


def _find_contradicted(connection: Connection, scope: Scope) -> _Rows:
    with plan_for_merges(connection):
        return _Rows(contradicted=contradicted_days(connection, scope))


def _compare_records(connection: Connection, scope: Scope) -> dict[date, Tally]:
    """The records of proven periods, by day."""
    if not is_key_unique(connection, CURTAILMENT):
        return {
            day: tally for (day,), tally in compare_layer(connection, CURTAILMENT, scope, "settlement_date").items()
        }
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
    # Rows are counted per period first: joining each row to its proof took as long as comparing the rows.
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
