"""Incidents: what is broken, told once when it begins and once when it is over.

Belongs here: which problems are one incident, and the words. Does not: finding problems (orchestration/problems.py) and
sending messages (alerts.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from recon_assets.domain.settlement import Days


@dataclass(frozen=True)
class Problem:
    """What is broken now: which asset, for which days (None: not about days), how, why, and what mends it.

    One that is not `is_news`, because somebody is at work on it, begins no incident, but keeps one open.
    """

    asset: str
    kind: str
    days: Days | None
    reason: str
    mend: str
    is_news: bool = True


@dataclass(frozen=True)
class Incident:
    """A problem that somebody was told of."""

    problem: Problem
    since: datetime

    def dump(self) -> dict[str, Any]:
        """What a cursor keeps."""
        days = self.problem.days
        span = None if days is None else [days.first.isoformat(), days.last.isoformat()]
        kept = asdict(self.problem) | {"days": span, "since": self.since.isoformat(timespec="seconds")}
        del kept["is_news"]
        return kept

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> "Incident":
        """What `dump` wrote."""
        span = kept["days"]
        days = None if span is None else Days(date.fromisoformat(span[0]), date.fromisoformat(span[1]))
        problem = Problem(kept["asset"], kept["kind"], days, kept["reason"], kept["mend"])
        return cls(problem, datetime.fromisoformat(kept["since"]))


@dataclass(frozen=True)
class Message:
    """What people are told."""

    title: str
    body: str


def compare(
    known: Sequence[Incident], problems: Iterable[Problem], now: datetime
) -> tuple[list[Incident], list[Incident], list[Incident]]:
    """The incidents that go on (with their problem as it is now), that begin, and that are over.

    A problem goes on as long as one of the same asset and kind touches its days: one that shrinks day by day is told of
    once.
    """
    united = unite(problems)
    on = [
        Incident(replace(problem, reason=was.problem.reason), was.since)
        for problem in united
        for was in known
        if _is_same(was.problem, problem)
    ]
    begun = [
        Incident(new, now) for new in united if new.is_news and not any(_is_same(was.problem, new) for was in known)
    ]
    over = [was for was in known if not any(_is_same(was.problem, problem) for problem in united)]
    return _first_of_each(on), begun, over


def unite(problems: Iterable[Problem]) -> list[Problem]:
    """Problems of one asset and kind whose days touch, as one."""
    united: list[Problem] = []
    for problem in sorted(problems, key=lambda each: (each.asset, each.kind, each.days.first if each.days else EVER)):
        last = united[-1] if united else None
        if last is not None and _is_same(last, problem):
            is_news = last.is_news or problem.is_news
            united[-1] = replace(last, days=_both(last.days, problem.days), is_news=is_news)
        else:
            united.append(problem)
    return united


def opening(incident: Incident) -> Message:
    """What is told when an incident begins."""
    problem = incident.problem
    return Message(
        f"recon: {_subject(problem)}: {problem.kind}",
        f"{problem.reason}\n\nTo mend it: {problem.mend}",
    )


def closing(incident: Incident, now: datetime) -> Message:
    """What is told when it is over."""
    lasted = timedelta(seconds=round((now - incident.since).total_seconds()))
    return Message(f"recon: over: {_subject(incident.problem)}: {incident.problem.kind}", f"It lasted {lasted}.")


EVER = date.min


def _subject(problem: Problem) -> str:
    return problem.asset if problem.days is None else f"{problem.asset} {problem.days}"


def _is_same(one: Problem, other: Problem) -> bool:
    if (one.asset, one.kind) != (other.asset, other.kind):
        return False
    if one.days is None or other.days is None:
        return one.days is other.days
    beside = timedelta(days=1)
    return one.days.first - beside <= other.days.last and other.days.first - beside <= one.days.last


def _both(one: Days | None, other: Days | None) -> Days | None:
    return None if one is None or other is None else Days(min(one.first, other.first), max(one.last, other.last))


def _first_of_each(incidents: Iterable[Incident]) -> list[Incident]:
    """One incident for each problem, the oldest: two may have grown together."""
    oldest: dict[Problem, Incident] = {}
    for incident in sorted(incidents, key=lambda each: each.since):
        key = replace(incident.problem, reason="")
        oldest.setdefault(key, incident)
    return list(oldest.values())
