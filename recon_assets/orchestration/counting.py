"""Counting work as it is done, for what is said of it in the end.

Belongs here: counts and reasons. Does not: drawing (progress.py) and logs (log_observer.py).
"""

from datetime import date

from recon_assets.domain.settlement import Days
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.orchestration.resource import Observer
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.plan import Plan


class CountingObserver(Observer):
    """Remembers what was read and changed, and what failed."""

    def __init__(self) -> None:
        self.read = Changes()
        self.repaired_rows = Changes()
        self.days_read = 0
        self.generation: list[GenerationDay] = []
        self.unlisted: dict[str, float] = {}
        self.failures: dict[date, str] = {}
        self._run_failures: list[str] = []

    @property
    def reasons(self) -> list[str]:
        """Every reason of a failure, once: of runs that failed for another cause than a day, then the days' own."""
        days = [self.failures[day] for day in sorted(self.failures)]
        others = [reason for reason in self._run_failures if not any(of_day in reason for of_day in days)]
        return list(dict.fromkeys([*others, *days]))

    def planned(self, work: Plan) -> None:
        """See Observer. A day that failed and is tried again counts by how that ends, and so does its run."""
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
        self.repaired_rows += sum(span.changes.values(), Changes())

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        self.failures[day] = reason

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._run_failures.append(f"{job}: {reason}")
