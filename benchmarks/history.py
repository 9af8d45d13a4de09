"""Makes three years of history of the user's size in an empty database: 504,741 spots, 1,514,223 calculations.

A spot is a farm in one settlement period. Farms are real BM unit names; everything else is made up by arithmetic on the
settlement period, the same on every machine. Days that are added later are the same as if all had been made at once.
From 2026 the difficulty is made up too.

    python -m benchmarks.history URL [FIRST LAST]
"""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, text

from benchmarks.figures import engine_of, scope_of, seconds_of
from recon_assets.database.schema import migrate
from recon_assets.database.transactions import writing
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.difficulty import RETARGET_BLOCKS, Retarget, packaged_retargets
from recon_assets.domain.settlement import Days, day_starts_at, parse_day, periods_in
from recon_assets.ingest.reference import store_bm_units, store_retargets
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS, MONTHLY_LAYERS, YEARLY_LAYERS

HISTORY = Days(parse_day("2022-01-01"), parse_day("2024-12-31"))
FARMS = 10
"""The most farms that are curtailed in a settlement period."""
TENTH = 31_269
"""A tenth farm is curtailed only in so many settlement periods from the start. With it the three years have 504,741
(settlement date, settlement period, farm) with curtailed energy, as the user's notes count."""
EPOCH = timedelta(days=48)
"""The length of an epoch of made-up difficulty. Real ones last 14 days, but only 41 are left until a halving without a
date."""

BIDS = text(
    """
    INSERT INTO wind_bids (settlement_date, settlement_period, sequence_number, bm_unit_id, acceptance_id,
                           bid_offer_pair_id, volume, original_price, final_price, so_flag, cadl_flag)
    SELECT p.settlement_date, p.settlement_period, f.n * 3 + a.n + 1, u.bm_unit_id, p.ordinal, -1,
           -0.5 - (p.ordinal * 31 + f.n * 17 + a.n * 7) % 1009 / 37.0,
           -40.0 - (p.ordinal + f.n) % 60, -40.0, true, false
    FROM history_periods p
    JOIN history_numbers f ON f.n < :farms AND (f.n < 9 OR p.ordinal <= :tenth)
    JOIN history_numbers a ON a.n < 1 + (p.ordinal * 5 + f.n * 3) % 3
    JOIN history_farms u ON u.n = (p.ordinal * 7 + f.n * 13) % :units
    """
)
PROOFS = text(
    """
    INSERT INTO proof_of_fetch (settlement_date, settlement_period, fetched_at, stack_rows, wind_rows, wind_mwh,
                                wind_gbp, unlisted_rows, unlisted_mwh, fingerprint)
    SELECT settlement_date, settlement_period, '2025-01-01 00:00:00', count(*) + 20, count(*), sum(volume),
           sum(volume * original_price), 0, 0, 'made up'
    FROM wind_bids WHERE settlement_date NOT IN (SELECT settlement_date FROM proof_of_fetch)
    GROUP BY settlement_date, settlement_period
    """
)


def fill(engine: Engine, days: Days = HISTORY, farms: int = FARMS) -> None:
    """Inserts bids and proofs of consecutive days, from the first of HISTORY or after the stored days."""
    migrate(engine)
    before = sum(periods_in(day) for day in Days(HISTORY.first, days.first)) - periods_in(days.first)
    periods = [
        {"settlement_date": day, "settlement_period": period}
        for day in days
        for period in range(1, periods_in(day) + 1)
    ]
    for ordinal, period in enumerate(periods, before + 1):
        period["ordinal"] = ordinal
    with writing(engine) as connection:
        store_bm_units(connection, packaged_bm_units(), datetime.now(UTC))
        store_retargets(connection, list(_made_up_difficulty(days.last)))
        units = sorted(unit.bm_unit_id for unit in packaged_bm_units() if unit.is_wind)
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
            [{"n": n, "name": name} for n, name in enumerate(units)],
        )
        connection.execute(BIDS, {"tenth": TENTH, "farms": farms, "units": len(units)})
        connection.execute(PROOFS)
        for table in ("history_periods", "history_numbers", "history_farms"):
            connection.execute(text(f"DROP TABLE {table}"))


def _made_up_difficulty(last: date) -> Iterator[Retarget]:
    """Epochs after the known ones, until one covers the last day."""
    newest = max(packaged_retargets(), key=lambda retarget: retarget.height)
    until = day_starts_at(last + timedelta(days=1))
    while newest.observed_at < until:
        starts_at = newest.starts_at + EPOCH
        newest = Retarget(
            newest.height + RETARGET_BLOCKS, starts_at, True, newest.difficulty * 1.01, "made up", starts_at + EPOCH
        )
        yield newest


def converge(engine: Engine, days: Days = HISTORY) -> None:
    """Converges every layer of the days, a month at a time."""
    scope = scope_of(days)
    now = datetime.now(UTC)
    for month in days.by_month():
        converge_span(engine, DAILY_LAYERS, scope.of(month), now, with_contents=False)
    for layer in (*MONTHLY_LAYERS, *YEARLY_LAYERS):
        converge_span(engine, [layer], scope.of(layer.grain.whole(days)), now, with_contents=False)


if __name__ == "__main__":
    target = engine_of(sys.argv[1])
    made = Days(parse_day(sys.argv[2]), parse_day(sys.argv[3])) if len(sys.argv) > 2 else HISTORY
    print(f"bids and proofs: {seconds_of(lambda: fill(target, made)):.1f} s")
    print(f"all layers: {seconds_of(lambda: converge(target, made)):.1f} s")
