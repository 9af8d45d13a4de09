import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.exc import IntegrityError

from recon_assets.database.engine import open_engine
from recon_assets.database.migration import MIGRATIONS
from recon_assets.database.progress_table import progress_table
from recon_assets.database.schema import VERSION_TABLE, Migration, SchemaState, migrate, require_schema, schema_state
from recon_assets.database.shape import Change
from recon_assets.database.tables import metadata
from recon_assets.database.transactions import reading, writing
from recon_assets.elexon.client import Elexon
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.errors import ConfigurationError, SchemaError
from recon_assets.ingest.generation import read_wind_generation
from recon_assets.reconcile.apply import Changes
from recon_assets.settings import Settings
from recon_assets_tests.support.generation import DAY_MWH, body_of, publish
from recon_assets_tests.support.steps import JUNE_6, NOW, contents, execute, scalar

BITCOIN_SUMMARY = "id {serial}, {period} NOT NULL, miner_model text NOT NULL, bitcoin_mined numeric NOT NULL"
ENERGY_SUMMARY = """total_curtailed_energy numeric, total_payment numeric, total_wind_generation numeric,
    wind_onshore_generation numeric, wind_offshore_generation numeric, created_at timestamp DEFAULT CURRENT_TIMESTAMP"""
OLD_TABLES = {
    "curtailment_records": """id {serial}, settlement_date date NOT NULL, settlement_period int NOT NULL,
        farm_id text NOT NULL, lead_party_name text, volume numeric NOT NULL, payment numeric NOT NULL,
        original_price numeric NOT NULL DEFAULT 0, final_price numeric NOT NULL, so_flag boolean, cadl_flag boolean,
        created_at timestamp DEFAULT CURRENT_TIMESTAMP""",
    "historical_bitcoin_calculations": """id {serial}, settlement_date date NOT NULL, settlement_period int NOT NULL,
        farm_id text NOT NULL, miner_model text NOT NULL, bitcoin_mined numeric(18, 8) NOT NULL,
        difficulty numeric NOT NULL, calculated_at timestamp DEFAULT CURRENT_TIMESTAMP""",
    "bitcoin_daily_summaries": BITCOIN_SUMMARY.replace("{period}", "summary_date date")
    + ", value_at_mining numeric NOT NULL, average_difficulty numeric NOT NULL",
    "bitcoin_monthly_summaries": BITCOIN_SUMMARY.replace("{period}", "year_month text")
    + ", value_at_mining numeric NOT NULL, created_at timestamp NOT NULL, updated_at timestamp NOT NULL",
    "bitcoin_yearly_summaries": BITCOIN_SUMMARY.replace("{period}", "year text"),
    "daily_summaries": f"summary_date date PRIMARY KEY, {ENERGY_SUMMARY}",
    "monthly_summaries": f"year_month text PRIMARY KEY, {ENERGY_SUMMARY}",
    "yearly_summaries": f"year text PRIMARY KEY, {ENERGY_SUMMARY}",
}
"""The user's database in its oldest and strictest shape."""

