"""The days, rule and miner models that a query is about, and the mining rewards of their settlement periods.

A difficulty that changes within a period is weighted by time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import NamedTuple

from sqlalchemy import (
    CTE,
    Column,
    Connection,
    Date,
    Double,
    Engine,
    FromClause,
    Integer,
    MetaData,
    Table,
    cast,
    column,
    select,
    values,
)

from recon_assets.database import transactions
from recon_assets.database.given_rows import given_rows
from recon_assets.database.tables import AMOUNT, network_difficulty
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.difficulty import DifficultyHistory, Retarget, with_packaged
from recon_assets.domain.mining import MODELS, MinerModel
from recon_assets.domain.settlement import FIRST_DAY, Days


class DaySums(NamedTuple):
    """Sums of base rows by day, as relations: by miner model `bitcoin`; `energy` (MWh, GBP); `generation` (MWh)."""

    bitcoin: FromClause
    energy: FromClause
    generation: FromClause


@dataclass(frozen=True)
class Scope:
    """Days that are compared or converged, under a rule, for some miner models.

    `excluded` are days that the layer below cannot be trusted for: nothing is expected of them and nothing is removed.
    `periods` (first and last) and `farm` narrow the half-hourly layers further. Summaries are made from the `day_sums`
    (sums.py) if there are any, not from every row again. `first_day` is the first day that the database keeps, whatever
    the scope's days are. `run_id` is the Dagster run that works. `rewards` has the mining rewards of the days, one row
    per settlement period whose reward is known, with the difficulty both as a double, to compare, and as the stored
    type; only calculations need them (`reading`).
    """

    days: Days
    rule: CurtailmentRule
    models: Mapping[str, MinerModel] = field(default_factory=lambda: MODELS)
    excluded: frozenset[date] = frozenset()
    periods: tuple[int, int] | None = None
    farm: str | None = None
    day_sums: DaySums | None = field(default=None, compare=False, repr=False)
    first_day: date = FIRST_DAY
    run_id: str | None = None
    rewards: CTE | None = field(default=None, compare=False, repr=False)

    def of(self, days: Days) -> "Scope":
        """The same scope for other days."""
        return replace(self, days=days)

    def excluding(self, days: frozenset[date]) -> "Scope":
        """The same scope without some days."""
        return replace(self, excluded=self.excluded | days)

    def only_excluding(self, days: frozenset[date]) -> "Scope":
        """The same scope without these days, and with those that were excluded before."""
        return replace(self, excluded=days)


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
def reading(engine: Engine, scope: Scope) -> Iterator[tuple[Connection, Scope]]:
    """A read-only snapshot, and the scope with the rewards of its days."""
    with transactions.reading(engine) as connection:
        plan_for_sets(connection)
        with with_rewards(connection, scope) as rewarded:
            yield connection, rewarded


@contextmanager
def writing(engine: Engine, scope: Scope, timeout_seconds: float | None = None) -> Iterator[tuple[Connection, Scope]]:
    """A transaction under the locks of the scope's days, and the scope with their rewards; it commits at the end."""
    with transactions.writing(engine, scope.days, timeout_seconds=timeout_seconds) as connection:
        plan_for_sets(connection)
        with with_rewards(connection, scope) as rewarded:
            yield connection, rewarded


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
    # Sorting stays allowed, because the rewards have no index: without it the planner chose a nested loop, which took
    # 44 s for one month. A random page as cheap as the next one has it read the keys' indexes and not sort the rows.
    choices = {"enable_hashjoin": "off", "random_page_cost": "1", "max_parallel_workers_per_gather": "0"}
    before = {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in choices}
    for settings in (choices, before):
        for name, value in settings.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
        if settings is choices:
            yield


@contextmanager
def with_rewards(connection: Connection, scope: Scope) -> Iterator[Scope]:
    """The scope with the mining rewards of its days; a period whose difficulty is not known has no row."""
    # Only one row per span is sent, and the database makes the half-hours: 0.05 s for three years, not 0.8 s.
    spans = [span._asdict() for span in difficulty_history(connection).rewards(scope.days)]
    with given_rows(connection, _reward_spans, spans) as given:
        periods = values(column("period", Integer), name="numbers").data([(n,) for n in range(1, 51)]).cte("periods")
        known = given.c
        rewards = select(
            known.settlement_date,
            # Cast, because SQLite looks up by an expression only if it has the type of the column.
            cast(periods.c.period, Integer).label("settlement_period"),
            known.difficulty,
            cast(known.difficulty, AMOUNT).label("difficulty_amount"),
            known.bitcoin_per_hash,
        ).join_from(given, periods, periods.c.period.between(known.first, known.last))
        # Materialized, so that the difficulty is converted once per period and not per calculation.
        yield replace(scope, rewards=rewards.cte("period_rewards").prefix_with("MATERIALIZED"))
