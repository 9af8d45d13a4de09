"""Steps that the tests of several modules share: ingesting days, converging every layer, reading state and rows."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Table, select, text

from recon_assets.database import transactions
from recon_assets.database.tables import proof_of_fetch
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days, due_periods
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.ingest.bids import IngestedDay, ingest_day
from recon_assets.reconcile import scope
from recon_assets.reconcile.apply import Changes, converge
from recon_assets.reconcile.layers import LAYERS
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.state import State

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
JUNE = Path(str(files("recon_assets.data") / "recordings"))
"""Recordings of every day of June 2025."""
JUNE_DAYS = Days.of_month("2025-06")
JUNE_6 = date(2025, 6, 6)
"""A small day: 80 of its 83 wind bids are flagged."""
JUNE_7 = date(2025, 6, 7)
"""A smaller day: 14 wind bids, all flagged."""
SMALL_DAYS = Days(JUNE_6, JUNE_7)
BUSY_DAYS = Days(date(2025, 6, 1), date(2025, 6, 2))
"""With 10,038 calculations: a ninth of the month."""

CHANGED_BY = -5.0
"""MWh by which `restate` changes a bid."""

ENDLESS = "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n % 7 + 1 FROM endless) SELECT count(*) FROM endless"
"""A query that never ends, on either engine."""

INVISIBLE = {"id", "created_at", "updated_at", "last_updated", "calculated_at"}
"""Columns in which a converged row may differ from the one that was lost."""


def ingest(engine: Engine, days: Iterable[date], folder: Path = JUNE, now: datetime = NOW) -> list[IngestedDay]:
    """Ingests days from a folder of recordings."""
    elexon = Elexon(RecordingSource(folder))
    return [ingest_day(engine, elexon, day, now) for day in days]


def change_recording(folder: Path, day: date, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the content of a recording in place."""
    path = folder / f"{day}.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    change(content)
    path.write_bytes(gzip.compress(json.dumps(content).encode(), compresslevel=1))


def restate(content: dict[str, Any]) -> None:
    """Changes the volume of one bid of 2025-06-06 in a recording, in bid stack and acceptance volumes alike."""
    bid = content["stack_bid"]["7"]["data"][0]
    bid["volume"] += CHANGED_BY
    for row in content["acceptance_volumes_bid"]["data"]:
        if (row["settlementPeriod"], row["bmUnit"], row["acceptanceId"]) == (7, bid["id"], bid["acceptanceId"]):
            row["totalVolumeAccepted"] = bid["volume"]


def note_proofs(engine: Engine, days: Iterable[date], now: datetime = NOW) -> None:
    """Notes the proof of days on which no wind farm was turned down."""
    counts = ("stack_rows", "wind_rows", "wind_mwh", "wind_gbp", "unlisted_rows", "unlisted_mwh")
    nothing = {"fetched_at": now, "fingerprint": "", **dict.fromkeys(counts, 0)}
    proofs = [
        {"settlement_date": day, "settlement_period": period, **nothing}
        for day in days
        for period in due_periods(day, now)
    ]
    if proofs:
        with transactions.writing(engine) as connection:
            connection.execute(proof_of_fetch.insert(), proofs)


def converge_layers(
    engine: Engine, days: Days, rule: CurtailmentRule = CurtailmentRule.SO_FLAGGED
) -> dict[str, Changes]:
    """Converges every layer of the days, bottom up; returns the changes by table."""
    with scope.writing(engine, scope.Scope(days, rule)) as (connection, asked):
        return {layer.name: converge(connection, layer, asked.of(layer.grain.whole(days))) for layer in LAYERS}


def state_of(
    engine: Engine, days: Days, rule: CurtailmentRule = CurtailmentRule.SO_FLAGGED, now: datetime = NOW
) -> State:
    """The reconciled state of the days."""
    return reconciled_state(engine, scope.Scope(days, rule), now)


def execute(engine: Engine, *statements: str) -> list[int]:
    """Runs plain SQL, as someone at a database prompt would; returns the rows that each statement changed."""
    with transactions.writing(engine) as connection:
        return [connection.execute(text(statement)).rowcount for statement in statements]


def scalar(engine: Engine, statement: str) -> Any:
    """The one value that plain SQL gives."""
    with transactions.reading(engine) as connection:
        value = connection.execute(text(statement)).scalar_one()
    return float(value) if isinstance(value, Decimal) else value


def contents(engine: Engine, *tables: Table) -> dict[str, Counter[tuple[Any, ...]]]:
    """Every row of the tables, with how often it is there, without ids and timestamps."""
    with transactions.reading(engine) as connection:
        return {
            table.name: Counter(map(_rounded, connection.execute(select(*_visible(table))).all())) for table in tables
        }


def _visible(table: Table) -> list[Column[Any]]:
    return [column for column in table.c if column.name not in INVISIBLE]


def _rounded(row: Sequence[Any]) -> tuple[Any, ...]:
    # A list: a generator for each row takes an eighth longer.
    return tuple([round(value, 9) if isinstance(value, float) else value for value in row])
