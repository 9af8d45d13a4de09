from sqlalchemy import Engine

from recon_assets.database.tables import bitcoin_daily_summaries, daily_summaries
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.reconcile.apply import converge
from recon_assets.reconcile.layers import MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.scope import Scope, writing
from recon_assets_tests.support.generation import store
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, contents, converge_layers, execute

RULE = CurtailmentRule.SO_FLAGGED


def test_months_and_years_are_made_from_the_base_rows_and_not_from_spoilt_sums(small_days: Engine) -> None:
    # given sums of days, bitcoin and energy alike, that are not those of their rows
    store(small_days, JUNE_6, (1000.5, 3000.25))
    converge_layers(small_days, SMALL_DAYS)
    longer = [layer.table for layer in (*MONTHLY_LAYERS, *YEARLY_LAYERS)]
    right = contents(small_days, *longer)
    spoil = (
        "UPDATE bitcoin_{}_summaries SET bitcoin_mined = bitcoin_mined * 3 + 1",
        "UPDATE {}_summaries SET total_curtailed_energy = 7, total_payment = 8, total_wind_generation = 9,"
        " wind_onshore_generation = 3, wind_offshore_generation = 6",
    )
    execute(small_days, *(statement.format("daily") for statement in spoil))
    days = contents(small_days, bitcoin_daily_summaries, daily_summaries)

    for damage in (
        [statement.format(grain) for statement in spoil for grain in ("monthly", "yearly")],
        [f"DELETE FROM {table.name}" for table in longer],
    ):
        execute(small_days, *damage)

        # when nothing but years and months is converged, the years first
        with writing(small_days, Scope(SMALL_DAYS, RULE)) as (connection, scope):
            for layer in (*YEARLY_LAYERS, *MONTHLY_LAYERS):
                converge(connection, layer, scope.of(layer.grain.whole(SMALL_DAYS)))

        # then
        assert contents(small_days, *longer) == right
    assert contents(small_days, bitcoin_daily_summaries, daily_summaries) == days
