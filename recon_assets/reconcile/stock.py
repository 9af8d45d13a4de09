"""Taking stock: the reconciled state of the whole history, with the few facts that only checks ask for.

Belongs here: one query per fact. Does not: judging them (verdicts.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Engine, Select, cast, func, literal, select

from recon_assets import database
from recon_assets.reconcile.census import reconciled_state
from recon_assets.reconcile.layering import beyond, in_days, in_scope
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.state import State
from recon_assets.settlement import london_day
from recon_assets.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch

Periods = frozenset[int]


@dataclass(frozen=True)
class Stock:
    """The state, and by date: records whose payment is off with the GBP, and settlement periods that tables know.

    `curtailed`, `proven` and `calculated` (by date and model) hold the settlement periods with rows.
    """

    state: State
    today: date
    payments_off: Mapping[date, tuple[int, float]]
    curtailed: Mapping[date, Periods]
    proven: Mapping[date, Periods]
    calculated: Mapping[tuple[date, str], Periods]


def take_stock(engine: Engine, scope: Scope, now: datetime) -> Stock:
    """The stock of the scope's days at this moment (`now` is aware)."""
    with database.reading(engine) as connection:
        calculations = historical_bitcoin_calculations.c
        calculated = _periods(
            connection,
            select(calculations.settlement_date, calculations.miner_model, calculations.settlement_period).where(
                in_scope(calculations, scope), calculations.miner_model.in_(scope.models)
            ),
        )
        records, proofs = curtailment_records.c, proof_of_fetch.c
        curtailed = _periods(
            connection,
            select(records.settlement_date, records.settlement_period).where(
                in_scope(records, scope), records.volume != 0
            ),
        )
        proven = _periods(
            connection,
            select(proofs.settlement_date, proofs.settlement_period).where(in_days(proofs.settlement_date, scope)),
        )
        payments_off = _payments_off(connection, scope)
    return Stock(
        state=reconciled_state(engine, scope, now),
        today=london_day(now),
        payments_off=payments_off,
        curtailed={day: periods for (day,), periods in curtailed.items()},
        proven={day: periods for (day,), periods in proven.items()},
        calculated={(day, model): periods for (day, model), periods in calculated.items()},
    )


def _periods(connection: Connection, rows: Select[Any]) -> dict[tuple[Any, ...], Periods]:
    """The settlement periods (the last column) of each group of the other columns, read as one bit mask for each."""
    distinct = rows.distinct().subquery()
    *groups, period = distinct.c
    mask = func.sum(cast(literal(1), BigInteger).op("<<")(period))
    masks = connection.execute(select(*groups, mask).group_by(*groups))
    return {tuple(group): periods_of(int(mask)) for *group, mask in masks}


def periods_of(mask: int) -> Periods:
    """The numbers of the bits that are set."""
    return frozenset(period for period in range(mask.bit_length()) if mask >> period & 1)


def _payments_off(connection: Connection, scope: Scope) -> dict[date, tuple[int, float]]:
    """By date: records whose payment is not volume x original price, and by how many GBP in all."""
    records = curtailment_records.c
    due = -func.abs(records.volume) * records.original_price
    off = (
        select(records.settlement_date, func.count(), func.coalesce(func.sum(func.abs(records.payment - due)), 0))
        .where(in_scope(records, scope), PAYMENT_OFF(records.payment, due))
        .group_by(records.settlement_date)
    )
    return {day: (count, float(gbp)) for day, count, gbp in connection.execute(off)}


PAYMENT_OFF = beyond(relative=1e-9, absolute=1e-9)
"""The tolerance of curtailment records (layers.py)."""