RECORD = "(settlement_date, settlement_period, farm_id, lead_party_name, volume, payment, original_price, final_price,"
OLD_ROWS = [
    # A positive volume, payments of either sign, and the same row twice.
    f"INSERT INTO curtailment_records {RECORD} so_flag, cadl_flag) VALUES"
    " ('2023-06-01', 7, 'T_SGRWO-1', 'Seagreen', 12.5, -500, -40, -40, true, false),"
    " ('2023-06-01', 7, 'T_SGRWO-1', 'Seagreen', 12.5, -500, -40, -40, true, false),"
    " ('2023-06-02', 8, 'T_SGRWO-1', NULL, -3, 120, -40, 0, true, NULL)",
    "INSERT INTO historical_bitcoin_calculations"
    " (settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty) VALUES"
    " ('2023-06-01', 7, 'T_SGRWO-1', 'S9', 0.00123456, 51234338863442),"
    " ('2023-06-01', 7, 'T_SGRWO-1', 'S9', 0.00123456, 51234338863442)",
    "INSERT INTO bitcoin_daily_summaries"
    " (summary_date, miner_model, bitcoin_mined, value_at_mining, average_difficulty) VALUES"
    " ('2023-06-01', 'S9', 0.00246912, 65.2, 51234338863442)",
    "INSERT INTO bitcoin_monthly_summaries"
    " (year_month, miner_model, bitcoin_mined, value_at_mining, created_at, updated_at) VALUES"
    " ('2023-06', 'S9', 0.00246912, 65.2, '2023-07-01 00:00:00', '2023-07-01 00:00:00')",
    "INSERT INTO bitcoin_yearly_summaries (year, miner_model, bitcoin_mined) VALUES ('2023', 'S9', 0.00246912)",
    "INSERT INTO daily_summaries (summary_date, total_curtailed_energy, total_payment) VALUES ('2023-06-01', 25, 1000)",
    "INSERT INTO monthly_summaries (year_month, total_curtailed_energy) VALUES ('2023-06', 25)",
    "INSERT INTO yearly_summaries (year, total_curtailed_energy) VALUES ('2023', 25)",
]
INSERTS_OF_THE_LISTED_COLUMNS = [
    f"INSERT INTO curtailment_records {RECORD} so_flag, cadl_flag) VALUES"
    " ('2024-01-01', 1, 'T_SGRWO-1', 'Seagreen', -1, 40, -40, -40, true, false)",
    "INSERT INTO historical_bitcoin_calculations"
    " (settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty) VALUES"
    " ('2024-01-01', 1, 'T_SGRWO-1', 'S9', 0.001, 1e14)",
    "INSERT INTO bitcoin_daily_summaries (summary_date, miner_model, bitcoin_mined) VALUES ('2024-01-01', 'S9', 1)",
    "INSERT INTO bitcoin_monthly_summaries (year_month, miner_model, bitcoin_mined) VALUES ('2024-01', 'S9', 1)",
    "INSERT INTO bitcoin_yearly_summaries (year, miner_model, bitcoin_mined) VALUES ('2024', 'S9', 1)",
    *(
        f"INSERT INTO {table} ({period}, total_curtailed_energy, total_payment, total_wind_generation,"
        f" wind_onshore_generation, wind_offshore_generation) VALUES ('{value}', 1, 1, 1, 1, 1)"
        for table, period, value in (
            ("daily_summaries", "summary_date", "2024-01-01"),
            ("monthly_summaries", "year_month", "2024-01"),
            ("yearly_summaries", "year", "2024"),
        )
    ),
]
"""Rows as a script of the user writes them: without id and timestamps."""


@pytest.fixture
def empty(settings: Settings) -> Iterator[Engine]:
    """An engine on an empty database."""
    engine = open_engine(settings.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def old(empty: Engine) -> Engine:
    """An engine on the user's old database, with rows."""
    build_old_database(empty)
    return empty


def build_old_database(engine: Engine) -> None:
    """Makes the user's old tables in an empty database, with rows."""
    serial = "serial PRIMARY KEY" if engine.dialect.name == "postgresql" else "integer PRIMARY KEY"
    execute(engine, *(f"CREATE TABLE {name} ({columns.format(serial=serial)})" for name, columns in OLD_TABLES.items()))
    execute(engine, *OLD_ROWS)


def state(engine: Engine) -> SchemaState:
    with reading(engine) as connection:
        return schema_state(connection)


def lines(migration: Migration) -> list[str]:
    """What a migration says that it did."""
    return [change.line() for change in migration.changes]


def shape(engine: Engine) -> dict[str, Any]:
    """Every table with its columns (type, nullable, default), indexes and unique constraints."""
    inspector = inspect(engine)
    return {
        table: (
            {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)},
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted((i["name"] or "", i["column_names"], bool(i["unique"])) for i in inspector.get_indexes(table)),
            inspector.get_unique_constraints(table),
        )
        for table in inspector.get_table_names()
    }


