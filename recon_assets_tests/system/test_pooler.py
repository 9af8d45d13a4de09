"""`recon` through a connection pooler does what it does without one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from recon_assets.database.engine import open_engine
from recon_assets.database.tables import wind_bids
from recon_assets.reconcile.layers import LAYERS
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.pgbouncer import Pgbouncer
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.steps import JUNE, contents

PERIOD = ("--from", "2025-06-06", "--to", "2025-06-07")
FIVE_DAYS = ("2025-06-06", "2025-06-10")
POOL_SIZE = 4
ROUNDS = 10
SPOIL = (
    "DELETE FROM curtailment_records WHERE id % 5 = {round} % 5",
    "DELETE FROM historical_bitcoin_calculations WHERE id % 3 = {round} % 3",
    "UPDATE historical_bitcoin_calculations SET bitcoin_mined = 7 WHERE id % 7 = {round} % 7",
    "UPDATE monthly_summaries SET total_payment = {round}",
    "DELETE FROM bitcoin_daily_summaries",
)


def test_a_pooler_in_session_mode_changes_nothing(postgres: PostgresServer, pooler: Pgbouncer, tmp_path: Path) -> None:
    # given two empty databases of one server, one of them behind the pooler
    urls = {name: postgres.create_database(name) for name in ("direct", "pooled")}
    commands = {}
    for name, url in (("direct", urls["direct"]), ("pooled", pooler.url("pooled"))):
        folder = tmp_path / name
        folder.mkdir()
        commands[name] = Command(folder, DATABASE_URL=url, ELEXON_API_URL=JUNE.as_uri())

    # when
    for name, recon in commands.items():
        ended = recon("reconcile", *PERIOD)
        assert (ended.exit_code, ended.stderr) == (0, ""), (name, ended)

    # then
    statuses = {name: recon("status", *PERIOD, "--format", "json") for name, recon in commands.items()}
    assert statuses["pooled"].exit_code == 0
    assert (
        statuses["pooled"].facts["missing"]
        == statuses["pooled"].facts["wrong"]
        == statuses["pooled"].facts["stale_summaries"]
        == 0
    )
    assert statuses["pooled"].facts["curtailment_records"] == 80 + 14
    assert statuses["pooled"].facts == statuses["direct"].facts
    found = {}
    for name, url in urls.items():
        engine = open_engine(url)
        found[name] = contents(engine, wind_bids, *(layer.table for layer in LAYERS))
        engine.dispose()
    assert found["pooled"] == found["direct"]
    assert pooler.transactions("pooled") > 10
    assert pooler.transactions("direct") == 0


def contents_of(url: str) -> dict[str, Counter[tuple[Any, ...]]]:
    """Every row of ours of the database at an address."""
    engine = open_engine(url)
    try:
        return contents(engine, wind_bids, *(layer.table for layer in LAYERS))
    finally:
        engine.dispose()


def test_writers_of_several_threads_share_a_small_pool(postgres: PostgresServer, tmp_path: Path) -> None:
    """Their sessions are other ones in each transaction, and fewer than their threads."""
    url = postgres.create_database("shared")
    serial = Command(tmp_path, DATABASE_URL=url, ELEXON_API_URL=JUNE.as_uri())
    assert serial("range", *FIVE_DAYS).exit_code == 0
    expected = contents_of(url)

    with Pgbouncer(postgres, tmp_path, "transaction", POOL_SIZE) as pooler, ThreadPoolExecutor(3) as pool:
        writers = []
        for name in ("first", "second", "third"):
            folder = tmp_path / name
            folder.mkdir()
            writers.append(Command(folder, DATABASE_URL=pooler.url("shared"), ELEXON_API_URL=JUNE.as_uri()))
        for number in range(ROUNDS):
            with psycopg.connect(url) as connection:
                for statement in SPOIL:
                    connection.execute(statement.format(round=number))
            assert contents_of(url) != expected

            ended = list(pool.map(lambda recon: recon("range", *FIVE_DAYS, "--concurrency", "3"), writers))

            assert [(each.exit_code, each.stderr) for each in ended] == [(0, "")] * 3, (number, ended)
            assert contents_of(url) == expected, number
            assert held_locks(url) == 0


def held_locks(url: str) -> int:
    """How many advisory locks the server holds: those of sessions would stay on pooled connections."""
    with psycopg.connect(url) as connection:
        (held,) = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() or (None,)
    assert held is not None
    return int(held)
