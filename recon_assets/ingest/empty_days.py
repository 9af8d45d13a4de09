"""Proves, in one request, that no wind unit was turned down on a day of which an old database holds no record."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.database.tables import ACCEPTANCE_VOLUMES, proof_of_fetch, wind_bids
from recon_assets.domain.curtailment import fingerprint
from recon_assets.domain.settlement import due_periods
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.errors import ElexonError
from recon_assets.ingest.acceptance_volumes import why_not_empty
from recon_assets.ingest.bids import BID_KEY, HALF_HOUR, IngestedDay
from recon_assets.ingest.plausibility import stored_rows
from recon_assets.ingest.recovery import keep_as_it_was
from recon_assets.ingest.reference import known_bm_units
from recon_assets.ingest.sync import sync_rows
from recon_assets.ingest.uncounted import store_uncounted, uncounted_volumes
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.scope import Scope


def prove_empty(
    engine: Engine, elexon: Elexon, scope: Scope, now: datetime, archive: Archive | None = None
) -> IngestedDay | str:
    """Proves by acceptance volumes that no wind unit had an accepted bid on the only day of the scope.

    Returns the reason if they do not prove it; the day must then be read whole.
    """
    day = scope.days.first
    with transactions.reading(engine) as connection:
        _, other = known_bm_units(connection)
    try:
        answer = elexon.acceptance_volumes(day)
    except ElexonError as error:
        return str(error)
    if answer is None:
        return "there is no list of acceptance volumes"
    volumes, received = answer.rows, answer.received
    reason = why_not_empty(volumes, other, day, now)
    if reason is not None:
        return reason
    with transactions.writing(engine, [day]) as connection:
        if stored_rows(connection, day):
            return "the day has records or proofs by now"
        kept = archive.keep(day, received, now) if archive and received else None
        is_recovered = keep_as_it_was(connection, scope, now)
        periods = list(due_periods(day, now))
        proofs = [_empty_proof(day, period, now) for period in periods]
        bids = sync_rows(connection, wind_bids, [], day, periods, key=BID_KEY)
        store_uncounted(connection, day, uncounted_volumes(connection, volumes))
        changes = sync_rows(connection, proof_of_fetch, proofs, day, periods, key=HALF_HOUR)
        return IngestedDay(
            settlement_date=day,
            changes=sum((*bids.values(), *changes.values()), Changes()),
            periods=len(periods),
            pending=(),
            stack_rows=None,
            wind_rows=0,
            wind_mwh=0.0,
            wind_gbp=0.0,
            tolerated=answer.tolerated,
            unlisted_rows=0,
            kept=kept,
            source=ACCEPTANCE_VOLUMES,
            is_recovered=is_recovered,
        )


def _empty_proof(day: date, period: int, now: datetime) -> dict[str, Any]:
    return {
        "settlement_date": day,
        "settlement_period": period,
        "fetched_at": now,
        "source": ACCEPTANCE_VOLUMES,
        "stack_rows": None,
        "wind_rows": 0,
        "wind_mwh": 0.0,
        "wind_gbp": 0.0,
        "unlisted_rows": 0,
        "unlisted_mwh": 0.0,
        "elexon_created_at": None,
        "fingerprint": fingerprint([]),
    }
