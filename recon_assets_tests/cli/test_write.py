"""The commands for damage, difficult days and unattended work, as processes with their output and exit code.

test_main.py has what all commands share.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect

from recon_assets.database.engine import open_engine
from recon_assets.database.transactions import reading
from recon_assets.domain.settlement import Days, parse_day
from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets.orchestration.specs import WIND_GENERATION
from recon_assets.reports.analysis import analysis_facts
from recon_assets.settings import Settings
from recon_assets_tests.orchestration.test_reconciliation import ALL_TABLES, NOWHERE
from recon_assets_tests.reconcile.test_span_runner import BAD_PERIOD, drop_trigger, make_endless
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.content import out_of_date, rows, runs, stacks_asked
from recon_assets_tests.support.generation import DAY_MWH, PATH, body_of, publish, store, without
from recon_assets_tests.support.steps import (
    JUNE,
    JUNE_6,
    JUNE_7,
    SMALL_DAYS,
    contents,
    converge_layers,
    execute,
    ingest,
    scalar,
    state_of,
)

CALCULATIONS = "historical_bitcoin_calculations"
COLUMNS = "settlement_date, settlement_period, farm_id, miner_model, bitcoin_mined, difficulty"
SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
ON_JUNE_6, ON_JUNE_7 = "settlement_date = '2025-06-06'", "settlement_date = '2025-06-07'"
FARM = "T_GRGBW-2"
"""Curtailed on 2025-06-06 in settlement periods 4 and 5, and not in 20."""

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def recon(database_url: str, tmp_path: Path, recordings: Path, light_dagster: dict[str, str]) -> Command:
    """The command on the test's own database; its source is the recordings of the small days."""
    return Command(tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=recordings.as_uri(), **light_dagster)


@pytest.fixture
def in_folder(tmp_path: Path, recordings: Path) -> Command:
    """The command in a folder without a database."""
    return Command(tmp_path, ELEXON_API_URL=recordings.as_uri())


def days(first: str, last: str) -> Days:
    return Days(parse_day(first), parse_day(last))


