"""The sensor that has recent days compared with Elexon again, because Elexon revises them.

Elexon repeats the settlement of a day on the next working days and for months after; most changes come within a week.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from recon_assets.database import transactions
from recon_assets.database.tables import proof_of_fetch
from recon_assets.domain.settlement import Days, day_starts_at, london_day
from recon_assets.orchestration.active_runs import ASKED_BY, active_runs
from recon_assets.orchestration.events import every_record
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import RetryState, write_cursor
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets.orchestration.verification_job import VerifyDays, verify_days, verify_settlement_days
from recon_assets.reconcile.layer import MONTH
from recon_assets.reconcile.settlement_days import distinct_days

REVISIONS = "revision_sensor"
RECENT_DAYS = 7
LONGEST_TURN = timedelta(days=7)

DAYS_A_TICK = 5
"""Days that one run compares: five requests. A revised day is read again before the next days are compared."""

PAUSES = (timedelta(), timedelta(minutes=30), timedelta(hours=3))
"""The pause before each attempt to compare a day: a source that is down needs time. After three attempts the day waits
for its next turn."""


def revision_sensor(tick_seconds: int, *, starts: bool) -> dg.SensorDefinition:
    """The sensor that has days compared; `starts` says whether it runs until somebody switches it."""
    return dg.SensorDefinition(
        name=REVISIONS,
        job=verify_days,
        evaluation_fn=find_days_to_compare,
        required_resource_keys={RESOURCE_KEY},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if starts else dg.DefaultSensorStatus.STOPPED,
        description="Has the last 7 days compared with Elexon's acceptance volumes every day, and the month before "
        "this one every week, five days a tick, for one request each; what differs is read again.",
    )


def find_days_to_compare(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Asks for days not yet compared in their turn; a comparison is an observation of the day's `wind_bids`."""
    housekeeping(context.instance)
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    now = resource.now()
    turns = _turns(resource, now)
    compared = _last_compared(context.instance, now - LONGEST_TURN)
    due = {day: turn for day, (turn, since) in turns.items() if compared.get(day, EVER) < since}
    retry_state = RetryState.load(PAUSES, context.cursor)
    retry_state.forget(turns, due)
    waiting = [day for day in sorted(due, reverse=True) if retry_state.is_due(day, due[day], now)]
    summary = f"{len(due)} of {len(turns)} days are to be compared, {len(waiting)} of them now."
    if active_runs(context.instance, REVISIONS):
        waiting, summary = [], f"{summary} A comparison is in flight."
    asked = waiting[:DAYS_A_TICK]
    for day in asked:
        retry_state.ask(day, due[day], now)
    cursor = write_cursor(days=retry_state.dump())
    if not asked:
        return dg.SensorResult(skip_reason=dg.SkipReason(summary), cursor=cursor)
    config = VerifyDays(settlement_dates=[day.isoformat() for day in asked], repair=True)
    request = dg.RunRequest(
        run_config=dg.RunConfig(ops={verify_settlement_days.name: config}), tags={ASKED_BY: REVISIONS}
    )
    return dg.SensorResult(run_requests=[request], cursor=cursor)


EVER = datetime.min.replace(tzinfo=UTC)


def _turns(resource: ReconResource, now: datetime) -> Mapping[date, tuple[str, datetime]]:
    """The days to compare regularly: for each, the name of its present turn and when that turn began."""
    today = london_day(now)
    recent = Days(today - timedelta(days=RECENT_DAYS), today - timedelta(days=1))
    month = Days.of_month(MONTH.label(today.replace(day=1) - timedelta(days=1)))
    monday = today - timedelta(days=today.weekday())
    with transactions.reading(resource.engine) as connection:
        ingested = distinct_days(connection, proof_of_fetch)
    turns: dict[date, tuple[str, datetime]] = {}
    for day in ingested:
        if day in recent:
            turns[day] = f"day {today}", day_starts_at(today)
        elif day in month:
            turns[day] = f"week {monday}", day_starts_at(monday)
    can_have = resource.elexon.source.can_have
    return {day: turn for day, turn in turns.items() if can_have(day)}


def _last_compared(instance: dg.DagsterInstance, since: datetime) -> dict[date, datetime]:
    """When each day was last compared, if after `since`."""
    found: dict[date, datetime] = {}
    wanted = dg.AssetRecordsFilter(WIND_BIDS, after_timestamp=since.timestamp())
    for record in every_record(instance.fetch_observations, wanted):
        if record.partition_key:
            day = date.fromisoformat(record.partition_key)
            found.setdefault(day, datetime.fromtimestamp(record.timestamp, UTC))
    return found
