"""Reads the state of days and plans the work on them; nothing is written, and Dagster is not asked."""

from collections.abc import Mapping, Sequence
from datetime import date

from recon_assets.domain.settlement import Days
from recon_assets.orchestration.outcome import Options
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.layer import Layer
from recon_assets.reconcile.layers import SUMMARIES
from recon_assets.reconcile.plan import Order, Plan, plan
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.state import State


def plan_work(
    resource: ReconResource, state: State, options: Options, suspicion: Mapping[date, float] | None = None
) -> Plan:
    """The work that makes a state right; nothing is written. For `suspicion` see plan.py."""
    can_have = resource.elexon.source.can_have if options.ingest else (lambda day: False)
    order = Order(options.limit, options.worst_first, suspicion or {})
    now, is_archived = resource.now(), resource.has_archived
    return plan(state, can_have, now, order, force=options.force, prove=options.prove, is_archived=is_archived)


def read_state(resource: ReconResource, days: Days, summaries: Sequence[Layer] = SUMMARIES) -> State:
    """The reconciled state of the days now, from one snapshot."""
    return reconciled_state(resource.engine, resource.scope(days), resource.now(), summaries)
