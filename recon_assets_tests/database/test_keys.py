"""A unique key that duplicate rows prevented is added when they are gone."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from recon_assets.database.engine import open_engine
from recon_assets.database.keys import KEYS, add_keys_concurrently, has_unique_key, pending_keys
from recon_assets.database.schema import migrate
from recon_assets.database.transactions import reading
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import build_old_database, lines
from recon_assets_tests.support.steps import execute, scalar

TABLE = "historical_bitcoin_calculations"
KEY = "settlement_date, settlement_period, farm_id, miner_model"
TWIN = (
    f"INSERT INTO {TABLE} ({KEY}, bitcoin_mined, difficulty) SELECT {KEY}, bitcoin_mined, difficulty FROM {TABLE}"
    " WHERE id = 1"
)
PENDING = f"Unique key of {TABLE}: pending, 1 duplicate row; run 'recon migrate' when they are gone"
POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def old(settings: Settings) -> Iterator[Engine]:
    """An engine on the user's old database, in which a calculation is there twice."""
    engine = open_engine(settings.database_url)
    build_old_database(engine)
    yield engine
    engine.dispose()


def pending(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        return pending_keys(connection)


def indexes(engine: Engine, table: str) -> dict[str | None, bool]:
    return {index["name"]: bool(index["unique"]) for index in inspect(engine).get_indexes(table)}


def test_a_key_that_duplicates_prevented_is_added_when_they_are_gone(old: Engine) -> None:
    # given
    done = migrate(old)
    assert PENDING in done.notes
    assert pending(old) == {TABLE: 1}
    again = migrate(old)
    assert (again.changes, again.notes) == ((), (PENDING,))
    execute(old, f"DELETE FROM {TABLE} WHERE id = 2")
    assert pending(old) == {TABLE: 0}

    # when
    planned = migrate(old, dry_run=True)
    assert pending(old) == {TABLE: 0}
    done = migrate(old)

    # then
    assert planned.changes == done.changes
    assert lines(done) == [f"added unique key ({KEY}) of {TABLE}"]
    assert any(statement.startswith("CREATE UNIQUE INDEX") for statement in planned.statements)
    assert pending(old) == {}
    assert indexes(old, TABLE) == {f"{TABLE}_key": True}
    with pytest.raises(IntegrityError):
        execute(old, TWIN)
    assert migrate(old).changes == ()


def test_keys_of_summaries_wait_likewise(old: Engine) -> None:
    execute(
        old,
        *(
            f"INSERT INTO bitcoin_yearly_summaries (year, miner_model, bitcoin_mined) VALUES ('{year}', 'S9', 1)"
            for year in ("2023", "2024", "2024", "2024")
        ),
    )
    migrate(old)
    assert pending(old) == {TABLE: 1, "bitcoin_yearly_summaries": 3}

    execute(old, "DELETE FROM bitcoin_yearly_summaries WHERE id > 1")
    migrate(old)

    assert pending(old) == {TABLE: 1}
    assert indexes(old, "bitcoin_yearly_summaries") == {"bitcoin_yearly_summaries_key": True}


def test_a_partial_index_is_no_key_and_one_is_added_beside_it(old: Engine) -> None:
    execute(
        old,
        f"DELETE FROM {TABLE} WHERE id = 2",
        f"CREATE UNIQUE INDEX {TABLE}_key ON {TABLE} ({KEY}) WHERE settlement_period > 40",
    )

    done = migrate(old)

    assert f"added unique key ({KEY}) of {TABLE}" in lines(done)
    assert indexes(old, TABLE) == {f"{TABLE}_key": True, f"{TABLE}_key_unique": True}
    assert pending(old) == {}


@POSTGRESQL
def test_a_key_that_cannot_be_built_leaves_nothing_and_is_said(old: Engine) -> None:
    migrate(old)

    # Duplicates that appear after they were counted are those that are there when it is built.
    (failure,) = add_keys_concurrently(old, [key for key in KEYS if key.table == TABLE]).values()

    assert failure == (
        f"unique key ({KEY}) of {TABLE} was not added: duplicate rows appeared; run 'recon migrate' again"
    )
    assert indexes(old, TABLE) == {f"{TABLE}_key": False}
    assert scalar(old, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


@POSTGRESQL
def test_an_invalid_index_is_no_key_and_one_of_an_interrupted_build_is_replaced(old: Engine) -> None:
    migrate(old)
    with old.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(IntegrityError):
            connection.execute(text(f"CREATE UNIQUE INDEX CONCURRENTLY {TABLE}_building ON {TABLE} ({KEY})"))
        assert not has_unique_key(connection, TABLE, KEY.split(", "))
    execute(old, f"DELETE FROM {TABLE} WHERE id = 2")

    migrate(old)

    assert indexes(old, TABLE) == {f"{TABLE}_key": True}


@POSTGRESQL
def test_a_key_is_built_while_somebody_else_builds_them_only_once(old: Engine) -> None:
    migrate(old)
    execute(old, f"DELETE FROM {TABLE} WHERE id = 2")
    with old.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(1919247215, 0)"))

        done = migrate(old)

        assert done.failures == (f"unique key ({KEY}) of {TABLE} was not added: another 'recon migrate' is at work",)
    assert pending(old) == {TABLE: 0}


@POSTGRESQL
def test_a_key_is_added_in_the_schema_of_the_search_path(settings: Settings) -> None:
    plain = open_engine(settings.database_url)
    execute(plain, 'CREATE SCHEMA "Old"')
    engine = open_engine(settings.database_url.update_query_dict({"search_path": '"Old"'}))
    build_old_database(engine)
    migrate(engine)
    execute(engine, f"DELETE FROM {TABLE} WHERE id = 2")

    done = migrate(engine)

    assert lines(done) == [f"added unique key ({KEY}) of {TABLE}"]
    assert pending(engine) == {}
    schemas = f"SELECT schemaname FROM pg_indexes WHERE indexname = '{TABLE}_key' AND indexdef LIKE '% UNIQUE %'"
    assert scalar(plain, schemas) == "Old"
    for opened in (plain, engine):
        opened.dispose()
