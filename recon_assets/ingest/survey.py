"""Asks how much of an adopted day seems to be missing, by the acceptance volumes of the day: one request, no change.

The volumes go to the archive, so that asking again later takes no request.
"""

from datetime import date, datetime

import pandas as pd
from sqlalchemy import Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.amounts import CURTAILED_MWH
from recon_assets.database.tables import curtailment_records
from recon_assets.domain.settlement import day_starts_at
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ElexonError
from recon_assets.ingest.acceptance_volumes import SETTLED_AFTER
from recon_assets.ingest.reference import known_bm_units

UNFLAGGED_SHARE = 0.1
"""The share of a day's accepted volume that may have no record without being suspicious: under the rule so_flagged, 4 %
of the volume of 2025 is not flagged."""


def missing_mwh(engine: Engine, elexon: Elexon, day: date, now: datetime, archive: Archive | None) -> float | None:
    """MWh of wind that were accepted on an adopted day and have no record, if that is suspicious; else 0.

    None if there is no list of acceptance volumes; ElexonError if it cannot be read.
    """
    volumes = _archived(archive, day, now)
    if volumes is None:
        answer = elexon.acceptance_volumes(day)
        if answer is None:
            return None
        volumes = answer.rows
        if archive and answer.received:
            archive.keep(day, answer.received, now)
    records = curtailment_records.c
    stored = select(records.farm_id, func.sum(CURTAILED_MWH)).where(records.settlement_date == day)
    with transactions.reading(engine) as connection:
        wind, _ = known_bm_units(connection)
        recorded = {str(farm): float(mwh) for farm, mwh in connection.execute(stored.group_by(records.farm_id))}
    of_wind = volumes[volumes["bm_unit_id"].isin(wind)]
    accepted = {str(unit): float(-mwh) for unit, mwh in of_wind.groupby("bm_unit_id")["volume"].sum().items()}
    missing = sum(max(0.0, mwh - recorded.get(unit, 0.0)) for unit, mwh in accepted.items())
    return missing if missing > UNFLAGGED_SHARE * sum(accepted.values()) else 0.0


def _archived(archive: Archive | None, day: date, now: datetime) -> pd.DataFrame | None:
    """The acceptance volumes in the archive, if they were kept after the day was settled."""
    if archive is None:
        return None
    recording = archive.recording(day)
    settled = day_starts_at(day) + SETTLED_AFTER
    if not recording.exists() or recording.stat().st_mtime < settled.timestamp():
        return None
    try:
        answer = Elexon(RecordingSource(archive.folder)).acceptance_volumes(day)
    except ElexonError:
        return None  # a corrupt recording is no use; Elexon is asked, and the archive then keeps both
    return None if answer is None else answer.rows
