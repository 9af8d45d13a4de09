"""The work that makes a span of days right: what to read, what to converge, and how many requests it takes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from recon_assets.domain.settlement import contiguous, due_periods
from recon_assets.reconcile.layer import Layer
from recon_assets.reconcile.layers import MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.settlement_days import DayState
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Plan:
    """The work: days in `chunks`, in order; those to read from Elexon; months and years whose summaries change.

    `by_volumes` are days to read that may turn out to be empty: each is first asked for by its acceptance volumes.
    `from_archive` are days to read that need no request. `out_of_reach` are days to read that the source cannot have.
    `requests` counts bid stacks and lists of volumes; a day in `by_volumes` counts as one request, and takes a stack
    for each settlement period if it is not empty.
    """

    chunks: list[list[date]]
    ingest: list[date]
    months: list[str]
    years: list[str]
    out_of_reach: list[date]
    requests: int
    by_volumes: list[date] = field(default_factory=list)
    from_archive: list[date] = field(default_factory=list)

    @property
    def without_source(self) -> list[list[date]]:
        """The parts of the chunks that need no request."""
        asked = set(self.ingest).difference(self.from_archive)
        return [part for chunk in self.chunks if (part := [day for day in chunk if day not in asked])]

    @property
    def from_source(self) -> list[list[date]]:
        """The parts of the chunks whose days are to be read with requests."""
        asked = set(self.ingest).difference(self.from_archive)
        return [part for chunk in self.chunks if (part := [day for day in chunk if day in asked])]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.chunks or self.months or self.years)


@dataclass(frozen=True)
class Order:
    """Which days come first: at most `limit` days.

    Chunks are months, the newest first; with `worst_first` they are single days, the one with most faults first.
    `suspicion` has MWh that seem to be missing of adopted days; those with more come before the others.
    """

    limit: int | None = None
    worst_first: bool = False
    suspicion: Mapping[date, float] = field(default_factory=dict)


def plan(
    state: State,
    can_have: Callable[[date], bool],
    now: datetime,
    order: Order | None = None,
    *,
    force: bool = False,
    prove: bool = False,
    is_archived: Callable[[date], bool] = lambda day: False,
) -> Plan:
    """The exact work for a state, given which days the source can have.

    With `force`, days that were read before are read again; with `prove`, adopted days are read, too. Days with
    evidence of lost records always come first.
    """
    wanted = set(state.days if force else state.days_to_read) | set(state.unproven_days if prove else ())
    reachable = {day for day in wanted if can_have(day) and due_periods(day, now)}
    order = order or Order()
    suspicion = order.suspicion
    suspicious = sorted(state.suspicious_days, key=lambda day: (day in state.lost, day), reverse=True)
    first = [day for day in suspicious if day in reachable]
    later = sorted(({*state.faulty_days, *reachable}).difference(first), reverse=True)
    if order.worst_first:
        later.sort(key=lambda day: -state.of_day(day).faults)
    # Days that one request may prove come before those that need many.
    empty = set(state.days_in(DayState.ADOPTED_EMPTY)).difference(state.lost)
    quick = [day for day in later if day in empty] if prove else []
    suspected = sorted((day for day in later if suspicion.get(day)), key=lambda day: -suspicion[day])
    others = [day for day in later if day not in {*quick, *suspected}]
    days = [*first, *quick, *suspected, *others][: order.limit]
    groups = ([day for day in group if day in set(days)] for group in (first, quick, suspected, others))
    chunks = [
        chunk for group in groups for chunk in ([[day] for day in group] if order.worst_first else _by_month(group))
    ]
    ingest = sorted(reachable.intersection(days))
    by_volumes = [] if force else [day for day in ingest if day in empty]
    from_archive = [day for day in ingest if not force and day in state.only_new_wind_days and is_archived(day)]
    stacks = sum(len(due_periods(day, now)) for day in ingest if day not in {*by_volumes, *from_archive})
    surveyed = sum(1 for day in ingest if prove and state.days[day] is DayState.ADOPTED)
    return Plan(
        chunks=chunks,
        ingest=ingest,
        months=_summaries(state, MONTHLY_LAYERS, days, ingest),
        years=_summaries(state, YEARLY_LAYERS, days, ingest),
        out_of_reach=sorted(wanted.intersection(state.days_to_read if not prove else wanted).difference(reachable)),
        requests=stacks + len(by_volumes) + surveyed,
        by_volumes=by_volumes,
        from_archive=from_archive,
    )


def _by_month(newest_first: list[date]) -> list[list[date]]:
    months: dict[str, list[date]] = {}
    for day in newest_first:
        months.setdefault(day.isoformat()[:7], []).append(day)
    return [sorted(days) for days in months.values()]


def _summaries(state: State, layers: tuple[Layer, ...], days: list[date], ingest: list[date]) -> list[str]:
    """The periods whose summaries are not right, and those that work on the days will change.

    A total that is evidence of lost records only changes when its days have been read.
    """
    stale = {key.split()[0] for layer in layers for key in state.stale_summaries.get(layer.name, ())}
    changing, read = ({layers[0].grain.label(day) for day in group} for group in (days, ingest))
    return sorted(read | (stale | changing).difference(state.kept_periods))


def format_days(days: Iterable[date]) -> str:
    """Days as the fewest spans, for a message."""
    return ", ".join(str(span) for span in contiguous(days))
