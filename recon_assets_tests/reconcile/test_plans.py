"""How PostgreSQL joins the rows of a month: never by looking at every pair of rows."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.support.steps import JUNE_DAYS, NOW

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def joins(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nested loops of a plan that compare settlement periods pair by pair."""
    if plan["Node Type"] == "Nested Loop" and "settlement_period" in plan.get("Join Filter", ""):
        yield plan
    for part in plan.get("Plans", ()):
        yield from joins(part)


def test_no_statement_that_converges_a_month_compares_its_rows_pair_by_pair(june: Engine) -> None:
    explained: dict[str, list[dict[str, Any]]] = {}

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if "expected AS" in statement or "period_rewards AS" in statement:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            explained[statement] = list(joins(cursor.fetchone()[0][0]["Plan"]))

    event.listen(june, "before_cursor_execute", explain)
    try:
        # Another rule makes calculations missing and wrong: all bids count, and not only those that were flagged.
        made = converge_span(june, DAILY_LAYERS, Scope(JUNE_DAYS, CurtailmentRule.ALL_BIDS), NOW)
    finally:
        event.remove(june, "before_cursor_execute", explain)

    assert sum(changes.corrected for changes in made.changes.values()) > 1000
    assert len(explained) > 5
    assert {statement: found for statement, found in explained.items() if found} == {}
