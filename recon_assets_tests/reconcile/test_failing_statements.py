"""Whichever statement of a piece of work fails, the error says why, and nothing is changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS, LAYERS
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.spot import read_spot
from recon_assets_tests.reconcile.test_apply import RULE
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, NOW, SMALL_DAYS, contents, execute, ingest

SCOPE = Scope(SMALL_DAYS, RULE)
FAILING = {"sqlite": "SELECT no_such_function()", "postgresql": "SELECT 1 / 0"}
REASON = {"sqlite": "no such function", "postgresql": "division by zero"}
STEP = 5
"""Each fifth statement fails in turn: all of them take ten times as long."""
OF_REFLECTION = "sqlite_temp_master"
"""SQLAlchemy asks without this table when asking with it fails."""
WORK: dict[str, Callable[[Engine], object]] = {
    "state": lambda engine: reconciled_state(engine, SCOPE, NOW),
    "spot": lambda engine: read_spot(engine, SCOPE, JUNE_6, 7, "T_SGRWO-1"),
    "converge": lambda engine: converge_span(engine, DAILY_LAYERS, SCOPE, NOW),
    "ingest": lambda engine: ingest(engine, [JUNE_7]),
}


@contextmanager
def failing_at(engine: Engine, number: int) -> Iterator[list[str]]:
    """Makes the statement of this number fail, counted from 0; yields the statements that were executed."""
    executed: list[str] = []

    def replace(_: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> tuple[str, Any]:
        if OF_REFLECTION in statement:
            return statement, parameters
        executed.append(statement)
        if len(executed) == number + 1:
            return FAILING[engine.dialect.name], [()] if many else ()
        return statement, parameters

    event.listen(engine, "before_cursor_execute", replace, retval=True)
    try:
        yield executed
    finally:
        event.remove(engine, "before_cursor_execute", replace)


@pytest.mark.parametrize("name", WORK)
def test_the_first_cause_is_told(small_days: Engine, name: str) -> None:
    execute(small_days, "DELETE FROM curtailment_records WHERE settlement_period > 20", "DELETE FROM daily_summaries")
    execute(small_days, "DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
    before = contents(small_days, *(layer.table for layer in LAYERS))
    told = []

    for number in count(0, STEP):
        with failing_at(small_days, number) as executed:
            try:
                WORK[name](small_days)
            except DBAPIError as error:
                told.append(str(error.orig))
        if len(executed) <= number:
            break
        assert contents(small_days, *(layer.table for layer in LAYERS)) == before

    assert len(told) == number / STEP > 1
    assert [reason for reason in told if REASON[small_days.dialect.name] not in reason] == []
