import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, inspect, text

from recon_assets.database.engine import open_engine
from recon_assets.database.schema import migrate
from recon_assets.database.transactions import reading
from recon_assets.database.work_log import MonthProgress, Phase, WorkLog, read_progress, worker_name
from recon_assets.settings import Settings
from recon_assets_tests.support.steps import NOW, execute, scalar

MAY, JUNE = "2025-05", "2025-06"
THEIR_TABLE = """CREATE TABLE reconciliation_progress (id {serial}, time_period varchar(50) UNIQUE NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'not_started', percentage_complete numeric(5, 2) NOT NULL DEFAULT 0,
    last_updated timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, total_records integer NOT NULL DEFAULT 0,
    processed_records integer NOT NULL DEFAULT 0, error_details text)"""
"""The user's table, as strict as it may be."""
THEIR_ROWS = """INSERT INTO reconciliation_progress
    (time_period, status, percentage_complete, last_updated, total_records, processed_records, error_details) VALUES
    ('2024-12', 'completed', 100, '2025-01-02 03:04:05', 5000, 5000, NULL),
    ('2025-06', 'failed', 41.5, '2025-07-01 00:00:00', 2000, 830, 'time-out')"""


class Clock:
    """A clock that is a minute later at each reading."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def work_log(engine: Engine) -> WorkLog:
    """The work log of the worker 'ann'."""
    return WorkLog(engine, "ann", Clock())


@pytest.fixture
def theirs(settings: Settings) -> Iterator[Engine]:
    """An engine on a migrated database of the user, whose own progress table held two rows."""
    engine = open_engine(settings.database_url)
    serial = "serial PRIMARY KEY" if engine.dialect.name == "postgresql" else "integer PRIMARY KEY"
    execute(engine, THEIR_TABLE.format(serial=serial), THEIR_ROWS)
    migrate(engine)
    yield engine
    engine.dispose()


def progress(engine: Engine) -> dict[str, MonthProgress]:
    """The rows by month, newest first."""
    with reading(engine) as connection:
        return {row.time_period: row for row in read_progress(connection)}


def figures(row: MonthProgress) -> tuple[str, float, int, int, int, int]:
    return (
        row.status,
        row.percentage_complete,
        row.total_records,
        row.processed_records,
        row.failed_records,
        row.timeouts,
    )


def test_nothing_is_known_before_work_begins(engine: Engine) -> None:
    assert progress(engine) == {}


def test_work_that_begins_is_in_progress(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {MAY: 40, JUNE: 200})

    rows = progress(engine)
    assert list(rows) == [JUNE, MAY]
    row = rows[JUNE]
    assert figures(row) == ("in_progress", 0, 200, 0, 0, 0)
    assert (row.phase, row.error_details, row.worker) == ("converging", None, "ann")
    for instant in (row.started_at, row.last_updated):
        assert instant is not None
        assert instant.tzinfo is UTC
        assert NOW < instant < NOW + timedelta(minutes=10)


def test_records_that_are_done_add_up_month_by_month(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.READING, {MAY: 40, JUNE: 200})

    work_log.advance(JUNE, 30)
    work_log.advance(JUNE, 40)
    work_log.advance(MAY, 30)

    rows = progress(engine)
    assert figures(rows[JUNE]) == ("in_progress", 35, 200, 70, 0, 0)
    assert figures(rows[MAY]) == ("in_progress", 75, 40, 30, 0, 0)
    assert rows[JUNE].phase == "reading"
    began, updated = rows[JUNE].started_at, rows[JUNE].last_updated
    assert began is not None
    assert updated is not None
    assert updated > began


def test_a_try_that_failed_is_told_and_counted_when_it_was_a_time_out(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {JUNE: 200})

    work_log.trouble(JUNE, "2025-06-01: timed out", timed_out=True)
    work_log.trouble(JUNE, "2025-06-02: timed out", timed_out=True)
    work_log.trouble(JUNE, "2025-06-03: connection lost", timed_out=False)
    work_log.advance(JUNE, 200)

    row = progress(engine)[JUNE]
    assert figures(row) == ("in_progress", 100, 200, 200, 0, 2)
    assert row.error_details == "2025-06-03: connection lost"


def test_a_month_of_which_all_was_done_is_completed(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {MAY: 40, JUNE: 200})
    work_log.trouble(JUNE, "2025-06-01: timed out", timed_out=True)
    work_log.advance(JUNE, 200)

    work_log.end([JUNE])

    assert figures(progress(engine)[JUNE]) == ("completed", 100, 200, 200, 0, 1)
    assert progress(engine)[MAY].status == "in_progress"


def test_a_month_of_which_something_failed_is_failed_with_the_reason(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {MAY: 40, JUNE: 200})
    work_log.fail(JUNE, 20, "2025-06-03 period 7: timed out")
    work_log.advance(JUNE, 100)
    assert figures(progress(engine)[JUNE]) == ("in_progress", 60, 200, 100, 20, 0)

    work_log.end([MAY, JUNE])

    rows = progress(engine)
    assert figures(rows[JUNE]) == ("failed", 60, 200, 100, 20, 0)
    assert rows[JUNE].error_details == "2025-06-03 period 7: timed out"
    assert (rows[MAY].status, rows[MAY].error_details) == ("completed", None)


def test_work_that_begins_again_begins_at_nothing(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.READING, {JUNE: 48})
    work_log.fail(JUNE, 48, "2025-06-03: no answer")
    work_log.trouble(JUNE, "2025-06-03: no answer", timed_out=True)
    work_log.end([JUNE])
    before = progress(engine)[JUNE].started_at

    work_log.begin(Phase.CONVERGING, {JUNE: 200})

    row = progress(engine)[JUNE]
    assert figures(row) == ("in_progress", 0, 200, 0, 0, 0)
    assert (row.phase, row.error_details) == ("converging", None)
    assert row.started_at is not None
    assert before is not None
    assert row.started_at > before
    # and: what failed the first time is not held against the second
    work_log.end([JUNE])
    assert progress(engine)[JUNE].status == "completed"


def test_a_worker_that_was_overtaken_no_longer_writes(engine: Engine, work_log: WorkLog) -> None:
    other = WorkLog(engine, "bob", Clock())
    work_log.begin(Phase.CONVERGING, {MAY: 40, JUNE: 200})
    other.begin(Phase.CONVERGING, {JUNE: 100})
    before = progress(engine)[JUNE]

    work_log.advance(JUNE, 50)
    work_log.trouble(JUNE, "timed out", timed_out=True)
    work_log.fail(JUNE, 50, "timed out")
    work_log.advance(MAY, 40)
    work_log.end([MAY, JUNE])

    assert progress(engine)[JUNE] == before
    assert before.worker == "bob"
    assert figures(progress(engine)[MAY]) == ("completed", 100, 40, 40, 0, 0)
    other.advance(JUNE, 25)
    assert progress(engine)[JUNE].percentage_complete == 25


def test_a_month_without_records_is_begun_and_ended_like_any_other(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {JUNE: 0})
    work_log.advance(JUNE, 0)
    assert figures(progress(engine)[JUNE]) == ("in_progress", 0, 0, 0, 0, 0)

    work_log.end([JUNE])

    assert figures(progress(engine)[JUNE]) == ("completed", 100, 0, 0, 0, 0)


def test_work_on_no_month_leaves_no_row(engine: Engine, work_log: WorkLog) -> None:
    work_log.begin(Phase.CONVERGING, {})
    work_log.end([])

    assert progress(engine) == {}


def test_a_month_that_was_not_begun_has_no_row(engine: Engine, work_log: WorkLog) -> None:
    work_log.advance(JUNE, 10)
    work_log.end([JUNE])

    assert progress(engine) == {}


def test_workers_side_by_side_neither_fail_nor_lose_a_record(engine: Engine) -> None:
    """Threads of one run are such workers, and runs that begin at the same moment."""
    failures: list[BaseException] = []
    met = threading.Barrier(3)

    def work() -> None:
        try:
            work_log = WorkLog(engine, "ann")
            met.wait(10)
            work_log.begin(Phase.CONVERGING, {MAY: 40, JUNE: 300})
            met.wait(10)
            for _ in range(20):
                work_log.advance(JUNE, 4)
                work_log.trouble(JUNE, "timed out", timed_out=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert figures(progress(engine)[JUNE]) == ("in_progress", 80, 300, 240, 0, 60)


JUNE_3, JUNE_4 = date(2025, 6, 3), date(2025, 6, 4)


def test_a_day_that_could_not_be_read_is_held_against_its_month_until_it_is_read(
    engine: Engine, work_log: WorkLog
) -> None:
    with work_log.working(Phase.READING, {JUNE: 96}, [JUNE_3, JUNE_4]):
        work_log.fail(JUNE, 48, "2025-06-03: no answer", [JUNE_3])
        work_log.advance(JUNE, 48)

    # when other days of the month are read, and calculated
    with work_log.working(Phase.READING, {JUNE: 48}, [JUNE_4]):
        work_log.advance(JUNE, 48)
    with work_log.working(Phase.CONVERGING, {JUNE: 200}, [JUNE_3, JUNE_4]):
        work_log.advance(JUNE, 200)

    # then
    row = progress(engine)[JUNE]
    assert figures(row) == ("failed", 99, 248, 200, 48, 0)
    assert row.error_details == "2025-06-03: no answer"

    # when that day is read
    with work_log.working(Phase.READING, {JUNE: 48}, [JUNE_3]):
        work_log.advance(JUNE, 48)

    # then
    row = progress(engine)[JUNE]
    assert (figures(row), row.error_details) == (("completed", 100, 48, 48, 0, 0), None)


def test_work_that_was_broken_off_is_held_against_its_days(engine: Engine, work_log: WorkLog) -> None:
    with pytest.raises(ValueError, match="gone"), work_log.working(Phase.READING, {JUNE: 96}, [JUNE_3, JUNE_4]):
        raise ValueError("gone")

    with work_log.working(Phase.CONVERGING, {JUNE: 200}, [JUNE_4]):
        work_log.advance(JUNE, 200)

    row = progress(engine)[JUNE]
    assert (row.status, row.error_details) == ("failed", "gone")


def test_a_planned_month_is_pending_then_in_progress_until_the_worker_goes_on(
    engine: Engine, work_log: WorkLog
) -> None:
    # given
    with work_log.finishing():
        work_log.plan([MAY, JUNE])
        assert {month: row.status for month, row in progress(engine).items()} == {JUNE: "pending", MAY: "pending"}

        # when a month is read, then it is in progress until it is calculated, and the next one is begun
        for phase in Phase:
            with work_log.working(phase, {JUNE: 10}, [JUNE_3]):
                work_log.advance(JUNE, 10)
            assert figures(progress(engine)[JUNE]) == ("in_progress", 100, 10, 10, 0, 0)
        work_log.begin(Phase.READING, {MAY: 10}, [])
        assert {month: row.status for month, row in progress(engine).items()} == {
            JUNE: "completed",
            MAY: "in_progress",
        }
        work_log.end([MAY])
        assert progress(engine)[MAY].status == "in_progress"

    # then nothing is in progress afterwards
    assert {row.status for row in progress(engine).values()} == {"completed"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("gone")])
def test_planned_months_that_were_not_begun_are_as_before(theirs: Engine, error: BaseException) -> None:
    before = progress(theirs)[JUNE]
    work_log = WorkLog(theirs, "ann", Clock())

    def work() -> None:
        with work_log.finishing():
            work_log.plan(["2025-04", MAY, JUNE])
            with work_log.working(Phase.READING, {"2025-04": 10}, []):
                work_log.advance("2025-04", 10)
            raise error

    with pytest.raises(type(error)):
        work()

    rows = progress(theirs)
    assert rows[JUNE] == before
    assert MAY not in rows
    assert (rows["2025-04"].status, rows["2025-04"].error_details) == ("failed", str(error) or "interrupted")


def test_a_month_that_another_worker_is_at_is_not_planned(engine: Engine, work_log: WorkLog) -> None:
    WorkLog(engine, "bob", Clock()).begin(Phase.READING, {JUNE: 10})

    work_log.plan([MAY, JUNE])

    assert {month: row.worker for month, row in progress(engine).items()} == {JUNE: "bob", MAY: "ann"}


def test_a_worker_is_named_by_its_process() -> None:
    assert worker_name("recon reconcile") == f"recon reconcile ({socket.gethostname()}, process {os.getpid()})"


def test_the_table_of_the_user_is_adopted_with_its_rows(theirs: Engine) -> None:
    rows = progress(theirs)

    assert list(rows) == [JUNE, "2024-12"]
    assert figures(rows["2024-12"]) == ("completed", 100, 5000, 5000, 0, 0)
    assert rows["2024-12"].last_updated == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert figures(rows[JUNE]) == ("failed", 41.5, 2000, 830, 0, 0)
    assert rows[JUNE].error_details == "time-out"
    assert (rows[JUNE].phase, rows[JUNE].worker, rows[JUNE].started_at) == (None, None, None)
    assert "recon_progress" not in inspect(theirs).get_table_names()


def test_the_table_of_the_user_takes_what_a_worker_writes_and_keeps_the_other_months(theirs: Engine) -> None:
    before = progress(theirs)["2024-12"]
    work_log = WorkLog(theirs, "ann", Clock())

    work_log.begin(Phase.CONVERGING, {MAY: 0, JUNE: 300})
    work_log.advance(MAY, 0)
    work_log.advance(JUNE, 100)
    work_log.fail(JUNE, 100, "2025-06-03 period 7: timed out")
    work_log.trouble(JUNE, "2025-06-04: timed out", timed_out=True)
    halfway = progress(theirs)[JUNE]
    work_log.end([MAY, JUNE])

    assert figures(halfway) == ("in_progress", 67, 300, 100, 100, 1)
    rows = progress(theirs)
    assert figures(rows[JUNE]) == ("failed", 67, 300, 100, 100, 1)
    assert figures(rows[MAY]) == ("completed", 100, 0, 0, 0, 0)
    assert rows["2024-12"] == before
    # and: their own queries find what they know
    found = "SELECT count(*) FROM reconciliation_progress WHERE status IN ('completed', 'failed') AND id > 0"
    assert scalar(theirs, found) == 3


def test_a_table_of_that_name_and_another_shape_is_left_alone(settings: Settings) -> None:
    engine = open_engine(settings.database_url)
    execute(
        engine,
        "CREATE TABLE reconciliation_progress (time_period text PRIMARY KEY, status text, done boolean NOT NULL)",
        f"INSERT INTO reconciliation_progress VALUES ('{JUNE}', 'theirs', true)",
    )
    migrate(engine)
    work_log = WorkLog(engine, "ann", Clock())

    work_log.begin(Phase.CONVERGING, {JUNE: 10})
    work_log.advance(JUNE, 5)

    assert figures(progress(engine)[JUNE]) == ("in_progress", 50, 10, 5, 0, 0)
    with reading(engine) as connection:
        theirs = connection.execute(text("SELECT * FROM reconciliation_progress")).all()
        ours = connection.execute(text("SELECT time_period, status FROM recon_progress")).all()
    assert [tuple(row) for row in theirs] == [(JUNE, "theirs", True)]
    assert [tuple(row) for row in ours] == [(JUNE, "in_progress")]
    engine.dispose()