def log_of(recon: Command, name: str) -> list[dict[str, Any]]:
    """The lines of a routine's log, each of which must be a JSON object with time, level and event."""
    lines = (recon.folder / ".recon" / "logs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all({"time", "level", "event"} <= set(line) for line in found)
    return found


def orphan(day: str, period: int, farm: str, model: str) -> str:
    """SQL that adds a calculation without curtailment."""
    return f"INSERT INTO {CALCULATIONS} ({COLUMNS}) VALUES ('{day}', {period}, '{farm}', '{model}', 0.5, 1e14)"


# analyze


def cells(table: str) -> list[list[str]]:
    """The rows of an analysis: date, why (wrapped lines joined), command."""
    lines = table.splitlines()[1:]
    header, last = lines[0], next(n for n, line in enumerate(lines) if "verything is right" in line)
    why, mend = header.index("why"), header.index("mend it with")
    found: list[list[str]] = []
    for line in lines[1:last]:
        parts = [line[:why].strip(), line[why:mend].strip(), line[mend:].strip()]
        if parts[0]:
            found.append(parts)
        else:
            found[-1][1] += f" {parts[1]}"
    return found


@on_sqlite
def test_analyze_names_every_fault_with_its_reason_and_the_command_that_mends_it(
    recon: Command, small_days: Engine
) -> None:
    # given a third day, two that were never read, and damage of every kind
    recon.environment["ELEXON_API_URL"] = JUNE.as_uri()
    third = parse_day("2025-06-08")
    ingest(small_days, [third])
    converge_layers(small_days, Days(JUNE_6, third))
    right = contents(small_days, *ALL_TABLES)
    a_record = "SELECT min(id) FROM curtailment_records WHERE settlement_date = '2025-06-06' AND settlement_period ="
    record = "settlement_date, settlement_period, farm_id, volume, payment, original_price"
    changed = execute(
        small_days,
        # of 2025-06-06 four periods were not read; a record is gone, one has a wrong payment, one is too many
        f"DELETE FROM proof_of_fetch WHERE {ON_JUNE_6} AND settlement_period IN (44, 45, 46, 48)",
        f"DELETE FROM curtailment_records WHERE id = ({a_record} 3)",
        f"UPDATE curtailment_records SET payment = payment + 100 WHERE id = ({a_record} 10)",
        f"INSERT INTO curtailment_records ({record}, sequence_number)"
        f" SELECT {record}, 999 FROM curtailment_records WHERE id = ({a_record} 12)",
        # one calculation is missing, one wrong, one an orphan, one there twice
        f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6} AND settlement_period = 4 AND farm_id = '{FARM}'"
        " AND miner_model = 'S9'",
        f"UPDATE {CALCULATIONS} SET difficulty = difficulty * 2 WHERE {ON_JUNE_6} AND settlement_period = 5"
        f" AND farm_id = '{FARM}' AND miner_model = 'M20S'",
        orphan("2025-06-06", 20, FARM, "S19J_PRO"),
        f"DROP INDEX {CALCULATIONS}_key",
        f"INSERT INTO {CALCULATIONS} ({COLUMNS}) SELECT {COLUMNS} FROM {CALCULATIONS}"
        f" WHERE {ON_JUNE_6} AND settlement_period = 6 AND farm_id = 'T_PNYCW-1' AND miner_model = 'M20S'",
        # the bids of 2025-06-07 were changed by hand; of 2025-06-08 only a sum is wrong
        f"DELETE FROM wind_bids WHERE {ON_JUNE_7} AND settlement_period = 36",
        "UPDATE daily_summaries SET total_payment = 1 WHERE summary_date = '2025-06-08'",
        "UPDATE yearly_summaries SET total_payment = 1",
    )
    assert [count for count in changed if count >= 0] == [4, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1]
    words = ("analyze", "--from", "2025-06-06", "--to", "2025-06-10")

    # when
    found, table = recon(*words, "--format", "json"), recon(*words)

    # then
    assert (found.exit_code, table.exit_code) == (1, 1)
    facts = found.facts
    assert (facts["days"], facts["faulty_dates"], facts["is_right"]) == ("2025-06-06..2025-06-10", 5, False)
    assert facts["findings"] == [
        {
            "from": "2025-06-09",
            "to": "2025-06-10",
            "why": ["never ingested"],
            "mend": "recon range 2025-06-09 2025-06-10",
        },
        {
            "from": "2025-06-08",
            "to": "2025-06-08",
            "why": ["stale: daily_summaries"],
            "mend": "recon summaries --from 2025-06-08 --to 2025-06-08",
        },
        {
            "from": "2025-06-07",
            "to": "2025-06-07",
            "why": ["the wind bids are not those that were fetched"],
            "mend": "recon date 2025-06-07",
        },
        {
            "from": "2025-06-06",
            "to": "2025-06-06",
            "why": [
                "not read: settlement periods 44-46, 48",
                "records: 1 missing, 1 surplus, 1 wrong",
                "S19J_PRO: 1 orphaned, 2 wrong",
                "S9: 1 missing, 2 wrong",
                "M20S: 1 duplicated, 3 wrong",
                "stale: bitcoin_daily_summaries, daily_summaries",
            ],
            "mend": "recon date 2025-06-06",
        },
    ]
    bitcoin = {name: f"bitcoin_{name}_summaries {{}}" for name in ("monthly", "yearly")}
    assert {entry["period"]: entry["mend"] for entry in facts["stale_periods"]} == {
        "2025-06": "recon summaries --month 2025-06",
        "2025": "recon summaries --year 2025",
    }
    for (name, of_model), entry in zip(bitcoin.items(), facts["stale_periods"], strict=True):
        stale = [*(of_model.format(model) for model in ("M20S", "S19J_PRO", "S9")), f"{name}_summaries"]
        assert entry["why"] == f"stale: {', '.join(stale)}"

    # then the table says the same
    assert table.stdout.splitlines()[0] == "Analysis 2025-06-06..2025-06-10: 5 dates are not right"
    assert table.stdout.splitlines()[-1] == "Not everything is right."
    dates = [f["from"] if f["from"] == f["to"] else f"{f['from']}..{f['to']}" for f in facts["findings"]]
    assert cells(table.stdout) == [
        *([date, " ".join(f["why"]), f["mend"]] for date, f in zip(dates, facts["findings"], strict=True)),
        *([entry["period"], entry["why"], entry["mend"]] for entry in facts["stale_periods"]),
    ]

    # when each command is run (test_main.py has the first), then it mends what it was named for, whatever else is wrong
    read = ("2025-06-06", "2025-06-08")
    for number, finding in enumerate(facts["findings"][1:], start=1):
        mended = recon(*finding["mend"].split()[1:])
        assert (mended.exit_code, mended.stderr) == (0, ""), (finding, mended)
        left = analysis_facts(state_of(small_days, days(*read)))
        assert left["findings"] == facts["findings"][number + 1 :]
    assert left["is_right"]
    assert contents(small_days, *ALL_TABLES) == right

    # then analyze says so
    ended = recon("analyze", "--from", read[0], "--to", read[1])
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "Analysis 2025-06-06..2025-06-08: 0 dates are not right",
        "Everything is right.",
    ]


