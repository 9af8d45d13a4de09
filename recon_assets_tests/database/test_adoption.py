"""What adoption refuses: before any change, with one line for each thing that names what to do."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import SchemaState, migrate, schema_state
from recon_assets.database.transactions import reading
from recon_assets.errors import SchemaError
from recon_assets.settings import Settings
from recon_assets_tests.database.test_schema import INSERTS_OF_THE_LISTED_COLUMNS, OLD_TABLES, shape
from recon_assets_tests.support.steps import execute, scalar

RECORDS, CALCULATIONS = "curtailment_records", "historical_bitcoin_calculations"
POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def empty(settings: Settings) -> Iterator[Engine]:
    """An engine on an empty database."""
    engine = open_engine(settings.database_url)
    yield engine
    engine.dispose()


def build(engine: Engine, *changes: tuple[str, str, str], add: str = "", skip: str = "") -> None:
    """Makes the user's old tables, with changes (table, text, other text) of their definitions."""
    serial = "serial PRIMARY KEY" if engine.dialect.name == "postgresql" else "integer PRIMARY KEY"
    statements = []
    for table, columns in OLD_TABLES.items():
        definition = columns.format(serial=serial)
        for changed, old, new in changes:
            if changed == table:
                assert old in definition
                definition = definition.replace(old, new, 1)
        if table != skip:
            statements.append(f"CREATE TABLE {table} ({definition})")
    execute(engine, *statements, *filter(None, add.split(";")))


def refusal(engine: Engine) -> list[str]:
    """The lines with which an adoption is refused, after a check that nothing has changed."""
    before = shape(engine)
    with reading(engine) as connection:
        state = schema_state(connection)
    messages = []
    for dry_run in (True, False):
        with pytest.raises(SchemaError) as failure:
            migrate(engine, dry_run=dry_run)
        assert failure.value.exit_code == 2
        messages.append(str(failure.value))
    assert messages[0] == messages[1]
    assert shape(engine) == before
    with reading(engine) as connection:
        assert schema_state(connection) is state is not SchemaState.CURRENT
    return messages[0].splitlines()


def only_refusal(engine: Engine) -> str:
    (line,) = refusal(engine)
    return line.removeprefix("this database cannot be adopted as it is: ")


ALTER = "ALTER TABLE {} ALTER COLUMN {} TYPE {}"
NOT_COMPARABLE = [
    (RECORDS, "settlement_date date", "settlement_date timestamp", "date USING settlement_date::date"),
    (RECORDS, "settlement_date date", "settlement_date text", "date USING settlement_date::date"),
    (RECORDS, "settlement_date date", "settlement_date timestamptz", "date USING settlement_date::date"),
    ("daily_summaries", "summary_date date", "summary_date timestamp", "date USING summary_date::date"),
    (RECORDS, "settlement_period int", "settlement_period text", "integer USING settlement_period::integer"),
    (CALCULATIONS, "settlement_period int", "settlement_period numeric", "integer USING settlement_period::integer"),
    ("monthly_summaries", "year_month text", "year_month date", "text USING to_char(year_month, 'YYYY-MM')"),
    ("bitcoin_monthly_summaries", "year_month text", "year_month integer", "text USING year_month::text"),
    ("yearly_summaries", "year text", "year integer", "text USING year::text"),
    ("bitcoin_yearly_summaries", "year text", "year date", "text USING to_char(year, 'YYYY')"),
    (RECORDS, "farm_id text", "farm_id char(20)", "text USING farm_id::text"),
    (CALCULATIONS, "miner_model text", "miner_model char(20)", "text USING miner_model::text"),
    (RECORDS, "volume numeric", "volume real", "numeric USING volume::text::numeric"),
    (RECORDS, "payment numeric", "payment integer", "numeric USING payment::numeric"),
    (RECORDS, "final_price numeric", "final_price money", "numeric USING final_price::numeric"),
    (RECORDS, "so_flag boolean", "so_flag integer", "boolean USING so_flag::integer::boolean"),
    (CALCULATIONS, "bitcoin_mined numeric(18, 8)", "bitcoin_mined real", "numeric USING bitcoin_mined::text::numeric"),
    ("bitcoin_daily_summaries", "bitcoin_mined numeric", "bitcoin_mined real",
     "numeric USING bitcoin_mined::text::numeric"),
    ("yearly_summaries", "total_payment numeric", "total_payment real", "numeric USING total_payment::text::numeric"),
]  # fmt: skip


