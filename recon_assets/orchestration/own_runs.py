"""Executes Dagster runs in this process, one after the other, for commands and routine jobs."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any

import dagster as dg

from recon_assets.database.work_log import Phase
from recon_assets.domain.settlement import due_periods
from recon_assets.errors import DiskError, first_line
from recon_assets.orchestration.active_runs import RANGE_TAGS
from recon_assets.orchestration.in_process import QUIET, execute
from recon_assets.orchestration.jobs import CONFIGURED
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.runnable import runnable_defs
from recon_assets.orchestration.steps import process_tags
from recon_assets.reconcile.layer import MONTH


class OwnRuns:
    """The runs of one command or routine; `count` says how many were executed."""

    def __init__(
        self,
        resource: ReconResource,
        instance: dg.DagsterInstance,
        command: str,
        raise_if_interrupted: Callable[[], None],
    ) -> None:
        self._resource = resource
        self._instance = instance
        self._command = command
        self._raise_if_interrupted = raise_if_interrupted
        self._defs = runnable_defs(resource)
        self.count = 0

    def read(self, job: str, days: Sequence[date], *ends: str, **how: Any) -> None:
        """Executes a run that reads days; if the source is down, only one that reads from the archive."""
        down = self._resource.elexon.down
        if down and not how.get("tags"):
            self._resource.observer.unread(days, down)
            self._note_unread(days, down)
        else:
            self.run(job, *ends, **how)

    def _note_unread(self, days: Sequence[date], reason: str) -> None:
        """The months of days that are not tried have failed, as they would have if the days had been tried."""
        log, now = self._resource.work_log(self._command), self._resource.now()
        for month, of_month in groupby(sorted(days), MONTH.label):
            due = {day: len(due_periods(day, now)) for day in of_month}
            with log.working(Phase.READING, {month: sum(due.values())}, due):
                log.fail(month, sum(due.values()), reason, due)

    def run(
        self,
        job: str,
        *ends: str,
        config: Mapping[str, Any] | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Executes one run; Dagster records its failures, and the observer reports them."""
        # No retries: Dagster's daemon cannot restart a run of this process.
        days = dict(zip(RANGE_TAGS, ends, strict=True)) if ends else {}
        own = {**process_tags(), "recon/command": self._command, "dagster/max_retries": "0"}
        self.count += 1
        try:
            whole = self._defs.resolve_job_def(job)
            # Without a selection of checks, Dagster would add those of the assets, each on the whole history.
            chosen = whole.get_subset(asset_selection=set(assets), asset_check_selection=set()) if assets else whole
            configured = {"ops": {CONFIGURED[job]: {"config": dict(config)}}} if config else {}
            execute(
                chosen,
                instance=self._instance,
                tags={**own, **days, **(tags or {})},
                run_config={**QUIET, **configured},
            )
        except DiskError:
            raise
        except dg.Failure as failure:
            self._resource.observer.run_failed(job, failure.description or job)
        except Exception as error:
            self._resource.observer.run_failed(job, first_line(error))
        self._raise_if_interrupted()
