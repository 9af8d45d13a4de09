"""Decides whether what was read of a day may replace what is stored of it.

Three kinds of answer are doubtful: one without a row, one with less than half of the stored bids, and one with bids
that have no BM unit. They are accepted only when the acceptance volumes of the day agree. Otherwise the day stays as it
was, and the error gives the reason.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime

import pandas as pd
from sqlalchemy import Connection, func, select

from recon_assets.database.tables import curtailment_records, proof_of_fetch
from recon_assets.domain.settlement import format_periods
from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.errors import ElexonError
from recon_assets.ingest.acceptance_volumes import TOLERANCE_MWH, last_accepted_period, unmeasured, unnamed, volume_gaps
from recon_assets.ingest.comparison import of_periods

SHORT = 0.5
"""An answer with less than this share of a period's stored bids is doubtful. Real restatements change single rows. If
a settlement run does remove half of a period, the acceptance volumes show it too."""


def stored_rows(connection: Connection, day: date) -> dict[int, int]:
    """How many wind bids are stored of each settlement period, according to its proof.

    For an adopted period, the number of farms with records: old databases hold a bid many times, or one of several.
    """
    proofs, records = proof_of_fetch.c, curtailment_records.c
    proven = select(proofs.settlement_period, proofs.wind_rows).where(proofs.settlement_date == day)
    farms = select(records.settlement_period, func.count(records.farm_id.distinct())).where(
        records.settlement_date == day
    )
    adopted = connection.execute(farms.group_by(records.settlement_period))
    return {period: count for rows in (adopted, connection.execute(proven)) for period, count in rows}


def require_plausible(
    elexon: Elexon, stack: SettlementStack, wind: frozenset[str], stored: Mapping[int, int], now: datetime
) -> SettlementStack:
    """The stack, which may replace what is stored, with the additional answer that was read to be sure of that.

    ElexonError when a stored period is no longer published, or when the acceptance volumes are needed and contradict
    the stack, do not say enough or do not exist.
    """
    day, rows = stack.settlement_date, stack.rows
    withdrawn = [period for period in stack.pending if period in stored]
    if withdrawn:
        raise ElexonError(
            f"{day} settlement period {format_periods(withdrawn)}: stored, but Elexon does not list it as published; "
            "the day stays as it was"
        )
    bids = rows[rows["bm_unit_id"].isin(wind)]
    read = bids.groupby("settlement_period").size()
    filled = set(rows["settlement_period"])
    doubts = {
        "no row at all": [period for period in stack.published if period not in filled],
        "fewer than half of the stored bids": [
            period for period in stack.published if read.get(period, 0) < SHORT * stored.get(period, 0)
        ],
        "bids without a BM unit": sorted(set(nameless_bids(rows)["settlement_period"])),
    }
    doubted = {period for periods in doubts.values() for period in periods}
    if not doubted:
        return stack
    doubt = "; ".join(f"{what} in settlement period {format_periods(where)}" for what, where in doubts.items() if where)
    answer = elexon.acceptance_volumes(day)
    if answer is None:
        raise _refusal(day, doubt, "there is no list of acceptance volumes that could confirm it")
    volumes = answer.rows
    uncovered = [period for period in doubted if period > last_accepted_period(volumes, day, now)]
    if uncovered:
        raise _refusal(day, doubt, f"the acceptance volumes do not reach to period {format_periods(uncovered)}")
    volumes, bids = of_periods(volumes, doubted), of_periods(bids, doubted)
    if nameless := unnamed(volumes):
        raise _refusal(day, doubt, f"the acceptance volumes lack the BM unit in period {format_periods(nameless)}")
    # A volume that is null confirms that there is a bid, but not that there is none.
    held = set(zip(bids["settlement_period"], bids["bm_unit_id"], strict=True))
    unsaid = [pair for pair in unmeasured(volumes, wind) if pair not in held]
    if unsaid:
        period, unit = unsaid[0]
        raise _refusal(day, doubt, f"the acceptance volumes lack the volume of {unit} in period {period}")
    gaps = volume_gaps(volumes, bids, wind)
    if gaps:
        gap = max(gaps, key=lambda found: abs(found.accepted_mwh - found.bids_mwh))
        raise _refusal(
            day,
            doubt,
            f"the acceptance volumes contradict it, most for {gap.bm_unit_id} in period {gap.settlement_period}: "
            f"{gap.accepted_mwh:,.3f} MWh, not {gap.bids_mwh:,.3f} (tolerance {TOLERANCE_MWH:g} MWh)",
        )
    tolerated = Counter(stack.tolerated) + Counter(answer.tolerated)
    return replace(stack, tolerated=tolerated, received={**stack.received, **answer.received})


def nameless_bids(rows: pd.DataFrame) -> pd.DataFrame:
    """Bids without a BM unit, which may be a wind unit's. An action outside the BM has no unit either, but it has a
    price and no acceptance, and is left out.
    """
    of_a_unit = rows["acceptance_id"].notna() | rows["original_price"].isna()
    return rows[rows["bm_unit_id"].isna() & of_a_unit & (rows["volume"] < 0)]


def _refusal(day: date, doubt: str, reason: str) -> ElexonError:
    return ElexonError(f"{day}: Elexon's answer has {doubt}, and {reason}; the day stays as it was")