@POSTGRESQL
@pytest.mark.parametrize(("table", "old", "new", "mend"), NOT_COMPARABLE, ids=lambda word: str(word)[:30])
def test_a_column_of_a_type_that_cannot_be_compared_is_refused_on_postgresql(
    empty: Engine, table: str, old: str, new: str, mend: str
) -> None:
    # given
    build(empty, (table, old, new))
    column = old.split()[0]

    # when
    line = only_refusal(empty)

    # then
    assert line.startswith(f"column {column} of {table} has the type ")
    statement = f"{ALTER.format(table, column, '')}{mend}"
    assert statement in line
    # and: what the line says is enough
    execute(empty, statement)
    migrate(empty)


@SQLITE
@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        (RECORDS, "settlement_date date", "settlement_date timestamp"),
        (RECORDS, "settlement_date date", "settlement_date datetime"),
        (RECORDS, "settlement_period int", "settlement_period text"),
        ("bitcoin_yearly_summaries", "year text", "year integer"),
        ("bitcoin_monthly_summaries", "year_month text", "year_month numeric"),
        (RECORDS, "volume numeric", "volume text"),
    ],
)
def test_a_column_of_a_type_that_cannot_be_compared_is_refused_on_sqlite(
    empty: Engine, table: str, old: str, new: str
) -> None:
    build(empty, (table, old, new))
    column, kind = new.split()

    line = only_refusal(empty)

    assert line.startswith(f"column {column} of {table} has the type {kind}, ")
    # and: what the line says is enough
    execute(empty, *line.partition(": ")[2].split("; "))
    migrate(empty)


INSERT_RECORD = (
    f"INSERT INTO {RECORDS} (settlement_date, settlement_period, farm_id, volume, payment, final_price) VALUES"
)


@SQLITE
@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("'2025-07-04 00:00:00', 7, 'T_A-1', 1, 1, 1", "settlement_date"),
        ("'2025-02-30', 7, 'T_A-1', 1, 1, 1", "settlement_date"),
        ("1751587200, 7, 'T_A-1', 1, 1, 1", "settlement_date"),
        ("'2025-07-04', '7a', 'T_A-1', 1, 1, 1", "settlement_period"),
        ("'2025-07-04', 7, 'T_A-1', '1 MWh', 1, 1", "volume"),
    ],
)
def test_values_that_cannot_be_compared_are_refused_on_sqlite(empty: Engine, row: str, column: str) -> None:
    build(empty, add=f"{INSERT_RECORD} ({row}); {INSERT_RECORD} ('2025-07-03', 7, 'T_A-1', 1, 1, 1)")

    line = only_refusal(empty)

    assert line.startswith(f"column {column} of {RECORDS} has the type ")
    assert "in 1 row" in line
    if column == "settlement_date" and "00:00" in row:
        execute(empty, line.partition(": ")[2])
        migrate(empty)


@pytest.mark.parametrize(
    ("table", "columns", "bad"),
    [
        ("bitcoin_monthly_summaries", "year_month, miner_model, bitcoin_mined, value_at_mining, created_at, updated_at",
         "'2025-6', 'S9', 1, 1, '2025-06-01', '2025-06-01'"),
        ("yearly_summaries", "year", "'25'"),
    ],
)  # fmt: skip
def test_periods_in_another_form_are_refused(empty: Engine, table: str, columns: str, bad: str) -> None:
    build(empty, add=f"INSERT INTO {table} ({columns}) VALUES ({bad})")

    line = only_refusal(empty)

    assert line.startswith(f"column {columns.split(',')[0]} of {table} has the type text, but in 1 row ")
    assert bad.split(",")[0] in line


def test_a_key_that_is_null_is_refused(empty: Engine) -> None:
    build(empty, (RECORDS, "farm_id text NOT NULL", "farm_id text"),
          add=f"{INSERT_RECORD} ('2025-07-03', 7, NULL, 1, 1, 1)")  # fmt: skip

    line = only_refusal(empty)

    assert line.startswith(f"column farm_id of {RECORDS} is NULL in 1 row")
    assert f"DELETE FROM {RECORDS} WHERE farm_id IS NULL" in line


@pytest.mark.parametrize(
    ("spelt", "column"),
    [("settlementDate", "settlement_date"), ("Farm_ID", "farm_id"), ("finalPrice", "final_price")],
)
def test_a_column_in_another_spelling_is_refused(empty: Engine, spelt: str, column: str) -> None:
    build(empty, (RECORDS, column, f'"{spelt}"'))

    line = only_refusal(empty)

    statement = f'ALTER TABLE {RECORDS} RENAME COLUMN "{spelt}" TO {column}'
    assert line == f'column "{spelt}" of {RECORDS} must be called {column}: {statement}'
    execute(empty, statement)
    migrate(empty)


