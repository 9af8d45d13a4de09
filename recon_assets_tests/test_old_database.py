"""An old database that lost data is never called right before it is proven, and what a proof replaces is kept."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.database.kept_tables import superseded_tables
from recon_assets.reconcile.layers import HALF_A_SATOSHI
from recon_assets_tests.support.command import Command, Ended
from recon_assets_tests.support.old_database import (
    ALL_LOST,
    FARM_LOST,
    LATE_LOST,
    NINE_DAYS,
    SHAPES,
    lose,
    make_old,
    record_nine_days,
    rows_of,
    stored,
    visible,
)
from recon_assets_tests.support.steps import converge_layers, execute, ingest

PERIOD = ("--from", str(NINE_DAYS.first), "--to", str(NINE_DAYS.last))
ADDED = ("sequence_number", "acceptance_id", "bid_offer_pair_id", "created_at", "updated_at", "last_updated")
"""Columns that an adoption adds."""
EVIDENT = {str(ALL_LOST), str(LATE_LOST), str(FARM_LOST)}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    record_nine_days(folder)
    return folder


@pytest.fixture
def fresh(engine: Engine, recordings: Path) -> dict[str, list[dict[str, Any]]]:
    """What a fresh ingest of the nine days holds."""
    ingest(engine, NINE_DAYS, recordings)
    converge_layers(engine, NINE_DAYS)
    return stored(engine)


@pytest.fixture
def recon(database_url: str, tmp_path: Path, recordings: Path, light_dagster: dict[str, str]) -> Command:
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=recordings.as_uri(),
        MEMPOOL_API_URL="none",
        RECON_FIRST_DAY="2025-01-01",
        **light_dagster,
    )


def facts_of(ended: Ended, exit_code: int) -> dict[str, Any]:
    assert (ended.exit_code, ended.stderr) == (exit_code, ""), ended
    return ended.facts


def superseded(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """The rows that a proof replaced, as they were."""
    with transactions.reading(engine) as connection:
        return {name: rows_of(connection, superseded_tables[name].name, *KEPT_BY) for name in stored(engine)}


KEPT_BY = ("superseded_at", "superseded_by")
BASE = ("curtailment_records", "historical_bitcoin_calculations")


def evidence(engine: Engine, *days: str) -> dict[str, list[dict[str, Any]]]:
    """All records, and every other row of the days that evidently lost some; or every row of some days."""
    return {
        name: [
            row
            for row in rows
            if (name == BASE[0] and not days)
            or str(row.get("settlement_date", row.get("summary_date"))) in (days or EVIDENT)
        ]
        for name, rows in stored(engine).items()
    }


def bitcoin_of(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """BTC by the key of every row that has it: a right old value differs from a new one by its rounding."""
    keys = ("settlement_date", "settlement_period", "farm_id", "miner_model", "summary_date", "year_month", "year")
    return {
        " ".join(str(row[key]) for key in keys if key in row): float(row["bitcoin_mined"])
        for name in (BASE[1], "bitcoin_daily_summaries")
        for row in rows[name]
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_what_an_old_database_lost_is_found_read_and_kept(
    fresh: Mapping[str, Sequence[Mapping[str, Any]]], engine: Engine, recon: Command, shape: str
) -> None:
    # given
    make_old(engine, fresh, shape)
    lose(engine, shape)
    before = visible(evidence(engine))

    # when it is adopted, nothing is called right
    assert recon("migrate").exit_code == 0
    for command in ("status", "analyze", "report"):
        ended = recon(command, *PERIOD)
        assert ended.exit_code == 1
        assert "Everything is right" not in ended.stdout
    found = facts_of(recon("status", *PERIOD, "--format", "json"), 1)
    assert (found["conclusion"], found["is_right"]) == ("not_right", False)
    assert {lost["period"] for lost in found["lost"]} >= EVIDENT
    assert found["settlement_days"]["adopted_empty"] == 3
    assert found["unproven_days"] == 9

    # nor is it after all has been done that can be done without the source
    ended = recon("reconcile", *PERIOD, "--no-ingest")
    assert ended.exit_code == 1
    assert "Everything is right" not in ended.stdout
    found = facts_of(recon("status", *PERIOD, "--format", "json"), 1)
    assert {lost["period"] for lost in found["lost"]} >= EVIDENT

    # when it is reconciled, what is known to be lost is read: whole months, if a total of theirs is above their records
    found = facts_of(recon("reconcile", *PERIOD, "--format", "json"), 0)
    assert found["lost"] == []
    if shape == "no keys":
        assert (found["conclusion"], found["is_right"]) == ("right_as_far_as_known", False)
        assert found["settlement_days"] == {
            "ingested": 5, "incomplete": 0, "not_ingested": 0, "adopted": 4, "adopted_empty": 0,
        }  # fmt: skip
        assert recon("status", *PERIOD, "--strict").exit_code == 1

    # when it is proven, every row is that of a fresh ingest
    found = facts_of(recon("reconcile", *PERIOD, "--prove", "--format", "json"), 0)
    assert (found["conclusion"], found["unproven_days"]) == ("right", 0)
    inexact = ("imported_by", "bitcoin_mined")
    assert visible(stored(engine), *inexact) == visible(fresh, *inexact)
    assert bitcoin_of(stored(engine)) == pytest.approx(bitcoin_of(fresh), rel=0, abs=HALF_A_SATOSHI)
    # and every old record was kept, and all that there was of the days that had lost some
    kept = visible(superseded(engine), *ADDED)
    for name, rows in before.items():
        assert not rows - kept[name]


def way_back(day: str) -> list[str]:
    """The statements of docs/adoption.md that bring a day back."""
    page = (Path(__file__).parents[1] / "docs" / "adoption.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"```sql\nBEGIN;\n(.*?)COMMIT;\n```", page, re.DOTALL)
    return [statement for statement in statements.replace("2025-06-08", day).split(";\n") if statement.strip()]


def test_a_proven_day_is_brought_back_as_it_was_with_the_documented_statements(
    fresh: Mapping[str, Sequence[Mapping[str, Any]]], engine: Engine, recon: Command
) -> None:
    make_old(engine, fresh, "plain")
    lose(engine, "plain")
    day = str(LATE_LOST)
    was = {name: rows for name, rows in visible(evidence(engine, day)).items() if "ly_" in name or name in BASE}
    recon("migrate")
    # The total of the month stays evidence of the other days.
    assert recon("date", day).stderr == ""
    assert visible(evidence(engine, day), *ADDED)[BASE[0]] != was[BASE[0]]

    execute(engine, *way_back(day))

    now = visible(evidence(engine, day), *ADDED)
    assert {name: now[name] for name in was} == was
    found = facts_of(recon("status", "--from", day, "--to", day, "--format", "json"), 1)
    assert (found["settlement_days"]["adopted"], {lost["period"] for lost in found["lost"]} >= {day}) == (1, True)
