"""Network difficulty and block subsidy over time, and what a hash earned in each settlement period.

Source: the packaged table agrees with the headers shipped in bitcoinj and Electrum. adjustments.py joins the live tail.
"""

import csv
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import groupby, pairwise
from typing import NamedTuple

from recon_assets.domain.mining import bitcoin_per_hash
from recon_assets.domain.settlement import PERIOD, day_starts_at, periods_in
from recon_assets.errors import ReconError

RETARGET_BLOCKS = 2016
HALVING_BLOCKS = 210_000
HALVINGS = {840_000: datetime(2024, 4, 20, 0, 9, 27, tzinfo=UTC)}
"""When each halving block was found. An epoch with a halving that is not listed here is not covered."""

PACKAGED_OBSERVED_AT = datetime(2026, 8, 16, tzinfo=UTC)
"""When the packaged table was read: its last epoch is known up to this instant."""


@dataclass(frozen=True)
class Retarget:
    """A difficulty adjustment: `difficulty` applies from block `height`, which was found at `starts_at`.

    `change_ratio` is the difficulty divided by the one before it, rounded, where the source says so. It is not stored.
    """

    height: int
    starts_at: datetime
    time_exact: bool
    difficulty: float
    source: str
    observed_at: datetime
    change_ratio: float | None = field(default=None, compare=False)


class PeriodReward(NamedTuple):
    """The difficulty and the earnings of a hash in a settlement period: means over its half-hour, weighted by time."""

    settlement_date: date
    settlement_period: int
    difficulty: float
    bitcoin_per_hash: float


class RewardSpan(NamedTuple):
    """Settlement periods of a day, both ends included, that have the same reward."""

    settlement_date: date
    first: int
    last: int
    difficulty: float
    bitcoin_per_hash: float


class _Segment(NamedTuple):
    starts_at: datetime
    difficulty: float
    bitcoin_per_hash: float | None


