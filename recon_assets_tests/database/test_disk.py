"""A full disk of the database is named, ends the work at once, and loses nothing.

A disk that is really full is in system/test_full_disk.py.
"""

import pytest
from sqlalchemy import Engine, event

from recon_assets.database.failures import Failure, failure_of
from recon_assets.errors import DiskError
from recon_assets_tests.reconcile.test_span_runner import TABLES, empty_layers, progress, run
from recon_assets_tests.support.full import SERVER_IS_FULL, full_database
from recon_assets_tests.support.steps import contents

WHAT_TO_DO = "; what was committed stays: make room"


def said_of(engine: Engine) -> str:
    """How the one line begins."""
    if engine.dialect.name == "postgresql":
        return f"DATABASE_URL: the disk of the server 127.0.0.1 is full: {SERVER_IS_FULL}{WHAT_TO_DO} there"
    return f"DATABASE_URL: {engine.url.database} cannot be written: database or disk is full (free: "


def test_it_is_tried_once_and_the_next_run_does_the_work(small_days: Engine) -> None:
    # given
    right = contents(small_days, *TABLES)
    empty_layers(small_days)
    empty, failed = contents(small_days, *TABLES), []
    event.listen(small_days, "handle_error", lambda context: failed.append(context.statement))

    # when
    with full_database(small_days), pytest.raises(DiskError) as raised:
        run(small_days)

    # then
    line = str(raised.value)
    assert line.startswith(said_of(small_days))
    assert WHAT_TO_DO in line
    assert "\n" not in line
    assert len(failed) == 1
    assert failure_of(raised.value) == Failure(line, is_everywhere=True)
    assert contents(small_days, *TABLES) == empty
    assert progress(small_days)["2025-06"].status == "failed"
    # and
    run(small_days)
    assert contents(small_days, *TABLES) == right
