"""How long a backfill of a year of calculations takes, launched as the button of the Dagster UI does.

    python benchmarks/history.py URL
    python -m benchmarks.backfill URL [YEAR] [--kill-daemon]

Deletes the year's calculations, starts webserver, daemon and code servers in a folder of their own, launches the
backfill over GraphQL, and waits until every row is right. With `--kill-daemon` the daemon is killed while runs execute
and started again after 10 s.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import delete, func, select

from recon_assets import database
from recon_assets.mining import MODELS
from recon_assets.orchestration.catalogue import calculations_key
from recon_assets.orchestration.in_flight import RANGE_TAGS
from recon_assets.settings import Settings
from recon_assets.settlement import Days
from recon_assets.tables import historical_bitcoin_calculations
from recon_assets_tests.command import Command
from recon_assets_tests.serving import serve, wait_until

DOWN_SECONDS = 10
PATIENCE_SECONDS = 1200


def main(url: str, year: str = "2023", *options: str) -> None:
    """Prints what it took."""
    days = Days.of_year(year)
    engine = database.open_engine(Settings.from_environment({"DATABASE_URL": url}, Path.cwd()).database_url)
    table = historical_bitcoin_calculations
    of_year = table.c.settlement_date.between(days.first, days.last)
    with database.reading(engine) as connection:
        expected = connection.execute(select(func.count()).where(of_year)).scalar_one()
    with database.writing(engine) as connection:
        connection.execute(delete(table).where(of_year))
    with tempfile.TemporaryDirectory() as folder:
        # The sensors would fill the same gap side by side.
        recon = Command(Path(folder), DATABASE_URL=url, MEMPOOL_API_URL="none", RECON_TICK_SECONDS="3600")
        with serve(recon) as served:

            def stored() -> int:
                with database.reading(engine) as connection:
                    return int(connection.execute(select(func.count()).where(of_year)).scalar_one())

            began = time.monotonic()
            keys = [list(calculations_key(model).path) for model in MODELS]
            backfill = served.backfill(keys, [day.isoformat() for day in days])
            if "--kill-daemon" in options:
                wait_until(lambda: 0 < stored() < expected, PATIENCE_SECONDS, every=1)
                served.kill_daemon()
                time.sleep(DOWN_SECONDS)
                served.start_daemon()
            wait_until(lambda: stored() == expected, PATIENCE_SECONDS, every=2)
            filled = time.monotonic() - began
            wait_until(lambda: served.backfill_status(backfill) not in ("REQUESTED", "COMPLETING"), PATIENCE_SECONDS)
            ended, status = time.monotonic() - began, served.backfill_status(backfill)
            runs = served.runs()
            good = Counter(run["tags"][RANGE_TAGS[0]] for run in runs if run["status"] == "SUCCESS")
    print(f"{expected:,} calculations of {len(days)} days x {len(MODELS)} models: all there after {filled:.0f} s")
    most = max(good.values())
    print(f"backfill {status} after {ended:.0f} s; {len(runs)} runs, {len(good)} ranges, each {most} time(s) at most")


if __name__ == "__main__":
    main(*sys.argv[1:])
