"""The sensor that sends a message when something stays broken, and another when it is over."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy.exc import DBAPIError

from recon_assets.database.failures import failure_of
from recon_assets.errors import ReconError
from recon_assets.orchestration.alert_conditions import alert_conditions
from recon_assets.orchestration.alerts import AlertError, Alerts
from recon_assets.orchestration.incidents import AlertCondition, Incident, Message, closing, compare, opening
from recon_assets.orchestration.instance import housekeeping
from recon_assets.orchestration.resource import Opener
from recon_assets.orchestration.retry_state import read_cursor, write_cursor
from recon_assets.settings import Settings

INCIDENTS = "incident_sensor"


def incident_sensor(tick_seconds: int, settings: Callable[[], Settings], opened: Opener) -> dg.SensorDefinition:
    """The sensor that alerts people; what is broken may be the database itself, which `opened` opens."""

    def send_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        housekeeping(context.instance)
        urls, now = settings().alert_urls, datetime.now(UTC)
        if not urls:
            return dg.SkipReason("RECON_ALERT_URLS is empty: nobody is told.")
        known = [Incident.load(kept) for kept in read_cursor(context.cursor).get("open", [])]
        try:
            with opened() as resource:
                now = resource.now()
                found = alert_conditions(context.instance, resource, now)
        except (ReconError, DBAPIError) as error:
            found = [_unreachable(error), *(replace(was.condition, is_news=False) for was in known)]
        return _send_messages(context, Alerts(urls), known, found, now)

    return dg.SensorDefinition(
        name=INCIDENTS,
        evaluation_fn=send_alerts,
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells RECON_ALERT_URLS once when something stays broken (a run, a check, a gap that was given up, "
        "a source without news, the database), with reason and the command that mends it, and once when it is over.",
    )


def _unreachable(error: ReconError | DBAPIError) -> AlertCondition:
    reason = str(error) if isinstance(error, ReconError) else failure_of(error).reason
    return AlertCondition("database", "cannot be used", None, reason, "recon doctor")


def _send_messages(
    context: dg.SensorEvaluationContext,
    alerts: Alerts,
    known: Sequence[Incident],
    found: Sequence[AlertCondition],
    now: datetime,
) -> dg.SensorResult:
    """Sends the messages of a tick; the cursor keeps open incidents so that the next tick sends what failed."""
    still, begun, over = compare(known, found, now)
    opened = [new for new in begun if _send(context, alerts, opening(new))]
    unclosed = [old for old in over if not _send(context, alerts, closing(old, now))]
    open_now = [*still, *opened, *unclosed]
    failed = len(begun) - len(opened) + len(unclosed)
    closed = len(over) - len(unclosed)
    summary = f"{len(open_now)} open, {len(opened)} begun, {closed} over, {failed} could not be told."
    cursor = write_cursor(open=[incident.dump() for incident in open_now])
    return dg.SensorResult(skip_reason=dg.SkipReason(summary), cursor=cursor)


def _send(context: dg.SensorEvaluationContext, alerts: Alerts, message: Message) -> bool:
    """Sends a message; returns whether any receiver got it. The log of the tick says how many did not."""
    try:
        unreached = alerts.send(message.title, message.body)
    except AlertError as error:
        context.log.error(str(error))
        return False
    if unreached:
        context.log.warning(f"{unreached} receivers of RECON_ALERT_URLS could not be reached to tell: {message.title}")
    return True
