"""Measures converging three years of calculations, against the database's own bulk load and against a row at a time.

    python -m benchmarks.history URL
    python -m benchmarks.core URL

The ceiling is the engine's own bulk load of the same rows, in key order, from a ready file (COPY, PostgreSQL) or a
ready list (one prepared executemany, SQLite), committed, into the same table, emptied, with its keys and indexes. Ours
reads the difficulty, sums the acceptances of each spot (a farm in one settlement period), compares every stored value,
writes what is missing and commits, a month at a time. The ways alternate, each in its own process.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, func, insert, select, text

from benchmarks.figures import Figure, engine_of, in_turn, scope_of, seconds_of, show
from benchmarks.history import HISTORY
from recon_assets.database.tables import historical_bitcoin_calculations as calculations
from recon_assets.database.transactions import reading, writing
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import converge
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import CALCULATIONS, DAILY_LAYERS
from recon_assets.reconcile.scope import writing as writing_with_rewards

PART = "Reconcile three years"
PRESENT = 984_547
"""Calculations that the user's database has according to the notes, of the 1,514,223 expected for 2022-2024."""
SCATTER = 7919
"""A prime number; its multiples spread the present rows over all days, farms and models."""
COLUMNS = ("settlement_date", "settlement_period", "farm_id", "miner_model", "bitcoin_mined", "difficulty")
LISTED, KEY = ", ".join(COLUMNS), ", ".join(COLUMNS[:4])
ROWS_ONE_BY_ONE = 10_000
AT_MOST = {"sqlite": 1.5, "postgresql": 2.0}
BLOCK_BYTES = 2**20
TABLE = calculations.name
EMPTY = {"sqlite": f"DELETE FROM {TABLE}", "postgresql": f"TRUNCATE {TABLE}"}
SET_ASIDE = f"""
    CREATE TABLE set_aside AS
    SELECT {LISTED}, (row_number() OVER (ORDER BY {KEY}) * {SCATTER}) % total < {PRESENT} AS present
    FROM {TABLE}, (SELECT count(*) AS total FROM {TABLE}) AS counted
"""
MISSING = {"all": "true", "some": "NOT present"}


def measure(url: str) -> Iterator[Figure]:
    """The figures of one engine; the database holds three years, which are right before and afterwards."""
    engine = engine_of(url)
    name = engine.dialect.name
    bulk = load_list if name == "sqlite" else load_file
    with writing(engine) as connection:
        connection.execute(text(SET_ASIDE))
    with TemporaryDirectory() as folder:
        if name == "postgresql":
            for rows, where in MISSING.items():
                _write_file(engine, Path(folder, rows), where)
        empty, partly = partial(_keep, engine, "false"), partial(_keep, engine, "present")
        taken = in_turn(
            {
                "bulk": ((url, folder, "all"), bulk, empty),
                "ours": ((url,), converge_months, empty),
                "ours of some": ((url,), converge_months, partly),
            }
        )
        taken |= in_turn(
            {
                "bulk of some": ((url, folder, "some"), bulk, partly),
                "ours of none": ((url,), converge_months),
                "statement": ((url,), insert_select, empty),
                "run": ((url,), converge_spans, empty),
                "rows": ((url, ROWS_ONE_BY_ONE), insert_rows, empty),
            },
            turns=1,
        )
    _keep(engine, "true")
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE set_aside"))
        total: int = connection.execute(select(func.count()).select_from(calculations)).scalar_one()
    ceiling, ours, some = taken["bulk"], taken["ours"], taken["ours of some"]
    extrapolated = taken["rows"].seconds * total / ROWS_ONE_BY_ONE
    yield ceiling.figure(PART, f"bulk load of {total:,} calculations: the ceiling", name)
    yield ours.figure(PART, "converging, all missing", name)
    yield ours.ratio(PART, "converging, all missing, against the ceiling", name, ceiling, AT_MOST[name])
    yield taken["statement"].figure(PART, "bare INSERT .. SELECT, a month at a time", name)
    yield taken["run"].figure(PART, "as a run does it: proofs, calculations, daily sums, fingerprints", name)
    yield taken["bulk of some"].figure(PART, f"bulk load of the {total - PRESENT:,} missing, {PRESENT:,} there", name)
    yield some.figure(PART, f"converging, {PRESENT:,} there", name)
    yield some.ratio(PART, f"converging, {PRESENT:,} there, against the ceiling", name, ceiling, AT_MOST[name])
    against_missing = some.seconds / taken["bulk of some"].seconds
    yield Figure(PART, "the same against the bulk load of what is missing", name, against_missing, "x")
    yield taken["ours of none"].figure(PART, "converging, nothing missing", name)
    yield Figure(PART, f"a row at a time, extrapolated from {ROWS_ONE_BY_ONE:,}", name, extrapolated)
    yield Figure(PART, "a row at a time against converging", name, extrapolated / ours.seconds, "x")


