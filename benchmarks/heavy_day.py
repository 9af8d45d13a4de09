"""Measures a heavy day in a warm process: fetched from a local server, stored, archived and calculated.

2025-06-28 has 5,101 curtailment records. The server has no delay and there is no rate limit, so that the time is that
of our own work. The day is deleted and read again three times.

    python -m benchmarks.heavy_day sqlite:///heavy.db
"""

import subprocess
import sys
import time
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, delete, func, select

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import migrate
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch, wind_bids
from recon_assets.database.transactions import reading, writing
from recon_assets.domain.bm_units import packaged_bm_units
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets.elexon.archive import Archive
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.http import HttpSource
from recon_assets.ingest.bids import ingest_day
from recon_assets.ingest.reference import store_bm_units, store_retargets
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets.settings import Settings

DAY = date(2025, 6, 28)
SCOPE = Scope(Days(DAY, DAY), CurtailmentRule.SO_FLAGGED)


def read_and_calculate(engine: Engine, url: str) -> tuple[float, float]:
    """Seconds to fetch and store the day, and to converge its layers."""
    for table in (wind_bids, proof_of_fetch, curtailment_records, historical_bitcoin_calculations):
        with writing(engine) as connection:
            connection.execute(delete(table).where(table.c.settlement_date == DAY))
    now = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        source = HttpSource(url, per_second=1e6)
        ingest_day(engine, Elexon(source), DAY, now, archive=Archive(Path(folder)))
        stored = time.perf_counter()
        converge_span(engine, LAYERS, SCOPE, now)
    return stored - started, time.perf_counter() - stored


if __name__ == "__main__":
    target = open_engine(Settings.from_environment({"DATABASE_URL": sys.argv[1]}, Path.cwd()).database_url)
    migrate(target)
    with writing(target) as connection:
        store_bm_units(connection, packaged_bm_units(), datetime.now(UTC))
        store_retargets(connection)
    recordings = str(files("recon_assets.data") / "recordings")
    command = [sys.executable, "-m", "recon_assets.elexon.stand_in", recordings, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = server.stdout.readline().strip().removeprefix("ELEXON_API_URL=")
        read_and_calculate(target, address)
        for _ in range(3):
            fetched, calculated = read_and_calculate(target, address)
            print(f"{fetched:.2f} s fetched and stored, {calculated:.2f} s calculated: {fetched + calculated:.2f} s")
        server.terminate()
    with reading(target) as connection:
        count = select(func.count()).where(curtailment_records.c.settlement_date == DAY)
        print(f"{connection.execute(count).scalar_one():,} curtailment records")
