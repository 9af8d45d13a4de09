"""Shows work in progress on the terminal: progress bars on stderr."""

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

from recon_assets.domain.settlement import Days
from recon_assets.elexon.outage import Waiting
from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.orchestration.observers import CountingObserver
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.plan import Plan


class RateColumn(ProgressColumn):
    """Days a second, and the share that succeeded, once some are done."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        if text := task.fields.get("text"):
            return Text(text, style="yellow")
        if task.speed is None or not task.completed:
            return Text("days")
        # Rounded down: 100 % only when nothing failed.
        success = int(100 * (task.completed - task.fields["failed"]) / task.completed)
        return Text(f"days · {task.speed:.1f}/s · {success} % ok", style="" if success == 100 else "red")


class LeftColumn(TimeRemainingColumn):
    """The time left of days; a countdown says it in its own line."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text() if task.fields.get("text") else super().render(task)


class TerminalObserver(CountingObserver):
    """Counts, and draws two bars: days read and days converged."""

    def __init__(self) -> None:
        super().__init__()
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            LeftColumn(),
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

    def surveyed(self, number: int, days: int, failure: str | None) -> None:
        """See Observer."""
        if "Asking" not in self._bars:
            self._bars["Asking"] = self._progress.add_task("Asking", total=days, failed=0)
        self._progress.update(self._bars["Asking"], completed=number)

    def planned(self, work: Plan) -> None:
        """See Observer."""
        super().planned(work)
        self._waiting = {"Reading": set(work.ingest), "Converging": {day for chunk in work.chunks for day in chunk}}
        self._bars = {
            name: self._progress.add_task(name, total=len(days), visible=bool(days), failed=0)
            for name, days in self._waiting.items()
        }

    def ingested(self, day: IngestedDay) -> None:
        """See Observer."""
        super().ingested(day)
        self._advance("Reading", [day.settlement_date])

    def generation_read(self, day: GenerationDay) -> None:
        """See Observer."""
        super().generation_read(day)
        self._advance("Reading", [day.settlement_date])

    def converged(self, days: Days, span: ConvergedSpan) -> None:
        """See Observer."""
        super().converged(days, span)
        self._advance("Converging", days)

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        super().failed(day, reason)
        bar = "Reading" if day in self._waiting.get("Reading", ()) else "Converging"
        if bar in self._bars:
            task = self._progress.tasks[self._bars[bar]]
            self._progress.update(task.id, failed=task.fields["failed"] + 1)
        self._advance(bar, [day])

    def waiting(self, waiting: Waiting) -> None:
        """See Observer. A line before and after a countdown; where no terminal is, a line now and then."""
        if self._progress.disable:
            if waiting.is_line:
                print(waiting.text, file=sys.stderr, flush=True)
            return
        if "Waiting" not in self._bars:
            text = "s without an answer"
            self._bars["Waiting"] = self._progress.add_task("Waiting", visible=False, failed=0, text=text)
        bar, is_over = self._bars["Waiting"], waiting.seconds_left is None
        if is_over or not self._progress.tasks[bar].visible:
            self._progress.console.print(waiting.text, highlight=False)
        total = int(waiting.seconds + (waiting.seconds_left or 0))
        self._progress.update(bar, completed=int(waiting.seconds), total=total, visible=not is_over)

    def _advance(self, bar: str, days: Iterable[date]) -> None:
        """Advances a bar by those days that it still waits for: the summaries of a month count no day twice."""
        done = self._waiting.get(bar, set()).intersection(days)
        if done:
            self._waiting[bar] -= done
            self._progress.advance(self._bars[bar], len(done))
