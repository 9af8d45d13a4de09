"""Measures several batch sizes: converges six months of a history that history.py made.

The defaults of database/limits.py are from here. It deletes calculations and restores them.

    python -m benchmarks.pace sqlite:///history.db
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


def converge(engine: Engine, limits: WorkLimits, *, emptied: bool) -> None:
    """Converges the half year, without calculations if `emptied`, and prints how long that took."""
    if emptied:
        day = historical_bitcoin_calculations.c.settlement_date
        with writing(engine) as connection:
            connection.execute(
                delete(historical_bitcoin_calculations).where(day.between(HALF_YEAR.first, HALF_YEAR.last))
            )
    runner = SpanRunner(
        engine,
        DAILY_LAYERS,
        lambda days: Scope(days, CurtailmentRule.SO_FLAGGED),
        lambda: datetime.now(UTC),
        WorkLog(engine, "benchmarks/pace.py"),
        limits,
    )
    started = time.perf_counter()
    pieces = sum(1 for _ in runner.run([HALF_YEAR]))
    seconds = time.perf_counter() - started
    state = "all missing" if emptied else "nothing missing"
    print(f"{state}, {limits.batch_size:,} rows, concurrency {limits.concurrency}: {seconds:.1f} s in {pieces} pieces")


if __name__ == "__main__":
    target = open_engine(Settings.from_environment({"DATABASE_URL": sys.argv[1]}, Path.cwd()).database_url)
    for size in (5_000, 20_000, 50_000, 200_000):
        converge(target, WorkLimits(batch_size=size), emptied=True)
    converge(target, WorkLimits(), emptied=False)
    if target.dialect.name == "postgresql":
        converge(target, WorkLimits(concurrency=3), emptied=True)
