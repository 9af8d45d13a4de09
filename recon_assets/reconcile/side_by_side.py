"""The audit of the calculations: to each triple with curtailed energy its row of every miner model, side by side.

Three years (1,009,482 records, 1,514,223 calculations) on two cores: the general audit (audit.py), which makes a row
for every triple and model, took 5.3 s on SQLite and 7.8 s on PostgreSQL; this one takes 2.3 s and 1.7 s.
"""

from datetime import date

from sqlalchemy import Connection, FromClause, and_, func, select

from recon_assets.database.tables import historical_bitcoin_calculations
from recon_assets.reconcile.difference import Tally, count_if
from recon_assets.reconcile.layer import in_days, is_first_of_key, is_key_unique
from recon_assets.reconcile.layers import CALCULATIONS, curtailed_energy
from recon_assets.reconcile.scope import Scope, period_rewards


def audit_calculations(connection: Connection, scope: Scope) -> dict[tuple[date, str], Tally]:
    """What is not right with the calculations of the scope, by day and model."""
    tallies = compare_calculations(connection, scope)
    stored = historical_bitcoin_calculations.c
    key = (stored.settlement_date, stored.miner_model)
    for day, model, rows in connection.execute(
        select(*key, func.count()).where(CALCULATIONS.owned_rows(scope)).group_by(*key)
    ):
        tallies[day, model] = tallies.get((day, model), Tally()) + Tally(surplus=rows)
    return tallies


def compare_calculations(connection: Connection, scope: Scope) -> dict[tuple[date, str], Tally]:
    """Each triple with curtailed energy beside its row of each model, by day and model.

    Rows without a triple are not seen from here. The surplus is therefore that of the rows that were found, negative:
    whoever counts all stored rows adds them to it.
    """
    unique = is_key_unique(connection, CALCULATIONS)
    energy, rewards = curtailed_energy(scope).subquery("energy"), period_rewards.c
    known = and_(
        energy.c.settlement_date == rewards.settlement_date, energy.c.settlement_period == rewards.settlement_period
    )
    joined: FromClause = energy.outerjoin(period_rewards, known)
    counts = []
    for model in scope.models.values():
        stored = historical_bitcoin_calculations.alias(f"of_{model.name.lower()}")
        same_triple = (stored.c[name] == energy.c[name] for name in CALCULATIONS.key if name != "miner_model")
        of_model = [*same_triple, stored.c.miner_model == model.name, in_days(stored.c.settlement_date, scope)]
        # Where the database forbids duplicates nobody needs to look for them.
        joined = joined.outerjoin(stored, and_(*of_model, *([] if unique else [is_first_of_key(CALCULATIONS, stored)])))
        matched = stored.c.miner_model.is_not(None)
        expected = {
            "bitcoin_mined": energy.c.curtailed_mwh * model.hashes_per_mwh * rewards.bitcoin_per_hash,
            "difficulty": rewards.difficulty,
            "difficulty_amount": rewards.difficulty_amount,
        }
        counts += [count_if(matched), count_if(and_(matched, CALCULATIONS.differs_in(connection, stored.c, expected)))]
    by_day = select(energy.c.settlement_date, func.count(), *counts).select_from(joined)
    tallies: dict[tuple[date, str], Tally] = {}
    for day, triples, *found in connection.execute(by_day.group_by(energy.c.settlement_date)):
        for name, actual, wrong in zip(scope.models, found[::2], found[1::2], strict=True):
            tallies[day, name] = Tally(triples, actual, -actual, 0, wrong)
    if not unique:
        key = (historical_bitcoin_calculations.c.settlement_date, historical_bitcoin_calculations.c.miner_model)
        duplicates = select(*key, func.count()).where(CALCULATIONS.owned_rows(scope), ~is_first_of_key(CALCULATIONS))
        for *group, count in connection.execute(duplicates.group_by(*key)):
            tallies[group[0], group[1]] = tallies.get((group[0], group[1]), Tally()) + Tally(0, 0, -count, count, 0)
    return tallies