@on_sqlite
def test_summaries_are_summed_again_and_nothing_below_them_is_touched(recon: Command, small_days: Engine) -> None:
    # given sums of every grain that are wrong, too many or gone, above rows of which one is missing
    recon.environment["ELEXON_API_URL"] = NOWHERE
    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6} AND settlement_period = 4")
    execute(
        small_days,
        "DELETE FROM daily_summaries WHERE summary_date = '2025-06-06'",
        "UPDATE bitcoin_daily_summaries SET bitcoin_mined = 1 WHERE summary_date = '2025-06-07'",
        "UPDATE monthly_summaries SET total_curtailed_energy = 1",
        "DELETE FROM bitcoin_monthly_summaries WHERE miner_model = 'S9'",
        "UPDATE yearly_summaries SET total_payment = 2",
        "UPDATE bitcoin_yearly_summaries SET bitcoin_mined = 1 WHERE miner_model = 'M20S'",
    )
    before = rows(small_days)
    named = [entry["mend"] for entry in analysis_facts(state_of(small_days, SMALL_DAYS))["stale_periods"]]

    # when, as analyze names it
    assert named == ["recon summaries --month 2025-06", "recon summaries --year 2025"]
    summed = recon(*named[0].split()[1:], "--format", "json")

    # then
    assert (summed.exit_code, summed.stderr) == (0, "")
    assert summed.facts["stale_summaries"] == 0
    assert summed.facts["missing"] > 0
    state = state_of(small_days, SMALL_DAYS)
    assert state.summary_faults == 0
    after = rows(small_days)
    for table in ("wind_bids", "proof_of_fetch", "curtailment_records", CALCULATIONS):
        assert after[table] == before[table]
    mined = "SELECT sum(bitcoin_mined) FROM"
    calculated = scalar(small_days, f"{mined} {CALCULATIONS}")
    for table in ("bitcoin_daily_summaries", "bitcoin_monthly_summaries", "bitcoin_yearly_summaries"):
        assert scalar(small_days, f"{mined} {table}") == pytest.approx(calculated, rel=1e-9, abs=0)


# Difficult days


@pytest.mark.parametrize(
    ("database_url", "words"),
    [
        pytest.param("postgresql", ["critical", "2025-06-06", "--format", "json"], id="critical-postgresql"),
        pytest.param("sqlite", ["reconcile", *SMALL, "--batch-size", "110", "--format", "json"], id="reconcile-sqlite"),
    ],
    indirect=["database_url"],
)
def test_a_period_that_never_ends_is_named_and_everything_else_is_done(
    recon: Command, small_days: Engine, words: list[str]
) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)
    bad = {row for row in right[CALCULATIONS] if (row[0], row[1]) == (JUNE_6, BAD_PERIOD)}
    execute(
        small_days,
        f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6}",
        "DELETE FROM daily_summaries WHERE summary_date = '2025-06-06'",
    )
    make_endless(small_days, JUNE_6, BAD_PERIOD)

    # when
    tried = recon(*words, RECON_STATEMENT_TIMEOUT_SECONDS="0.5")

    # then
    assert tried.exit_code == 1
    assert tried.complaint.startswith(f"Failed: 2025-06-06 period {BAD_PERIOD}: timed out: ")
    assert list(tried.facts["done"]["failed_days"]) == ["2025-06-06"]
    assert (tried.facts["missing"], tried.facts["stale_summaries"]) == (len(bad), 0)
    held = contents(small_days, *ALL_TABLES)
    assert right[CALCULATIONS] - held[CALCULATIONS] == dict.fromkeys(bad, 1)
    assert not held[CALCULATIONS] - right[CALCULATIONS]
    assert state_of(small_days, SMALL_DAYS).summary_faults == 0

    # when the fault is gone
    drop_trigger(small_days)
    mended = recon("reconcile", *SMALL)

    # then
    assert (mended.exit_code, mended.stderr) == (0, "")
    assert contents(small_days, *ALL_TABLES) == right


@on_sqlite
def test_only_the_named_periods_of_a_difficult_day_are_done(recon: Command, small_days: Engine) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)[CALCULATIONS]
    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6}")

    # when
    tried = recon("critical", "2025-06-06", "--periods", "4-10", "--pause", "0")

    # then the others are still not right
    assert tried.exit_code == 1
    held = contents(small_days, *ALL_TABLES)[CALCULATIONS]
    assert {row[1] for row in held if row[0] == JUNE_6} == {4, 5, 6, 7, 8, 9, 10}
    assert not held - right
    assert {row[1] for row in right - held} == {3, 11, 12}


