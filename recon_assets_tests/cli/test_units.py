"""The commands on BM units: what is known of them, and a person's word on one."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.orchestration.specs import WIND_BM_UNITS
from recon_assets_tests.ingest.test_uncounted import NEW, with_unknown
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.content import DATA_VERSION, figures, latest, runs, stacks_asked
from recon_assets_tests.support.steps import JUNE_6, SMALL_DAYS, converge_layers, execute, ingest, scalar

__all__ = ["with_unknown"]

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""The queries themselves run on both engines in the tests that have no such mark."""
SMALL = ("--from", "2025-06-06", "--to", "2025-06-07")
JSON = ("--format", "json")


@pytest.fixture
def recon(database_url: str, tmp_path: Path, recordings: Path, light_dagster: dict[str, str]) -> Command:
    """The command on the test's own database; its source is the recordings of the small days."""
    return Command(
        tmp_path,
        DATABASE_URL=database_url,
        ELEXON_API_URL=recordings.as_uri(),
        ELEXON_REQUESTS_PER_SECOND="1000",
        **light_dagster,
    )


@pytest.fixture
def stored(engine: Engine, with_unknown: Path) -> Engine:
    """The small days, read while nobody knew what T_NEWWF-1 is."""
    ingest(engine, SMALL_DAYS, with_unknown)
    converge_layers(engine, SMALL_DAYS)
    return engine


def test_a_unit_is_declared_wind_and_its_days_are_read_again(recon: Command, stored: Engine) -> None:
    # given a state that is right, as far as anybody knows
    assert recon("status", *SMALL).exit_code == 0
    shown = recon("units", "show", NEW, *JSON).facts
    assert (shown["kind"], shown["is_listed"], shown["declaration"]) == ("unknown", False, None)
    assert shown["uncounted_days"] == [{"settlement_date": "2025-06-06", "bids": 3, "mwh": -60.0}]
    assert shown["curtailment_records"]["rows"] == 0

    # when
    said = recon("units", "declare", NEW, "--wind", "--note", "opened in May", "--by", "Ann", *JSON)

    # then
    assert (said.exit_code, said.stderr) == (0, "")
    assert (said.facts["kind_before"], said.facts["kind"]) == ("unknown", "wind")
    assert said.facts["days_with_new_wind_units"] == ["2025-06-06"]
    with recon.dagster() as instance:
        assert [run.dagster_run.job_name for run in runs(instance)] == ["refresh_bm_units"]
        counts = figures(instance, WIND_BM_UNITS.to_user_string())
        assert (counts["declared_units"], counts["unknown_units"] > 0, counts["other_units"] > 0) == (1, True, True)
        version = (latest(instance, WIND_BM_UNITS.to_user_string()).tags or {})[DATA_VERSION]
    status = recon("status", *SMALL, *JSON)
    assert (status.exit_code, status.facts["days_with_new_wind_units"]) == (1, ["2025-06-06"])
    assert "1 day to read again: 2025-06-06" in recon("status", *SMALL).stdout
    (finding,) = recon("analyze", *SMALL, *JSON).facts["findings"]
    assert (finding["why"], finding["mend"]) == (
        ["read when other BM units counted as wind"],
        "recon date 2025-06-06",
    )

    # and when it is reconciled
    done = recon("reconcile", *SMALL, *JSON)
    assert (done.exit_code, done.facts["done"]["days_read"], done.facts["days_with_new_wind_units"]) == (0, 1, [])
    shown = recon("units", "show", NEW, *JSON).facts
    assert (shown["kind"], shown["uncounted_days"]) == ("wind", [])
    assert {name: shown["declaration"][name] for name in ("is_wind", "declared_by", "note")} == {
        "is_wind": True,
        "declared_by": "Ann",
        "note": "opened in May",
    }
    assert shown["wind_bids"] == {"rows": 3, "mwh": -60.0, "days": 1}
    assert shown["curtailment_records"] == {"rows": 3, "mwh": -60.0, "days": 1}
    assert scalar(stored, f"SELECT count(*) FROM historical_bitcoin_calculations WHERE farm_id = '{NEW}'") == 9
    assert scalar(stored, "SELECT count(*) FROM settlement_revisions") == 0

    # and another word replaces the first, and gives the asset another data version
    assert recon("units", "declare", NEW, "--not-wind", "--by", "Bob").exit_code == 0
    with recon.dagster() as instance:
        assert (latest(instance, WIND_BM_UNITS.to_user_string()).tags or {})[DATA_VERSION] != version
        assert figures(instance, WIND_BM_UNITS.to_user_string())["declared_units"] == 1
    assert recon("status", *SMALL, *JSON).facts["days_with_new_wind_units"] == ["2025-06-06"]


