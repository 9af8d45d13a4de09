"""A full disk ends the work of a command at the first run that meets it, and the next command does the rest."""

from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from recon_assets.database.tables import wind_bids
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.errors import DiskError
from recon_assets.orchestration.instance import open_instance
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.layers import LAYERS
from recon_assets_tests.database.test_disk import said_of
from recon_assets_tests.orchestration.test_reconciliation import reconcile
from recon_assets_tests.support.content import all_hold, partitions
from recon_assets_tests.support.full import full_database, full_files
from recon_assets_tests.support.steps import contents

DERIVED = tuple(layer.table for layer in LAYERS)
SMALL = ["2025-06-06", "2025-06-07"]


def test_of_the_database(resource: ReconResource, instance: dg.DagsterInstance) -> None:
    with full_database(resource.engine), pytest.raises(DiskError) as raised:
        reconcile(resource, instance)

    assert str(raised.value).startswith(said_of(resource.engine))
    (failed,) = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert instance.get_runs(limit=1) == [failed]
    assert reconcile(resource, instance).after.is_right
    assert partitions(instance) == all_hold(SMALL)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_of_the_archive(resource: ReconResource, stand_in: StandInElexon) -> None:
    """No day is asked for whose answers could not be kept. Dagster is in memory: its files have no room either."""
    instance = dg.DagsterInstance.ephemeral()
    with full_files(10_000), pytest.raises(DiskError, match=r"^RECON_ARCHIVE: .*/2025-06-0\d\.json\.gz .free: "):
        reconcile(resource, instance)

    days = {request.path.split("/bid/")[1][:10] for request in stand_in.requests if "/stack/" in request.path}
    assert len(days) == 1
    assert sum(contents(resource.engine, wind_bids)["wind_bids"].values()) == 0
    assert reconcile(resource, instance).after.is_right


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_of_dagsters_home(resource: ReconResource, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Dagster prints the SQL of an event that it cannot store."""
    home = tmp_path / "home"

    def limit(connection: object, _: object) -> None:
        (_, _, file), *_ = connection.execute("PRAGMA database_list").fetchall()  # type: ignore[attr-defined]
        if Path(file).parent == home / "history" / "runs" and Path(file).stem != "index":
            connection.execute("PRAGMA max_page_count = 30")  # type: ignore[attr-defined]

    event.listen(Engine, "connect", limit)
    try:
        with open_instance(home) as instance, pytest.raises(DiskError) as raised:
            reconcile(resource, instance)
    finally:
        event.remove(Engine, "connect", limit)

    assert str(raised.value).startswith(f"DAGSTER_HOME: {home}/history/runs/")
    assert ".db cannot be written: database or disk is full (free: " in str(raised.value)
    assert capfd.readouterr().err == ""
    with open_instance(home) as instance:
        assert reconcile(resource, instance).after.is_right
        assert partitions(instance) == all_hold(SMALL)