@on_sqlite
def test_the_most_critical_date_is_the_one_with_most_faults(recon: Command, small_days: Engine) -> None:
    # given
    right = contents(small_days, *ALL_TABLES)
    few, many = execute(
        small_days,
        f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_7} AND settlement_period = 36 AND miner_model = 'S9'",
        f"UPDATE {CALCULATIONS} SET bitcoin_mined = 1 WHERE {ON_JUNE_6} AND settlement_period = 11",
    )
    assert 0 < few < many

    # when
    first = recon("most-critical", "--format", "json")

    # then
    assert (first.exit_code, first.complaint) == (0, "The most critical date is 2025-06-06.")
    assert first.facts["wrong"] == 0
    state = state_of(small_days, SMALL_DAYS)
    assert state.faulty_days == [JUNE_7]

    # given that the other day is right, too
    converge_layers(small_days, SMALL_DAYS)
    assert contents(small_days, *ALL_TABLES) == right

    # when
    second, third = recon("most-critical"), recon("most-critical", "--format", "json")

    # then
    assert (second.exit_code, second.stderr) == (0, "")
    assert second.stdout == "No date of 2025-06-06..2025-06-07 has a fault.\n"
    assert (third.exit_code, third.facts) == (0, {"settlement_date": None})


@on_sqlite
def test_spot_fix_makes_one_triple_right_and_no_other(recon: Command, small_days: Engine) -> None:
    # given a farm and period of which a row is missing and one wrong, one that must not be, and damage elsewhere
    right = contents(small_days, *ALL_TABLES)[CALCULATIONS]
    of_farm = f"{ON_JUNE_6} AND farm_id = '{FARM}' AND settlement_period"
    execute(
        small_days,
        f"DELETE FROM {CALCULATIONS} WHERE {of_farm} = 4 AND miner_model = 'S9'",
        f"UPDATE {CALCULATIONS} SET bitcoin_mined = 1 WHERE {of_farm} = 4 AND miner_model = 'M20S'",
        orphan("2025-06-06", 20, FARM, "S9"),
        f"DELETE FROM {CALCULATIONS} WHERE {of_farm} = 5",
    )

    # when
    fixed = recon("spot-fix", "2025-06-06", "4", FARM, "--format", "json")
    removed = recon("spot-fix", "2025-06-06", "20", FARM)

    # then
    for ended in (fixed, removed):
        assert ended.exit_code == 0
        assert ended.complaint == f"Still not right: 2025-06-06: not all settlement periods of {CALCULATIONS} are right"
    facts = fixed.facts
    assert [facts[key] for key in ("settlement_date", "settlement_period", "farm_id")] == ["2025-06-06", 4, FARM]
    energy = f"SELECT sum(abs(volume)) FROM curtailment_records WHERE {of_farm} = 4"
    assert facts["curtailed_mwh"] == pytest.approx(scalar(small_days, energy), rel=1e-9, abs=0)
    models = facts["models"]
    for name, model in models.items():
        stored = f"SELECT bitcoin_mined FROM {CALCULATIONS} WHERE {of_farm} = 4 AND miner_model = '{name}'"
        assert model["after"] == [pytest.approx(scalar(small_days, stored), abs=1e-15)]
        assert model["expected"] == pytest.approx(model["after"][0], abs=5.1e-13)
        assert model["is_right"]
    assert {name: model["was_right"] for name, model in models.items()} == {
        "S19J_PRO": True, "S9": False, "M20S": False,
    }  # fmt: skip
    assert (models["S9"]["before"], models["M20S"]["before"]) == ([], [1])
    assert removed.stdout.splitlines()[0] == f"2025-06-06 period 20 {FARM}: 0.000 MWh curtailed in 0 records"
    assert ["S9", "none", "0.500000000000", "none", "mended"] in [line.split() for line in removed.stdout.splitlines()]
    held = contents(small_days, *ALL_TABLES)[CALCULATIONS]
    assert not held - right
    assert {row[:3] for row in right - held} == {(JUNE_6, 5, FARM)}
    state = state_of(small_days, SMALL_DAYS)
    assert state.summary_faults == 0

    # when there is no such farm and period
    for period, farm, complaint in (
        ("4", "T_NOSUCH-1", "'T_NOSUCH-1' is no wind BM unit that is known"),
        ("49", FARM, "49"),
    ):
        refused = recon("spot-fix", "2025-06-06", period, farm)
        assert refused.exit_code == 2
        assert complaint in refused.complaint


