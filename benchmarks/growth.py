"""How time grows with the history and with the miner models, and what months side by side bring.

    python -m benchmarks.history URL 2022-01-01 2022-12-31
    python -m benchmarks.growth URL

Takes a database with one year and makes it longer, to three years and to ten. Converging is that of all calculations
from nothing.
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
from benchmarks.figures import PROCESSES, Figure, Work, alone, engine_of, scope_of, seconds_of, show
from benchmarks.history import converge, fill
from recon_assets.database import writing
from recon_assets.mining import MODELS, MinerModel
from recon_assets.reconcile.census import reconciled_state
from recon_assets.reconcile.converge import converge as converge_layer
from recon_assets.reconcile.layers import CALCULATIONS
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.scope import writing as writing_with_rewards
from recon_assets.settlement import Days

PART = "Growth"
SIDE_BY_SIDE = "Months side by side"
FIRST_YEAR = 2022
YEARS = (1, 3, 10)
TEN_MODELS = MODELS | {f"M{n}": MinerModel(f"M{n}", 50 + n, 3000 + n) for n in range(10 - len(MODELS))}
WRITERS = (1, 2, 3, 6)
LINEAR = 1.2
"""Times what linear growth would be that still count as linear: two measurements of the same differ by as much here."""


def models(url: str) -> Iterator[Figure]:
    """One year with three and with ten miner models."""
    name, year = engine_of(url).dialect.name, years(1)
    for what, work in WORKS.items():
        taken: dict[int, float] = {}
        for count in (3, 10):
            taken[count], peak = alone(work, url, year, count)
            words, grows = f"{what} of a year, {count} miner models", (what, "miner models", count)
            yield Figure(PART, words, name, taken[count], peak_mb=peak, grows=grows)
        yield _against_linear(f"{what} of 10 miner models", name, taken[10], taken[3], 10 / 3)


def history(url: str, count: int, one_year: dict[str, float]) -> Iterator[Figure]:
    """The first so many years, which are all that there is; `one_year` keeps the seconds of one, by what was done."""
    name, days = engine_of(url).dialect.name, years(count)
    for what, work in WORKS.items():
        seconds, peak = alone(work, url, days, 3)
        yield Figure(PART, f"{what}, {count} years", name, seconds, peak_mb=peak, grows=(what, "years", count))
        if count == 1:
            one_year[what] = seconds
        else:
            yield _against_linear(f"{what} of {count} years", name, seconds, one_year[what], len(days) / len(years(1)))


def side_by_side(url: str) -> Iterator[Figure]:
    """A year of months by 1, 2, 3 and 6 processes."""
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
    """The first so many years of the history."""
    return Days(date(FIRST_YEAR, 1, 1), date(FIRST_YEAR + count - 1, 12, 31))


def extend(url: str, before: int, count: int) -> None:
    """Makes a history of `before` years one of `count`."""
    new = Days(years(before).last + timedelta(days=1), years(count).last)
    fill(engine_of(url), new)
    converge(engine_of(url), new)


def converge_all(url: str, days: Days, count: int) -> float:
    """All calculations of the days, from nothing, a month at a time."""
    _empty(url)
    engine, scope = engine_of(url), _scope(days, count)

    def month(of_month: Days) -> None:
        with writing_with_rewards(engine, of_month) as connection:
            converge_layer(connection, CALCULATIONS, scope.of(of_month))

    return seconds_of(lambda: list(map(month, days.by_month())))


def converge_month(url: str, days: Days) -> None:
    """The calculations of a month."""
    with writing_with_rewards(engine_of(url), days) as connection:
        converge_layer(connection, CALCULATIONS, scope_of(days))


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
    first: dict[str, float] = {}
    show(history(sys.argv[1], 1, first))
    show(models(sys.argv[1]))
    show(side_by_side(sys.argv[1]))
    for earlier, later in pairwise(YEARS):
        extend(sys.argv[1], earlier, later)
        show(history(sys.argv[1], later, first))
