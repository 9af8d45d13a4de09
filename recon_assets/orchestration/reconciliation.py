"""Reconciles a span of days by Dagster runs, in the right order, for commands and routine jobs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.domain.settlement import Days, contiguous, due_periods, london_day
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ConfigurationError
from recon_assets.ingest.reference import stored_retargets
from recon_assets.ingest.verification import Method, Verification
from recon_assets.ingest.verify import verify_day
from recon_assets.orchestration.active_runs import FROM_ARCHIVE
from recon_assets.orchestration.archive_search import search_to_the_end
from recon_assets.orchestration.instance import report_right_partitions
from recon_assets.orchestration.jobs import (
    AUDIT_JOB,
    BM_UNITS_JOB,
    DIFFICULTY_JOB,
    GENERATION_JOB,
    INGEST_JOB,
    LAYER_JOBS,
    REINGEST_JOB,
)
from recon_assets.orchestration.outcome import Options, Outcome
from recon_assets.orchestration.own_runs import OwnRuns
from recon_assets.orchestration.planning import plan_work, read_state
from recon_assets.orchestration.proving import beginning_small, is_other_rule, recovered_since, survey
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.retry_state import month_spans
from recon_assets.orchestration.specs import layer_assets
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain, Layer
from recon_assets.reconcile.layers import BITCOIN_DAILY, ENERGY, ENERGY_DAILY, SUMMARIES
from recon_assets.reconcile.plan import Plan
from recon_assets.reconcile.scope import Scope, difficulty_history
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State

DAILY_SUMMARIES = (BITCOIN_DAILY, ENERGY_DAILY)


class Reconciliation:
    """Reconciles days by Dagster runs in this process, which the UI shows."""

    def __init__(
        self,
        resource: ReconResource,
        instance: dg.DagsterInstance,
        command: str,
        raise_if_interrupted: Callable[[], None] = lambda: None,
    ) -> None:
        self._resource = resource
        self._instance = instance
        self._raise_if_interrupted = raise_if_interrupted
        self._own = OwnRuns(resource, instance, command, raise_if_interrupted)
        self.work_log = resource.work_log(command)

    @property
    def runs(self) -> int:
        """How many runs were executed."""
        return self._own.count

    @property
    def engine(self) -> Engine:
        """The database."""
        return self._resource.engine

    def scope(self, days: Days) -> Scope:
        """Some days under the curtailment rule of the settings."""
        return self._resource.scope(days)

    def newest_day(self) -> date:
        """The newest day that the source should have whole: yesterday, or the newest recording."""
        recordings = self._resource.settings.recordings
        if recordings is not None:
            recorded = RecordingSource(recordings).span()
            if recorded is None:
                raise ConfigurationError(f"ELEXON_API_URL: {recordings} holds no recordings")
            return recorded.last
        return london_day(self._resource.now()) - timedelta(days=1)

    def state(self, days: Days, summaries: Sequence[Layer] = SUMMARIES) -> State:
        """The reconciled state of the days now."""
        return read_state(self._resource, days, summaries)

    def plan(self, state: State, options: Options, suspicion: Mapping[date, float] | None = None) -> Plan:
        """The work that makes a state right; for `suspicion` see plan.py."""
        return plan_work(self._resource, state, options, suspicion)

    def reconcile(self, days: Days, options: Options) -> Outcome:
        """Reads the days that the source can have, then converges every layer; works only on what is not right."""
        started = self._resource.now()
        if options.ingest:
            search_to_the_end(self._resource, self.refresh_units)
        before = self.state(days)
        if options.prove:
            self._own.run(BM_UNITS_JOB.name)
        suspicion = survey(self._resource, before, self._raise_if_interrupted) if options.prove else None
        work = self.plan(before, options, suspicion)
        self._begin(work)
        # Report before the runs too: a later report would count as newer than the summaries that the runs make of it.
        reported = report_right_partitions(self._instance, self._resource, before)
        if work.is_empty:
            if options.always_check:
                self._own.run(AUDIT_JOB.name)
            return Outcome(before, work, before, self.runs, reported)
        near, far = work.without_source, work.from_source
        # What needs no source comes first, so that it does not wait for one that does not answer.
        if near or not far:
            self._know_difficulty([day for chunk in near for day in chunk])
        for chunk in near:
            self._reconcile_days(chunk, work, options.run_config)
        if far:
            if not options.prove:
                self._own.run(BM_UNITS_JOB.name)
            # Of days that cannot be read, only what is stored is converged.
            converged = before.faulty_days if self._resource.elexon.down else before.days
            self._know_difficulty([day for chunk in far for day in chunk if day in converged])
        for chunk in beginning_small(far) if options.prove else far:
            self._reconcile_days(chunk, work, options.run_config)
            if options.prove and is_other_rule(self._resource, days, started):
                break
        summaries = self.plan(self.state(days), replace(options, ingest=False, force=False, prove=False, limit=None))
        outcome = self._sum_up(days, before, work, reported, summaries.months, summaries.years)
        unproven = set(outcome.after.unproven_days).intersection(work.ingest if options.prove else ())
        return replace(outcome, recovered=recovered_since(self._resource, days, started), unproven=sorted(unproven))

    def summarise(self, days: Days) -> Outcome:
        """Converges the summaries of the days, their months and their years, from the rows below them."""
        before = self.state(days)
        stored = [day for day, state in before.days.items() if state is not DayState.NOT_INGESTED]
        only_generated = sorted(before.generated.difference(stored))
        summed = sorted([*stored, *only_generated])
        months = [list(span) for span in month_spans(summed)]
        work = Plan(months, [], _labels(MONTH, summed), _labels(YEAR, summed), [], 0)
        self._begin(work)
        reported = report_right_partitions(self._instance, self._resource, before)
        self._sum_days(stored, DAILY_SUMMARIES)
        self._sum_days(only_generated, ENERGY)
        return self._sum_up(days, before, work, reported, work.months, work.years)

    def read_generation(self, days: Days) -> Outcome:
        """Reads the wind generation of the days, then converges the energy summaries up to their years."""
        before = self.state(days)
        months = [list(span) for span in reversed(days.by_month())]
        work = Plan(months, list(days), _labels(MONTH, list(days)), _labels(YEAR, list(days)), [], 0)
        self._begin(work)
        reported = report_right_partitions(self._instance, self._resource, before)
        for month in months:
            self._own.read(GENERATION_JOB.name, month, str(month[0]), str(month[-1]))
        found = self.state(days, ())
        stored = [
            day for day, state in found.days.items() if state is not DayState.NOT_INGESTED or day in found.generated
        ]
        self._sum_days(stored, ENERGY)
        return self._sum_up(days, before, work, reported, _labels(MONTH, stored), _labels(YEAR, stored), ENERGY)

    def converge_again(self, days: Days, hardest: Sequence[date], run_config: Mapping[str, Any]) -> Outcome:
        """Converges the `hardest` of the days once more, each in a run of its own, then the sums above them."""
        before = self.state(days)
        self._begin(Plan([[day] for day in hardest], [], [], [], [], 0))
        for day in hardest:
            self._own.run(LAYER_JOBS[DAY].name, str(day), str(day), config=run_config)
        work = self.plan(self.state(days), Options(ingest=False))
        return self._sum_up(days, before, work, 0, work.months, work.years)

    def spot_fix(self, day: date, period: int, farm: str) -> Outcome:
        """Converges the calculations of one farm in one settlement period, and the sums above them."""
        days = Days(day, day)
        before = self.state(days)
        months, years = [MONTH.label(day)], [YEAR.label(day)]
        work = Plan([[day]], [], months, years, [], 0)
        self._begin(work)
        reported = report_right_partitions(self._instance, self._resource, before)
        narrow = {"periods": str(period), "farm": farm}
        self._own.run(LAYER_JOBS[DAY].name, str(day), str(day), config=narrow)
        return self._sum_up(days, before, work, reported, months, years)

    def verify(self, day: date, method: Method, seed: int | None = None) -> Verification:
        """Compares a day with Elexon."""
        resource, scope = self._resource, self._resource.scope(Days(day, day))
        return resource.patiently(
            lambda: verify_day(resource.engine, resource.elexon, scope, resource.now(), method, seed)
        )

    def reingest(self, day: date, periods: tuple[int, int] | None = None, *, bitcoin: bool = True) -> Outcome:
        """Reads a day (or some settlement periods of it) from Elexon again, then converges everything above it."""
        days = Days(day, day)
        before = self.state(days)
        due = due_periods(day, self._resource.now())
        asked = due if periods is None else [period for period in due if periods[0] <= period <= periods[1]]
        work = Plan([[day]], [day], [MONTH.label(day)], [YEAR.label(day)], [], len(asked))
        self._begin(work)
        reported = report_right_partitions(self._instance, self._resource, before)
        self._own.run(BM_UNITS_JOB.name)
        if bitcoin and not self._resource.elexon.down:
            self._know_difficulty([day])
        period_range = None if periods is None else f"{periods[0]}-{periods[1]}"
        config = {"settlement_date": day.isoformat(), "periods": period_range, "bitcoin": bitcoin}
        given = {name: value for name, value in config.items() if value is not None}
        self._own.read(REINGEST_JOB.name, [day], config=given)
        months: Sequence[str] = []
        years: Sequence[str] = []
        if bitcoin and self._resource.elexon.down:
            # The day stays as it was read before, and what is made of it is made right.
            self._reconcile_days([day], replace(work, ingest=[]), {})
            sums = self.plan(self.state(days), Options(ingest=False))
            months, years = sums.months, sums.years
        return self._sum_up(days, before, work, reported, months, years)

    def repair(self, day: date, found: Verification | None) -> Outcome | None:
        """The work of `recon repair`: reconciles what a verification found; without one, reads the day again.

        None if there was nothing to do. If the source is down, what is made of the stored day is made right.
        """
        if found is None and self._resource.elexon.down:
            return self.reconcile(Days(day, day), Options(ingest=False))
        if found is None or found.must_be_read:
            return self.reingest(day)
        if found.state is DayState.ADOPTED_EMPTY:
            return self.reconcile(Days(day, day), Options())
        return self.reconcile(Days(day, day), Options(ingest=False)) if found.differences else None

    def _begin(self, work: Plan) -> None:
        self._resource.observer.planned(work)
        self.work_log.plan(_labels(MONTH, [day for chunk in work.chunks for day in chunk]))

    def _sum_days(self, days: Sequence[date], layers: Sequence[Layer]) -> None:
        """Converges the daily ones of some summary layers, newest month first."""
        for span in month_spans(days):
            self._own.run(LAYER_JOBS[DAY].name, str(span.first), str(span.last), assets=_keys(DAY, layers))

    def _sum_up(
        self,
        days: Days,
        before: State,
        work: Plan,
        reported: int,
        months: Sequence[str],
        years: Sequence[str],
        layers: Sequence[Layer] = SUMMARIES,
    ) -> Outcome:
        """Converges the months and years, has every check evaluated if anything ran, and gives the outcome."""
        for grain, keys in ((MONTH, months), (YEAR, years)):
            for key in reversed(keys):
                self._own.run(LAYER_JOBS[grain].name, key, key, assets=_keys(grain, layers))
        after = self.state(days)
        reported += report_right_partitions(self._instance, self._resource, after)
        if self.runs:
            self._own.run(AUDIT_JOB.name)
        self.work_log.finish()
        return Outcome(before, work, after, self.runs, reported)

    def _know_difficulty(self, days: Sequence[date]) -> None:
        """Stores the newest difficulty if what is known does not cover the days, else at least the packaged table.
        Only the first asks mempool.space, so that no day fails for it that does not need it.
        """
        with transactions.reading(self._resource.engine) as connection:
            is_stored, known = bool(stored_retargets(connection)), difficulty_history(connection)
        is_covered = all(known.covers(day) for day in days)
        if not (is_stored and is_covered):
            self._own.run(DIFFICULTY_JOB.name, config={"packaged_only": is_covered})

    def refresh_units(self) -> None:
        """Materializes the BM units, so that Dagster shows what is known of them now."""
        self._own.run(BM_UNITS_JOB.name)

    def _reconcile_days(self, chunk: Sequence[date], work: Plan, run_config: Mapping[str, Any]) -> None:
        """Reads the days of a chunk that need it, then converges those that are still not right."""
        archived = set(work.from_archive)
        for days, tags in ((set(work.ingest) - archived, {}), (archived, {FROM_ARCHIVE: "true"})):
            for span in reversed(contiguous([day for day in chunk if day in days])):
                self._own.read(INGEST_JOB.name, list(span), str(span.first), str(span.last), tags=tags)
        state = self.state(Days(min(chunk), max(chunk)), DAILY_SUMMARIES)
        faulty = [day for day in state.faulty_days if day in chunk]
        for span in reversed(contiguous(faulty)):
            self._own.run(LAYER_JOBS[DAY].name, str(span.first), str(span.last), config=run_config)


def _keys(grain: Grain, layers: Sequence[Layer]) -> list[dg.AssetKey]:
    return [asset.key for asset in layer_assets(grain) if asset.layer in layers]


def _labels(grain: Grain, days: Sequence[date]) -> list[str]:
    return sorted({grain.label(day) for day in days})
