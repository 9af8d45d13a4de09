"""Searches the archive, once, for uncounted bids of days that were stored before these were kept; a part at a time."""

import time
from collections.abc import Callable

import dagster as dg

from recon_assets.database import transactions
from recon_assets.ingest.archived import days_to_search, search_archive
from recon_assets.orchestration.resource import ReconResource

SEARCH_SECONDS = 60
"""How long one run searches: some hundred days. The runs that read days wait for it."""


def search_a_while(context: dg.AssetExecutionContext, resource: ReconResource) -> dict[str, int]:
    """Searches for a minute; returns how many days were searched, and how many are left, as metadata."""
    if resource.archive is None:
        return {}
    end = time.monotonic() + SEARCH_SECONDS
    search = search_archive(
        resource.engine, resource.archive, resource.now(), lambda: time.monotonic() < end, context.log.info
    )
    for reason in search.unreadable:
        context.log.warning(f"not searched for uncounted bids: {reason}")
    return {"archive_days_searched": search.searched, "archive_days_left": search.left}


def search_to_the_end(resource: ReconResource, refresh_units: Callable[[], None]) -> None:
    """Has the BM units refreshed until nothing is left to search, or until a run gets no further."""
    left = days_left(resource)
    while left:
        refresh_units()
        before, left = left, days_left(resource)
        if left >= before:
            return  # the run failed, and the observer has reported it


def days_left(resource: ReconResource) -> int:
    """How many stored days the archive has that were not searched yet."""
    if resource.archive is None:
        return 0
    with transactions.reading(resource.engine) as connection:
        return len(days_to_search(connection, resource.archive))
