"""Converges spans of days chunk by chunk and keeps the work log; assets and commands call it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Engine, func, select

from recon_assets.database import transactions
from recon_assets.database.failures import Failure
from recon_assets.database.limits import DEFAULT_WORK_LIMITS, WorkLimits
from recon_assets.database.tables import curtailment_records, wind_bids
from recon_assets.database.work_log import Phase, WorkLog
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import MOST_PERIODS, Days
from recon_assets.reconcile.chunks import Chunk, ChunkResult, ChunkRunner, Sizes, attempt, chunk_of
from recon_assets.reconcile.converge_span import ConvergedSpan, converge_span
from recon_assets.reconcile.layer import DAY, MONTH, Layer, in_scope
from recon_assets.reconcile.layers import CALCULATIONS, CURTAILMENT
from recon_assets.reconcile.scope import Scope


@dataclass(frozen=True)
class SpanResult:
    """Days that are finished: what was converged, and for each day the reasons of what still failed."""

    days: Days
    converged: ConvergedSpan | None
    failures: Mapping[date, Sequence[str]]


@dataclass(frozen=True)
class SpanRunner:
    """Converges layers; its fields are what all chunks of one piece of work share."""

    engine: Engine
    layers: Sequence[Layer]
    scope: Callable[[Days], Scope]
    now: Callable[[], datetime]
    work_log: WorkLog
    limits: WorkLimits = DEFAULT_WORK_LIMITS
    only: Collection[str] = tuple(MODELS)
    periods: tuple[int, int] | None = None
    farm: str | None = None

    def run(self, spans: Sequence[Days]) -> Iterator[SpanResult]:
        """Converges the spans in their order; yields each result as soon as it is finished."""
        if self.layers[0].grain is not DAY:
            # Not in the work log: its rows count the records and calculations of a month, which are done by now.
            for span in spans:
                yield self._finish(span, [attempt(chunk_of(span, {}), self._do, self.limits)[0]])
            return
        months = {MONTH.label(day): 0 for span in spans for day in span}
        sizes = self._sizes(spans)
        for day, periods in sizes.items():
            months[MONTH.label(day)] += sum(periods.values())
        with self.work_log.working(Phase.CONVERGING, months, [day for span in spans for day in span]):
            yield from self._run_chunks(spans, sizes)

    def _run_chunks(self, spans: Sequence[Days], sizes: Sizes) -> Iterator[SpanResult]:
        split_days: dict[date, list[ChunkResult[ConvergedSpan]]] = {}
        # Work on one farm needs chunks of periods too: a chunk of whole days would cover every farm.
        narrow = self.periods or ((1, MOST_PERIODS) if self.farm else None)
        runner = ChunkRunner(spans, sizes, self._do, self.limits, narrow, self._tried)
        for done in runner.run():
            self._advance(done)
            if done.chunk.periods is None and done.failure is None:
                yield SpanResult(done.chunk.days, done.result, {})
            else:
                split_days.setdefault(done.chunk.days.first, []).append(done)
        for day, parts in split_days.items():
            yield self._finish(Days(day, day), parts)

    def _do(self, chunk: Chunk) -> ConvergedSpan:
        timeout = self.limits.timeout_for(len(chunk.days))
        scope = self.scope(chunk.days)
        if chunk.periods is None:
            return converge_span(self.engine, self.layers, scope, self.now(), only=self.only, timeout_seconds=timeout)
        narrow = replace(scope, periods=chunk.periods, farm=self.farm)
        base = [layer for layer in self.layers if layer in (CURTAILMENT, CALCULATIONS)]
        return converge_span(
            self.engine, base, narrow, self.now(), only=self.only, timeout_seconds=timeout, with_contents=False
        )

    def _finish(self, days: Days, parts: Sequence[ChunkResult[ConvergedSpan]]) -> SpanResult:
        """Converges the summaries of a day that was done in parts, even if a part failed, and merges the results."""
        failures = [f"{part.chunk}: {part.failure.reason}" for part in parts if part.failure]
        done = [part.result for part in parts if part.result]
        if self.layers[0].grain is not DAY:
            return SpanResult(days, done[0] if done else None, {days.first: failures} if failures else {})

        def sum_up(chunk: Chunk) -> ConvergedSpan:
            return converge_span(
                self.engine,
                self.layers,
                self.scope(chunk.days),
                self.now(),
                only=self.only,
                timeout_seconds=self.limits.timeout_for(1),
                converging=[layer for layer in self.layers if layer not in (CURTAILMENT, CALCULATIONS)],
            )

        summed, _ = attempt(Chunk(days), sum_up, self.limits, self._tried)
        if summed.failure:
            failures.append(f"{days} summaries: {summed.failure.reason}")
            self.work_log.fail(MONTH.label(days.first), 0, failures[-1], days)
        found = summed.result
        if found is not None:
            changes = dict(found.changes)
            for part in done:
                for key, made in part.changes.items():
                    changes[key] = changes[key] + made if key in changes else made
            unfit_models = {key: reasons for part in (*done, found) for key, reasons in part.unfit_models.items()}
            found = replace(found, changes=changes, unfit_models=unfit_models)
        return SpanResult(days, found, {days.first: failures} if failures else {})

    def _sizes(self, spans: Iterable[Days]) -> Sizes:
        """Rows that converging may touch, per settlement period: records, and as many calculations for each model."""
        factor = 1 + len(self.only) * (CALCULATIONS in self.layers)
        sizes: dict[date, dict[int, int]] = {}
        with transactions.reading(self.engine) as connection:
            for span in spans:
                scope = replace(self.scope(span), periods=self.periods, farm=self.farm)
                for table in (wind_bids, curtailment_records):
                    key = (table.c.settlement_date, table.c.settlement_period)
                    counts = select(*key, func.count()).where(in_scope(table.c, scope)).group_by(*key)
                    for day, period, count in connection.execute(counts):
                        of_day = sizes.setdefault(day, {})
                        of_day[period] = max(of_day.get(period, 0), count * factor)
        return sizes

    def _tried(self, chunk: Chunk, failure: Failure) -> None:
        month = MONTH.label(chunk.days.first)
        self.work_log.trouble(month, f"{chunk}: {failure.reason}", timed_out=failure.is_timeout)

    def _advance(self, done: ChunkResult[ConvergedSpan]) -> None:
        month = MONTH.label(done.chunk.days.first)
        if done.failure is None:
            self.work_log.advance(month, done.chunk.rows)
        else:
            self.work_log.fail(month, done.chunk.rows, f"{done.chunk}: {done.failure.reason}", done.chunk.days)
