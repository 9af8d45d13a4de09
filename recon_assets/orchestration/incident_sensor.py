"""The sensor that tells people what stays broken, and when it is over."""

import dagster as dg

from recon_assets.alerts import AlertError, Alerts
from recon_assets.incidents import Incident, Message, closing, compare, opening
from recon_assets.orchestration.attempts import read_cursor, write_cursor
from recon_assets.orchestration.instance import keep_house
from recon_assets.orchestration.problems import problems
from recon_assets.orchestration.workbench import WORKBENCH, Workbench

INCIDENTS = "incident_sensor"


def incident_sensor(tick_seconds: int) -> dg.SensorDefinition:
    """Tells people of what stays broken."""
    return dg.SensorDefinition(
        name=INCIDENTS,
        evaluation_fn=tell_news,
        required_resource_keys={WORKBENCH},
        minimum_interval_seconds=tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells RECON_ALERT_URLS once when something stays broken (a run, a check, a gap that was given up, "
        "a source without news), with the reason and the command that mends it, and once when it is over.",
    )


def tell_news(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """The cursor has the open incidents: what could not be told is told by the next tick."""
    keep_house(context.instance)
    bench: Workbench = getattr(context.resources, WORKBENCH)
    if not bench.settings.alert_urls:
        return dg.SkipReason("RECON_ALERT_URLS is empty: nobody is told.")
    alerts, now = Alerts(bench.settings.alert_urls), bench.now()
    known = [Incident.load(kept) for kept in read_cursor(context.cursor).get("open", [])]
    still, begun, over = compare(known, problems(context.instance, bench, now), now)
    told = [new for new in begun if _tell(context, alerts, opening(new))]
    untold_ends = [old for old in over if not _tell(context, alerts, closing(old, now))]
    open_now = [*still, *told, *untold_ends]
    failed = len(begun) - len(told) + len(untold_ends)
    said = f"{len(open_now)} open, {len(told)} begun, {len(over) - len(untold_ends)} over, {failed} could not be told."
    cursor = write_cursor(open=[incident.dump() for incident in open_now])
    return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=cursor)


def _tell(context: dg.SensorEvaluationContext, alerts: Alerts, message: Message) -> bool:
    """Whether somebody was reached; who was not is in the log of the tick."""
    try:
        unreached = alerts.send(message.title, message.body)
    except AlertError as error:
        context.log.error(str(error))
        return False
    if unreached:
        context.log.warning(f"{unreached} receivers of RECON_ALERT_URLS could not be reached to tell: {message.title}")
    return True
