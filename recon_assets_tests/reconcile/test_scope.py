from sqlalchemy import Engine

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.reconcile.converge_span import converge_span
from recon_assets.reconcile.layers import DAILY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets_tests.support.locking import store_behind
from recon_assets_tests.support.steps import JUNE_7, NOW, SMALL_DAYS, execute, scalar, state_of


def test_a_day_is_not_converged_while_another_writer_has_it(small_days: Engine) -> None:
    # given
    execute(small_days, "DELETE FROM historical_bitcoin_calculations")
    scope = Scope(SMALL_DAYS, CurtailmentRule.SO_FLAGGED)

    # when it is converged while another writer holds one of its days
    store_behind(small_days, JUNE_7, lambda holder: None, lambda: converge_span(small_days, DAILY_LAYERS, scope, NOW))

    # then it waited, and went on
    assert scalar(small_days, "SELECT count(*) FROM historical_bitcoin_calculations") > 0
    assert state_of(small_days, SMALL_DAYS).total.faults == 0
