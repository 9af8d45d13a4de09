"""A database that leaves out a row of a statement and says nothing: by a trigger, as somebody may have put there."""

from typing import Any

import pytest
from sqlalchemy import Engine, event

from recon_assets.database.engine import open_engine
from recon_assets.domain.settlement import Days
from recon_assets.errors import ReconError
from recon_assets_tests.support.content import rows
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS, converge_layers, execute, scalar, state_of

TABLE = "historical_bitcoin_calculations"
COLUMNS = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
OF_S9 = "settlement_date = '2025-06-07' AND miner_model = 'S9'"
ORPHANS = f"INSERT INTO {TABLE} ({COLUMNS}) VALUES " + ", ".join(
    f"('2025-06-07', {period}, 'T_NOSUCH-1', 'S9', 0.5, 1e14)" for period in (1, 36, 48)
)


def leave_out(engine: Engine, change: str, table: str, period: int) -> None:
    """Has the database leave out the rows of a settlement period when a table is changed."""
    row = "OLD" if change == "DELETE" else "NEW"
    trigger = f"CREATE TRIGGER leave_out BEFORE {change} ON {table} FOR EACH ROW"
    where = f"WHEN ({row}.settlement_period = {period})"
    if engine.dialect.name == "sqlite":
        execute(engine, f"{trigger} {where} BEGIN SELECT RAISE(IGNORE); END")
        return
    execute(
        engine,
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        f"{trigger} {where} EXECUTE FUNCTION nothing()",
    )


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        ("INSERT", [f"DELETE FROM {TABLE} WHERE {OF_S9}"]),
        ("INSERT", [f"DELETE FROM {TABLE}"]),
        ("UPDATE", [f"UPDATE {TABLE} SET bitcoin_mined = bitcoin_mined * 2 WHERE {OF_S9}"]),
        ("DELETE", [ORPHANS]),
        # Beside an orphan that is kept as evidence, because nothing else is known of its day.
        ("DELETE", [ORPHANS, ORPHANS.replace("2025-06-07", "2025-06-08").replace("T_NOSUCH-1", "T_NOSUCH-2")]),
        (
            "DELETE",
            [
                f"DROP INDEX {TABLE}_key",
                f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM {TABLE} WHERE {OF_S9}",
            ],
        ),
    ],
    ids=["insert", "insert all", "update", "delete", "delete beside evidence", "delete duplicates"],
)
def test_a_row_that_the_database_leaves_out_rolls_everything_back(
    small_days: Engine, change: str, damage: list[str]
) -> None:
    # given damage to several calculations, of which one resists, and to the records below
    days = Days(JUNE_6, JUNE_7.replace(day=8))
    execute(small_days, *damage, "UPDATE curtailment_records SET payment = payment + 1")
    leave_out(small_days, change, TABLE, 36)
    before = rows(small_days)

    # when
    with pytest.raises(ReconError, match=rf"^{TABLE} {days}: .*; rolled back$"):
        converge_layers(small_days, days)

    # then neither the other calculations nor the records were touched
    assert rows(small_days) == before

    # and without the trigger all of it is mended
    on = f" ON {TABLE}" if small_days.dialect.name == "postgresql" else ""
    execute(small_days, f"DROP TRIGGER leave_out{on}")
    assert converge_layers(small_days, days)[TABLE].total > 1
    assert state_of(small_days, SMALL_DAYS).is_right


def test_a_row_that_the_database_moves_rolls_everything_back(small_days: Engine) -> None:
    # given a trigger by which a new record becomes one of a day that nobody asked for
    execute(small_days, "DELETE FROM curtailment_records")
    execute(small_days, *MOVE_ONE[small_days.dialect.name])

    with pytest.raises(ReconError, match=r"^curtailment_records .*94 were inserted and 91 are there; rolled back$"):
        converge_layers(small_days, SMALL_DAYS)

    assert scalar(small_days, "SELECT count(*) FROM curtailment_records") == 0


MOVE_ONE = {
    "sqlite": [
        "CREATE TRIGGER move AFTER INSERT ON curtailment_records WHEN (NEW.settlement_period = 36) BEGIN"
        " UPDATE curtailment_records SET settlement_date = '2025-05-01' WHERE id = NEW.id; END",
    ],
    "postgresql": [
        "CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.settlement_date = date ''2025-05-01''; RETURN NEW; END'",
        "CREATE TRIGGER move BEFORE INSERT ON curtailment_records FOR EACH ROW"
        " WHEN (NEW.settlement_period = 36) EXECUTE FUNCTION move()",
    ],
}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "meanwhile"),
    [
        ("INSERT INTO", f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM kept WHERE settlement_period = 36"),
        ("UPDATE", f"UPDATE {TABLE} SET bitcoin_mined = bitcoin_mined / 2 WHERE {OF_S9} AND settlement_period = 36"),
        ("DELETE FROM", f"DELETE FROM {TABLE} WHERE farm_id = 'T_NOSUCH-1' AND settlement_period = 36"),
    ],
)
def test_what_an_old_script_commits_between_the_comparison_and_the_change_rolls_everything_back(
    small_days: Engine, statement: str, meanwhile: str
) -> None:
    of_s9_later = f"{OF_S9} AND settlement_period > 30"
    execute(
        small_days,
        f"CREATE TABLE kept AS SELECT * FROM {TABLE} WHERE {of_s9_later}",
        *({
            "INSERT INTO": [f"DELETE FROM {TABLE} WHERE {of_s9_later}"],
            "UPDATE": [f"UPDATE {TABLE} SET bitcoin_mined = bitcoin_mined * 2 WHERE {of_s9_later}"],
            "DELETE FROM": [ORPHANS],
        }[statement]),
    )  # fmt: skip
    script = open_engine(small_days.url)
    written: list[str] = []

    def write(_: Any, _cursor: Any, sql: str, *_more: Any) -> None:
        if f"{statement} {TABLE}" in sql and not written:
            written.append(meanwhile)
            execute(script, meanwhile)

    event.listen(small_days, "before_cursor_execute", write)

    with pytest.raises(ReconError, match="rolled back"):
        converge_layers(small_days, SMALL_DAYS)

    script.dispose()
    assert written == [meanwhile]
    event.remove(small_days, "before_cursor_execute", write)
    converge_layers(small_days, SMALL_DAYS)
    assert state_of(small_days, SMALL_DAYS).is_right