# Unattended


@on_sqlite
def test_the_daily_check_makes_an_outage_good_and_keeps_a_log(
    recon: Command, small_days: Engine, recordings: Path
) -> None:
    # given three days that nobody read, and damage before the last day that was read
    for day in days("2025-06-08", "2025-06-10"):
        shutil.copy(JUNE / f"{day}.json.gz", recordings)
    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6}")

    # when
    checked = recon("daily-check", "--format", "json")

    # then it went from the last day read to the newest, and no further back
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert checked.facts["done"]["days_read"] == 3
    assert checked.facts["settlement_days"]["ingested"] == 4
    assert state_of(small_days, days("2025-06-06", "2025-06-10")).faulty_days == [JUNE_6]
    log = log_of(recon, "daily-check")
    planned, *done, finished = log
    assert (planned["event"], planned["read"], planned["requests"]) == ("planned", "2025-06-08..2025-06-10", 144)
    assert [line["event"] for line in done][:3] == ["read"] * 3
    read = [line for line in done if line["event"] == "read"]
    assert [line["settlement_date"] for line in read] == ["2025-06-08", "2025-06-09", "2025-06-10"]
    bids = "SELECT count(*) FROM wind_bids WHERE settlement_date = '2025-06-08'"
    assert read[0]["wind_rows"] == scalar(small_days, bids)
    converged = [line for line in done if line["event"] == "converged"]
    assert converged[0]["days"] == "2025-06-08..2025-06-10"
    assert converged[0]["changes"][CALCULATIONS]["inserted"] == scalar(
        small_days, f"SELECT count(*) FROM {CALCULATIONS} WHERE settlement_date > '2025-06-07'"
    )
    assert (finished["event"], finished["level"], finished["failures"]) == ("finished", "INFO", [])
    before, after = finished["before"], finished["after"]
    assert before["days"] == after["days"] == "2025-06-07..2025-06-10"
    assert (before["settlement_days"]["not_ingested"], before["days_behind"]) == (3, 3)
    assert (after["settlement_days"]["ingested"], after["days_behind"], after["missing"]) == (4, 0, 0)
    assert after["expected"] > before["expected"]

    # when more days are asked for, and to be read again
    held = contents(small_days, *ALL_TABLES)
    forced = recon("daily-check", "--days", "5", "--force", "--format", "json")

    # then what was damaged is mended, and nothing else changes
    assert (forced.exit_code, forced.stderr, forced.facts["done"]["days_read"]) == (0, "", 5)
    now = contents(small_days, *ALL_TABLES)
    assert (now["wind_bids"], now["curtailment_records"]) == (held["wind_bids"], held["curtailment_records"])
    assert {row[0] for row in now[CALCULATIONS] - held[CALCULATIONS]} == {JUNE_6}
    assert not held[CALCULATIONS] - now[CALCULATIONS]
    assert state_of(small_days, days("2025-06-06", "2025-06-10")).faulty_days == []
    log = log_of(recon, "daily-check")
    assert [line["read"] for line in log if line["event"] == "planned"] == [
        "2025-06-08..2025-06-10", "2025-06-06..2025-06-10",
    ]  # fmt: skip
    assert [line["settlement_date"] for line in log if line["event"] == "read"][3:] == [
        str(day) for day in days("2025-06-06", "2025-06-10")
    ]
    assert [line["level"] for line in log if line["event"] == "finished"] == ["INFO"] * 2


