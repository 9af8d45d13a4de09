"""Measures how time grows with the history and with the miner models, and what months in parallel save.

    python -m benchmarks.growth URL

It fills an empty database with a history of one, three and ten years, with half as many farms as in the other
benchmarks. Converging starts without any calculation.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from sqlalchemy import text

from benchmarks.core import EMPTY
from benchmarks.figures import (
    PROCESSES,
    TURNS,
    Figure,
    Grows,
    Work,
    alone,
    engine_of,
    in_turn,
    scope_of,
    seconds_of,
    show,
)
from benchmarks.history import FARMS, converge, fill
from recon_assets.database.transactions import writing
from recon_assets.domain.mining import MODELS, MinerModel
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import converge as converge_layer
from recon_assets.reconcile.layers import CALCULATIONS
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.scope import writing as writing_with_rewards

PART = "Growth"
SIDE_BY_SIDE = "Months side by side"
FIRST_YEAR = 2022
YEARS = (1, 3, 10)
TEN_MODELS = MODELS | {f"M{n}": MinerModel(f"M{n}", 50 + n, 3000 + n) for n in range(10 - len(MODELS))}
WRITERS = (1, 2, 3, 6)
LINEAR = 1.2
"""Growth up to this many times the linear one counts as linear: two measurements of the same differ by as much."""


def measure(url: str) -> Iterator[Figure]:
    """The figures of one engine."""
    name, one_year = engine_of(url).dialect.name, dict[str, float]()
    for earlier, count in pairwise((0, *YEARS)):
        _extend(url, earlier, count)
        for what, work in WORKS.items():
            taken = in_turn({what: ((url, years(count), 3), work)}, TURNS if count == min(YEARS) else 1)[what]
            figure = taken.figure(PART, f"{what}, {count} year{'s' if count > 1 else ''}", name)
            yield replace(figure, grows=Grows(what, "years", count))
            if count == 1:
                one_year[what] = taken.seconds
                continue
            factor = len(years(count)) / len(years(1))
            yield _against_linear(f"{what} of {count} years", name, taken.seconds, one_year[what], factor)
        if count == 1:
            yield from models(url)
            yield from side_by_side(url)


def models(url: str) -> Iterator[Figure]:
    """One year with three and with ten miner models."""
    name, year = engine_of(url).dialect.name, years(1)
    three: dict[str, float] = {}
    for count in (3, 10):
        for what, work in WORKS.items():
            seconds, peak = alone(work, url, year, count)
            words, grows = f"{what} of a year, {count} miner models", Grows(what, "miner models", count)
            yield Figure(PART, words, name, seconds, peak_mb=peak, grows=grows)
            if count == 3:
                three[what] = seconds
            else:
                yield _against_linear(f"{what} of {count} miner models", name, seconds, three[what], count / 3)


def side_by_side(url: str) -> Iterator[Figure]:
    """The months of a year, converged by 1, 2, 3 and 6 processes."""
    engine = engine_of(url)
    for writers in WRITERS:
        _empty(url)
        with ProcessPoolExecutor(writers, PROCESSES) as pool:
            list(pool.map(time.sleep, [0.2] * writers))  # until all of them have started
            months = years(1).by_month()
            began = time.perf_counter()
            list(pool.map(converge_month, [url] * len(months), months))
            seconds = time.perf_counter() - began
        yield Figure(SIDE_BY_SIDE, f"{writers} at once, a year of calculations", engine.dialect.name, seconds)


def years(count: int) -> Days:
    """The first `count` years of the history."""
    return Days(date(FIRST_YEAR, 1, 1), date(FIRST_YEAR + count - 1, 12, 31))


def _extend(url: str, before: int, count: int) -> None:
    """Extends a history of `before` years to `count` years."""
    new = Days(years(before).last + timedelta(days=1), years(count).last) if before else years(count)
    fill(engine_of(url), new, FARMS // 2)
    converge(engine_of(url), new)


def converge_all(url: str, days: Days, count: int) -> float:
    """Deletes and converges all calculations of the days, a month at a time."""
    _empty(url)
    engine, scope = engine_of(url), _scope(days, count)

    def month(of_month: Days) -> None:
        with writing_with_rewards(engine, scope.of(of_month)) as (connection, rewarded):
            converge_layer(connection, CALCULATIONS, rewarded)

    return seconds_of(lambda: list(map(month, days.by_month())))


def converge_month(url: str, days: Days) -> None:
    """Converges the calculations of a month."""
    with writing_with_rewards(engine_of(url), scope_of(days)) as (connection, scope):
        converge_layer(connection, CALCULATIONS, scope)


def state(url: str, days: Days, count: int) -> float:
    """The reconciled state of the days."""
    engine, scope = engine_of(url), _scope(days, count)
    return seconds_of(lambda: reconciled_state(engine, scope, datetime.now(UTC)))


WORKS: Mapping[str, Work] = {"converging": converge_all, "the state": state}


def _scope(days: Days, count: int) -> Scope:
    return replace(scope_of(days), models=dict(list(TEN_MODELS.items())[:count]))


def _against_linear(what: str, engine: str, seconds: float, base: float, factor: float) -> Figure:
    return Figure(PART, f"{what} against linear growth", engine, seconds / (base * factor), "x", at_most=LINEAR)


def _empty(url: str) -> None:
    engine = engine_of(url)
    with writing(engine) as connection:
        connection.execute(text(EMPTY[engine.dialect.name]))


if __name__ == "__main__":
    show(measure(sys.argv[1]))
