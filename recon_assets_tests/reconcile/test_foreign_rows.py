"""Rows that recon did not write are named, and its own never are."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from recon_assets.database.transactions import reading, writing
from recon_assets.database.work_log import Phase, WorkLog
from recon_assets.domain.settlement import Days
from recon_assets.health.examination import examine
from recon_assets.reconcile.foreign_rows import ForeignRows, foreign_rows
from recon_assets.settings import Settings
from recon_assets_tests.reconcile.test_span_runner import run
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, execute

CALCULATIONS, RECORDS = "historical_bitcoin_calculations", "curtailment_records"
COLUMNS = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
OLD_SCRIPT = (
    f"INSERT INTO {CALCULATIONS} ({COLUMNS}) SELECT settlement_date, settlement_period, 'OLD-' || farm_id, miner_model,"
    f" bitcoin_mined, difficulty FROM {CALCULATIONS} WHERE settlement_date = '{{day}}' AND miner_model = 'S9'"
)


def found(engine: Engine) -> dict[str, ForeignRows]:
    with reading(engine) as connection:
        return {rows.table: rows for rows in foreign_rows(connection)}


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def work(engine: Engine, now: datetime, *days: Days) -> None:
    """Converges days, with a work log whose clock stands at a moment."""
    run(engine, *days, work_log=WorkLog(engine, "ann", lambda: now))


def age(engine: Engine) -> None:
    """Makes all rows a day old, as if recon had written them before it was an hour ago."""
    for table, stamp in ((CALCULATIONS, "calculated_at"), (RECORDS, "created_at")):
        older = f"{stamp} - INTERVAL '1 day'" if engine.dialect.name == "postgresql" else f"datetime({stamp}, '-1 day')"
        execute(engine, f"UPDATE {table} SET {stamp} = {older}")


def test_nothing_is_known_before_recon_has_worked(small_days: Engine) -> None:
    assert found(small_days) == {}


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_what_recon_itself_has_just_written_is_not_named(
    small_days: Engine, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    # given sessions with a time zone of their own
    monkeypatch.setenv("PGTZ", zone)
    small_days.dispose()
    execute(small_days, f"DELETE FROM {CALCULATIONS}", f"DELETE FROM {RECORDS}")

    # when
    work(small_days, datetime.now(UTC), Days(JUNE_6, JUNE_7))

    # then
    assert found(small_days) == {}


def test_what_an_old_script_wrote_later_is_named_by_table(small_days: Engine, settings: Settings) -> None:
    # given
    age(small_days)
    work(small_days, an_hour_ago(), Days(JUNE_6, JUNE_7))
    assert found(small_days) == {}

    # when
    touched = f"UPDATE {RECORDS} SET created_at = CURRENT_TIMESTAMP WHERE id = 1"
    execute(small_days, OLD_SCRIPT.format(day=JUNE_7), touched)

    # then
    rows = found(small_days)
    assert set(rows) == {CALCULATIONS, RECORDS}
    calculations = rows[CALCULATIONS]
    assert (calculations.rows, calculations.first_day, calculations.last_day) == (8, JUNE_7, JUNE_7)
    assert abs(calculations.since - an_hour_ago()) < timedelta(minutes=5)
    assert abs(calculations.newest_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert str(calculations).startswith(f"8 rows of {CALCULATIONS} (2025-06-07) written since 20")
    assert str(rows[RECORDS]).startswith(f"1 row of {RECORDS} (2025-06-06) written since 20")
    health = examine(small_days, settings, datetime.now(UTC))
    assert health.unread == {}
    assert [line for line in health.advice if line.startswith(f"{calculations}: end what still writes there")]

    # when recon works on the month again
    work(small_days, datetime.now(UTC), Days(JUNE_6, JUNE_7))

    # then it has seen them
    assert found(small_days) == {}


def test_rows_of_a_month_that_recon_never_worked_on_are_named_if_they_are_newer_than_its_last_work(
    small_days: Engine,
) -> None:
    age(small_days)
    work(small_days, an_hour_ago(), Days(JUNE_6, JUNE_7))

    first = "date('2025-07-01')" if small_days.dialect.name == "sqlite" else "DATE '2025-07-01'"
    execute(small_days, OLD_SCRIPT.format(day=JUNE_7).replace("SELECT settlement_date", f"SELECT {first}", 1))

    assert str(found(small_days)[CALCULATIONS].first_day) == "2025-07-01"


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_month_that_is_worked_on_or_was_when_recon_was_killed_is_not_judged(
    small_days: Engine, is_killed: bool
) -> None:
    age(small_days)
    began = an_hour_ago() if is_killed else datetime.now(UTC)
    WorkLog(small_days, "ann", lambda: began).begin(Phase.CONVERGING, {"2025-06": 10})

    execute(small_days, OLD_SCRIPT.format(day=JUNE_7))

    assert found(small_days) == {}


def test_a_worker_that_was_overtaken_is_still_one_of_recon(small_days: Engine) -> None:
    # given a worker that ends while an earlier one still writes
    age(small_days)
    ann, bob = WorkLog(small_days, "ann"), WorkLog(small_days, "bob", an_hour_ago)
    ann.begin(Phase.CONVERGING, {"2025-06": 10})
    bob.begin(Phase.CONVERGING, {"2025-06": 10})
    bob.end(["2025-06"])

    # when
    with writing(small_days) as connection:
        connection.execute(text(OLD_SCRIPT.format(day=JUNE_7)))
    ann.advance("2025-06", 10)

    # then
    assert found(small_days) == {}


def test_rows_without_a_time_are_not_named(small_days: Engine) -> None:
    work(small_days, an_hour_ago() - timedelta(hours=5), Days(JUNE_6, JUNE_7))

    execute(small_days, f"UPDATE {CALCULATIONS} SET calculated_at = NULL", f"UPDATE {RECORDS} SET created_at = NULL")

    assert found(small_days) == {}
