"""The methods and the result of a verification, as `recon verify` and `recon repair` name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from recon_assets.ingest.acceptance_volumes import TOLERANCE_MWH
from recon_assets.ingest.comparison import TOLERANCE_GBP, TOLERANCE_RELATIVE, Difference, Side
from recon_assets.reconcile.settlement_days import DayState


class Method(StrEnum):
    """How a day is verified.

    `witness`: the whole-day acceptance volumes, one request. `fixed`: five settlement periods. `progressive`: the same
    five, and up to ten more if one of them differs. `random`: ten. `full`: all.
    """

    WITNESS = "witness"
    PROGRESSIVE = "progressive"
    RANDOM = "random"
    FIXED = "fixed"
    FULL = "full"


class Finding(StrEnum):
    """The result of a verification, in one term."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_STORED = "not stored"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Verification:
    """What a verification of a day found.

    `is_contradicted` says that the bids do not match their proof of fetch. `periods` were compared; `unread` are
    published but not stored; `unpublished` are stored, but Elexon does not list them as published. `requests` counts
    the requests, `found_within` those until the first difference; `seed` is that of the random periods.
    """

    settlement_date: date
    method: Method
    state: DayState
    is_contradicted: bool
    periods: Sequence[int]
    differences: Sequence[Difference] = ()
    unread: Sequence[int] = ()
    unpublished: Sequence[int] = ()
    requests: int = 0
    found_within: int | None = None
    seed: int | None = None
    not_comparable: str | None = None

    @property
    def finding(self) -> Finding:
        """The result in one term."""
        if self.state is DayState.NOT_INGESTED or self.unread:
            return Finding.NOT_STORED
        if self.differences or self.is_contradicted:
            return Finding.DIFFERS
        is_partial = self.unpublished or self.state is DayState.INCOMPLETE
        return Finding.NOT_COMPARABLE if self.not_comparable or is_partial else Finding.AGREES

    @property
    def mended_by(self) -> str | None:
        """The command to run next, to correct what was found or to compare more; None when everything agrees."""
        day = self.settlement_date
        match self.finding:
            case Finding.AGREES:
                return None
            case Finding.NOT_COMPARABLE if self.state in (DayState.INCOMPLETE, DayState.ADOPTED_EMPTY):
                return f"recon date {day}"
            case Finding.NOT_COMPARABLE:
                return f"recon verify {day} --method {Method.FULL if self.not_comparable else self.method}"
            case Finding.NOT_STORED:
                return f"recon date {day}"
        return f"recon reingest {day}" if self.must_be_read else f"recon date {day}"

    @property
    def must_be_read(self) -> bool:
        """Whether the day must be read (again) to correct it."""
        differs = any(found.side is not Side.RECORDS for found in self.differences)
        return differs or self.finding is Finding.NOT_STORED or self.is_contradicted

    @property
    def unseen(self) -> str:
        """What the method does not compare."""
        if self.method is Method.WITNESS:
            return "prices and flags, which --method full compares"
        if self.method is Method.FULL:
            return "nothing"
        return "the other settlement periods, which --method full or witness compares"

    @property
    def tolerance(self) -> str:
        """How far values may differ."""
        if self.method is Method.WITNESS:
            return (
                f"{TOLERANCE_MWH:g} MWh per settlement period and farm; records: {TOLERANCE_RELATIVE:g} of each value"
            )
        if self.state in (DayState.ADOPTED, DayState.ADOPTED_EMPTY):
            return f"{TOLERANCE_MWH:g} MWh and {TOLERANCE_GBP:g} GBP per settlement period and farm"
        return f"{TOLERANCE_RELATIVE:g} of each value of each bid and record"