def rows(engine: Engine, table: str, columns: str) -> list[tuple[Any, ...]]:
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY {columns}"))]


def test_a_migration_creates_every_table(empty: Engine) -> None:
    done = migrate(empty)

    made = sorted({*metadata.tables, VERSION_TABLE, "reconciliation_progress"})
    assert lines(done) == [f"added table {name}" for name in made]
    assert state(empty) is SchemaState.CURRENT


def test_a_second_migration_does_nothing(empty: Engine) -> None:
    migrate(empty)
    before = shape(empty)

    assert migrate(empty).changes == ()

    assert shape(empty) == before


def test_the_migrated_schema_is_the_one_that_the_queries_expect(empty: Engine) -> None:
    migrate(empty)

    wanted = MetaData()
    for table in (*metadata.tables.values(), progress_table("reconciliation_progress")):
        table.to_metadata(wanted)
    with reading(empty) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, wanted) == []
    inspector = inspect(empty)
    for table in wanted.tables.values():
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert found == {column.name: column.nullable for column in table.columns}


def test_a_new_database_takes_an_insert_of_the_listed_columns(empty: Engine) -> None:
    migrate(empty)

    assert execute(empty, *INSERTS_OF_THE_LISTED_COLUMNS) == [1] * 8

    assert scalar(empty, "SELECT created_at IS NOT NULL FROM curtailment_records")


def test_a_dry_run_tells_what_a_migration_would_do_and_changes_nothing(empty: Engine) -> None:
    planned = migrate(empty, dry_run=True)

    assert state(empty) is SchemaState.EMPTY
    assert planned == migrate(empty)


def test_a_dry_run_of_an_adoption_changes_nothing(old: Engine) -> None:
    before = shape(old)

    planned = migrate(old, dry_run=True)

    assert shape(old) == before
    assert planned == migrate(old)


def test_a_dry_run_creates_no_file(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'folder' / 'recon.db'}")

    planned = migrate(engine, dry_run=True)

    assert Change("add", "table curtailment_records") in planned.changes
    assert planned.changes[0].line(planned=True).startswith("would add table ")

    assert not (tmp_path / "folder").exists()