@on_postgres
def test_auto_tries_again_in_small_chunks_and_leaves_the_rest_to_the_next_time(
    recon: Command, small_days: Engine, stand_in: StandInElexon
) -> None:
    # given a day that is to be read again and cannot be once, and a settlement period of another that fails as often
    # as a chunk is tried (a sequence is not rolled back)
    recon.environment |= {"ELEXON_API_URL": stand_in.url, "MEMPOOL_API_URL": "none", "ELEXON_ATTEMPTS": "1"}
    recon.environment["ELEXON_REQUESTS_PER_SECOND"] = "1000"
    stand_in.faults = [Fault("server_error", "/stack/all/bid/2025-06-07/10/", times=1)]
    right = contents(small_days, *ALL_TABLES)
    execute(
        small_days,
        f"DELETE FROM wind_bids WHERE {ON_JUNE_7}",
        f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6}",
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF nextval(''tries'') <= 2 THEN RAISE ''the disk is full''; END IF; RETURN NEW; END'",
        f"CREATE TRIGGER fault BEFORE INSERT ON {CALCULATIONS} FOR EACH ROW WHEN (NEW.settlement_period = {BAD_PERIOD})"
        " EXECUTE FUNCTION fault()",
    )

    # when
    first = recon("auto", *SMALL, RECON_BATCH_SIZE="1")

    # then the second is right by now, which the log tells, and only the first is complained of
    assert first.exit_code == 1
    assert first.complaint.startswith("Failed: 2025-06-07 settlement period 10: ")
    assert state_of(small_days, SMALL_DAYS).faulty_days == []
    log = log_of(recon, "auto")
    events = [line["event"] for line in log]
    again = events.index("planned", 1)
    failed = {line["settlement_date"]: line for line in log[:again] if line["event"] == "failed"}
    assert set(failed) == {"2025-06-06", "2025-06-07"}
    assert {line["level"] for line in failed.values()} == {"ERROR"}
    assert "the disk is full" in failed["2025-06-06"]["reason"]
    assert (log[again]["converge"], log[again]["read"]) == ("2025-06-06", "")
    assert "converged" in events[again:]
    finished = log[-1]
    assert (finished["event"], finished["level"]) == ("finished", "ERROR")
    assert finished["failures"] == [failed["2025-06-07"]["reason"]]
    assert (finished["before"]["missing"] > 0, finished["after"]["missing"]) == (True, 0)
    assert finished["after"]["settlement_days"]["incomplete"] == 1

    # when
    asked = len(stand_in.requests)
    second = recon("auto", *SMALL, "--format", "json")

    # then
    assert (second.exit_code, second.stderr) == (0, "")
    assert stacks_asked(stand_in.requests[asked:]) == {"2025-06-07": 48}
    assert contents(small_days, *ALL_TABLES) == right
    finished = log_of(recon, "auto")[-1]
    assert (finished["event"], finished["level"], finished["failures"]) == ("finished", "INFO", [])


# Wind generation


@on_sqlite  # test_assets.py has days with wind generation and their sums on both
def test_wind_reads_days_and_sums_them_up_to_the_year(recon: Command, small_days: Engine, recordings: Path) -> None:
    # given, from another time, a total in which MW were summed as if they were MWh
    for day in SMALL_DAYS:
        publish(recordings, day, body_of(day))
    execute(small_days, "UPDATE daily_summaries SET total_wind_generation = 192036 WHERE summary_date = '2025-06-06'")

    # when
    first = recon("wind", "2025-06-06", "2025-06-07", "--format", "json")

    # then
    assert (first.exit_code, first.stderr) == (0, "")
    facts = first.facts
    assert (facts["days"], facts["days_read"], facts["generation_is_right"]) == ("2025-06-06..2025-06-07", 2, True)
    assert facts["half_hours"] == {"stored": 96, "inserted": 96, "corrected": 0, "removed": 0}
    assert facts["mwh"] == {name: 2 * mwh for name, mwh in DAY_MWH.items()}
    assert facts["summaries"] == {"inserted": 0, "corrected": 2 + 1 + 1, "removed": 0}
    assert (facts["incomplete_days"], facts["failed_days"], facts["stale_summaries"]) == ({}, {}, 0)
    for table, rows_of_it in (("daily", 2), ("monthly", 1), ("yearly", 1)):
        generated = scalar(small_days, f"SELECT sum(total_wind_generation) FROM {table}_summaries")
        assert generated == 2 * DAY_MWH["total"], table
        assert scalar(small_days, f"SELECT count(total_curtailed_energy) FROM {table}_summaries") == rows_of_it
    assert state_of(small_days, SMALL_DAYS).is_right
    with recon.dagster() as instance:
        jobs = [record.dagster_run.job_name for record in runs(instance)]
        assert jobs == ["read_wind_generation", "converge_days", "converge_months", "converge_years", "audit_history"]
        assert set(instance.get_materialized_partitions(WIND_GENERATION)) == {"2025-06-06", "2025-06-07"}
        assert out_of_date(instance) == set()

    # when it is read again
    before = rows(small_days)
    again = recon("wind", "2025-06-06", "2025-06-07")

    # then
    assert (again.exit_code, again.stderr) == (0, "")
    assert [" ".join(line.split()) for line in again.stdout.splitlines()] == [
        "Wind generation 2025-06-06..2025-06-07: 2 days read",
        "Half-hours 96 stored (0 inserted, 0 corrected)",
        "Onshore 48,024.000 MWh",
        "Offshore 144,012.000 MWh",
        "In all 192,036.000 MWh",
        "Summaries 0 inserted, 0 corrected, 0 removed, 0 stale",
        "The wind generation is right.",
    ]
    assert rows(small_days) == before


