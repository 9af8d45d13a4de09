from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from sqlalchemy import Engine, text

from recon_assets.database.transactions import writing
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.support.steps import JUNE_7, NOW, SMALL_DAYS, execute, scalar, state_of

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {}"


def waits_for(engine: Engine, day: date, work: Callable[[], object]) -> bool:
    """Whether work on PostgreSQL begins to wait while another writer holds a day; it is done when this returns."""
    waited = False
    with ThreadPoolExecutor(1) as other:
        with writing(engine, [day]) as holder:
            doing = other.submit(work)
            while not (doing.done() or waited):
                waited = holder.execute(text(WAITING.format(day.toordinal()))).scalar_one() > 0
        doing.result(60)
    return waited


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite's writers wait for the whole file
def test_a_day_is_not_converged_while_another_writer_has_it(small_days: Engine) -> None:
    execute(small_days, "DELETE FROM historical_bitcoin_calculations")
    scope = Scope(SMALL_DAYS, CurtailmentRule.SO_FLAGGED)

    assert waits_for(small_days, JUNE_7, lambda: converge_span(small_days, DAILY_LAYERS, scope, NOW))

    assert scalar(small_days, "SELECT count(*) FROM historical_bitcoin_calculations") > 0
    assert state_of(small_days, SMALL_DAYS).total.faults == 0