@ON_SQLITE
def test_a_day_of_a_new_wind_unit_is_read_from_the_archive_without_a_request(
    recon: Command, engine: Engine, with_unknown: Path, stand_in: StandInElexon
) -> None:
    # given days that were read from Elexon
    live = {"ELEXON_API_URL": stand_in.url, "MEMPOOL_API_URL": "none"}
    read = recon("range", "2025-06-06", "2025-06-07", **live)
    assert read.exit_code == 0
    (line,) = [line for line in read.stdout.replace(" \n", " ").splitlines() if NEW in line]
    assert line == (
        f"BM unit {NEW} is not known to be wind or not: 60.000 MWh of accepted bids are not counted; say what it is "
        f"with 'recon units declare {NEW} --wind' (or --not-wind)"
    )
    recon("units", "declare", NEW, "--wind", "--by", "Ann", **live)
    asked = len(stand_in.requests)

    # when
    plan = recon("reconcile", *SMALL, "--dry-run", *JSON, **live).facts
    done = recon("reconcile", *SMALL, *JSON, **live)

    # then
    assert (plan["from_archive"], plan["ingest"], plan["requests"]) == (["2025-06-06"], ["2025-06-06"], 0)
    assert (done.exit_code, done.facts["done"]["days_read"]) == (0, 1)
    assert [request.path for request in stand_in.requests[asked:]] == []

    # and from Elexon where the archive has lost the day
    recon("units", "declare", NEW, "--not-wind", "--by", "Ann", **live)
    (recon.folder / ".recon" / "archive" / f"{JUNE_6}.json.gz").unlink()
    stand_in.requests.clear()
    assert recon("reconcile", *SMALL, **live).exit_code == 0
    assert stacks_asked(stand_in.requests) == {"2025-06-06": 48}


@ON_SQLITE
def test_days_of_an_older_version_are_searched_in_the_archive_before_they_are_called_right(
    recon: Command, engine: Engine, with_unknown: Path, stand_in: StandInElexon
) -> None:
    live = {"ELEXON_API_URL": stand_in.url, "MEMPOOL_API_URL": "none"}
    assert recon("range", "2025-06-06", "2025-06-07", **live).exit_code == 0
    execute(
        engine,
        "DELETE FROM uncounted_bids",
        "DELETE FROM recon_settings",
        "INSERT INTO wind_bm_units (bm_unit_id, first_seen_at) VALUES ('T_NEWWF-1', '2026-01-01 00:00:00')",
    )
    assert recon("status", *SMALL, **live).exit_code == 0

    done = recon("reconcile", *SMALL, *JSON, **live)

    assert (done.exit_code, done.facts["done"]["days_read"]) == (0, 1)
    assert scalar(engine, f"SELECT count(*) FROM wind_bids WHERE bm_unit_id = '{NEW}'") == 3
    with recon.dagster() as instance:
        assert figures(instance, WIND_BM_UNITS.to_user_string())["archive_days_left"] == 0