@on_sqlite
def test_wind_needs_no_bids_and_names_what_is_not_published(recon: Command, engine: Engine, recordings: Path) -> None:
    # given
    publish(recordings, JUNE_6, without(without(body_of(JUNE_6), 47, 48), 3, kind="Wind Offshore"))

    # when
    ended = recon("wind", "2025-06-05", "2025-06-07", "--format", "json")
    table = recon("wind", "2025-06-05", "2025-06-07")

    # then
    assert (ended.exit_code, table.exit_code) == (1, 1)
    unpublished = "2025-06-07: Elexon has not published the wind generation of this day yet"
    no_recording = f"2025-06-05: {recordings.as_uri()} has no recording of this day"
    assert ended.stderr.splitlines() == [f"Failed: {no_recording}", f"Failed: {unpublished}"]
    facts = ended.facts
    assert facts["failed_days"] == {"2025-06-05": no_recording, "2025-06-07": unpublished}
    assert facts["incomplete_days"] == {"2025-06-06": {"pending": [47, 48], "of_one_kind": [3]}}
    assert (facts["days_read"], facts["half_hours"]["stored"], facts["generation_is_right"]) == (1, 45, False)
    assert "2025-06-06: not published: settlement period 47, 48" in table.stdout
    assert "2025-06-06: of one kind only: settlement period 3" in table.stdout
    assert "2 days could not be read: 2025-06-05, 2025-06-07" in table.stdout
    assert table.stdout.splitlines()[-1] == "The wind generation is not right."
    # what was read is summed, and nothing is said of its curtailment
    assert scalar(engine, "SELECT total_wind_generation FROM daily_summaries") == 45 / 48 * DAY_MWH["total"]
    for name in ("daily", "monthly", "yearly"):
        assert scalar(engine, f"SELECT count(*) FROM {name}_summaries WHERE total_curtailed_energy IS NULL") == 1

    # when the rest is published
    for day in SMALL_DAYS:
        publish(recordings, day, body_of(day))
    whole = recon("wind", "2025-06-06", "2025-06-07")

    # then
    assert (whole.exit_code, whole.stderr) == (0, "")


@on_sqlite
def test_what_is_known_of_the_wind_alone_is_summed_again(recon: Command, engine: Engine) -> None:
    # given
    store(engine, JUNE_6, (10, 20))

    # when
    ended = recon("summaries", *SMALL)

    # then
    assert (ended.exit_code, ended.stderr) == (0, "")
    for name in ("daily", "monthly", "yearly"):
        assert scalar(engine, f"SELECT total_wind_generation FROM {name}_summaries") == 15


@on_sqlite
def test_a_day_of_wind_that_cannot_be_read_is_one_line_and_stays(
    recon: Command, small_days: Engine, stand_in: StandInElexon, recordings: Path
) -> None:
    # given
    for day in SMALL_DAYS:
        publish(recordings, day, body_of(day))
    recon.environment |= {"ELEXON_API_URL": stand_in.url, "MEMPOOL_API_URL": "none", "ELEXON_ATTEMPTS": "1"}
    stand_in.faults = [Fault("server_error", f"{PATH}?from=2025-06-05T23:00Z")]

    # when
    ended = recon("wind", "2025-06-06", "2025-06-07")

    # then
    assert ended.exit_code == 1
    assert ended.complaint.startswith("Failed: 2025-06-06 wind generation: ")
    assert scalar(small_days, "SELECT count(*) FROM wind_generation_data") == 48
    assert scalar(small_days, "SELECT count(total_wind_generation) FROM daily_summaries") == 1


# Looking


