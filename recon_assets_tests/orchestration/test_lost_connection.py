"""A connection to PostgreSQL that is lost while a day is read costs nothing: the day is read again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import psycopg
import pytest
from sqlalchemy import Engine, event

from recon_assets.orchestration.resource import ReconResource
from recon_assets_tests.orchestration.test_reconciliation import reconcile

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@contextmanager
def cut(engine: Engine, part: str) -> Iterator[list[int]]:
    """Ends the connection that begins the first statement with this part; yields the backend that was ended."""
    ended: list[int] = []
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def end(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if ended or part not in statement:
            return
        ended.append(connection.connection.driver_connection.info.backend_pid)
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", ended)

    event.listen(engine, "before_cursor_execute", end)
    try:
        yield ended
    finally:
        event.remove(engine, "before_cursor_execute", end)


@pytest.mark.parametrize("part", ["INSERT INTO wind_bids", "INSERT INTO proof_of_fetch"])
def test_a_day_is_read_again(resource: ReconResource, instance: dg.DagsterInstance, part: str) -> None:
    with cut(resource.engine, part) as ended:
        outcome = reconcile(resource, instance)

    assert len(ended) == 1
    assert outcome.after.is_right
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