def test_units_are_listed_by_kind_with_what_is_not_counted(recon: Command, stored: Engine) -> None:
    # given a record of an old database whose farm is in no list
    execute(
        stored,
        "DELETE FROM proof_of_fetch WHERE settlement_date = '2025-06-07'",
        "DELETE FROM wind_bids WHERE settlement_date = '2025-06-07'",
        "UPDATE curtailment_records SET farm_id = 'T_GONE-1' WHERE settlement_date = '2025-06-07'",
    )

    facts = {kind: recon("units", "list", f"--{kind}", *JSON).facts for kind in ("wind", "unknown", "other")}
    whole = recon("units", "list", *JSON).facts

    counts = whole["counts"]
    assert {kind: len(found["units"]) for kind, found in facts.items()} == counts
    assert len(whole["units"]) == sum(counts.values())
    first, second = facts["unknown"]["units"][:2]
    assert {first["bm_unit_id"], second["bm_unit_id"]} == {NEW, "T_GONE-1"}
    by_name = {unit["bm_unit_id"]: unit for unit in facts["unknown"]["units"]}
    assert by_name[NEW]["uncounted_bids"] == {"rows": 3, "mwh": -60.0, "days": 1}
    assert by_name["T_GONE-1"]["records_without_proof"]["rows"] == 14
    assert all(unit["fuel_type"] is None for unit in facts["unknown"]["units"])
    assert all(unit["fuel_type"] == "WIND" and unit["first_seen_at"] for unit in facts["wind"]["units"])
    table = recon("units", "list", "--unknown")
    assert (table.exit_code, table.stderr) == (0, "")
    assert "3 bids of 1 day, -60.000 MWh" in " ".join(table.stdout.split())
    assert f"{counts['wind']} wind, {counts['unknown']} unknown, {counts['other']} other" in table.stdout


@ON_SQLITE
def test_what_a_unit_is_must_be_said_and_its_name_must_occur(recon: Command, stored: Engine) -> None:
    refused = {
        ("units", "declare", NEW): f"Error: say what {NEW} is: --wind or --not-wind",
        ("units", "declare", "T_NEWWF-2", "--wind"): "Error: BM unit 'T_NEWWF-2' is in no list, bid or record; did you "
        f"mean {NEW}?",
        ("units", "declare", NEW, "--wind", "--by", " "): "Error: Invalid value for '--by': the text is empty "
        "('recon units declare --help' shows how)",
        ("units", "show", "nothing"): "Error: BM unit 'nothing' is in no list, bid or record",
    }
    for words, complaint in refused.items():
        ended = recon(*words)
        assert (ended.exit_code, ended.complaint) == (2, complaint)
    assert scalar(stored, "SELECT count(*) FROM bm_unit_declarations") == 0

    assert recon("units", "declare", "T_NEWWF-2", "--wind", "--force", LOGNAME="ann").exit_code == 0

    assert scalar(stored, "SELECT declared_by FROM bm_unit_declarations") == "ann"
    shown = recon("units", "show", "T_NEWWF-2")
    assert "T_NEWWF-2 is wind" in shown.stdout
    assert "wind by ann at " in shown.stdout


@ON_SQLITE
def test_a_declaration_is_kept_where_elexon_cannot_be_reached(recon: Command, stored: Engine) -> None:
    ended = recon("units", "declare", NEW, "--wind", ELEXON_API_URL="http://127.0.0.1:9/api", ELEXON_ATTEMPTS="1")

    assert ended.exit_code == 1
    assert ended.stderr.startswith("Failed: refresh_bm_units: ")
    assert scalar(stored, "SELECT count(*) FROM bm_unit_declarations") == 1


@ON_SQLITE
def test_a_declaration_makes_an_empty_database_know_every_packaged_unit(recon: Command) -> None:
    assert recon("units", "declare", "T_SGRWO-1", "--not-wind", "--by", "Ann").exit_code == 0

    facts = recon("units", "list", *JSON).facts

    assert facts["counts"]["wind"] > 200
    assert [unit["bm_unit_id"] for unit in facts["units"] if unit["declaration"]] == ["T_SGRWO-1"]


def test_looking_at_units_makes_no_database(tmp_path: Path, recordings: Path) -> None:
    recon = Command(tmp_path, ELEXON_API_URL=recordings.as_uri())

    for words in (("units", "list"), ("units", "show", NEW)):
        assert recon(*words).exit_code == 2

    assert not (tmp_path / ".recon").exists()
