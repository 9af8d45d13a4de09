"""What all benchmarks share: a figure, and how to measure seconds and the peak memory of a process."""

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine

import __main__
from recon_assets.database.engine import open_engine
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.scope import Scope
from recon_assets.settings import Settings

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    sorted({"benchmarks.core", "benchmarks.growth", "benchmarks.state"} - {getattr(__main__.__spec__, "name", "")})
)
"""A measured process is new, forked from a process that has imported everything and done nothing else."""

TURNS = 3
"""How often each of the compared ways is measured; the median counts."""

Work = Callable[..., float]
"""Runs in its own process and returns the seconds of the part that counts."""


class Grows(NamedTuple):
    """The line of which a figure is a point: what was done, what it grows with, and how much of that there was."""

    work: str
    by: str
    size: int


@dataclass(frozen=True)
class Figure:
    """A measured value, by default the median of the single measurements `raw`; it should be `at_most` at most."""

    part: str
    what: str
    engine: str
    value: float
    unit: str = "s"
    raw: Sequence[float] = ()
    at_most: float | None = None
    peak_mb: float | None = None
    grows: Grows | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether the value is within its limit; None if it has no limit."""
        return None if self.at_most is None else self.value <= self.at_most

    def __str__(self) -> str:
        words = [self.part, self.engine, self.what, f"{self.value:,.2f} {self.unit}"]
        if self.at_most is not None:
            words[-1] += f" (at most {self.at_most:g}: {'reached' if self.is_reached else 'NOT REACHED'})"
        if len(self.raw) > 1:
            words.append(" ".join(f"{value:.2f}" for value in self.raw))
        if self.peak_mb is not None:
            words.append(f"{self.peak_mb:,.0f} MB")
        return " | ".join(words)


@dataclass(frozen=True)
class Taken:
    """The seconds of each turn, and the peak memory of their processes."""

    raw: Sequence[float]
    peak_mb: float

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.raw)

    def figure(self, part: str, what: str, engine: str, at_most: float | None = None) -> Figure:
        """The seconds as a figure."""
        return Figure(part, what, engine, self.seconds, "s", self.raw, at_most, self.peak_mb)

    def ratio(self, part: str, what: str, engine: str, other: "Taken", at_most: float | None = None) -> Figure:
        """The ratio of the seconds to those of another way, and the ratio of each turn."""
        turns = [mine / theirs for mine, theirs in zip(self.raw, other.raw, strict=True)]
        return Figure(part, what, engine, self.seconds / other.seconds, "x", turns, at_most)


def alone(work: Work, *arguments: Any) -> tuple[float, float]:
    """The seconds that a work returns, and the peak memory (MB) of the new process that did it."""
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        return pool.submit(_with_peak, work, arguments).result()


Way = tuple[Sequence[Any], Work] | tuple[Sequence[Any], Work, Callable[[], object]]
"""The arguments of a work, the work, and what is done before it without being measured."""


def in_turn(ways: Mapping[str, Way], turns: int = TURNS) -> dict[str, Taken]:
    """Measures each way several times, in turn."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, (arguments, work, *before) in ways.items():
            for prepare in before:
                prepare()
            taken[name].append(alone(work, *arguments))
    return {name: Taken([s for s, _ in turn], max(mb for _, mb in turn)) for name, turn in taken.items()}


def _with_peak(work: Work, arguments: Sequence[Any]) -> tuple[float, float]:
    return work(*arguments), peak_mb()


def peak_mb(process: int | None = None) -> float:
    """The peak resident memory (MB) of a process (default: this one), including pages of a mapped SQLite file.

    It is read from Linux' /proc, because `getrusage` of a child includes the memory of the process that it was forked
    from.
    """
    status = Path(f"/proc/{process or 'self'}/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) * 1024 / 1e6


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def engine_of(url: str) -> Engine:
    """The engine of a database, opened as the product does."""
    return open_engine(Settings.from_environment({"DATABASE_URL": url}, Path.cwd()).database_url)


def scope_of(days: Days) -> Scope:
    """A scope of days under the default rule."""
    return Scope(days, CurtailmentRule.SO_FLAGGED)


def show(figures: Iterable[Figure]) -> list[Figure]:
    """Prints each figure as soon as it is measured, and returns all of them."""
    shown = []
    for figure in figures:
        print(figure, flush=True)
        shown.append(figure)
    return shown
