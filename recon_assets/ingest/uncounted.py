"""Keeps which accepted bids of a day were not counted because nobody knew whether their BM unit is wind.

A unit may turn out to be wind later. Its rows in `uncounted_bids` then name the days to read again. Bids of a unit that
a person declared not wind are kept as well, because that word may be taken back.
"""

from collections.abc import Mapping
from datetime import date, datetime

import numpy as np
import pandas as pd
from sqlalchemy import Connection, delete, insert, select

from recon_assets.database.tables import proof_of_fetch, uncounted_bids, wind_bids
from recon_assets.domain.bm_units import is_bm_unit
from recon_assets.elexon.archive import Kept
from recon_assets.elexon.client import Elexon, SettlementStack
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ElexonError
from recon_assets.reconcile.wind_units import listed_as_other

Uncounted = Mapping[str, tuple[int, float]]
"""By BM unit: the number of uncounted bids, and their MWh (negative)."""


def note_uncounted(
    connection: Connection, elexon: Elexon, stack: SettlementStack, kept: Kept | None, now: datetime
) -> None:
    """Makes the rows of a day equal to what was read, in the transaction that has stored its bids.

    If only some settlement periods were read, the others come from the archive or the recordings. If these lack them,
    the rows that are there stay, because a day that is named too long is only read once more.
    """
    day = stack.settlement_date
    proofs = proof_of_fetch.c
    proven = connection.execute(select(proofs.settlement_period).where(proofs.settlement_date == day)).scalars()
    others = sorted(set(proven).difference(stack.published))
    found, held = uncounted_of(connection, day, stack.rows), stored_uncounted(connection, day)
    if others and held:
        rest = _rest_of_day(elexon, kept, day, others, now)
        if rest is None:
            found = {**held, **{unit: max(sums, held.get(unit, sums)) for unit, sums in found.items()}}
        else:
            found = uncounted_of(connection, day, pd.concat([stack.rows, rest]))
    store_uncounted(connection, day, found)


def uncounted_of(connection: Connection, day: date, rows: pd.DataFrame) -> Uncounted:
    """The uncounted bids among rows of a day's stack (payloads.STACK), whose wind bids are stored already.

    A bid of a unit that is wind now is uncounted, too, if none of the unit is stored in the settlement period.
    """
    counted = _counted(connection, day)
    other = set(connection.execute(listed_as_other()).scalars())
    is_uncounted = [
        is_bm_unit(unit) and unit not in other and volume < 0 and (period, unit) not in counted
        for period, unit, volume in zip(rows["settlement_period"], rows["bm_unit_id"], rows["volume"], strict=True)
    ]
    volumes = rows[np.array(is_uncounted, dtype=bool)].groupby("bm_unit_id")["volume"]
    return {str(unit): (len(mwh), float(mwh.sum())) for unit, mwh in volumes}


def uncounted_volumes(connection: Connection, volumes: pd.DataFrame) -> Uncounted:
    """The same from the acceptance volumes (payloads.VOLUMES) of a day of which no wind bid is stored."""
    other = set(connection.execute(listed_as_other()).scalars())
    accepted = volumes[(volumes["volume"] < 0) & ~volumes["bm_unit_id"].isin(other)]
    return {str(unit): (len(mwh), float(mwh.sum())) for unit, mwh in accepted.groupby("bm_unit_id")["volume"]}


def stored_uncounted(connection: Connection, day: date) -> Uncounted:
    """The uncounted bids of a day as they are stored."""
    stored = uncounted_bids.c
    query = select(stored.bm_unit_id, stored.bids, stored.mwh).where(stored.settlement_date == day)
    return {unit: (bids, mwh) for unit, bids, mwh in connection.execute(query)}


def store_uncounted(connection: Connection, day: date, found: Uncounted) -> None:
    """Replaces the rows of a day, if they differ."""
    if found == stored_uncounted(connection, day):
        return
    connection.execute(delete(uncounted_bids).where(uncounted_bids.c.settlement_date == day))
    rows = [
        {"settlement_date": day, "bm_unit_id": unit, "bids": bids, "mwh": mwh} for unit, (bids, mwh) in found.items()
    ]
    if rows:
        connection.execute(insert(uncounted_bids), rows)


def counted_before(connection: Connection, day: date, rows: pd.DataFrame, wind: frozenset[str]) -> pd.DataFrame:
    """Those of a day's stack rows that were wind bids when the day was last read, before its new bids are stored."""
    counted = _counted(connection, day)
    new = wind.intersection(stored_uncounted(connection, day))
    units = zip(rows["settlement_period"], rows["bm_unit_id"], strict=True)
    is_same = [(unit in wind and unit not in new) or (period, unit) in counted for period, unit in units]
    return rows[np.array(is_same, dtype=bool)]


def _counted(connection: Connection, day: date) -> set[tuple[int, str]]:
    """The settlement periods and units of the stored wind bids of a day."""
    bids = wind_bids.c
    pairs = select(bids.settlement_period, bids.bm_unit_id).where(bids.settlement_date == day).distinct()
    return {(period, unit) for period, unit in connection.execute(pairs)}


def _rest_of_day(
    elexon: Elexon, kept: Kept | None, day: date, periods: list[int], now: datetime
) -> pd.DataFrame | None:
    """The stack rows of other settlement periods, without a request to Elexon; None if they are not at hand."""
    if kept is not None:
        elexon = Elexon(RecordingSource(kept.recording.parent))
    if not isinstance(elexon.source, RecordingSource):
        return None
    try:
        stack = elexon.settlement_stack(day, now, periods)
    except ElexonError:
        return None  # what was just read is right all the same
    return None if stack.pending else stack.rows
