"""Three years of made-up history in an empty database: 504,741 curtailed triples, 1,514,223 calculations.

Belongs here: data of the user's size for measurements. It is made up: farms are real BM unit names, everything else
comes from arithmetic on the settlement period, the same on every machine.

    python benchmarks/history.py sqlite:///history.db
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, text

from recon_assets.bm_units import packaged_bm_units
from recon_assets.curtailment import CurtailmentRule
from recon_assets.database import open_engine, writing
from recon_assets.reconcile.layers import LAYERS
from recon_assets.reconcile.repair import repair
from recon_assets.reconcile.scope import Scope
from recon_assets.reference import store_bm_units, store_retargets
from recon_assets.schema import migrate
from recon_assets.settings import Settings
from recon_assets.settlement import Days, parse_day, periods_in

HISTORY = Days(parse_day("2022-01-01"), parse_day("2024-12-31"))
TRIPLES = 504_741
"""(settlement date, settlement period, farm) with curtailed energy that the user's notes count for 2022-2024."""

BIDS = text(
    """
    INSERT INTO wind_bids (settlement_date, settlement_period, sequence_number, bm_unit_id, acceptance_id,
                           bid_offer_pair_id, volume, original_price, final_price, so_flag, cadl_flag)
    SELECT p.settlement_date, p.settlement_period, f.n * 3 + a.n + 1, u.bm_unit_id, p.ordinal, -1,
           -0.5 - (p.ordinal * 31 + f.n * 17 + a.n * 7) % 1009 / 37.0,
           -40.0 - (p.ordinal + f.n) % 60, -40.0, true, false
    FROM history_periods p
    JOIN history_numbers f ON f.n < 9 OR (f.n = 9 AND p.ordinal <= :tenth)
    JOIN history_numbers a ON a.n < 1 + (p.ordinal * 5 + f.n * 3) % 3
    JOIN history_farms u ON u.n = (p.ordinal * 7 + f.n * 13) % :farms
    """
)
PROOFS = text(
    """
    INSERT INTO proof_of_fetch (settlement_date, settlement_period, fetched_at, stack_rows, wind_rows, wind_mwh,
                                wind_gbp, unlisted_rows, unlisted_mwh, fingerprint)
    SELECT settlement_date, settlement_period, '2025-01-01 00:00:00', count(*) + 20, count(*), sum(volume),
           sum(volume * original_price), 0, 0, 'made up'
    FROM wind_bids GROUP BY settlement_date, settlement_period
    """
)


def fill(engine: Engine, days: Days = HISTORY) -> None:
    """Bids and proofs of the days; TRIPLES in all when they are HISTORY."""
    migrate(engine)
    periods = [
        {"settlement_date": day, "settlement_period": period}
        for day in days
        for period in range(1, periods_in(day) + 1)
    ]
    for ordinal, period in enumerate(periods, 1):
        period["ordinal"] = ordinal
    tenth = TRIPLES - 9 * len(periods) if days == HISTORY else len(periods) * 3 // 5
    with writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), datetime.now(UTC))
        store_retargets(connection)
        farms = sorted(unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind)
        connection.execute(
            text("CREATE TEMPORARY TABLE history_periods (settlement_date DATE, settlement_period INT, ordinal INT)")
        )
        connection.execute(text("CREATE TEMPORARY TABLE history_numbers (n INT)"))
        connection.execute(text("CREATE TEMPORARY TABLE history_farms (n INT PRIMARY KEY, bm_unit_id TEXT)"))
        named = text("INSERT INTO history_periods VALUES (:settlement_date, :settlement_period, :ordinal)")
        connection.execute(named, [period | {"settlement_date": str(period["settlement_date"])} for period in periods])
        connection.execute(text("INSERT INTO history_numbers VALUES (:n)"), [{"n": n} for n in range(10)])
        connection.execute(
            text("INSERT INTO history_farms VALUES (:n, :name)"),
            [{"n": n, "name": name} for n, name in enumerate(farms)],
        )
        connection.execute(BIDS, {"tenth": tenth, "farms": len(farms)})
        connection.execute(PROOFS)


def converge(engine: Engine, days: Days = HISTORY) -> None:
    """Every layer of the days, a month at a time."""
    scope = Scope(days, CurtailmentRule.SO_FLAGGED)
    now = datetime.now(UTC)
    for month in days.by_month():
        repair(engine, [layer for layer in LAYERS if layer.grain.length == 10], scope.of(month), now)
    for layer in LAYERS:
        if layer.grain.length < 10:
            repair(engine, [layer], scope.of(layer.grain.whole(days)), now)


if __name__ == "__main__":
    started = time.perf_counter()
    target = open_engine(Settings.from_environment({"DATABASE_URL": sys.argv[1]}, Path.cwd()).database_url)
    days = Days(parse_day(sys.argv[2]), parse_day(sys.argv[3])) if len(sys.argv) > 2 else HISTORY
    fill(target, days)
    print(f"bids and proofs: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    converge(target, days)
    print(f"all layers: {time.perf_counter() - started:.1f} s")
