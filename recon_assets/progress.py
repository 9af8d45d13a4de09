"""The terminal's view of work that is under way: a progress bar on stderr, and what was done in the end."""

import os
import sys
from collections.abc import Iterable
from datetime import date

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from recon_assets.ingest import IngestedDay
from recon_assets.orchestration.workbench import Observer
from recon_assets.reconcile.converge import Changes
from recon_assets.reconcile.plan import Plan
from recon_assets.reconcile.repair import Repair
from recon_assets.settlement import Days
from recon_assets.wind_generation import GenerationDay


class RateColumn(ProgressColumn):
    """Days a second, and the share of them that succeeded, once some are done."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        if task.speed is None or not task.completed:
            return Text("days")
        # Rounded down: 100 % only when nothing failed.
        success = int(100 * (task.completed - task.fields["failed"]) / task.completed)
        return Text(f"days · {task.speed:.1f}/s · {success} % ok", style="" if success == 100 else "red")


class TerminalObserver(Observer):
    """Draws two bars (days read, days converged) and remembers what was changed and what failed."""

    def __init__(self) -> None:
        self.read = Changes()
        self.repaired_rows = Changes()
        self.days_read = 0
        self.generation: list[GenerationDay] = []
        self.unlisted: dict[str, float] = {}
        self.failures: dict[date, str] = {}
        self._run_failures: list[str] = []
        # Dagster points stderr at a file while a step runs; this is the terminal itself.
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w")
        console = Console(file=self._terminal)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._waiting: dict[str, set[date]] = {}
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "TerminalObserver":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._terminal.close()

    @property
    def reasons(self) -> list[str]:
        """Every reason of a failure, once: of runs that failed for another cause than a day, then the days' own."""
        days = [self.failures[day] for day in sorted(self.failures)]
        others = [reason for reason in self._run_failures if not any(of_day in reason for of_day in days)]
        return list(dict.fromkeys([*others, *days]))

    def planned(self, work: Plan) -> None:
        """See Observer. A day that failed and is tried again counts by how that ends, and so does its run."""
        self._waiting = {"Reading": set(work.ingest), "Converging": {day for chunk in work.chunks for day in chunk}}
        again = [self.failures.pop(day) for day in self._waiting["Converging"] if day in self.failures]
        self._run_failures = [failed for failed in self._run_failures if not any(reason in failed for reason in again)]
        self._bars = {
            name: self._progress.add_task(name, total=len(days), visible=bool(days), failed=0)
            for name, days in self._waiting.items()
        }

    def ingested(self, day: IngestedDay) -> None:
        """See Observer."""
        self.read += day.changes
        self.days_read += 1
        for unit, mwh in day.unlisted.items():
            self.unlisted[unit] = self.unlisted.get(unit, 0.0) + mwh
        self._advance("Reading", [day.settlement_date])

    def generation_read(self, day: GenerationDay) -> None:
        """See Observer."""
        self.generation.append(day)
        self._advance("Reading", [day.settlement_date])

    def repaired(self, days: Days, repair: Repair) -> None:
        """See Observer."""
        self.repaired_rows += sum(repair.changes.values(), Changes())
        self._advance("Converging", days)

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        self.failures[day] = reason
        bar = "Reading" if day in self._waiting.get("Reading", ()) else "Converging"
        if bar in self._bars:
            task = self._progress.tasks[self._bars[bar]]
            self._progress.update(task.id, failed=task.fields["failed"] + 1)
        self._advance(bar, [day])

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._run_failures.append(f"{job}: {reason}")

    def _advance(self, bar: str, days: Iterable[date]) -> None:
        """Moves a bar on by those of the days that it still waits for: a month's summaries repair no day again."""
        done = self._waiting.get(bar, set()).intersection(days)
        if done:
            self._waiting[bar] -= done
            self._progress.advance(self._bars[bar], len(done))
