"""`recon` through a connection pooler in session mode does what it does without one."""

from pathlib import Path

from recon_assets.database.engine import open_engine
from recon_assets.database.tables import wind_bids
from recon_assets.reconcile.layers import LAYERS
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.pgbouncer import Pgbouncer
from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.steps import JUNE, contents

PERIOD = ("--from", "2025-06-06", "--to", "2025-06-07")


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
