"""Reads stored days again from the archive, without a request to Elexon, when only what counts as wind has changed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, Engine, select

from recon_assets.database import transactions
from recon_assets.database.failures import failure_of
from recon_assets.database.tables import STACK, proof_of_fetch
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ElexonError, ReconError
from recon_assets.ingest import reference
from recon_assets.ingest.archive_progress import note_searched, searched_back_to
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets.ingest.uncounted import store_uncounted, uncounted_of, uncounted_volumes
from recon_assets.reconcile.settlement_days import distinct_days


def ingest_archived_day(
    engine: Engine,
    elexon: Elexon,
    day: date,
    now: datetime,
    archive: Archive | None,
    warn: Callable[[str], object],
) -> IngestedDay:
    """Stores a day from its recording in the archive; from Elexon, with a warning, if the recording is no use."""
    if archive is not None and archive.recording(day).exists():
        try:
            return ingest_day(engine, Elexon(RecordingSource(archive.folder)), day, now, only_same=True)
        except ReconError as error:
            if failure_of(error).is_everywhere:
                raise
            warn(f"{error}; so the day is read from Elexon instead of the archive")
    return ingest_day(engine, elexon, day, now, archive=archive)


@dataclass(frozen=True)
class Search:
    """What a search of the archive found: days searched, days still to search, and recordings that cannot be read."""

    searched: int = 0
    left: int = 0
    unreadable: list[str] = field(default_factory=list)


def days_to_search(connection: Connection, archive: Archive) -> list[date]:
    """The stored days that were not searched for uncounted bids yet and that the archive has, newest first."""
    searched = searched_back_to(connection)
    if searched == date.min:
        return []
    stored = distinct_days(connection, proof_of_fetch)
    return [day for day in reversed(stored) if (searched is None or day < searched) and archive.recording(day).exists()]


def search_archive(
    engine: Engine,
    archive: Archive,
    now: datetime,
    may_go_on: Callable[[], bool],
    progress: Callable[[str], object] = lambda _: None,
) -> Search:
    """Finds in the archive the uncounted bids of days that were stored before `uncounted_bids` was there; once.

    Each day is a transaction of its own, so that no other work waits for long. It ends when `may_go_on` says no; the
    next search goes on from there.
    """
    with transactions.reading(engine) as connection:
        days = days_to_search(connection, archive)
        back_to = searched_back_to(connection)
        # Of stored days without a recording nothing is known; the archive may only be somewhere else for now.
        is_elsewhere = back_to is None and not days and bool(distinct_days(connection, proof_of_fetch))
    if back_to == date.min or is_elsewhere:
        return Search()
    source = Elexon(RecordingSource(archive.folder)) if days else None
    unreadable: list[str] = []
    searched = 0
    for day in days:
        if source is None or not may_go_on():
            return Search(searched, len(days) - searched, unreadable)
        try:
            with transactions.writing(engine, [day, reference.REFERENCE_LOCK]) as connection:
                _search_day(connection, source, day, now)
                note_searched(connection, day)
        except ElexonError as error:
            unreadable.append(str(error))
        searched += 1
        if searched % DAYS_A_LINE == 0 or searched == len(days):
            progress(f"searched the archive back to {day}: {searched} of {len(days)} days")
    with reference.writing(engine) as connection:
        note_searched(connection, date.min)
    return Search(searched, 0, unreadable)


DAYS_A_LINE = 50
"""Days between two lines of progress: about ten seconds."""


def _search_day(connection: Connection, source: Elexon, day: date, now: datetime) -> None:
    proofs = proof_of_fetch.c
    read = select(proofs.settlement_period).where(proofs.settlement_date == day, proofs.source == STACK)
    periods = sorted(connection.execute(read).scalars())
    if periods:
        stack = source.settlement_stack(day, now, periods)
        store_uncounted(connection, day, uncounted_of(connection, day, stack.rows))
    elif (answer := source.acceptance_volumes(day)) is not None:
        # The day was proven empty by its volumes.
        store_uncounted(connection, day, uncounted_volumes(connection, answer.rows))