@on_postgres
def test_the_limits_are_in_the_runs_config_and_report_and_watch_show_the_work(
    recon: Command, small_days: Engine
) -> None:
    # given
    recon.environment |= {"ELEXON_API_URL": NOWHERE, "MEMPOOL_API_URL": "none"}
    right = contents(small_days, *ALL_TABLES)
    execute(small_days, f"DELETE FROM {CALCULATIONS}")
    limits = ("--batch-size", "50", "--pause", "0.01", "--concurrency", "2")

    # when
    ended = recon("range", "2025-06-06", "2025-06-07", *limits)

    # then
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert contents(small_days, *ALL_TABLES) == right
    with recon.dagster() as instance:
        configs = [record.dagster_run.run_config.get("ops") for record in runs(instance)]
    assert list(filter(None, configs)) == [
        {"settlement_day_layers": {"config": {"batch_size": 50, "pause_seconds": 0.01, "concurrency": 2}}}
    ]

    # when it is watched after the fact
    frame, watched = recon("watch", "--once"), recon("watch", "--once", "--format", "json")

    # then
    assert (frame.exit_code, frame.stderr, watched.exit_code) == (0, "", 0)
    assert any(line.startswith("2025-06 ") for line in frame.stdout.splitlines())
    (month,) = watched.facts["months"]
    assert (month["month"], month["status"], month["phase"]) == ("2025-06", "completed", "converging")
    assert month["total_records"] == month["processed_records"] > 0
    assert month["worker"].startswith("recon range 2025-06-06 2025-06-07 --batch-size 50")

    # when there is something to report
    execute(small_days, f"DELETE FROM {CALCULATIONS} WHERE {ON_JUNE_6} AND settlement_period = 4")
    reported = recon("report", *SMALL, "--format", "json")

    # then
    assert (reported.exit_code, reported.stderr) == (1, "")
    assert reported.facts["months"]["2025-06"]["missing"] == reported.facts["missing"] == 6
    assert [step["command"] for step in reported.facts["next"]] == ["recon reconcile --from 2025-06-06 --to 2025-06-06"]


@on_sqlite
def test_the_doctor_finds_an_index_that_is_gone(recon: Command, small_days: Engine) -> None:
    # when
    healthy = recon("doctor", "--format", "json")

    # then
    assert (healthy.exit_code, healthy.stderr) == (0, "")
    assert healthy.facts["is_healthy"] is True
    assert set(healthy.facts) >= {
        "database", "probes", "timeouts", "sqlite", "tables", "indexes", "disks", "elexon", "advice",
    }  # fmt: skip
    assert "pool" not in healthy.facts
    assert healthy.facts["indexes"] == []

    # when
    execute(small_days, f"DROP INDEX {CALCULATIONS}_key")
    ill = recon("doctor")

    # then
    assert (ill.exit_code, ill.stderr) == (1, "")
    assert f"{CALCULATIONS}_key" in ill.stdout


# What is asked wrongly


@pytest.mark.parametrize(
    ("words", "environment", "complaint"),
    [
        (["range", "2025-06-06", "2025-06-07", "--batch-size", "0"], {}, "0 is not in the range x>=1"),
        (["reconcile", "--pause", "-1"], {}, "-1.0 is not in the range x>=0"),
        (["critical", "2025-06-06", "--concurrency", "17"], {}, "17 is not in the range 1<=x<="),
        (["critical", "2025-06-06", "--periods", "48-49"], {}, "2025-06-06 has settlement periods 1 to 48, not 49"),
        (["wind", "2025-06-07", "2025-06-06"], {}, "the period is upside down: 2025-06-07 is after 2025-06-06"),
        (["wind", "2021-12-31", "2022-01-01"], {}, "2021-12-31 is before 2022-01-01, the first day that is kept"),
        (["wind", "2025-06-06", "2099-01-01"], {}, "2099-01-01 is still to come"),
        (["wind", "2025-06-06"], {}, "Missing argument 'B'"),
        (["analyze"], {"RECON_BATCH_SIZE": "x"}, "RECON_BATCH_SIZE: 'x' is not a number"),
        (["auto"], {"RECON_CONCURRENCY": "1.5"}, "RECON_CONCURRENCY: 1.5 is not a whole number"),
    ],
)
def test_a_wrong_limit_is_one_line(
    in_folder: Command, words: Sequence[str], environment: dict[str, str], complaint: str
) -> None:
    ended = in_folder(*words, **environment)

    assert ended.exit_code == 2
    assert complaint in ended.complaint
    assert not (in_folder.folder / ".recon").exists()


READING = ("analyze", "report", "watch", "most-critical")


def test_reading_commands_make_no_database(in_folder: Command) -> None:
    for word in READING:
        ended = in_folder(word)
        assert ended.exit_code == 2, word
        assert "there is no database at" in ended.complaint

    examined = in_folder("doctor")

    assert (examined.exit_code, examined.stderr) == (1, "")
    assert not (in_folder.folder / ".recon").exists()


@on_postgres
def test_reading_commands_leave_an_empty_database_empty(recon: Command, settings: Settings) -> None:
    # given
    engine = open_engine(settings.database_url)
    with reading(engine):
        pass

    # when
    for word in READING:
        ended = recon(word)

        # then
        assert ended.exit_code == 2, word
        assert "holds no curtailment data yet" in ended.complaint
    assert inspect(engine).get_table_names() == []
    engine.dispose()
