"""How many rows at once: six months of a history that history.py made, converged at several batch sizes.

Belongs here: the measurement behind the defaults of database/limits.py. It deletes and restores calculations.

    python -m benchmarks.limits sqlite:///history.db
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, delete

from recon_assets.database.engine import open_engine
from recon_assets.database.limits import WorkLimits
from recon_assets.database.tables import historical_bitcoin_calculations
from recon_assets.database.transactions import writing
from recon_assets.database.work_log import WorkLog
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days, parse_day
from recon_assets.reconcile.layers import DAILY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.span_runner import SpanRunner
from recon_assets.settings import Settings

HALF_YEAR = Days(parse_day("2024-01-01"), parse_day("2024-06-30"))


def converge(engine: Engine, pace: WorkLimits, *, emptied: bool) -> None:
    """Converges the half year, from nothing where it is `emptied`, and prints how long that took."""
    if emptied:
        day = historical_bitcoin_calculations.c.settlement_date
        with writing(engine) as connection:
            connection.execute(
                delete(historical_bitcoin_calculations).where(day.between(HALF_YEAR.first, HALF_YEAR.last))
            )
    works = SpanRunner(
        engine,
        DAILY_LAYERS,
        lambda days: Scope(days, CurtailmentRule.SO_FLAGGED),
        lambda: datetime.now(UTC),
        WorkLog(engine, "benchmarks/pace.py"),
        pace,
    )
    started = time.perf_counter()
    pieces = sum(1 for _ in works.run([HALF_YEAR]))
    seconds = time.perf_counter() - started
    state = "all missing" if emptied else "nothing missing"
    print(f"{state}, {pace.batch_size:,} rows, concurrency {pace.concurrency}: {seconds:.1f} s in {pieces} pieces")


if __name__ == "__main__":
    target = open_engine(Settings.from_environment({"DATABASE_URL": sys.argv[1]}, Path.cwd()).database_url)
    for size in (5_000, 20_000, 50_000, 200_000):
        converge(target, WorkLimits(batch_size=size), emptied=True)
    converge(target, WorkLimits(), emptied=False)
    if target.dialect.name == "postgresql":
        converge(target, WorkLimits(concurrency=3), emptied=True)
