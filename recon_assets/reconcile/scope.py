"""The days, rule and miner models that a query is about, and the mining rewards of their settlement periods.

The rewards are a temporary table, `period_rewards`. A difficulty that changes within a period is weighted by time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date

from sqlalchemy import (
    Column,
    Connection,
    Date,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    column,
    insert,
    select,
    values,
)

from recon_assets.database import transactions
from recon_assets.database.tables import AMOUNT, network_difficulty
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.difficulty import DifficultyHistory, Retarget, with_packaged
from recon_assets.domain.mining import MODELS, MinerModel
from recon_assets.domain.settlement import FIRST_DAY, Days


@dataclass(frozen=True)
class Scope:
    """Days that are compared or converged, under a rule, for some miner models.

    `excluded` are days that the layer below cannot be trusted for: nothing is expected of them and nothing is removed.
    `periods` (first and last) and `farm` narrow the half-hourly layers further. With `summed`, summaries are made from
    the sums by day that sums.py has loaded, instead of from every row again. `first_day` is the first day that the
    database keeps, whatever the scope's days are. `run_id` is the Dagster run that works.
    """

    days: Days
    rule: CurtailmentRule
    models: Mapping[str, MinerModel] = field(default_factory=lambda: MODELS)
    excluded: frozenset[date] = frozenset()
    periods: tuple[int, int] | None = None
    farm: str | None = None
    summed: bool = False
    first_day: date = FIRST_DAY
    run_id: str | None = None

    def of(self, days: Days) -> "Scope":
        """The same scope for other days."""
        return replace(self, days=days)

    def excluding(self, days: frozenset[date]) -> "Scope":
        """The same scope without some days."""
        return replace(self, excluded=self.excluded | days)

    def only_excluding(self, days: frozenset[date]) -> "Scope":
        """The same scope without these days, and with those that were excluded before."""
        return replace(self, excluded=days)


period_rewards = Table(
    "period_rewards",
    MetaData(),
    Column("settlement_date", Date, primary_key=True),
    Column("settlement_period", Integer, primary_key=True),
    Column("difficulty", Double, nullable=False),
    Column("difficulty_amount", AMOUNT, nullable=False),
    Column("bitcoin_per_hash", Double, nullable=False),
    prefixes=["TEMPORARY"],
)
"""One row per settlement period whose reward is known; it lives as long as the transaction. It has the difficulty both
as a double, to compare, and as the stored type, so that it is converted once per period and not per calculation."""


_reward_spans = Table(
    "reward_spans",
    MetaData(),
    Column("settlement_date", Date),
    Column("first", Integer),
    Column("last", Integer),
    Column("difficulty", Double),
    Column("bitcoin_per_hash", Double),
    prefixes=["TEMPORARY"],
)


def difficulty_history(connection: Connection) -> DifficultyHistory:
    """The difficulty that is known: the packaged table joined to the retargets in the database.

    So an old database gives the same verdict before its first run as after it. ReconError if the retargets contradict
    each other.
    """
    rows = connection.execute(select(network_difficulty)).mappings()
    return DifficultyHistory(with_packaged(Retarget(**row) for row in rows))


@contextmanager
def reading(engine: Engine, days: Days) -> Iterator[Connection]:
    """A read-only snapshot in which the rewards of the days are loaded."""
    with transactions.reading(engine) as connection:
        plan_for_sets(connection)
        load_rewards(connection, days)
        yield connection


@contextmanager
def writing(
    engine: Engine, days: Days, timeout_seconds: float | None = None, *, with_rewards: bool = True
) -> Iterator[Connection]:
    """A transaction under the days' locks in which the rewards of the days are loaded; it commits at the end.

    Only calculations need the rewards: for a year there are 17,520.
    """
    with transactions.writing(engine, days, timeout_seconds=timeout_seconds) as connection:
        plan_for_sets(connection)
        if with_rewards:
            load_rewards(connection, days)
        yield connection
        if with_rewards:
            period_rewards.drop(connection)


def plan_for_sets(connection: Connection) -> None:
    """Sets PostgreSQL's planner for joins of whole tables, for this transaction."""
    if connection.dialect.name == "postgresql":
        # Tables that were just filled have no statistics, and the planner expects single rows. The nested loop that it
        # chose took more than five minutes for a month that a hash join compares in half a second.
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        connection.exec_driver_sql("SET LOCAL work_mem = '64MB'")
        # Disabled nested loops have so high a cost that the just-in-time compiler would start for every statement.
        connection.exec_driver_sql("SET LOCAL jit = off")


@contextmanager
def plan_for_merges(connection: Connection) -> Iterator[None]:
    """Makes PostgreSQL join along the keys' indexes inside the `with` block."""
    if connection.dialect.name != "postgresql":
        yield
        return
    # The planner expects 34,000 spots where there are 500,000, and hashes: 3.1 s, where a merge takes 1.7 s. Its
    # parallel workers would each merge all of one side, and compete with the other connections of this process.
    choices = {"enable_hashjoin": "off", "enable_sort": "off", "max_parallel_workers_per_gather": "0"}
    before = {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in choices}
    for settings in (choices, before):
        for name, value in settings.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
        if settings is choices:
            yield


def load_rewards(connection: Connection, days: Days) -> None:
    """Creates `period_rewards` and fills it for the days; a period whose difficulty is not known has no row."""
    period_rewards.create(connection, checkfirst=False)
    spans = [span._asdict() for span in difficulty_history(connection).rewards(days)]
    if not spans:
        return
    # Only one row per span is sent, and the database makes the half-hours: 0.05 s for three years, not 0.8 s.
    _reward_spans.create(connection, checkfirst=False)
    connection.execute(insert(_reward_spans), spans)
    periods = values(column("period", Integer), name="numbers").data([(n,) for n in range(1, 51)]).cte("periods")
    known = _reward_spans.c
    rewards = select(
        known.settlement_date, periods.c.period, known.difficulty, known.difficulty, known.bitcoin_per_hash
    ).join_from(_reward_spans, periods, periods.c.period.between(known.first, known.last))
    connection.execute(insert(period_rewards).from_select(period_rewards.c.keys(), rewards))
    _reward_spans.drop(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE period_rewards")