def load_list(url: str, _folder: str, rows: str) -> float:
    """SQLite's bulk load: one prepared statement over a ready list, by the driver alone."""
    engine = engine_of(url)
    with reading(engine) as connection:
        wanted = text(f"SELECT {LISTED} FROM set_aside WHERE {MISSING[rows]} ORDER BY {KEY}")
        ready = [tuple(row) for row in connection.execute(wanted)]
    statement = f"INSERT INTO {TABLE} ({LISTED}) VALUES (?, ?, ?, ?, ?, ?)"

    def load() -> None:
        with writing(engine) as connection:
            driver: Any = connection.connection.driver_connection
            driver.executemany(statement, ready)

    return seconds_of(load)


def load_file(url: str, folder: str, rows: str) -> float:
    """PostgreSQL's bulk load: COPY of a ready file."""
    engine = engine_of(url)

    def load() -> None:
        with writing(engine) as connection, Path(folder, rows).open("rb") as file:
            driver: Any = connection.connection.driver_connection
            with driver.cursor().copy(f"COPY {TABLE} ({LISTED}) FROM STDIN") as copy:
                while block := file.read(BLOCK_BYTES):
                    copy.write(block)

    with reading(engine):
        return seconds_of(load)


def converge_months(url: str) -> float:
    """Ours: each month in a transaction under its locks."""
    engine = engine_of(url)

    def month(days: Days) -> None:
        with writing_with_rewards(engine, scope_of(days)) as (connection, scope):
            converge(connection, CALCULATIONS, scope)

    return seconds_of(lambda: list(map(month, HISTORY.by_month())))


def converge_spans(url: str) -> float:
    """What a run of the assets does with the database: every daily layer, and the contents for Dagster."""
    engine, now = engine_of(url), datetime.now(UTC)
    return seconds_of(lambda: [converge_span(engine, DAILY_LAYERS, scope_of(days), now) for days in HISTORY.by_month()])


def insert_select(url: str) -> float:
    """Inserts the same rows without comparing them with what is stored."""
    engine = engine_of(url)

    def month(days: Days) -> None:
        with writing_with_rewards(engine, scope_of(days)) as (connection, scope):
            expected = CALCULATIONS.expected(scope).cte("expected")
            names = [column.name for column in expected.c if column.name in calculations.c]
            stored = [CALCULATIONS.stored(expected.c, column).label(column) for column in names]
            ordered = select(*stored).order_by(*(expected.c[column] for column in CALCULATIONS.key))
            connection.execute(insert(calculations).from_select(names, ordered))

    return seconds_of(lambda: list(map(month, HISTORY.by_month())))


def insert_rows(url: str, count: int) -> float:
    """The old way: one statement and one commit per row."""
    engine = engine_of(url)
    with reading(engine) as connection:
        wanted = text(f"SELECT {LISTED} FROM set_aside ORDER BY {KEY} LIMIT {count}")
        ready = [dict(row) for row in connection.execute(wanted).mappings()]
    statement = text(
        f"INSERT INTO {TABLE} ({LISTED}) "
        f"VALUES ({', '.join(f':{column}' for column in COLUMNS)}) ON CONFLICT DO NOTHING"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return seconds_of(lambda: [connection.execute(statement, row) for row in ready])


def _keep(engine: Engine, where: str) -> None:
    """Refills the table with the calculations for which the condition holds, in key order."""
    with writing(engine) as connection:
        connection.execute(text(EMPTY[engine.dialect.name]))
        wanted = f"SELECT {LISTED} FROM set_aside WHERE {where} ORDER BY {KEY}"
        connection.execute(text(f"INSERT INTO {TABLE} ({LISTED}) {wanted}"))


def _write_file(engine: Engine, path: Path, where: str) -> None:
    with reading(engine) as connection, path.open("wb") as file:
        driver: Any = connection.connection.driver_connection
        wanted = f"SELECT {LISTED} FROM set_aside WHERE {where} ORDER BY {KEY}"
        with driver.cursor().copy(f"COPY ({wanted}) TO STDOUT") as copy:
            for block in copy:
                file.write(block)


if __name__ == "__main__":
    show(measure(sys.argv[1]))