def test_a_column_in_another_spelling_beside_ours_is_refused(empty: Engine) -> None:
    build(empty, (RECORDS, "farm_id text NOT NULL", 'farm_id text NOT NULL, "settlementDate" date'))

    line = only_refusal(empty)

    assert line.startswith(f'table {RECORDS} has the columns "settlementDate" and settlement_date: ')
    assert 'RENAME COLUMN "settlementDate" TO settlement_date_old' in line
    execute(empty, f'ALTER TABLE {RECORDS} RENAME COLUMN "settlementDate" TO settlement_date_old')
    migrate(empty)


@pytest.mark.parametrize("spelt", ["Curtailment_Records", "curtailmentRecords", "CurtailmentRecords"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_table_in_another_spelling_is_refused(empty: Engine, spelt: str, is_alone: bool) -> None:
    columns = OLD_TABLES[RECORDS].format(
        serial="serial PRIMARY KEY" if empty.dialect.name == "postgresql" else "integer PRIMARY KEY"
    )
    if is_alone:
        execute(empty, f'CREATE TABLE "{spelt}" ({columns})')
    else:
        build(empty, add=f'CREATE TABLE "{spelt}" ({columns})', skip=RECORDS)

    line = only_refusal(empty)

    assert line.startswith(f'table "{spelt}" must be called {RECORDS}: ALTER TABLE "{spelt}" RENAME TO ')
    execute(empty, *line.partition(": ")[2].split("; "))
    migrate(empty)


def test_a_view_where_a_table_must_be_is_refused(empty: Engine) -> None:
    build(empty, add=f"ALTER TABLE {RECORDS} RENAME TO rows; CREATE VIEW {RECORDS} AS SELECT * FROM rows")

    line = only_refusal(empty)

    assert line.startswith(f"{RECORDS} is a view, but recon needs a table: ")


def test_a_lone_view_is_refused(empty: Engine) -> None:
    execute(empty, "CREATE VIEW daily_summaries AS SELECT 1 AS n")

    assert only_refusal(empty).startswith("daily_summaries is a view, but recon needs a table: ")


@POSTGRESQL
def test_a_materialized_view_where_a_table_must_be_is_refused(empty: Engine) -> None:
    build(empty, add=f"ALTER TABLE {RECORDS} RENAME TO rows; CREATE MATERIALIZED VIEW {RECORDS} AS SELECT * FROM rows")

    assert only_refusal(empty).startswith(f"{RECORDS} is a materialized view, but recon needs a table: ")


@pytest.mark.parametrize(
    ("table", "column"),
    [(RECORDS, "settlement_period"), (RECORDS, "farm_id"), (CALCULATIONS, "miner_model"), (RECORDS, "volume")],
)
def test_a_column_that_cannot_be_added_empty_is_refused(empty: Engine, table: str, column: str) -> None:
    build(empty, (table, column, "other"))

    line = only_refusal(empty)

    assert line.startswith(f"table {table} has no column {column}, ")


def test_several_refusals_are_counted_and_listed(empty: Engine) -> None:
    build(
        empty,
        (RECORDS, "farm_id", '"farmId"'),
        (CALCULATIONS, "miner_model", "model"),
        ("bitcoin_yearly_summaries", "year text", "year integer"),
    )

    first, *lines = refusal(empty)

    assert first == "this database cannot be adopted as it is, for 3 reasons; nothing was changed:"
    assert [line.partition(":")[0].split(",")[0] for line in lines] == [
        'column "farmId" of curtailment_records must be called farm_id',
        "table historical_bitcoin_calculations has no column miner_model",
        "column year of bitcoin_yearly_summaries has the type integer",
    ]


# Shapes with which recon could not go on working


@pytest.mark.parametrize(
    ("identity", "mend"),
    [("integer NOT NULL", "PRIMARY KEY"), ("integer PRIMARY KEY", "GENERATED BY DEFAULT AS IDENTITY")],
)
@POSTGRESQL
def test_an_id_that_names_no_row_is_refused_on_postgresql(empty: Engine, identity: str, mend: str) -> None:
    build(empty, (RECORDS, "id serial PRIMARY KEY", f"id {identity}"))

    line = " ".join(refusal(empty))

    assert f"column id of {RECORDS} " in line
    assert mend in line


@pytest.mark.parametrize("identity", ["int PRIMARY KEY", "integer", "text PRIMARY KEY"])
@SQLITE
def test_an_id_that_names_no_row_is_refused_on_sqlite(empty: Engine, identity: str) -> None:
    build(empty, (RECORDS, "id integer PRIMARY KEY", f"id {identity}"))

    assert only_refusal(empty).startswith(f"column id of {RECORDS} is not INTEGER PRIMARY KEY, ")


def test_a_daily_summary_without_a_key_is_refused(empty: Engine) -> None:
    build(empty, ("daily_summaries", "date PRIMARY KEY", "date NOT NULL"))

    line = only_refusal(empty)

    statement = "CREATE UNIQUE INDEX daily_summaries_key ON daily_summaries (summary_date)"
    assert line == f"table daily_summaries may hold a summary_date twice: {statement}"
    execute(empty, statement)
    migrate(empty)


def test_a_generated_column_that_recon_writes_is_refused(empty: Engine) -> None:
    build(empty, (RECORDS, "payment numeric NOT NULL", "payment numeric GENERATED ALWAYS AS (volume * 2) STORED"))

    assert only_refusal(empty).startswith(f"column payment of {RECORDS} is generated, ")


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        (RECORDS, "volume numeric NOT NULL", "volume numeric NOT NULL CONSTRAINT sign CHECK (volume > 0)"),
        (RECORDS, "payment numeric NOT NULL", "payment numeric NOT NULL CONSTRAINT sign CHECK (payment >= 0)"),
        (RECORDS, "so_flag boolean", "so_flag boolean CONSTRAINT sign CHECK (settlement_period < 49)"),
        (CALCULATIONS, "difficulty numeric NOT NULL",
         "difficulty numeric NOT NULL CONSTRAINT sign CHECK (miner_model = 'S9')"),
        ("daily_summaries", "summary_date date PRIMARY KEY",
         "summary_date date PRIMARY KEY CONSTRAINT sign CHECK (total_payment > 0)"),
    ],
)  # fmt: skip
def test_a_check_that_forbids_our_rows_is_refused(empty: Engine, table: str, old: str, new: str) -> None:
    build(empty, (table, old, new))

    line = only_refusal(empty)

    assert line.startswith(f"table {table} refuses a row such as recon writes ")
    assert "sign" in line


