"""What a piece of reconciliation is about, and the rewards of its settlement periods.

Belongs here: the days, rule and models that every query is asked for, and the temporary table `period_rewards` that
carries difficulty, time-exact within a period, into the database. Does not: the layers themselves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date

from sqlalchemy import Column, Connection, Date, Double, Engine, Integer, MetaData, Table, insert, select

from recon_assets import database
from recon_assets.curtailment import CurtailmentRule
from recon_assets.difficulty import DifficultyHistory, Retarget
from recon_assets.mining import MODELS, MinerModel
from recon_assets.settlement import Days
from recon_assets.tables import network_difficulty


@dataclass(frozen=True)
class Scope:
    """Days that are audited or repaired, under a rule, for some miner models.

    `without` are days that the layer below does not vouch for: nothing is expected of them and nothing is removed.
    """

    days: Days
    rule: CurtailmentRule
    models: Mapping[str, MinerModel] = field(default_factory=lambda: MODELS)
    without: frozenset[date] = frozenset()

    def of(self, days: Days) -> "Scope":
        """The same definitions for other days."""
        return replace(self, days=days)

    def leaving_out(self, days: frozenset[date]) -> "Scope":
        """The same scope less some days."""
        return replace(self, without=self.without | days)


period_rewards = Table(
    "period_rewards",
    MetaData(),
    Column("settlement_date", Date, primary_key=True),
    Column("settlement_period", Integer, primary_key=True),
    Column("difficulty", Double, nullable=False),
    Column("bitcoin_per_hash", Double, nullable=False),
    prefixes=["TEMPORARY"],
)
"""One row per settlement period whose reward is known; lives as long as the transaction."""


def difficulty_history(connection: Connection) -> DifficultyHistory:
    """The difficulty history that the database holds; ReconError when it holds none."""
    rows = connection.execute(select(network_difficulty)).mappings()
    return DifficultyHistory(Retarget(**row) for row in rows)


@contextmanager
def reading(engine: Engine, days: Days) -> Iterator[Connection]:
    """A read-only snapshot with the rewards of the days at hand."""
    with database.reading(engine) as connection:
        _plan_for_sets(connection)
        load_rewards(connection, days)
        yield connection


@contextmanager
def writing(engine: Engine, days: Days) -> Iterator[Connection]:
    """A transaction under the days' locks with the rewards of the days at hand; it commits at the end."""
    with database.writing(engine, days) as connection:
        _plan_for_sets(connection)
        load_rewards(connection, days)
        yield connection
        period_rewards.drop(connection)


def _plan_for_sets(connection: Connection) -> None:
    """Tells PostgreSQL that these transactions join whole sets."""
    if connection.dialect.name == "postgresql":
        # On tables that were just filled and have no statistics yet the planner believed in single rows: the nested
        # loop that it chose took more than five minutes for a month that a hash join audits in half a second.
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        connection.exec_driver_sql("SET LOCAL work_mem = '64MB'")
        # The forbidden nested loops look so dear that the just-in-time compiler would start for every statement.
        connection.exec_driver_sql("SET LOCAL jit = off")


def load_rewards(connection: Connection, days: Days) -> None:
    """Fills the temporary table `period_rewards` for the days; none where the database knows no difficulty at all."""
    period_rewards.create(connection, checkfirst=False)
    if connection.execute(select(network_difficulty.c.height).limit(1)).first() is None:
        return
    rewards = [reward._asdict() for reward in difficulty_history(connection).rewards(days)]
    if not rewards:
        return
    connection.execute(insert(period_rewards), rewards)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE period_rewards")
