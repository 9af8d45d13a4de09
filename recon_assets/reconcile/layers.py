"""The layers: wind bids -> curtailment records -> calculations -> summaries; and wind generation -> summaries.

Each layer is declared once. Nothing else computes or changes these tables.
"""

from functools import partial

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
)

from recon_assets.database.tables import (
    bitcoin_daily_summaries,
    bitcoin_monthly_summaries,
    bitcoin_yearly_summaries,
    curtailment_records,
    daily_summaries,
    historical_bitcoin_calculations,
    monthly_summaries,
    yearly_summaries,
)
from recon_assets.domain.mining import BITCOIN_DECIMALS
from recon_assets.reconcile.expected import (
    CURTAILED,
    GENERATED,
    expected_bitcoin_sums,
    expected_calculations,
    expected_energy_sums,
    expected_records,
    in_periods,
    owned_calculations,
    owned_records,
    removable_calculations,
)
from recon_assets.reconcile.layer import (
    DAY,
    MONTH,
    YEAR,
    Grain,
    Layer,
    beyond,
    distinct_from,
    in_decimals,
    in_scope,
    where_known,
)
from recon_assets.reconcile.scope import Scope

HALF_A_SATOSHI = 5e-9 * (1 + 1e-6)
"""BTC. The user's old system rounded to 8 decimals, and its right rows must not be rewritten for that. The extra
millionth is for values half-way between two satoshis: in floating point, one in three of them is off by more."""


def _bitcoin_summary(table: Table, grain: Grain) -> Layer:
    def owned(scope: Scope) -> ColumnElement[bool]:
        return and_(in_periods(table, grain, scope), table.c.miner_model.in_(scope.models))

    return Layer(
        table=table,
        grain=grain,
        period=grain.column,
        key=(grain.column, "miner_model"),
        compared={"bitcoin_mined": beyond(relative=1e-9)},
        expected=expected_bitcoin_sums(grain),
        owned_rows=owned,
        join_filter=owned,
    )


def _energy_summary(table: Table, grain: Grain) -> Layer:
    owned = partial(in_periods, table, grain)
    sum_differs = beyond(relative=1e-9)
    return Layer(
        table=table,
        grain=grain,
        period=grain.column,
        key=(grain.column,),
        compared=dict.fromkeys(CURTAILED, sum_differs) | dict.fromkeys(GENERATED, where_known(sum_differs)),
        expected=expected_energy_sums(table, grain),
        owned_rows=owned,
        join_filter=owned,
        preserved=frozenset(GENERATED),
    )


CURTAILMENT = Layer(
    table=curtailment_records,
    grain=DAY,
    period="settlement_date",
    key=("settlement_date", "settlement_period", "sequence_number"),
    compared={
        "farm_id": distinct_from,
        **dict.fromkeys(("volume", "payment", "original_price", "final_price"), beyond(relative=1e-9, absolute=1e-9)),
        "so_flag": distinct_from,
        "cadl_flag": distinct_from,
    },
    expected=expected_records,
    owned_rows=owned_records,
    join_filter=lambda scope: in_scope(curtailment_records.c, scope),
    carried=("lead_party_name", "acceptance_id", "bid_offer_pair_id"),
)
CALCULATIONS = Layer(
    table=historical_bitcoin_calculations,
    grain=DAY,
    period="settlement_date",
    key=("settlement_date", "settlement_period", "farm_id", "miner_model"),
    compared={
        "bitcoin_mined": beyond(relative=1e-7, absolute=HALF_A_SATOSHI),
        "difficulty": beyond(relative=1e-9),
    },
    expected=expected_calculations,
    owned_rows=owned_calculations,
    join_filter=owned_calculations,
    written={
        "bitcoin_mined": lambda expected: in_decimals(expected["bitcoin_mined"], BITCOIN_DECIMALS),
        "difficulty": lambda expected: expected["difficulty_amount"],
    },
    removable=removable_calculations,
)
BITCOIN_DAILY = _bitcoin_summary(bitcoin_daily_summaries, DAY)
BITCOIN_MONTHLY = _bitcoin_summary(bitcoin_monthly_summaries, MONTH)
BITCOIN_YEARLY = _bitcoin_summary(bitcoin_yearly_summaries, YEAR)
ENERGY_DAILY = _energy_summary(daily_summaries, DAY)
ENERGY_MONTHLY = _energy_summary(monthly_summaries, MONTH)
ENERGY_YEARLY = _energy_summary(yearly_summaries, YEAR)

DAILY_LAYERS = (CURTAILMENT, CALCULATIONS, BITCOIN_DAILY, ENERGY_DAILY)
MONTHLY_LAYERS = (BITCOIN_MONTHLY, ENERGY_MONTHLY)
YEARLY_LAYERS = (BITCOIN_YEARLY, ENERGY_YEARLY)
SUMMARIES = (BITCOIN_DAILY, ENERGY_DAILY, *MONTHLY_LAYERS, *YEARLY_LAYERS)
ENERGY = (ENERGY_DAILY, ENERGY_MONTHLY, ENERGY_YEARLY)
"""The summaries of curtailed energy and wind generation."""
LAYERS = (*DAILY_LAYERS, *MONTHLY_LAYERS, *YEARLY_LAYERS)
"""From the bottom up: a layer depends only on those before it."""
