"""A count of one has its noun in the singular, everywhere."""

import re

import pytest
from sqlalchemy import Engine

from recon_assets.database.work_log import Phase, WorkLog
from recon_assets_tests.cli.test_advice import HOLE, texts
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import JUNE, execute

NOUNS = (
    "days|rows|calculations|records|requests|months|years|dates|recordings|partitions|pages|runs|units|bids|periods"
    "|duplicates|summaries|half-hours|sessions|chunks|attempts|minutes|models|farms|tables|workers|dead rows"
)
HAPPENS = re.compile(rf"(?<![\d.,-])1 (?:{NOUNS})\b")


def test_no_text_counts_without_the_helper() -> None:
    counted = re.compile(rf"(?<!of ){HOLE} (?:{NOUNS})\b(?!:| {HOLE}-)")

    assert [(where, text) for where, text in texts() if counted.search(text)] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_read_from_a_database_with_one_of_everything(
    engine: Engine, database_url: str, tmp_path: object
) -> None:
    # given one adopted record, one calculation without a record, one unknown model, and work on one month
    day = "'2025-06-06'"
    calculation = (
        "INSERT INTO historical_bitcoin_calculations"
        " (settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty) VALUES"
    )
    execute(
        engine,
        "INSERT INTO curtailment_records (settlement_date, settlement_period, farm_id, volume, payment, original_price,"
        f" final_price, so_flag) VALUES ({day}, 7, 'T_ABC-1', -1, 1, -1, -1, true)",
        f"{calculation} ({day}, 8, 'T_ABC-1', 'S9', 1, 1)",
        f"{calculation} ({day}, 7, 'T_ABC-1', 's9', 1, 1)",
        f"INSERT INTO uncounted_bids VALUES ({day}, 'T_XYZ-1', 1, -1)",
    )
    WorkLog(engine, "ann").begin(Phase.READING, {"2025-06": 1})
    recon = Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri(), MEMPOOL_API_URL="none")  # type: ignore[arg-type]
    period = ("--from", "2025-06-06", "--to", "2025-06-06")

    # when
    for words in (
        ("status", *period), ("analyze", *period), ("report", *period), ("watch",), ("doctor",), ("units", "list"),
        ("units", "show", "T_XYZ-1"), ("most-critical", *period), ("reconcile", *period, "--dry-run"),
        ("verify", "2025-06-06"),
    ):  # fmt: skip
        ended = recon(*words)

        # then
        assert ended.exit_code in (0, 1), ended.stderr
        assert HAPPENS.findall(ended.stdout + ended.stderr) == [], words
