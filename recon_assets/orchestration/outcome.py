"""What a reconciliation is asked for, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon_assets.reconcile.plan import Plan
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Options:
    """How to reconcile.

    `ingest` reads from Elexon; `force` reads days again that were read before. `limit` is the most days. `worst_first`
    begins with the worst day, not with the newest month. `run_config` is that of the convergence (run_config.py). The
    checks run after any work; with `always_check`, also where nothing was to be done.
    """

    ingest: bool = True
    force: bool = False
    limit: int | None = None
    worst_first: bool = False
    always_check: bool = False
    run_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a reconciliation found, did and left."""

    before: State
    plan: Plan
    after: State
    runs: int
    reported: int
