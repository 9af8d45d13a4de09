from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.reconcile.constraints import constraints_fingerprint
from recon_assets_tests.support.steps import execute

TABLE = "historical_bitcoin_calculations"


def trigger(engine: Engine, table: str = TABLE, day: str = "2025-06-06") -> list[str]:
    """Statements of a trigger that forbids a day, as each engine writes it."""
    if engine.dialect.name == "sqlite":
        return [
            f"CREATE TRIGGER forbidden BEFORE INSERT ON {table} WHEN NEW.settlement_date = '{day}' "
            "BEGIN SELECT RAISE(ABORT, 'forbidden'); END"
        ]
    return [
        "CREATE OR REPLACE FUNCTION forbid() RETURNS trigger AS $$ BEGIN "
        f"IF NEW.settlement_date = '{day}' THEN RAISE EXCEPTION 'forbidden'; END IF; RETURN NEW; END $$ "
        "LANGUAGE plpgsql",
        f"CREATE TRIGGER forbidden BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION forbid()",
    ]


def drop(engine: Engine, table: str = TABLE) -> str:
    return "DROP TRIGGER forbidden" + ("" if engine.dialect.name == "sqlite" else f" ON {table}")


@pytest.fixture
def seen(engine: Engine) -> Callable[[], str]:
    """A function that reads the fingerprint of the constraints and triggers."""

    def look() -> str:
        with transactions.reading(engine) as connection:
            return constraints_fingerprint(connection)

    return look


@pytest.mark.parametrize("table", [TABLE, "curtailment_records"])
def test_a_trigger_that_comes_changes_or_goes_is_noticed(engine: Engine, seen: Callable[[], str], table: str) -> None:
    before = seen()
    assert seen() == before

    execute(engine, *trigger(engine, table))
    with_trigger = seen()
    execute(engine, drop(engine, table), *trigger(engine, table, "2025-06-07"))
    changed = seen()
    execute(engine, drop(engine, table))

    assert len({before, with_trigger, changed}) == 3
    assert seen() == before


def test_rows_and_the_constraints_of_other_tables_do_not_count(small_days: Engine, seen: Callable[[], str]) -> None:
    before = seen()

    execute(small_days, f"DELETE FROM {TABLE}", *trigger(small_days, "wind_bids"))

    assert seen() == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_on_postgresql_constraints_and_triggers_that_are_switched_off_are_told(
    engine: Engine, seen: Callable[[], str]
) -> None:
    # SQLite can add a constraint only with a new table, whose text is another one
    execute(engine, *trigger(engine))
    before = seen()

    execute(engine, f"ALTER TABLE {TABLE} DISABLE TRIGGER forbidden")
    switched_off = seen()
    execute(engine, f"ALTER TABLE {TABLE} ADD CONSTRAINT small CHECK (bitcoin_mined < 1)")

    assert len({before, switched_off, seen()}) == 3
