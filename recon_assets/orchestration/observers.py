"""Observers, which are called as work is done: one counts the work, one writes it to a log."""

import logging
from collections.abc import Sequence
from datetime import date

from recon_assets.domain.settlement import Days
from recon_assets.elexon.outage import Waiting
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.plan import Plan, format_days


class Observer:
    """Called as work is done. This base class does nothing; the command's observer draws a progress bar."""

    def surveyed(self, number: int, days: int, failure: str | None) -> None:
        """The acceptance volumes of one adopted day of so many were asked for; `failure` is why they were not read."""

    def planned(self, work: Plan) -> None:
        """The work was planned."""

    def ingested(self, day: IngestedDay) -> None:
        """A day was read and stored."""

    def generation_read(self, day: GenerationDay) -> None:
        """The wind generation of a day was read and stored."""

    def converged(self, days: Days, span: ConvergedSpan) -> None:
        """The layers of some days were converged."""

    def failed(self, day: date, reason: str) -> None:
        """A day failed."""

    def unread(self, days: Sequence[date], reason: str) -> None:
        """Days were not read, because the source is down."""

    def waiting(self, waiting: Waiting) -> None:
        """The source does not answer, and is waited for; once a second."""

    def run_failed(self, job: str, reason: str) -> None:
        """A run failed."""

    def noted(self, remark: str) -> None:
        """Something is not as usual, and nothing failed for it."""


class CountingObserver(Observer):
    """Counts what was read and changed, and keeps what failed."""

    def __init__(self) -> None:
        self.read = Changes()
        self.converged_rows = Changes()
        self.days_read = 0
        self.generation: list[GenerationDay] = []
        self.unlisted: dict[str, float] = {}
        self.failures: dict[date, str] = {}
        self.remarks: list[str] = []
        self._run_failures: list[str] = []

    @property
    def reasons(self) -> list[str]:
        """Every reason of a failure, once: first of runs that failed for a reason of no day, then of the days."""
        days = [self.failures[day] for day in sorted(self.failures)]
        others = [reason for reason in self._run_failures if not any(of_day in reason for of_day in days)]
        return list(dict.fromkeys([*others, *days]))

    def planned(self, work: Plan) -> None:
        """See Observer. If failed days are planned again, only their new outcome counts, and that of their runs."""
        converging = {day for chunk in work.chunks for day in chunk}
        again = [self.failures.pop(day) for day in converging if day in self.failures]
        self._run_failures = [failed for failed in self._run_failures if not any(reason in failed for reason in again)]

    def ingested(self, day: IngestedDay) -> None:
        """See Observer."""
        self.read += day.changes
        self.days_read += 1
        for unit, mwh in day.unlisted.items():
            self.unlisted[unit] = self.unlisted.get(unit, 0.0) + mwh

    def generation_read(self, day: GenerationDay) -> None:
        """See Observer."""
        self.generation.append(day)

    def converged(self, days: Days, span: ConvergedSpan) -> None:
        """See Observer."""
        self.converged_rows += sum(span.changes.values(), Changes())

    def failed(self, day: date, reason: str) -> None:
        """See Observer. The first reason counts: what fails after it fails because of it."""
        self.failures.setdefault(day, reason)

    def unread(self, days: Sequence[date], reason: str) -> None:
        """See Observer."""
        for day in days:
            self.failed(day, reason)

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._run_failures.append(f"{job}: {reason}")

    def noted(self, remark: str) -> None:
        """See Observer."""
        if remark not in self.remarks:
            self.remarks.append(remark)


class LogObserver(Observer):
    """Writes every call to a log, and passes it on to another observer."""

    def __init__(self, log: logging.Logger, other: Observer) -> None:
        self._log = log
        self._other = other

    def surveyed(self, number: int, days: int, failure: str | None) -> None:
        """See Observer."""
        if number == 1:
            self._log.info("asking for acceptance volumes", extra={"days": days})
        if failure is not None:
            self._log.warning("acceptance volumes not read", extra={"reason": failure})
        self._other.surveyed(number, days, failure)

    def planned(self, work: Plan) -> None:
        """See Observer."""
        days = sorted(day for chunk in work.chunks for day in chunk)
        self._log.info(
            "planned",
            extra={
                "read": format_days(work.ingest),
                "converge": format_days(days),
                "months": work.months,
                "years": work.years,
                "out_of_reach": format_days(work.out_of_reach),
                "requests": work.requests,
            },
        )
        self._other.planned(work)

    def ingested(self, day: IngestedDay) -> None:
        """See Observer."""
        self._log.info(
            "read",
            extra={
                "settlement_date": day.settlement_date.isoformat(),
                "wind_rows": day.wind_rows,
                "inserted": day.changes.inserted,
                "corrected": day.changes.corrected,
                "removed": day.changes.removed,
                "pending_periods": list(day.pending),
            },
        )
        self._other.ingested(day)

    def generation_read(self, day: GenerationDay) -> None:
        """See Observer."""
        self._log.info(
            "generation read",
            extra={
                "settlement_date": day.settlement_date.isoformat(),
                "half_hours": day.half_hours,
                "total_mwh": day.total_mwh,
                "pending_periods": list(day.pending),
            },
        )
        self._other.generation_read(day)

    def converged(self, days: Days, span: ConvergedSpan) -> None:
        """See Observer."""
        layers = dict.fromkeys(name for name, _, _ in span.changes)
        changes = {name: span.changes_of(name) for name in layers}
        self._log.info(
            "converged",
            extra={
                "days": str(days),
                "changes": {
                    name: {"inserted": made.inserted, "corrected": made.corrected, "removed": made.removed}
                    for name, made in changes.items()
                    if made.total
                },
            },
        )
        self._other.converged(days, span)

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        self._log.error("failed", extra={"settlement_date": day.isoformat(), "reason": reason})
        self._other.failed(day, reason)

    def unread(self, days: Sequence[date], reason: str) -> None:
        """See Observer."""
        self._log.error("source down", extra={"unread": format_days(days), "reason": reason})
        self._other.unread(days, reason)

    def waiting(self, waiting: Waiting) -> None:
        """See Observer."""
        if waiting.is_line:
            self._log.warning("waiting", extra={"reason": waiting.text})
        self._other.waiting(waiting)

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._log.error("run failed", extra={"job": job, "reason": reason})
        self._other.run_failed(job, reason)

    def noted(self, remark: str) -> None:
        """See Observer."""
        self._log.warning("noted", extra={"remark": remark})
        self._other.noted(remark)
