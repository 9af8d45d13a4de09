"""Incidents: people get one message when something breaks, and one when it is over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from recon_assets.domain.settlement import Days


@dataclass(frozen=True)
class AlertCondition:
    """What is broken now: which asset, on which days (None: not about days), how, why, and the command that fixes it.

    If `is_news` is False, something already works on it: the condition never opens an incident, but keeps an open one
    from closing.
    """

    asset: str
    kind: str
    days: Days | None
    reason: str
    mend: str
    is_news: bool = True


@dataclass(frozen=True)
class Incident:
    """A condition that people were told of, and since when it lasts."""

    condition: AlertCondition
    since: datetime

    def dump(self) -> dict[str, Any]:
        """The incident as JSON, for a sensor's cursor."""
        days = self.condition.days
        span = None if days is None else [days.first.isoformat(), days.last.isoformat()]
        kept = asdict(self.condition) | {"days": span, "since": self.since.isoformat(timespec="seconds")}
        del kept["is_news"]
        return kept

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> "Incident":
        """The incident that `dump` wrote."""
        span = kept["days"]
        days = None if span is None else Days(date.fromisoformat(span[0]), date.fromisoformat(span[1]))
        condition = AlertCondition(kept["asset"], kept["kind"], days, kept["reason"], kept["mend"])
        return cls(condition, datetime.fromisoformat(kept["since"]))


@dataclass(frozen=True)
class Message:
    """A message to people."""

    title: str
    body: str


def compare(
    known: Sequence[Incident], conditions: Iterable[AlertCondition], now: datetime
) -> tuple[list[Incident], list[Incident], list[Incident]]:
    """The incidents that go on (with their condition as it is now), those that begin, and those that are over.

    An incident goes on as long as a condition of the same asset and kind touches its days. People are told only once
    of a condition that shrinks day by day.
    """
    united = unite(conditions)
    on = [
        Incident(replace(condition, reason=was.condition.reason), was.since)
        for condition in united
        for was in known
        if _is_same(was.condition, condition)
    ]
    begun = [
        Incident(new, now) for new in united if new.is_news and not any(_is_same(was.condition, new) for was in known)
    ]
    over = [was for was in known if not any(_is_same(was.condition, condition) for condition in united)]
    return _first_of_each(on), begun, over


def unite(conditions: Iterable[AlertCondition]) -> list[AlertCondition]:
    """Merges conditions of one asset and kind whose days touch."""
    united: list[AlertCondition] = []
    for condition in sorted(
        conditions, key=lambda each: (each.asset, each.kind, each.days.first if each.days else EVER)
    ):
        last = united[-1] if united else None
        if last is not None and _is_same(last, condition):
            is_news = last.is_news or condition.is_news
            united[-1] = replace(last, days=_both(last.days, condition.days), is_news=is_news)
        else:
            united.append(condition)
    return united


def opening(incident: Incident) -> Message:
    """The message when an incident begins."""
    condition = incident.condition
    return Message(
        f"recon: {_subject(condition)}: {condition.kind}",
        f"{condition.reason}\n\nTo mend it: {condition.mend}",
    )


def closing(incident: Incident, now: datetime) -> Message:
    """The message when an incident is over."""
    lasted = timedelta(seconds=round((now - incident.since).total_seconds()))
    return Message(f"recon: over: {_subject(incident.condition)}: {incident.condition.kind}", f"It lasted {lasted}.")


EVER = date.min


def _subject(condition: AlertCondition) -> str:
    return condition.asset if condition.days is None else f"{condition.asset} {condition.days}"


def _is_same(one: AlertCondition, other: AlertCondition) -> bool:
    if (one.asset, one.kind) != (other.asset, other.kind):
        return False
    if one.days is None or other.days is None:
        return one.days is other.days
    beside = timedelta(days=1)
    return one.days.first - beside <= other.days.last and other.days.first - beside <= one.days.last


def _both(one: Days | None, other: Days | None) -> Days | None:
    return None if one is None or other is None else Days(min(one.first, other.first), max(one.last, other.last))


def _first_of_each(incidents: Iterable[Incident]) -> list[Incident]:
    """The oldest incident of each condition: two incidents may have grown into one condition."""
    oldest: dict[AlertCondition, Incident] = {}
    for incident in sorted(incidents, key=lambda each: each.since):
        key = replace(incident.condition, reason="")
        oldest.setdefault(key, incident)
    return list(oldest.values())