def subsidy_btc(height: int) -> float:
    """Bitcoin created by the block at a height.

    >>> subsidy_btc(839_999), subsidy_btc(840_000)
    (6.25, 3.125)
    """
    return 50 / float(2 ** (height // HALVING_BLOCKS))


class DifficultyHistory:
    """Difficulty and subsidy from the first retarget to the moment at which the last epoch was last observed."""

    def __init__(self, retargets: Iterable[Retarget]) -> None:
        """Takes retargets in any order; ReconError when they are not a chain of 2016-block epochs without a gap."""
        ordered = sorted(retargets, key=lambda retarget: retarget.height)
        if not ordered:
            raise ReconError("no difficulty is known: materialize network_difficulty")
        for before, after in pairwise(ordered):
            if after.height - before.height != RETARGET_BLOCKS or after.starts_at <= before.starts_at:
                raise ReconError(f"the difficulty table has a gap or a disorder after block {before.height}")
        self.starts_at = ordered[0].starts_at
        self.known_until = ordered[-1].observed_at
        self._segments = list(_segments(ordered))
        self._starts = [segment.starts_at for segment in self._segments]

    def covers(self, day: date) -> bool:
        """Whether difficulty and subsidy are known throughout a settlement day."""
        first = day_starts_at(day)
        last = first + periods_in(day) * PERIOD
        if first < self.starts_at or last > self.known_until:
            return False
        return all(segment.bitcoin_per_hash is not None for segment in self._within(first, last))

    def reward(self, day: date, period: int) -> PeriodReward | None:
        """The time-weighted reward of one settlement period; None if it is not known."""
        start = day_starts_at(day) + (period - 1) * PERIOD
        end = start + PERIOD
        if start < self.starts_at or end > self.known_until:
            return None
        parts = self._within(start, end)
        difficulty = per_hash = 0.0
        for segment, until in zip(parts, [*(part.starts_at for part in parts[1:]), end], strict=True):
            if segment.bitcoin_per_hash is None:
                return None
            weight = (until - max(segment.starts_at, start)) / PERIOD
            difficulty += weight * segment.difficulty
            per_hash += weight * segment.bitcoin_per_hash
        return PeriodReward(day, period, difficulty, per_hash)

    def unknown(self, day: date) -> str:
        """What to say of a day whose bitcoin cannot be calculated."""
        return (
            f"the network difficulty of {day} is not known: the table covers {self.starts_at:%Y-%m-%d} to "
            f"{self.known_until:%Y-%m-%dT%H:%MZ}; materialize network_difficulty with MEMPOOL_API_URL reachable"
        )

    def rewards(self, days: Iterable[date]) -> Iterator[RewardSpan]:
        """The rewards of the days, as spans of periods with the same reward; periods of unknown reward are absent."""
        for day in days:
            first, count = day_starts_at(day), periods_in(day)
            parts = self._within(first, first + count * PERIOD) if self.covers(day) else []
            if len(parts) == 1 and parts[0].bitcoin_per_hash is not None:
                yield RewardSpan(day, 1, count, parts[0].difficulty, parts[0].bitcoin_per_hash)
                continue
            found = filter(None, (self.reward(day, period) for period in range(1, count + 1)))
            for (difficulty, earned), same in groupby(
                found, lambda reward: (reward.difficulty, reward.bitcoin_per_hash)
            ):
                periods = [reward.settlement_period for reward in same]
                yield RewardSpan(day, periods[0], periods[-1], difficulty, earned)

    def _within(self, start: datetime, end: datetime) -> list[_Segment]:
        """The segments that overlap [start, end), which must lie inside the table."""
        first = bisect_right(self._starts, start) - 1
        last = first
        while last + 1 < len(self._segments) and self._segments[last + 1].starts_at < end:
            last += 1
        return self._segments[first : last + 1]


def packaged_retargets() -> list[Retarget]:
    """The packaged table (2017-11-24 to 2026-08-08), observed at PACKAGED_OBSERVED_AT."""
    with (files("recon_assets.data") / "difficulty_retargets.csv").open(encoding="utf-8") as table:
        return [
            Retarget(
                height=int(row["height"]),
                starts_at=datetime.fromisoformat(row["starts_at"]),
                time_exact=row["time_exact"] == "true",
                difficulty=float(row["difficulty"]),
                source="packaged",
                observed_at=PACKAGED_OBSERVED_AT,
            )
            for row in csv.DictReader(table)
        ]


def with_packaged(stored: Iterable[Retarget]) -> list[Retarget]:
    """The packaged table joined to what a database stores, by height, lowest first.

    A stored retarget replaces the packaged one, but an exact packaged start time is not replaced by an approximate one.
    """
    known = {retarget.height: retarget for retarget in packaged_retargets()}
    for entry in stored:
        before = known.get(entry.height)
        if before is not None and before.time_exact and not entry.time_exact:
            entry = replace(entry, starts_at=before.starts_at, time_exact=True)
        known[entry.height] = entry
    return sorted(known.values(), key=lambda retarget: retarget.height)


def _segments(ordered: Sequence[Retarget]) -> Iterator[_Segment]:
    """Spans of constant difficulty and subsidy: the epochs, cut at halvings. An unknown subsidy gives None."""
    for retarget in ordered:
        subsidy = subsidy_btc(retarget.height)
        halving = -(-retarget.height // HALVING_BLOCKS) * HALVING_BLOCKS
        earned = bitcoin_per_hash(retarget.difficulty, subsidy)
        if not retarget.height < halving < retarget.height + RETARGET_BLOCKS:
            yield _Segment(retarget.starts_at, retarget.difficulty, earned)
        elif halving in HALVINGS:
            yield _Segment(retarget.starts_at, retarget.difficulty, earned)
            after = bitcoin_per_hash(retarget.difficulty, subsidy_btc(halving))
            yield _Segment(HALVINGS[halving], retarget.difficulty, after)
        else:
            yield _Segment(retarget.starts_at, retarget.difficulty, None)
