"""The options of a reconciliation, and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from recon_assets.ingest.recovery import Recovery
from recon_assets.reconcile.plan import Plan
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Options:
    """How to reconcile.

    `ingest` reads from Elexon; `force` also reads days again that were read before, and `prove` adopted days, until all
    of the period is proven. `limit` is the most days to work on. `worst_first` begins with the worst day instead of the
    newest month. `run_config` holds fields of ConvergeConfig (run_config.py). The checks run after any work; with
    `always_check`, they run even if there was nothing to do.
    """

    ingest: bool = True
    force: bool = False
    prove: bool = False
    limit: int | None = None
    worst_first: bool = False
    always_check: bool = False
    run_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a reconciliation found (`before`), did and left (`after`).

    `runs` is the number of Dagster runs, `reported` that of partitions that were reported right without a run.
    `recovered` says, by month, what proofs of adopted days recovered; `unproven` are days that were to be proven and
    could be, but are not.
    """

    before: State
    plan: Plan
    after: State
    runs: int
    reported: int
    recovered: Sequence[Recovery] = ()
    unproven: Sequence[date] = ()
