from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, exc

from recon_assets.database.limits import WorkLimits
from recon_assets.database.tables import historical_bitcoin_calculations
from recon_assets.database.transactions import reading
from recon_assets.database.work_log import MonthProgress, WorkLog, read_progress
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.layer import DAY
from recon_assets.reconcile.layers import CALCULATIONS, DAILY_LAYERS, LAYERS, MONTHLY_LAYERS, YEARLY_LAYERS
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.span_runner import SpanResult, SpanRunner
from recon_assets_tests.support.steps import (
    ENDLESS,
    JUNE_6,
    JUNE_7,
    JUNE_DAYS,
    NOW,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    ingest,
    scalar,
    state_of,
)

TABLE = historical_bitcoin_calculations.name
TABLES = tuple(layer.table for layer in LAYERS)
DERIVED = ("curtailment_records", TABLE, "bitcoin_daily_summaries", "daily_summaries")
TOTAL = 97 * 4
"""Rows of the small days that converging may touch: a record for every wind bid, and a calculation per model."""
BAD_PERIOD, BIDS_OF_BAD_PERIOD, RECORDS_OF_BAD_PERIOD, FARMS_OF_BAD_PERIOD = 11, 27, 24, 12
"""Of 2025-06-06: its largest settlement period."""
HASTY = WorkLimits(statement_timeout_seconds=0.4, attempts=1, backoff_seconds=0)
"""Converging the small days takes 0.04 s on SQLite, whose statements share the time; less for each on PostgreSQL."""
only_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def works(engine: Engine, **more: Any) -> SpanRunner:
    """The work on all layers of days, as a run does it."""
    given: dict[str, Any] = {
        "layers": DAILY_LAYERS,
        "scope": lambda days: Scope(days, CurtailmentRule.SO_FLAGGED),
        "work_log": WorkLog(engine, "ann"),
        "limits": WorkLimits(backoff_seconds=0),
    }
    return SpanRunner(engine=engine, now=lambda: NOW, **{**given, **more})


def run(engine: Engine, *spans: Days, **more: Any) -> list[SpanResult]:
    return list(works(engine, **more).run(spans or (SMALL_DAYS,)))


def empty_layers(engine: Engine) -> None:
    """Deletes everything that is made from the wind bids of some days."""
    execute(engine, *(f"DELETE FROM {table}" for table in DERIVED))


def add_trigger(engine: Engine, table: str, on_postgres: str, on_sqlite: str, where: str) -> None:
    """Has the database do something whenever a row is inserted where a condition holds."""
    if engine.dialect.name == "sqlite":
        execute(engine, f"CREATE TRIGGER fault BEFORE INSERT ON {table} WHEN {where} BEGIN {on_sqlite}; END")
        return
    execute(
        engine,
        f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {on_postgres}; RETURN NEW; END'",
        f"CREATE TRIGGER fault BEFORE INSERT ON {table} FOR EACH ROW WHEN ({where}) EXECUTE FUNCTION fault()",
    )


def make_endless(engine: Engine, day: date, period: int) -> None:
    """Makes the calculations of one settlement period never end."""
    where = f"NEW.settlement_date = '{day}' AND NEW.settlement_period = {period}"
    add_trigger(engine, TABLE, "PERFORM pg_sleep(600)", f"SELECT ({ENDLESS})", where)


def forbid(engine: Engine, table: str, where: str) -> None:
    """Makes rows of a table fail, at once."""
    add_trigger(engine, table, "RAISE EXCEPTION USING MESSAGE = ''no''", "SELECT RAISE(ABORT, 'no')", where)


def drop_trigger(engine: Engine, table: str = TABLE) -> None:
    execute(engine, "DROP TRIGGER fault" + ("" if engine.dialect.name == "sqlite" else f" ON {table}"))


def progress(engine: Engine) -> dict[str, MonthProgress]:
    with reading(engine) as connection:
        return {row.time_period: row for row in read_progress(connection)}


def figures(row: MonthProgress) -> tuple[str, int, int, int]:
    return row.status, row.total_records, row.processed_records, row.failed_records


def calculations(engine: Engine) -> Counter[tuple[Any, ...]]:
    """The calculations: settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty."""
    return contents(engine, historical_bitcoin_calculations)[TABLE]


def changes_of(finished: Sequence[SpanResult]) -> Changes:
    """The changes that were made to calculations."""
    return sum((end.converged.changes_of(TABLE) for end in finished if end.converged), Changes())


