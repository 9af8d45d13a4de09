"""Revisions: what Elexon had changed in a day when it was read again.

A revision compares the new proof of fetch with the old one. Damage to the database is not a revision by Elexon, because
the proofs still say what was fetched.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from recon_assets.database.tables import STACK, proof_of_fetch, settlement_revisions
from recon_assets.domain.settlement import Days
from recon_assets.domain.words import plural
from recon_assets.reconcile.apply import Changes


@dataclass(frozen=True)
class Revision:
    """What changed in a day between two readings: wind bids added, removed and changed; MWh (negative) and GBP of the
    changed settlement periods, before and after; and the newest createdDateTime of these periods, from Elexon. It is
    the same before and after if only the list of wind units changed.
    """

    settlement_date: date
    read_at: datetime
    settlement_periods: str
    rows_added: int
    rows_removed: int
    rows_changed: int
    mwh_before: float
    mwh_after: float
    gbp_before: float
    gbp_after: float
    elexon_created_at_before: str | None
    elexon_created_at: str | None

    def __str__(self) -> str:
        return (
            f"{plural(self.rows_added, 'bid')} added, {self.rows_removed} removed, {self.rows_changed} changed "
            f"in settlement period {self.settlement_periods}: {self.mwh_before:,.3f} -> {self.mwh_after:,.3f} MWh, "
            f"{self.gbp_before:,.2f} -> {self.gbp_after:,.2f} GBP"
        )


def stored_proofs(connection: Connection, day: date) -> dict[int, Mapping[str, Any]]:
    """The proofs of a day, by settlement period."""
    query = select(proof_of_fetch).where(proof_of_fetch.c.settlement_date == day)
    return {proof["settlement_period"]: dict(proof) for proof in connection.execute(query).mappings()}


def note_revision(
    connection: Connection,
    day: date,
    before: Mapping[int, Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    changes: Mapping[int, Changes],
    now: datetime,
) -> Revision | None:
    """Stores what changed in periods whose bid stack had been read before; None when nothing did."""
    renewed = [(before[proof["settlement_period"]], proof) for proof in after if proof["settlement_period"] in before]
    read = [(old, new) for old, new in renewed if old["source"] == STACK]
    revised = [(old, new) for old, new in read if old["fingerprint"] != new["fingerprint"]]
    if not revised:
        return None
    periods = [new["settlement_period"] for _, new in revised]
    made = sum((changes.get(period, Changes()) for period in periods), Changes())
    revision = Revision(
        settlement_date=day,
        read_at=now,
        settlement_periods=", ".join(map(str, periods)),
        rows_added=made.inserted,
        rows_removed=made.removed,
        rows_changed=made.corrected,
        mwh_before=sum(old["wind_mwh"] for old, _ in revised),
        mwh_after=sum(new["wind_mwh"] for _, new in revised),
        gbp_before=sum(old["wind_gbp"] for old, _ in revised),
        gbp_after=sum(new["wind_gbp"] for _, new in revised),
        elexon_created_at_before=max(filter(None, (old["elexon_created_at"] for old, _ in revised)), default=None),
        elexon_created_at=max(filter(None, (new["elexon_created_at"] for _, new in revised)), default=None),
    )
    connection.execute(insert(settlement_revisions), asdict(revision))
    return revision


def read_revisions(connection: Connection, days: Days) -> Sequence[Revision]:
    """The revisions of some days, the newest reading first."""
    revisions = settlement_revisions.c
    query = (
        select(*(column for column in revisions if column.name != "id"))
        .where(revisions.settlement_date.between(days.first, days.last))
        .order_by(revisions.read_at.desc(), revisions.settlement_date.desc())
    )
    return [Revision(**row) for row in connection.execute(query).mappings()]
