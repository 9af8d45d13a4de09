"""Writing down work as it is done, for logs.

Belongs here: what of it is worth a line. Does not: the log file (logs.py), and the work.
"""

import logging
from datetime import date

from recon_assets.domain.settlement import Days
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.orchestration.resource import Observer
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.plan import Plan, format_days


class LogObserver(Observer):
    """Writes down what it is told, and tells it on."""

    def __init__(self, log: logging.Logger, other: Observer) -> None:
        self._log = log
        self._other = other

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

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._log.error("run failed", extra={"job": job, "reason": reason})
        self._other.run_failed(job, reason)