def test_migrations_at_the_same_time_do_not_disturb_each_other(empty: Engine) -> None:
    done: list[int] = []
    url = empty.url.render_as_string(hide_password=False)
    threads = [threading.Thread(target=lambda: done.append(len(migrate(open_engine(url)).changes))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [0, 0, 0, len(metadata.tables) + 2]


def test_an_adoption_loses_and_changes_no_row(old: Engine) -> None:
    columns = {
        name: ", ".join(column.split()[0] for column in definition.replace("(18, 8)", "").split(","))
        for name, definition in OLD_TABLES.items()
    }
    before = {name: rows(old, name, columns[name]) for name in OLD_TABLES}

    migrate(old)

    assert {name: rows(old, name, columns[name]) for name in OLD_TABLES} == before
    assert len(before["curtailment_records"]) == 3
    assert state(old) is SchemaState.CURRENT
    assert migrate(old).changes == ()


def test_an_adoption_adds_nullable_columns_and_relaxes_what_our_inserts_would_break(old: Engine) -> None:
    before = shape(old)

    done = lines(migrate(old))

    assert "added column sequence_number of curtailment_records" in done
    assert "column final_price of curtailment_records: NULL allowed" in done
    assert "column value_at_mining of bitcoin_daily_summaries: NULL allowed" in done
    assert "added index curtailment_records_farm of curtailment_records" in done
    after = shape(old)
    for table in OLD_TABLES:
        for name, (kind, nullable, default) in before[table][0].items():
            assert after[table][0][name] in [(kind, nullable, default), (kind, True, default)]
        assert after[table][1] == before[table][1]
    assert "numeric(18, 8)" in str(after["historical_bitcoin_calculations"][0]["bitcoin_mined"]).lower()
    added = {name for table in OLD_TABLES for name in after[table][0].keys() - before[table][0].keys()}
    assert added == {
        "sequence_number", "acceptance_id", "bid_offer_pair_id", "created_at", "updated_at", "last_updated",
    }  # fmt: skip


def test_an_adopted_database_takes_an_insert_of_the_listed_columns(old: Engine) -> None:
    migrate(old)

    assert execute(old, *INSERTS_OF_THE_LISTED_COLUMNS) == [1] * 8


def test_an_adopted_database_takes_a_bid_without_prices(old: Engine) -> None:
    migrate(old)

    bid = "('2024-01-01', 1, 'T_SGRWO-1', NULL, -1, NULL, NULL, NULL, true, false)"
    assert execute(old, f"INSERT INTO curtailment_records {RECORD} so_flag, cadl_flag) VALUES {bid}") == [1]


def test_a_key_is_only_made_unique_where_the_rows_allow_it(old: Engine) -> None:
    migrate(old)

    unique = {name: uniques for table in OLD_TABLES for name, columns, uniques in shape(old)[table][2] if columns}
    assert unique["curtailment_records_key"]
    assert not unique["historical_bitcoin_calculations_key"]
    assert unique["bitcoin_daily_summaries_key"]


@pytest.mark.parametrize(
    "key",
    [
        "ALTER TABLE curtailment_records ADD CONSTRAINT narrow UNIQUE (settlement_date, settlement_period, farm_id)",
        "ALTER TABLE curtailment_records ADD UNIQUE (settlement_period, farm_id, settlement_date)",
        "CREATE UNIQUE INDEX narrow ON curtailment_records (settlement_date, settlement_period, farm_id)",
    ],
    ids=["a named key", "an unnamed key", "an index"],
)
def test_a_key_that_allows_one_acceptance_a_period_is_relaxed(empty: Engine, key: str) -> None:
    columns = OLD_TABLES["curtailment_records"]
    if empty.dialect.name == "postgresql" or key.startswith("CREATE"):
        # SQLite gives an id only to an INTEGER PRIMARY KEY.
        serial = "serial PRIMARY KEY" if empty.dialect.name == "postgresql" else "integer PRIMARY KEY"
        execute(empty, f"CREATE TABLE curtailment_records ({columns.format(serial=serial)})", key)
    else:
        constraint = key.partition(" ADD ")[2]
        serial = "integer PRIMARY KEY"
        execute(empty, f"CREATE TABLE curtailment_records ({columns.format(serial=serial)}, {constraint})")
    second = INSERTS_OF_THE_LISTED_COLUMNS[0]
    execute(empty, second)

    done = lines(migrate(empty))

    (dropped,) = (line for line in done if line.startswith("dropped"))
    assert dropped.startswith("dropped unique key (settlement_")
    assert dropped.endswith(") of curtailment_records, which allows a farm one acceptance per period")
    assert execute(empty, second) == [1]
    indexes = {name: unique for name, _, unique in shape(empty)["curtailment_records"][2]}
    assert indexes == {"curtailment_records_key": True, "curtailment_records_farm": False}
    assert shape(empty)["curtailment_records"][3] == []


def test_a_table_without_its_key_is_not_adopted_and_stays_as_it_is(empty: Engine) -> None:
    execute(empty, "CREATE TABLE curtailment_records (settlement_date date, farm_id text)")
    before = shape(empty)

    with pytest.raises(SchemaError, match="curtailment_records has no column id") as refused:
        migrate(empty)

    assert "table curtailment_records has no column settlement_period" in str(refused.value)

    assert shape(empty) == before


def test_foreign_tables_are_left_alone(empty: Engine) -> None:
    execute(empty, "CREATE TABLE reconciliation_progress (somebody text)", "CREATE TABLE theirs (n int)")
    before = shape(empty)

    migrate(empty)

    assert {name: shape(empty)[name] for name in before} == before


def test_an_empty_database_is_created_only_when_asked(empty: Engine) -> None:
    with pytest.raises(SchemaError, match="run for example 'recon daily-check', or set DATABASE_URL"):
        require_schema(empty, create=False)

    require_schema(empty, create=True)

    assert state(empty) is SchemaState.CURRENT
    require_schema(empty, create=False)


def test_a_reading_command_creates_no_file(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "recon.db"

    with pytest.raises(SchemaError, match=f"there is no database at {file} yet"):
        require_schema(open_engine(f"sqlite:///{file}"), create=False)

    assert not file.parent.exists()
    require_schema(open_engine(f"sqlite:///{file}"), create=True)
    assert file.exists()


@pytest.mark.parametrize("create", [False, True])
def test_an_old_database_is_left_to_the_command_that_adopts_it(old: Engine, create: bool) -> None:
    before = shape(old)

    assert state(old) is SchemaState.FOREIGN
    with pytest.raises(SchemaError, match="tables that recon has not adopted yet: run 'recon migrate'") as failure:
        require_schema(old, create=create)

    assert failure.value.exit_code == 2
    assert shape(old) == before


def test_a_schema_of_a_newer_version_is_refused(empty: Engine) -> None:
    migrate(empty)
    execute(empty, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

    assert state(empty) is SchemaState.NEWER
    for refuse in (lambda: require_schema(empty, create=True), lambda: migrate(empty)):
        with pytest.raises(SchemaError, match="made by a newer version of recon: install that version"):
            refuse()


THEIR_PROGRESS = """CREATE TABLE reconciliation_progress (id {serial}, time_period varchar(50) UNIQUE,
    status varchar(20), percentage_complete numeric, last_updated timestamp, total_records integer,
    processed_records integer, error_details text)"""
"""The user's progress table."""
PROGRESS_COLUMNS = (
    "time_period, status, percentage_complete, last_updated, total_records, processed_records, error_details"
)
THEIR_MONTH = (
    f"INSERT INTO reconciliation_progress ({PROGRESS_COLUMNS}) VALUES ('2023-06', 'completed', 100, NULL, 9, 9, 'x')"
)
ADDED_TO_PROGRESS = {"failed_records", "timeouts", "phase", "worker", "started_at"}


def migrate_to(engine: Engine, revision: str) -> None:
    """Brings the schema to an earlier revision, as an earlier version of recon did."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def create_their_progress(engine: Engine) -> None:
    serial = "serial PRIMARY KEY" if engine.dialect.name == "postgresql" else "integer PRIMARY KEY"
    execute(engine, THEIR_PROGRESS.format(serial=serial), THEIR_MONTH)


def test_a_database_of_the_first_revision_gets_the_new_tables_and_keeps_its_rows(empty: Engine) -> None:
    migrate_to(empty, "0001")
    execute(empty, *INSERTS_OF_THE_LISTED_COLUMNS)
    before = shape(empty)
    tables = [table for name, table in metadata.tables.items() if name in before and name != "proof_of_fetch"]
    content = contents(empty, *tables)
    new = {"reconciliation_progress", *metadata.tables} - before.keys()
    assert {"settlement_revisions", "recovered_days", "superseded_curtailment_records"} <= new
    assert state(empty) is SchemaState.OLDER
    with pytest.raises(SchemaError, match="has an older schema: run 'recon migrate'"):
        require_schema(empty, create=True)

    done = migrate(empty)

    assert {line for line in lines(done) if line.startswith("added table ")} == {f"added table {name}" for name in new}
    assert state(empty) is SchemaState.CURRENT
    unchanged = before.keys() - {"proof_of_fetch", VERSION_TABLE}
    assert {name: shape(empty)[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert contents(empty, *tables) == content
    assert migrate(empty).changes == ()


THEIR_GENERATION = """CREATE TABLE wind_generation_data (id {serial}, settlement_date date NOT NULL,
    settlement_period int NOT NULL, wind_onshore numeric NOT NULL, wind_offshore numeric NOT NULL,
    total_wind numeric NOT NULL, last_updated timestamp DEFAULT CURRENT_TIMESTAMP,
    data_source varchar(50){key})"""
"""The user's wind generation."""
THEIR_KEY = ", UNIQUE (settlement_date, settlement_period)"
HALF_HOURS = "settlement_date, settlement_period, wind_onshore, wind_offshore, total_wind, data_source"


@pytest.mark.parametrize("revision", [None, "0002"])
@pytest.mark.parametrize(
    ("key", "periods"), [(THEIR_KEY, (7, 8)), ("", (7, 8)), ("", (7, 7, 8))], ids=["their key", "no key", "duplicates"]
)
def test_the_wind_generation_of_the_user_is_adopted_with_its_rows(
    empty: Engine, recordings: Path, key: str, periods: tuple[int, ...], revision: str | None
) -> None:
    # given
    if revision:
        migrate_to(empty, revision)
    serial = "serial PRIMARY KEY" if empty.dialect.name == "postgresql" else "integer PRIMARY KEY"
    insert = f"INSERT INTO wind_generation_data ({HALF_HOURS}) VALUES"
    execute(
        empty,
        THEIR_GENERATION.format(serial=serial, key=key),
        *(f"{insert} ('2025-06-06', {period}, 1, 2, 3, 'ELEXON')" for period in periods),
    )
    columns, primary, indexes, uniques = shape(empty)["wind_generation_data"]
    content = rows(empty, "wind_generation_data", f"id, {HALF_HOURS}, last_updated")

    # when
    planned, done = migrate(empty, dry_run=True), migrate(empty)

    # then
    assert planned == done
    assert "added column published_at of wind_generation_data" in lines(done)
    assert rows(empty, "wind_generation_data", f"id, {HALF_HOURS}, last_updated") == content
    now = shape(empty)["wind_generation_data"]
    published_at = now[0].pop("published_at")
    assert published_at[1] is True
    assert (now[0], now[1], now[3]) == (columns, primary, uniques)
    ours = [("wind_generation_data_key", ["settlement_date", "settlement_period"], len(periods) == 2)]
    assert [index for index in now[2] if index not in indexes] == ([] if key else ours)
    assert migrate(empty).changes == ()
    # and: their scripts go on writing what they know
    assert execute(empty, f"{insert} ('2025-06-07', 1, 1, 2, 3, 'ELEXON')") == [1]

    # when the day is read
    publish(recordings, JUNE_6, body_of(JUNE_6))
    day = read_wind_generation(empty, Elexon(RecordingSource(recordings)), JUNE_6, NOW)

    # then each half-hour is there once, as published
    assert day.changes == Changes(inserted=46, corrected=2, removed=len(periods) - 2)
    assert day.half_hours == 48
    assert day.total_mwh == DAY_MWH["total"]
    assert scalar(empty, "SELECT count(*) FROM wind_generation_data WHERE published_at IS NULL") == 1
    again = read_wind_generation(empty, Elexon(RecordingSource(recordings)), JUNE_6, NOW)
    assert again.changes == Changes(kept=48)


def test_the_progress_table_that_is_made_has_a_row_per_month(empty: Engine) -> None:
    migrate(empty)

    assert execute(empty, THEIR_MONTH) == [1]

    _, key, _, uniques = shape(empty)["reconciliation_progress"]
    assert key == ["id"]
    assert [constraint["column_names"] for constraint in uniques] == [["time_period"]]
    with pytest.raises(IntegrityError):
        execute(empty, THEIR_MONTH)


@pytest.mark.parametrize("revision", [None, "0001"])
def test_the_progress_table_of_the_user_is_adopted_with_its_rows(empty: Engine, revision: str | None) -> None:
    if revision:
        migrate_to(empty, revision)
    create_their_progress(empty)
    before = shape(empty)["reconciliation_progress"]
    content = rows(empty, "reconciliation_progress", PROGRESS_COLUMNS)

    planned = migrate(empty, dry_run=True)
    done = migrate(empty)

    assert planned == done
    added = {f"added column {name} of reconciliation_progress" for name in ADDED_TO_PROGRESS}
    assert {line for line in lines(done) if "progress" in line} == added
    columns, key, indexes, uniques = shape(empty)["reconciliation_progress"]
    assert {name: column for name, column in columns.items() if name not in ADDED_TO_PROGRESS} == before[0]
    assert columns.keys() - before[0].keys() == ADDED_TO_PROGRESS
    assert (key, indexes, uniques) == before[1:]
    assert rows(empty, "reconciliation_progress", PROGRESS_COLUMNS) == content
    assert len(content) == 1
    # and: their scripts go on writing what they know
    assert execute(empty, THEIR_MONTH.replace("2023-06", "2023-07")) == [1]
    assert migrate(empty).changes == ()


@pytest.mark.parametrize(
    "columns",
    [
        "somebody text",
        "time_period text PRIMARY KEY, status text",
        # One column more than is known, which an insert of ours might not fill.
        THEIR_PROGRESS.partition("(")[2].rpartition(")")[0].replace("id {serial}", "id int, owner text NOT NULL"),
        # All but one.
        THEIR_PROGRESS.partition("(")[2].rpartition(")")[0].replace("id {serial}, ", ""),
    ],
    ids=["another", "fewer", "more", "without id"],
)
def test_a_progress_table_of_another_shape_is_left_alone_and_another_is_made(empty: Engine, columns: str) -> None:
    execute(empty, f"CREATE TABLE reconciliation_progress ({columns})")
    before = shape(empty)["reconciliation_progress"]

    done = migrate(empty)

    assert "added table recon_progress" in lines(done)
    assert not [line for line in lines(done) if "reconciliation_progress" in line]
    assert "reconciliation_progress has other columns and is left alone; recon uses recon_progress" in done.notes
    assert shape(empty)["reconciliation_progress"] == before
    assert shape(empty)["recon_progress"][0].keys() == {column.name for column in progress_table("").columns}
    assert migrate(empty).changes == ()


FIRST_KEPT = "SELECT value FROM recon_settings WHERE name = 'first_day'"


def test_the_first_kept_day_is_written_by_the_first_migration(empty: Engine) -> None:
    migrate(empty, first_day=date(2023, 1, 1))

    assert scalar(empty, FIRST_KEPT) == "2023-01-01"
    assert migrate(empty, first_day=date(2023, 1, 1)).changes == ()
    require_schema(empty, create=False, first_day=date(2023, 1, 1))


def test_a_database_of_an_earlier_version_gets_its_first_kept_day_when_it_is_migrated(empty: Engine) -> None:
    migrate_to(empty, "0003")

    assert "added setting first_day = 2023-01-01" in lines(migrate(empty, dry_run=True, first_day=date(2023, 1, 1)))
    assert "added setting first_day = 2022-01-01" in lines(migrate(empty))

    execute(empty, "DELETE FROM recon_settings")
    require_schema(empty, create=False, first_day=date(2024, 1, 1))
    assert lines(migrate(empty)) == ["added setting first_day = 2022-01-01"]


def test_a_process_with_another_first_day_is_refused(empty: Engine) -> None:
    require_schema(empty, create=True, first_day=date(2023, 1, 1))

    for refuse in (lambda: require_schema(empty, create=True), lambda: migrate(empty)):
        with pytest.raises(ConfigurationError) as failure:
            refuse()
        assert str(failure.value).startswith("RECON_FIRST_DAY is 2022-01-01, but ")
        assert "keeps days from 2023-01-01 on: set RECON_FIRST_DAY=2023-01-01, or" in str(failure.value)
    execute(empty, str(failure.value).rpartition("change the database: ")[2])
    require_schema(empty, create=False)
