"""What the checks need: the reconciled state of the whole history, and a few facts that only checks use."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import BigInteger, Connection, Engine, Select, cast, func, literal, select

from recon_assets.database import transactions
from recon_assets.database.amounts import DUE_GBP
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch
from recon_assets.domain.settlement import london_day
from recon_assets.reconcile.difference import Tally
from recon_assets.reconcile.layer import beyond, in_days, in_scope, is_number
from recon_assets.reconcile.read_state import (
    compared_calculations,
    compared_records,
    counted_calculations,
    reconciled_state,
    settlement_days,
    stale_summaries,
)
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import SettlementDays
from recon_assets.reconcile.state import State

Periods = frozenset[int]


class CheckInputs:
    """The facts about the days of a scope at a moment (`now` is aware), each read on first use.

    The checks of a run share one object, so that each fact is read once. For checks of several assets (`whole`), the
    reconciled state is read in one go, from one snapshot. Checks of one asset read only what they need, each fact from
    a snapshot of its own.
    """

    def __init__(self, engine: Engine, scope: Scope, now: datetime, *, whole: bool = True) -> None:
        self._engine, self._now, self._whole = engine, now, whole
        self._of_models: dict[str, Mapping[date, Tally]] = {}
        self.scope, self.today = scope, london_day(now)

    @cached_property
    def _state(self) -> State:
        return reconciled_state(self._engine, self.scope, self._now)

    @cached_property
    def days(self) -> SettlementDays:
        """The state of each settlement day."""
        return self._state if self._whole else settlement_days(self._engine, self.scope, self._now)

    @cached_property
    def records(self) -> Mapping[date, Tally]:
        """The records of ingested days compared with their bids."""
        return self._state.curtailment if self._whole else compared_records(self._engine, self.scope)

    @cached_property
    def stored_calculations(self) -> Mapping[tuple[date, str], int]:
        """How many calculations are stored, by date and model."""
        if self._whole:
            return {key: tally.actual + tally.superfluous for key, tally in self._state.calculations.items()}
        return counted_calculations(self._engine, self.scope)

    def of_model(self, model: str) -> Mapping[date, Tally]:
        """The calculations of one model compared with the records, by date."""
        if model not in self._of_models:
            of_model = replace(self.scope, models={model: self.scope.models[model]})
            found = self._state.calculations if self._whole else compared_calculations(self._engine, of_model)
            self._of_models[model] = {day: tally for (day, name), tally in found.items() if name == model}
        return self._of_models[model]

    @cached_property
    def stale_summaries(self) -> Mapping[str, frozenset[str]]:
        """The keys of the summary rows that are not right, by layer."""
        return self._state.stale_summaries if self._whole else stale_summaries(self._engine, self.scope)

    @cached_property
    def payments_off(self) -> Mapping[date, tuple[int, float]]:
        """By date: how many records have a payment that is not volume x original price, and the GBP they are off."""
        with transactions.reading(self._engine) as connection:
            return _payments_off(connection, self.scope)

    @cached_property
    def curtailed(self) -> Mapping[date, Periods]:
        """The settlement periods with records, by date."""
        records = curtailment_records.c
        rows = select(records.settlement_date, records.settlement_period)
        return self._by_day(rows.where(in_scope(records, self.scope), records.volume != 0))

    @cached_property
    def proven(self) -> Mapping[date, Periods]:
        """The settlement periods with a proof of fetch, by date."""
        proofs = proof_of_fetch.c
        rows = select(proofs.settlement_date, proofs.settlement_period)
        return self._by_day(rows.where(in_days(proofs.settlement_date, self.scope)))

    @cached_property
    def calculated(self) -> Mapping[tuple[date, str], Periods]:
        """The settlement periods with calculations, by date and model."""
        stored = historical_bitcoin_calculations.c
        rows = select(stored.settlement_date, stored.miner_model, stored.settlement_period)
        of_models = rows.where(in_scope(stored, self.scope), stored.miner_model.in_(self.scope.models))
        with transactions.reading(self._engine) as connection:
            return {(day, model): periods for (day, model), periods in _periods(connection, of_models).items()}

    def _by_day(self, rows: Select[Any]) -> dict[date, Periods]:
        with transactions.reading(self._engine) as connection:
            return {day: periods for (day,), periods in _periods(connection, rows).items()}


def _periods(connection: Connection, rows: Select[Any]) -> dict[tuple[Any, ...], Periods]:
    """The settlement periods (last column) of each group of the other columns, read as one bit mask per group."""
    distinct = rows.distinct().subquery()
    *groups, period = distinct.c
    mask = func.sum(cast(literal(1), BigInteger).op("<<")(period))
    masks = connection.execute(select(*groups, mask).group_by(*groups))
    return {tuple(group): periods_of(int(mask)) for *group, mask in masks}


def periods_of(mask: int) -> Periods:
    """The numbers of the bits that are set."""
    return frozenset(period for period in range(mask.bit_length()) if mask >> period & 1)


def _payments_off(connection: Connection, scope: Scope) -> dict[date, tuple[int, float]]:
    """By date: how many records have a payment that is not volume x original price, and the GBP they are off."""
    records = curtailment_records.c
    gap = records.payment - DUE_GBP
    off = (
        select(
            records.settlement_date,
            func.count(),
            func.coalesce(func.sum(func.abs(gap)).filter(is_number(gap)), 0),
        )
        .where(in_scope(records, scope), PAYMENT_OFF(records.payment, DUE_GBP))
        .group_by(records.settlement_date)
    )
    return {day: (count, float(gbp)) for day, count, gbp in connection.execute(off)}


PAYMENT_OFF = beyond(relative=1e-9, absolute=1e-9)
"""The tolerance of curtailment records (layers.py)."""
