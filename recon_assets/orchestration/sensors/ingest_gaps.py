"""The sensor that finds settlement days never read, or read in part, and asks for runs that read them."""

from datetime import timedelta

import dagster as dg

from recon_assets.domain.settlement import (
    Days,
    due_periods,
    london_day,
    periods_in,
)
from recon_assets.orchestration.active_runs import ASKED_BY, INGEST_GAPS, active_days, active_runs
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.jobs import INGEST_JOB
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import RetryState, month_spans, write_cursor
from recon_assets.orchestration.sensors.shared import due_days, format_some_days, range_tags, repository_of, tick_result
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets.reconcile.read_state import settlement_days
from recon_assets.reconcile.state import DayState

PATIENT_PAUSES = (timedelta(), timedelta(minutes=10), timedelta(hours=1))
"""The pause before each attempt to read a day. Within an attempt, the client tries every request five times: a source
that is down needs time, not another try."""


def ingest_gap_sensor(tick_seconds: int, *, starts: bool) -> dg.SensorDefinition:
    """The sensor that has unread days read; `starts` says whether it runs until somebody switches it."""
    return dg.SensorDefinition(
        name=INGEST_GAPS,
        job=INGEST_JOB,
        evaluation_fn=find_unread_days,
        required_resource_keys={RESOURCE_KEY},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if starts else dg.DefaultSensorStatus.STOPPED,
        description="Asks for runs that read settlement days which were never ingested, or not whole, from Elexon (or "
        "the recordings): the newest first, at most a month in one run, one run at a time.",
    )


def find_unread_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Asks for unread days that the source can have: days that are over and published, or recorded."""
    housekeeping(context.instance)
    resource: ReconResource = getattr(context.resources, RESOURCE_KEY)
    now = resource.now()
    first = resource.settings.first_day
    days = Days(first, max(first, london_day(now) - timedelta(days=1)))
    in_flight = active_days(context.instance, repository_of(context), [WIND_BIDS])
    found = settlement_days(resource.engine, resource.scope(days), now)
    can_have = resource.elexon.source.can_have
    unread = {
        day: f"{state}:{','.join(map(str, found.unproven.get(day, ())))}"
        for day, state in found.days.items()
        if state in (DayState.NOT_INGESTED, DayState.INCOMPLETE)
        and len(due_periods(day, now)) == periods_in(day)
        and can_have(day)
    }
    retry_state = RetryState.load(PATIENT_PAUSES, context.cursor)
    retry_state.forget(days, unread)
    due = due_days(retry_state, unread, in_flight, context.instance, INGEST_GAPS, now)
    summary = (
        f"{format_some_days(unread)} to be read, {format_some_days(in_flight & set(unread))} in flight; {retry_state}."
    )
    spans = [] if active_runs(context.instance, INGEST_GAPS) else month_spans(due)[:1]
    for span in spans:
        for day in span:
            retry_state.ask(day, unread[day], now)
    requests = [
        dg.RunRequest(job_name=INGEST_JOB.name, tags={**range_tags(span), ASKED_BY: INGEST_GAPS}) for span in spans
    ]
    return tick_result(requests, write_cursor(days=retry_state.dump()), summary)