def test_a_unique_key_that_forbids_our_rows_is_refused(empty: Engine) -> None:
    build(empty, add="CREATE UNIQUE INDEX narrow ON bitcoin_daily_summaries (summary_date)")

    assert only_refusal(empty).startswith("table bitcoin_daily_summaries refuses a row such as recon writes ")


@POSTGRESQL
def test_a_foreign_key_that_keeps_records_from_being_replaced_is_refused(empty: Engine) -> None:
    build(
        empty,
        (CALCULATIONS, "difficulty numeric NOT NULL",
         "difficulty numeric NOT NULL, record_id int CONSTRAINT of_record REFERENCES curtailment_records (id)"),
    )  # fmt: skip

    line = only_refusal(empty)

    assert line.startswith(f"table {RECORDS} has rows that the foreign key of_record of {CALCULATIONS} ")
    assert f"ALTER TABLE {CALCULATIONS} DROP CONSTRAINT of_record" in line
    execute(empty, f"ALTER TABLE {CALCULATIONS} DROP CONSTRAINT of_record")
    migrate(empty)


@POSTGRESQL
def test_an_enum_of_miner_models_is_refused(empty: Engine) -> None:
    execute(empty, "CREATE TYPE model AS ENUM ('S9', 'M20S', 'S19J_PRO')")
    build(empty, (CALCULATIONS, "miner_model text", "miner_model model"))

    line = only_refusal(empty)

    assert line.endswith(f"ALTER TABLE {CALCULATIONS} ALTER COLUMN miner_model TYPE text USING miner_model::text")


@POSTGRESQL
def test_tables_in_a_later_schema_of_the_search_path_are_refused(empty: Engine) -> None:
    execute(empty, "CREATE SCHEMA app", "SET LOCAL search_path = app", f"CREATE TABLE {RECORDS} (id int)")
    engine = open_engine(empty.url.update_query_dict({"options": "-csearch_path=public,app"}))

    line = only_refusal(engine)

    assert line.startswith(f"table {RECORDS} is in the schema app, ")
    assert "search_path" in line
    engine.dispose()


def test_a_table_of_the_user_with_a_name_of_ours_is_refused(empty: Engine) -> None:
    build(empty, add="CREATE TABLE wind_bids (n int)")

    assert only_refusal(empty) == (
        "table wind_bids is not recon's, but recon makes a table of that name: "
        "ALTER TABLE wind_bids RENAME TO wind_bids_old"
    )


