"""What proving an adopted database needs besides reading its days: their order, when to stop, what was recovered."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial

from recon_assets.database import transactions
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.errors import ElexonError, SourceDownError
from recon_assets.ingest.recovery import Recovery, recoveries, uncounted_records
from recon_assets.ingest.survey import missing_mwh
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State

FAILURES_IN_A_ROW = 3
"""Lists of acceptance volumes that cannot be read before no more are asked for."""
FIRST_PROVEN_DAYS = 3
"""Days that are proven before the others, to see whether the old records follow the rule."""
MOSTLY = 0.5
"""The share of the old records beyond which a rule that does not count them is doubtful."""


def survey(resource: ReconResource, state: State, raise_if_interrupted: Callable[[], None]) -> dict[date, float]:
    """How many MWh seem to be missing of each adopted day that the source can have; absent where nobody can say.

    It only puts the days in an order: what cannot be asked is read all the same, and says then why it cannot be read. A
    source that fails several times in a row is not asked for the rest.
    """
    days = [day for day in reversed(state.days_in(DayState.ADOPTED)) if resource.elexon.source.can_have(day)]
    found: dict[date, float] = {}
    failed = 0
    for number, day in enumerate(days, 1):
        try:
            ask = partial(missing_mwh, resource.engine, resource.elexon, day, resource.now(), resource.archive)
            missing = resource.patiently(ask)
            failed, reason = 0, None
        except SourceDownError as error:
            missing, failed, reason = None, FAILURES_IN_A_ROW, str(error)
        except ElexonError as error:
            missing, failed, reason = None, failed + 1, str(error)
        resource.observer.surveyed(number, len(days), reason)
        if missing is not None:
            found[day] = missing
        if failed == FAILURES_IN_A_ROW:
            break
        raise_if_interrupted()
    return found


def beginning_small(chunks: Sequence[Sequence[date]]) -> list[list[date]]:
    """The chunks, of which the first has a few days only."""
    if not chunks:
        return []
    first = list(chunks[0])
    parts = [first[-FIRST_PROVEN_DAYS:], first[:-FIRST_PROVEN_DAYS]]
    return [*(part for part in parts if part), *map(list, chunks[1:])]


def is_other_rule(resource: ReconResource, days: Days, since: datetime) -> bool:
    """Whether most old records of the days proven since then are bids that the rule does not count; reports that."""
    rule = resource.settings.curtailment_rule
    with transactions.reading(resource.engine) as connection:
        records, uncounted = uncounted_records(connection, days, rule, since)
    if uncounted <= MOSTLY * records:
        return False
    other = next(name for name in CurtailmentRule if name is not rule)
    resource.observer.run_failed(
        "prove",
        f"{uncounted:,} of {records:,} old records are bids that the rule {rule} does not count: CURTAILMENT_RULE may "
        f"have to be {other}; no more days are proven",
    )
    return True


def recovered_since(resource: ReconResource, days: Days, since: datetime) -> list[Recovery]:
    """What the proofs of adopted days recovered since a moment, by month."""
    with transactions.reading(resource.engine) as connection:
        return recoveries(connection, resource.scope(days), since)
