"""Joins mempool.space's difficulty adjustments to the difficulty that is known.

Source: `GET /v1/mining/difficulty-adjustments/all`, an array of `[unix_time, height, difficulty, change_ratio]`, newest
first, back to block 0. An epoch whose difficulty did not change has no row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from recon_assets.domain.difficulty import RETARGET_BLOCKS, DifficultyHistory, Retarget
from recon_assets.errors import ReconError

SOURCE, CARRIED = "mempool", "carried"
"""The source of a retarget that has a row, and of one that has none because its difficulty did not change."""

AHEAD = timedelta(hours=2)
"""Bitcoin accepts a block whose time is up to two hours ahead of the clocks of the network."""

RATIO_ROUNDING = 5.5e-7
"""How far a change ratio below 1 may be off: the service rounds it to 6 decimals, and its database keeps 6 significant
digits. So one from 1 on may be off by ten times as much."""


def parse_adjustments(body: Any, observed_at: datetime) -> list[Retarget]:
    """The retargets in an answer, in its order; a row that is repeated to the letter counts once.

    ReconError, with the row, when the body is not what mempool.space documents: no rows at all, numbers that are none
    (a number as text is none), a height that is no multiple of 2016, a difficulty that is not positive, a time in the
    future, two rows of a height that differ.
    """
    if not isinstance(body, list) or not body:
        raise _undocumented(f"{str(body)[:80]!r} is no list of rows")
    rows: dict[int, Retarget] = {}
    for row in body:
        entry = _retarget(row, observed_at)
        if rows.setdefault(entry.height, entry) != entry:
            raise _undocumented(f"two rows of block {entry.height} differ")
    return list(rows.values())


def with_tail(known: Sequence[Retarget], tail: Sequence[Retarget]) -> list[Retarget]:
    """The known retargets merged with a live tail, by height: new heights are added, approximate start times replaced.

    Heights before the first known one are ignored. Exact times and known difficulties stay, and nothing known is
    forgotten that the tail lacks. The newest epoch gets the tail's `observed_at`. A new height that the tail lacks is
    carried from the epoch before if the change ratio of its successor confirms that. ReconError when the tail
    contradicts a known difficulty by more than a millionth, or itself, or lacks a height that is not confirmed.
    """
    merged = {retarget.height: retarget for retarget in known}
    rows = sorted((entry for entry in tail if entry.height >= min(merged)), key=lambda entry: entry.height)
    newest = max([*merged, *(entry.height for entry in rows)])
    for entry in rows:
        before = merged.get(entry.height)
        merged.update({carried.height: carried for carried in _carried(merged, entry)})
        if before is None:
            merged[entry.height] = entry
        elif abs(entry.difficulty - before.difficulty) > 1e-6 * before.difficulty:
            raise ReconError(
                f"the difficulty of block {entry.height} is {before.difficulty}, but MEMPOOL_API_URL says "
                f"{entry.difficulty}: nothing was changed"
            )
        elif not before.time_exact or entry.height == newest:
            starts_at = before.starts_at if before.time_exact else entry.starts_at
            # A clock that was set back makes nothing unknown.
            observed_at = max(before.observed_at, entry.observed_at)
            merged[entry.height] = replace(
                entry, starts_at=starts_at, difficulty=before.difficulty, observed_at=observed_at
            )
    try:
        DifficultyHistory(merged.values())
    except ReconError as error:
        if not rows:
            raise
        reason = f"the answer of MEMPOOL_API_URL is cut off or damaged: {error}; nothing was changed"
        raise ReconError(reason) from error
    return sorted(merged.values(), key=lambda retarget: retarget.height)


def _retarget(row: Any, observed_at: datetime) -> Retarget:
    if not isinstance(row, list) or len(row) < 3 or not all(map(_is_number, row[:3])):
        raise _undocumented(f"a row is {row!r}")
    unix_time, height, difficulty = row[:3]
    if height < 0 or height % RETARGET_BLOCKS or difficulty <= 0:
        raise _undocumented(f"a row is {row!r}")
    try:
        starts_at = datetime.fromtimestamp(unix_time, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _undocumented(f"a row is {row!r}") from error
    if starts_at > observed_at + AHEAD:
        raise _undocumented(f"block {height} is in the future, at {starts_at:%Y-%m-%dT%H:%MZ}")
    ratio = float(row[3]) if len(row) > 3 and _is_number(row[3]) else None
    return Retarget(int(height), starts_at, True, float(difficulty), SOURCE, observed_at, ratio)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _carried(known: Mapping[int, Retarget], after: Retarget) -> Iterator[Retarget]:
    """The epochs that are missing right before `after`; none if its change ratio does not confirm them."""
    earlier = [height for height in known if height < after.height]
    if not earlier:
        return
    before = known[max(earlier)]
    missing = range(before.height + RETARGET_BLOCKS, after.height, RETARGET_BLOCKS)
    ratio = after.change_ratio
    if not missing or ratio is None:
        return
    rounding = RATIO_ROUNDING * (10 if ratio >= 1 else 1)
    if abs(after.difficulty / before.difficulty - ratio) > rounding:
        return
    length = (after.starts_at - before.starts_at) / (len(missing) + 1)
    for count, height in enumerate(missing, 1):
        starts_at = (before.starts_at + count * length).replace(microsecond=0)
        yield Retarget(height, starts_at, False, before.difficulty, CARRIED, after.observed_at)


def _undocumented(what: str) -> ReconError:
    return ReconError(f"the difficulty adjustments are not what mempool.space documents: {what}")
