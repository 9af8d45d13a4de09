"""The sensor that finds settlement days never read, or read in part, and asks for runs that read them."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

import dagster as dg

from recon_assets.domain.settlement import (
    Days,
    due_periods,
    london_day,
    periods_in,
)
from recon_assets.orchestration.active_runs import ASKED_BY, FROM_ARCHIVE, INGEST_GAPS, active_days, active_runs
from recon_assets.orchestration.archive_search import days_left
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.jobs import BM_UNITS_JOB, INGEST_JOB
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.retry_state import RetryState, month_spans, write_cursor
from recon_assets.orchestration.sensors.shared import due_days, format_some_days, range_tags, repository_of, tick_result
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets.reconcile.read_state import settlement_days
from recon_assets.reconcile.settlement_days import DayState, SettlementDays

PATIENT_PAUSES = (timedelta(), timedelta(minutes=10), timedelta(hours=1))
"""The pause before each attempt to read a day. A run on a source that is down ends within seconds: such a source needs
time, not another try."""


def ingest_gap_sensor(tick_seconds: int, *, starts: bool) -> dg.SensorDefinition:
    """The sensor that has unread days read; `starts` says whether it runs until somebody switches it."""
    return dg.SensorDefinition(
        name=INGEST_GAPS,
        jobs=[INGEST_JOB, BM_UNITS_JOB],
        evaluation_fn=find_unread_days,
        required_resource_keys={RESOURCE_KEY},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if starts else dg.DefaultSensorStatus.STOPPED,
        description="Asks for runs that read settlement days which were never ingested, or not whole, from Elexon (or "
        "the recordings): the newest first, at most a month in one run, one run at a time. Days that hold bids of a BM "
        "unit that turned out to be wind are read from the archive. When nothing is unread, it has the days of an old "
        "database read again, one a tick, until all are proven.",
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

    def contents(wanted: Iterable[date]) -> dict[date, str]:
        return {
            day: f"{found.days[day]}:{','.join(map(str, found.unproven.get(day, ())))}"
            for day in wanted
            if len(due_periods(day, now)) == periods_in(day) and can_have(day)
        }

    again = found.only_new_wind_days
    unread = contents(day for day in found.days_to_read if day not in again)
    unread |= {day: "read when other BM units counted as wind" for day in again if can_have(day)}
    adopted = contents(found.days_in(DayState.ADOPTED))
    retry_state = RetryState.load(PATIENT_PAUSES, context.cursor)
    asked_for = adopted | unread
    retry_state.forget(days, asked_for)
    due = due_days(retry_state, asked_for, in_flight, context.instance, INGEST_GAPS, now)
    to_prove = adopted.keys() - unread.keys()
    active = in_flight & set(asked_for)
    summary = f"{format_some_days(unread)} to be read, {format_some_days(active)} in flight; {retry_state}."
    if to_prove:
        summary += f" {format_some_days(to_prove)} of an old database to be proven."
    # The archive comes first: it takes seconds, and these days are known to be wrong.
    archived = month_spans([day for day in due if day in again])[:1]
    spans = archived or _next_spans(due, unread, found, in_flight)
    if active_runs(context.instance, INGEST_GAPS):
        spans = []
    for span in spans:
        for day in span:
            retry_state.ask(day, asked_for[day], now)
    requests = [
        dg.RunRequest(
            job_name=INGEST_JOB.name,
            tags={**range_tags(span), ASKED_BY: INGEST_GAPS} | ({FROM_ARCHIVE: "true"} if span in archived else {}),
        )
        for span in spans
    ]
    left = days_left(resource)
    if left:
        # Keyed by how many are left: once for each part of the search, which goes on from run to run.
        requests.append(dg.RunRequest(run_key=f"search the archive, {left} left", job_name=BM_UNITS_JOB.name))
    return tick_result(requests, write_cursor(days=retry_state.dump()), summary)


def _next_spans(
    due: Collection[date], unread: Collection[date], found: SettlementDays, in_flight: Collection[date]
) -> list[Days]:
    """What the next run reads: days with evidence of lost records, then unread days, the newest month first.

    A day of an old database that looks right is read alone, and only when nothing else is unread or in flight: proving
    a long history must not delay the newest days.
    """
    lost = [day for day in due if day in found.lost]
    to_read = lost or [day for day in due if day in unread]
    if to_read:
        return month_spans(to_read)[:1]
    if in_flight or not due:
        return []
    newest = max(due)
    return [Days(newest, newest)]
