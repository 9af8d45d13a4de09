"""The work that makes a span of days right: what to read, what to converge, and how many requests it takes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime

from recon_assets.domain.settlement import contiguous, due_periods
from recon_assets.reconcile.layer import Layer
from recon_assets.reconcile.layers import MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.state import State


@dataclass(frozen=True)
class Plan:
    """The work: days in `chunks`, in order; those to read from Elexon; months and years whose summaries change.

    `out_of_reach` are days that are not ingested and that the source cannot have; `requests` counts the bid stacks.
    `from_archive` are those days to read that need no request.
    """

    chunks: list[list[date]]
    ingest: list[date]
    months: list[str]
    years: list[str]
    out_of_reach: list[date]
    requests: int
    from_archive: list[date] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.chunks or self.months or self.years)


def plan(
    state: State,
    can_have: Callable[[date], bool],
    now: datetime,
    *,
    limit: int | None = None,
    worst_first: bool = False,
    force: bool = False,
    is_archived: Callable[[date], bool] = lambda day: False,
) -> Plan:
    """The exact work for a state, given which days the source can have.

    Chunks are months, newest first; with `worst_first` they are single days, the one with most faults first. At most
    `limit` days are included. With `force`, days that were read before are read again.
    """
    to_read = list(state.days) if force else state.unready_days
    reachable = [day for day in to_read if can_have(day) and due_periods(day, now)]
    faulty = {*state.faulty_days, *reachable}
    newest = sorted(faulty, reverse=True)
    days = sorted(newest, key=lambda day: -state.of_day(day).faults) if worst_first else newest
    days = days[:limit]
    chunks = [[day] for day in days] if worst_first else _by_month(days)
    ingest = [day for day in reachable if day in days]
    from_archive = [day for day in ingest if not force and day in state.only_new_wind_days and is_archived(day)]
    return Plan(
        chunks=chunks,
        ingest=ingest,
        months=_summaries(state, MONTHLY_LAYERS, days),
        years=_summaries(state, YEARLY_LAYERS, days),
        out_of_reach=[day for day in state.unready_days if day not in reachable],
        requests=sum(len(due_periods(day, now)) for day in ingest if day not in from_archive),
        from_archive=from_archive,
    )


def _by_month(newest_first: list[date]) -> list[list[date]]:
    months: dict[str, list[date]] = {}
    for day in newest_first:
        months.setdefault(day.isoformat()[:7], []).append(day)
    return [sorted(days) for days in months.values()]


def _summaries(state: State, layers: tuple[Layer, ...], days: list[date]) -> list[str]:
    """The periods whose summaries are not right, and those that work on the days will change."""
    stale = {key.split()[0] for layer in layers for key in state.stale_summaries.get(layer.name, ())}
    return sorted(stale | {layers[0].grain.label(day) for day in days})


def format_days(days: list[date]) -> str:
    """Days as the fewest spans, for a message."""
    return ", ".join(str(span) for span in contiguous(days))
