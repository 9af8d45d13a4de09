"""Verifies a settlement day: compares what is stored with what Elexon says now, and changes nothing.

The bids are compared with Elexon, and the curtailment records with the bids under the rule. An adopted day has no bids:
its records are compared with Elexon's bids under the rule, if the method reads these.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, Select, select

from recon_assets.database import transactions
from recon_assets.database.amounts import DUE_GBP, VOLUME_MWH
from recon_assets.database.tables import curtailment_records, wind_bids
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.curtailment import is_curtailment, payment_gbp
from recon_assets.domain.settlement import due_periods, periods_in
from recon_assets.elexon.client import Elexon
from recon_assets.errors import ElexonError, ReconError
from recon_assets.ingest.acceptance_volumes import (
    last_accepted_period,
    volume_gaps,
    why_not_comparable,
    why_not_empty,
)
from recon_assets.ingest.comparison import Difference, Side, bids_apart, of_periods, sums_apart, sums_of
from recon_assets.ingest.reference import known_bm_units
from recon_assets.ingest.verification import Method, Verification
from recon_assets.reconcile.difference import compare_layer, contradicted_days
from recon_assets.reconcile.layers import CURTAILMENT
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.settlement_days import DayState, proven_periods, settlement_days_of

FIXED_PERIODS = (1, 12, 24, 36)
"""Also the last period of the day, which is 46, 48 or 50."""
RANDOM_PERIODS = 10


def verify_day(
    engine: Engine,
    elexon: Elexon,
    scope: Scope,
    now: datetime,
    method: Method = Method.WITNESS,
    seed: int | None = None,
) -> Verification:
    """Compares the only day of the scope with Elexon.

    ReconError when there is nothing to compare with: the source does not have the day, or no period of it is due.
    ElexonError when Elexon could not be read.
    """
    day = scope.days.first
    if not due_periods(day, now):
        raise ReconError(f"{day}: no settlement period of this day is due yet")
    if not elexon.source.can_have(day):
        raise ReconError(f"{day}: {elexon.source.name} has no recording of this day")
    before = elexon.source.requests
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    stored = _read_stored(engine, scope, now)
    comparison = _Comparison(elexon, stored, now, method, random.Random(seed))
    found = comparison.by_acceptance_volumes() if method is Method.WITNESS else comparison.by_stack()
    return Verification(
        settlement_date=day,
        method=method,
        state=stored.state,
        is_contradicted=stored.is_contradicted,
        periods=sorted(comparison.periods),
        differences=sorted([*found, *stored.damaged], key=lambda each: (each.settlement_period, each.farm_id)),
        unread=sorted(comparison.unread),
        unpublished=sorted(comparison.unpublished),
        requests=elexon.source.requests - before,
        found_within=comparison.found_at - before if comparison.found_at is not None else None,
        seed=seed if method in (Method.PROGRESSIVE, Method.RANDOM) else None,
        not_comparable=comparison.not_comparable,
    )


@dataclass(frozen=True)
class _Stored:
    """What the database holds of a day. `damaged` are records that differ from the bids under the rule."""

    scope: Scope
    state: DayState
    is_contradicted: bool
    wind: frozenset[str]
    other: frozenset[str]
    proven: frozenset[int]
    bids: pd.DataFrame
    records: pd.DataFrame
    damaged: Sequence[Difference]


def _read_stored(engine: Engine, scope: Scope, now: datetime) -> _Stored:
    day = scope.days.first
    with transactions.reading(engine) as connection:
        wind, other = known_bm_units(connection)
        if not wind:
            # A database that was just adopted has no list of units yet.
            packaged = packaged_bm_units()
            wind = frozenset(unit.bm_unit_id for unit in packaged if unit.is_wind)
            other = frozenset(unit.bm_unit_id for unit in packaged if unit.fuel_type and not unit.is_wind)
        contradicted = contradicted_days(connection, scope)
        state = settlement_days_of(connection, scope, now, contradicted).days[day]
        proven = proven_periods(connection, scope).get(day, frozenset())
        bids = _frame(connection, select(wind_bids).where(wind_bids.c.settlement_date == day))
        records = _frame(connection, _records(day))
        expected = _frame(connection, CURTAILMENT.expected(scope))
        tallies = compare_layer(connection, CURTAILMENT, scope, "settlement_period", "farm_id")
    of_proven = records[records["settlement_period"].isin(proven)]
    expected = expected.rename(columns={"farm_id": "bm_unit_id"}).assign(gbp=expected["payment"])
    faults = {
        (int(period), str(farm)): {"rows": bool(tally.missing or tally.superfluous), "values": bool(tally.wrong)}
        for (period, farm), tally in tallies.items()
        if tally.faults
    }
    damaged = sums_of(Side.RECORDS, of_proven, expected, faults)
    return _Stored(scope, state, day in contradicted, wind, other, proven, _with_gbp(bids), records, damaged)


def _records(day: date) -> Select[Any]:
    """The records of a day, normalised: volumes negative, payments calculated from volume and price."""
    records = curtailment_records.c
    return select(
        records.settlement_period,
        records.farm_id.label("bm_unit_id"),
        VOLUME_MWH.label("volume"),
        DUE_GBP.label("gbp"),
    ).where(records.settlement_date == day)


def _frame(connection: Connection, query: Select[Any]) -> pd.DataFrame:
    result = connection.execute(query)
    return pd.DataFrame(result.mappings().all(), columns=list(result.keys()), dtype=object)


def _with_gbp(bids: pd.DataFrame) -> pd.DataFrame:
    return bids.assign(gbp=payment_gbp(bids["volume"].astype(float), bids["original_price"].astype(float)))


class _Comparison:
    """One verification in progress, and what it has found so far."""

    def __init__(self, elexon: Elexon, stored: _Stored, now: datetime, method: Method, chance: random.Random) -> None:
        self._elexon, self._stored, self._now, self._method, self._chance = elexon, stored, now, method, chance
        self._day = stored.scope.days.first
        self.periods: set[int] = set()
        self.unread: set[int] = set()
        self.unpublished: set[int] = set()
        self.not_comparable: str | None = None
        self.found_at: int | None = None

    def by_acceptance_volumes(self) -> list[Difference]:
        """Compares the acceptance volumes of the whole day with the bids."""
        stored = self._stored
        if stored.state is DayState.NOT_INGESTED:
            return []
        if stored.state is DayState.ADOPTED:
            self.not_comparable = "the day was adopted and has no bids; acceptance volumes know no flags"
            return []
        answer = self._elexon.acceptance_volumes(self._day)
        if answer is None:
            raise ElexonError(
                f"{self._day}: there is no list of acceptance volumes of this day (yet); --method full compares the "
                "bid stack itself"
            )
        volumes = answer.rows
        reach = last_accepted_period(volumes, self._day, self._now)
        if not reach:
            raise ElexonError(f"{self._day}: the list of acceptance volumes of this day is empty, and confirms nothing")
        due = due_periods(self._day, self._now)
        if stored.state is DayState.ADOPTED_EMPTY:
            self.not_comparable = why_not_empty(volumes, stored.other, self._day, self._now)
            self.periods = {period for period in due if period <= reach}
            return []
        self.periods = {period for period in stored.proven if period <= reach}
        self.unpublished = set(stored.proven) - self.periods
        self.unread = set(volumes["settlement_period"]).intersection(due) - stored.proven
        compared = of_periods(volumes, self.periods)
        self.not_comparable = why_not_comparable(compared, stored.wind)
        gaps = volume_gaps(compared, of_periods(stored.bids, self.periods), stored.wind)
        self.found_at = self._elexon.source.requests if gaps else None
        return [
            Difference(
                gap.settlement_period,
                gap.bm_unit_id,
                Side.BIDS,
                stored_mwh=gap.bids_mwh,
                right_mwh=gap.accepted_mwh,
                stored_gbp=None,
                right_gbp=None,
                what="volume",
            )
            for gap in gaps
        ]

    def by_stack(self) -> list[Difference]:
        """Compares the bid stack of some periods with the bids, or with the records of an adopted day."""
        if self._stored.state is DayState.NOT_INGESTED:
            return []
        due = due_periods(self._day, self._now)
        found = self._compare(self._first_periods(due))
        self.found_at = self._elexon.source.requests if found else None
        if found and self._method is Method.PROGRESSIVE:
            found += self._compare(self._drawn([period for period in due if period not in self.periods]))
        return found

    def _first_periods(self, due: range) -> list[int]:
        match self._method:
            case Method.FULL:
                return list(due)
            case Method.RANDOM:
                return self._drawn(due)
        return [period for period in (*FIXED_PERIODS, periods_in(self._day)) if period in due]

    def _drawn(self, periods: Sequence[int]) -> list[int]:
        return sorted(self._chance.sample(list(periods), min(RANDOM_PERIODS, len(periods))))

    def _compare(self, periods: Sequence[int]) -> list[Difference]:
        if not periods:
            return []
        stored = self._stored
        stack = self._elexon.settlement_stack(self._day, self._now, periods)
        self.unpublished |= set(stack.pending) & (stored.proven | set(stored.records["settlement_period"]))
        published = set(stack.published)
        self.periods |= published
        bids = _with_gbp(stack.rows[stack.rows["bm_unit_id"].isin(stored.wind)])
        if stored.state in (DayState.ADOPTED, DayState.ADOPTED_EMPTY):
            flags = bids["so_flag"].astype(bool), bids["cadl_flag"].astype(bool)
            counted = bids[is_curtailment(stored.scope.rule, bids["volume"], *flags)]
            return sums_apart(Side.ADOPTED, of_periods(stored.records, published), counted)
        self.unread |= published - stored.proven
        compared = published & stored.proven
        return bids_apart(of_periods(stored.bids, compared), of_periods(bids, compared))