def daily_sums_are_those_of_the_calculations(engine: Engine) -> bool:
    sums = f"SELECT settlement_date, miner_model, sum(bitcoin_mined) AS mined FROM {TABLE} GROUP BY 1, 2"
    of = "summary_date = settlement_date AND sums.miner_model = bitcoin_daily_summaries.miner_model"
    summed = scalar(engine, f"SELECT count(*) FROM ({sums}) AS sums JOIN bitcoin_daily_summaries ON {of}")
    return summed == scalar(engine, f"SELECT count(*) FROM ({sums}) AS sums") and not scalar(
        engine,
        f"SELECT count(*) FROM bitcoin_daily_summaries LEFT JOIN ({sums}) AS sums ON {of}"
        " WHERE abs(coalesce(mined, 0) - bitcoin_mined) > 1e-9 * bitcoin_mined",
    )


def test_days_are_converged_month_by_month_and_finished_as_they_are(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    may_31 = date(2025, 5, 31)

    finished = run(small_days, Days(may_31, JUNE_7))

    assert [end.days for end in finished] == [Days(may_31, may_31), Days(date(2025, 6, 1), JUNE_7)]
    assert changes_of(finished).inserted == sum(before[TABLE].values())
    assert contents(small_days, *TABLES) == before
    assert {month: figures(row) for month, row in progress(small_days).items()} == {
        "2025-06": ("completed", TOTAL, TOTAL, 0),
        "2025-05": ("completed", 0, 0, 0),
    }
    june = progress(small_days)["2025-06"]
    assert (june.phase, june.worker, june.timeouts, june.error_details) == ("converging", "ann", 0, None)
    # and: again there is nothing to do
    again = run(small_days)
    assert changes_of(again) == Changes(kept=sum(before[TABLE].values()))
    assert contents(small_days, *TABLES) == before


def test_a_settlement_period_that_never_ends_is_named_and_done_when_the_fault_is_gone(small_days: Engine) -> None:
    # given
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    make_endless(small_days, JUNE_6, BAD_PERIOD)
    work = works(small_days, limits=HASTY)

    # when
    finished = list(work.run([SMALL_DAYS]))

    # then: every row is there but those of the period
    good = {row: n for row, n in before[TABLE].items() if row[:2] != (JUNE_6, BAD_PERIOD)}
    assert calculations(small_days) == Counter(good)
    assert scalar(small_days, "SELECT count(*) FROM curtailment_records") == 94 - RECORDS_OF_BAD_PERIOD
    assert sum(before[TABLE].values()) - sum(good.values()) == FARMS_OF_BAD_PERIOD * len(MODELS)
    # its day, which was done in parts, is finished after the others, and is summed up as far as it goes
    seventh, sixth = finished
    assert (seventh.days, seventh.failures) == (Days(JUNE_7, JUNE_7), {})
    assert sixth.days == Days(JUNE_6, JUNE_6)
    assert list(sixth.failures) == [JUNE_6]
    (reason,) = sixth.failures[JUNE_6]
    assert reason.startswith(f"2025-06-06 period {BAD_PERIOD}: timed out: ")
    assert sixth.converged is not None
    assert list(sixth.converged.unfit[TABLE]) == [JUNE_6]
    unfit = {JUNE_6: "2025-06-06: not all settlement periods of curtailment_records are right"}
    assert sixth.converged.unfit["curtailment_records"] == unfit
    assert changes_of(finished).inserted == sum(good.values())
    assert scalar(small_days, "SELECT count(*) FROM bitcoin_daily_summaries") == 2 * len(MODELS)
    assert daily_sums_are_those_of_the_calculations(small_days)
    # the work_log says the same: at least eight time-outs, from two days down to one period
    june = progress(small_days)["2025-06"]
    failed = BIDS_OF_BAD_PERIOD * 4
    assert figures(june) == ("failed", TOTAL, TOTAL - failed, failed)
    assert june.timeouts >= 8
    assert june.error_details == reason

    # when: the fault is gone
    drop_trigger(small_days)
    finished = list(work.run([SMALL_DAYS]))

    # then: the same work finishes what was left, and nothing tells of the fault any more
    assert [(end.days, end.failures) for end in finished] == [(SMALL_DAYS, {})]
    assert changes_of(finished).inserted == FARMS_OF_BAD_PERIOD * len(MODELS)
    assert contents(small_days, *TABLES) == before
    assert state_of(small_days, SMALL_DAYS).is_right
    june = progress(small_days)["2025-06"]
    assert figures(june) == ("completed", TOTAL, TOTAL, 0)
    assert (june.timeouts, june.error_details) == (0, None)


def test_rows_that_the_database_refuses_are_tried_again_then_named(small_days: Engine) -> None:
    empty_layers(small_days)
    forbid(small_days, TABLE, f"NEW.settlement_date = '{JUNE_6}' AND NEW.settlement_period = {BAD_PERIOD}")

    finished = run(small_days, limits=WorkLimits(attempts=2, backoff_seconds=0))

    (reason,) = finished[-1].failures[JUNE_6]
    assert reason.startswith(f"2025-06-06 period {BAD_PERIOD}: ")
    assert reason.endswith(": no")
    june = progress(small_days)["2025-06"]
    assert (june.status, june.timeouts) == ("failed", 0)
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE settlement_date = '{JUNE_7}'") == 8 * len(MODELS)


def test_summaries_that_fail_are_named_though_every_calculation_is_made(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    forbid(small_days, "daily_summaries", f"NEW.summary_date = '{JUNE_6}'")

    finished = run(small_days, limits=WorkLimits(attempts=1))

    assert calculations(small_days) == before[TABLE]
    assert [list(end.failures) for end in finished] == [[], [JUNE_6]]
    (reason,) = finished[-1].failures[JUNE_6]
    assert reason.startswith("2025-06-06 summaries: ")
    assert finished[-1].converged is None
    assert scalar(small_days, "SELECT count(*) FROM daily_summaries") == 1
    june = progress(small_days)["2025-06"]
    assert (june.status, june.error_details) == ("failed", reason)
    # and: when the fault is gone
    drop_trigger(small_days, "daily_summaries")
    run(small_days)
    assert contents(small_days, *TABLES) == before


def test_what_fails_everything_ends_the_work(small_days: Engine) -> None:
    execute(small_days, "ALTER TABLE proof_of_fetch RENAME TO elsewhere")
    began: list[Days] = []

    def scope(days: Days) -> Scope:
        began.append(days)
        return Scope(days, CurtailmentRule.SO_FLAGGED)

    with pytest.raises(exc.DBAPIError, match="proof_of_fetch"):
        run(small_days, scope=scope)

    assert began == [SMALL_DAYS, SMALL_DAYS], "asked for the sizes, then tried once"
    june = progress(small_days)["2025-06"]
    assert june.processed_records == 0
    assert "proof_of_fetch" in (june.error_details or "")


@only_postgres
def test_a_connection_that_is_lost_once_is_made_again(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    execute(small_days, "CREATE SEQUENCE losses")
    lose = "IF nextval(''losses'') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF"
    add_trigger(small_days, TABLE, lose, "", "true")

    finished = run(small_days)

    assert [(end.days, end.failures) for end in finished] == [(SMALL_DAYS, {})]
    assert contents(small_days, *TABLES) == before
    june = progress(small_days)["2025-06"]
    assert figures(june) == ("completed", TOTAL, TOTAL, 0)
    assert june.error_details is not None
    assert "terminat" in june.error_details


def test_small_batches_do_the_same(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    inserts: list[int] = []

    def note(connection: Connection, cursor: Any, statement: str, *rest: object) -> None:
        if f"INSERT INTO {TABLE}" in statement:
            on_sqlite = connection.dialect.name == "sqlite"
            inserts.append(
                connection.exec_driver_sql("SELECT changes()").scalar_one() if on_sqlite else cursor.rowcount
            )

    event.listen(small_days, "after_cursor_execute", note)
    finished = run(small_days, limits=WorkLimits(batch_size=10))

    # Every period with bids has more than 10 rows, so that each is a transaction of its own.
    periods = scalar(
        small_days, "SELECT count(*) FROM (SELECT 1 FROM wind_bids GROUP BY settlement_date, settlement_period) t"
    )
    assert len([rows for rows in inserts if rows]) == periods == 14
    assert {end.days.first: dict(end.failures) for end in finished} == {JUNE_6: {}, JUNE_7: {}}
    assert contents(small_days, *TABLES) == before
    assert state_of(small_days, SMALL_DAYS).is_right
    assert figures(progress(small_days)["2025-06"]) == ("completed", TOTAL, TOTAL, 0)


def test_difficult_days_that_begin_with_few_periods_end_the_same(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    empty_layers(small_days)

    finished = run(small_days, limits=WorkLimits(periods_at_first=5))

    assert [(end.days.first, end.failures) for end in finished] == [(JUNE_6, {}), (JUNE_7, {})]
    assert changes_of(finished).inserted == sum(before[TABLE].values())
    for end in finished:
        assert end.converged is not None
        assert not any(end.converged.unfit.values())
        assert end.converged.contents[TABLE, "S9", str(end.days)].rows > 0
    assert contents(small_days, *TABLES) == before


@only_postgres
def test_faults_beside_work_that_goes_on_do_not_disturb_it(small_days: Engine) -> None:
    """Three at once, which all note time-outs of the same month in the work log."""
    before = contents(small_days, *TABLES)
    empty_layers(small_days)
    bad = {(JUNE_6, 5), (JUNE_6, BAD_PERIOD), (JUNE_7, 36)}
    where = " OR ".join(f"NEW.settlement_date = '{day}' AND NEW.settlement_period = {period}" for day, period in bad)
    add_trigger(small_days, TABLE, "PERFORM pg_sleep(600)", "", where)

    finished = run(small_days, limits=replace(HASTY, concurrency=3, periods_at_first=4))

    good = {row: n for row, n in before[TABLE].items() if row[:2] not in bad}
    assert calculations(small_days) == Counter(good)
    assert changes_of(finished).inserted == sum(good.values())
    reasons = [reason for end in finished for of_day in end.failures.values() for reason in of_day]
    assert {reason.partition(": ")[0] for reason in reasons} == {f"{day} period {period}" for day, period in bad}
    june = progress(small_days)["2025-06"]
    failed = (4 + BIDS_OF_BAD_PERIOD + 3) * 4
    assert figures(june) == ("failed", TOTAL, TOTAL - failed, failed)
    assert june.timeouts >= 3 * len(bad)


@only_postgres
def test_several_days_are_done_three_chunks_at_once(small_days: Engine) -> None:
    days = Days(date(2025, 6, 4), date(2025, 6, 9))
    ingest(small_days, [day for day in days if day not in SMALL_DAYS])

    finished = run(small_days, days, limits=WorkLimits(batch_size=3000, concurrency=3))

    assert {day for end in finished for day in end.days} == set(days)
    assert len(finished) > 3
    assert not any(end.failures for end in finished)
    row = progress(small_days)["2025-06"]
    total = scalar(small_days, "SELECT count(*) * 4 FROM wind_bids")
    assert figures(row) == ("completed", total, total, 0)
    # and: someone who does all of it in one transaction finds nothing to do
    made = converge_layers(small_days, days)
    assert [made[table].total for table in DERIVED] == [0, 0, 0, 0]
    assert made[TABLE].kept == changes_of(finished).inserted + changes_of(finished).kept


def orphan(day: date, period: int) -> str:
    columns = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
    return f"INSERT INTO {TABLE} ({columns}) VALUES ('{day}', {period}, 'T_NOSUCH-1', 'S9', 0.5, 1e14)"


def test_work_on_some_periods_leaves_the_others_alone(small_days: Engine) -> None:
    before = calculations(small_days)
    execute(small_days, f"DELETE FROM {TABLE} WHERE settlement_date = '{JUNE_6}'")
    execute(small_days, orphan(JUNE_6, 11), orphan(JUNE_6, 40))

    finished = run(small_days, Days(JUNE_6, JUNE_6), periods=(11, 12))

    after = calculations(small_days)
    assert {row: n for row, n in after.items() if row[2] != "T_NOSUCH-1"} == {
        row: n for row, n in before.items() if row[0] == JUNE_7 or row[1] in (11, 12)
    }
    assert [row[1] for row in after if row[2] == "T_NOSUCH-1"] == [40]
    (sixth,) = finished
    assert (sixth.days, sixth.failures) == (Days(JUNE_6, JUNE_6), {})
    assert changes_of(finished) == Changes(inserted=22 * len(MODELS), removed=1)
    assert daily_sums_are_those_of_the_calculations(small_days)
    # The day as a whole is not right, and is not said to be.
    assert sixth.converged is not None
    assert list(sixth.converged.unfit[TABLE]) == [JUNE_6]
    assert figures(progress(small_days)["2025-06"]) == ("completed", (27 + 18) * 4, (27 + 18) * 4, 0)


def test_work_on_a_farm_leaves_the_others_alone(small_days: Engine) -> None:
    before = calculations(small_days)
    execute(small_days, f"DELETE FROM {TABLE}", orphan(JUNE_6, 11))

    finished = run(small_days, farm="T_PNYCW-1")

    after = {row: n for row, n in calculations(small_days).items() if row[2] != "T_NOSUCH-1"}
    assert after == {row: n for row, n in before.items() if row[2] == "T_PNYCW-1"}
    assert len(after) == 7 * len(MODELS)
    assert scalar(small_days, f"SELECT count(*) FROM {TABLE} WHERE farm_id = 'T_NOSUCH-1'") == 1
    assert [(end.days.first, end.failures) for end in finished] == [(JUNE_6, {}), (JUNE_7, {})]
    assert daily_sums_are_those_of_the_calculations(small_days)


def test_work_on_one_triple_mends_it_and_says_that_the_day_is_right(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    one = "settlement_period = 11 AND farm_id = 'T_PNYCW-1' AND settlement_date = '2025-06-06'"
    assert execute(small_days, f"DELETE FROM {TABLE} WHERE {one}") == [3]
    execute(small_days, f"DELETE FROM curtailment_records WHERE {one}")

    (finished,) = run(small_days, Days(JUNE_6, JUNE_6), periods=(11, 11), farm="T_PNYCW-1")

    assert finished.converged is not None
    assert finished.failures == {}
    assert not any(finished.converged.unfit.values())
    assert contents(small_days, *TABLES) == before


def test_only_the_calculations_of_the_chosen_models_are_made(small_days: Engine) -> None:
    before = calculations(small_days)
    execute(small_days, f"DELETE FROM {TABLE}")

    run(small_days, only={"S9"}, limits=WorkLimits(periods_at_first=10))

    assert calculations(small_days) == Counter({row: n for row, n in before.items() if row[3] == "S9"})
    assert figures(progress(small_days)["2025-06"]) == ("completed", 97 * 2, 97 * 2, 0)


def test_work_on_a_layer_alone_touches_no_other(small_days: Engine) -> None:
    before = contents(small_days, *TABLES)
    execute(small_days, f"DELETE FROM {TABLE}", "DELETE FROM daily_summaries")

    run(small_days, layers=[CALCULATIONS], limits=WorkLimits(batch_size=10))

    assert contents(small_days, *TABLES) == {**before, "daily_summaries": Counter()}


@pytest.mark.parametrize("layers", [MONTHLY_LAYERS, YEARLY_LAYERS], ids=["months", "years"])
def test_summaries_of_months_and_years_are_made_right_and_the_work_log_of_the_days_stays(
    small_days: Engine, layers: Sequence[Any]
) -> None:
    before = contents(small_days, *TABLES)
    work_log = WorkLog(small_days, "ann")
    run(small_days, Days(JUNE_6, JUNE_6), work_log=work_log)
    noted = progress(small_days)
    execute(small_days, *(f"DELETE FROM {layer.name}" for layer in layers))
    assert all(layer.grain is not DAY for layer in layers)
    span = layers[0].grain.whole(SMALL_DAYS)

    finished = run(small_days, span, layers=layers, work_log=work_log)

    assert [(end.days, end.failures) for end in finished] == [(span, {})]
    assert finished[0].converged is not None
    assert sum(made.inserted for made in finished[0].converged.changes.values()) == len(MODELS) + 1
    assert contents(small_days, *TABLES) == before
    assert progress(small_days) == noted


def test_summaries_of_a_month_that_fail_are_named_and_the_next_month_is_done(small_days: Engine) -> None:
    execute(small_days, "DELETE FROM monthly_summaries")
    forbid(small_days, "monthly_summaries", "NEW.year_month = '2025-06'")
    months = [JUNE_DAYS, Days.of_month("2025-07")]

    failed, done = run(small_days, *months, layers=MONTHLY_LAYERS)

    assert failed.converged is None
    assert list(failed.failures) == [JUNE_DAYS.first]
    (reason,) = failed.failures[JUNE_DAYS.first]
    assert reason.startswith("2025-06-01..2025-06-30: ")
    assert (done.days, done.failures) == (months[1], {})
    assert done.converged is not None