# Shapes that work


WORKING_ON_POSTGRESQL: dict[str, tuple[tuple[str, str, str], ...]] = {
    "double precision": (
        (RECORDS, "volume numeric NOT NULL, payment numeric", "volume double precision NOT NULL, payment float8"),
        (CALCULATIONS, "bitcoin_mined numeric(18, 8)", "bitcoin_mined double precision"),
    ),
    "varchar": (
        (RECORDS, "farm_id text", "farm_id varchar(20)"),
        (CALCULATIONS, "farm_id text", "farm_id varchar(20)"),
        (CALCULATIONS, "miner_model text", "miner_model varchar(20)"),
    ),
    "bigint ids": ((RECORDS, "id serial", "id bigserial"), (CALCULATIONS, "id serial", "id bigserial")),
    "smallint": ((RECORDS, "settlement_period int", "settlement_period smallint"),),
    "always identity": ((RECORDS, "id serial", "id int GENERATED ALWAYS AS IDENTITY"),),
    "uuid": ((RECORDS, "id serial", "id uuid DEFAULT gen_random_uuid()"),),
    "an enum of their own": ((RECORDS, "so_flag boolean", "so_flag boolean, kind mood NOT NULL"),),
    "a generated column of their own": (
        (RECORDS, "so_flag boolean", "so_flag boolean, mwh numeric GENERATED ALWAYS AS (abs(volume)) STORED"),
    ),
    "an identity of their own": ((RECORDS, "so_flag boolean", "so_flag boolean, n int GENERATED ALWAYS AS IDENTITY"),),
    "cascade": (
        (CALCULATIONS, "difficulty numeric NOT NULL",
         "difficulty numeric NOT NULL, record_id int REFERENCES curtailment_records (id) ON DELETE CASCADE"),
    ),
}  # fmt: skip


@POSTGRESQL
@pytest.mark.parametrize("name", WORKING_ON_POSTGRESQL)
def test_other_shapes_are_adopted_on_postgresql(empty: Engine, name: str) -> None:
    execute(empty, "CREATE TYPE mood AS ENUM ('good', 'bad')")
    build(empty, *WORKING_ON_POSTGRESQL[name])

    migrate(empty)

    assert execute(empty, *INSERTS_OF_THE_LISTED_COLUMNS) == [1] * 8


@POSTGRESQL
def test_a_partitioned_table_is_adopted(empty: Engine) -> None:
    columns = OLD_TABLES[RECORDS].format(serial="serial") + ", PRIMARY KEY (id, settlement_date)"
    build(
        empty,
        skip=RECORDS,
        add=f"CREATE TABLE {RECORDS} ({columns}) PARTITION BY RANGE (settlement_date);"
        f"CREATE TABLE y24 PARTITION OF {RECORDS} FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        f"CREATE TABLE rest PARTITION OF {RECORDS} DEFAULT",
    )

    migrate(empty)

    assert execute(empty, *INSERTS_OF_THE_LISTED_COLUMNS) == [1] * 8


@SQLITE
def test_an_adoption_keeps_triggers_and_says_which_check_it_loses(empty: Engine) -> None:
    build(empty, (RECORDS, "volume numeric NOT NULL", "volume numeric NOT NULL CHECK (volume <> 7)"))
    with empty.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE log (n)")
        connection.exec_driver_sql(
            f"CREATE TRIGGER noted AFTER INSERT ON {RECORDS} BEGIN INSERT INTO log VALUES (new.id); END"
        )

    done = migrate(empty)

    lost = f"dropped CHECK (volume <> 7) of {RECORDS}, which has no name to keep it by"
    assert [change.line() for change in done.changes if change.action == "drop"] == [lost]
    execute(empty, INSERTS_OF_THE_LISTED_COLUMNS[0])
    assert scalar(empty, "SELECT count(*) FROM log") == 1


def counted(engine: Engine, table: str) -> Any:
    return scalar(engine, f"SELECT count(*) FROM {table}")


def test_a_refusal_changes_no_row(empty: Engine) -> None:
    build(empty, (RECORDS, "volume numeric NOT NULL", "volume numeric NOT NULL CONSTRAINT sign CHECK (volume > 0)"))
    execute(empty, f"{INSERT_RECORD} ('2025-07-04', 7, 'T_A-1', 1, 1, 1)")

    refusal(empty)

    assert counted(empty, RECORDS) == 1
    assert not inspect(empty).has_table("proof_of_fetch")
    with reading(empty) as connection:
        assert connection.execute(text(f"SELECT volume FROM {RECORDS}")).scalar_one() == 1
