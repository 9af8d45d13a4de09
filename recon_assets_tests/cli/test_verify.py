"""`verify`, `repair` and `reingest` as processes, against a server that revises a day in between."""

import json
from pathlib import Path
from typing import Any

import pytest

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets.elexon.stand_in_faults import Fault
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import CHANGED_BY, JUNE_6, change_recording, restate


@pytest.fixture
def recon(tmp_path: Path, stand_in: StandInElexon, light_dagster: dict[str, str]) -> Command:
    return Command(
        tmp_path,
        ELEXON_API_URL=stand_in.url,
        MEMPOOL_API_URL="none",
        ELEXON_REQUESTS_PER_SECOND="1000",
        ELEXON_ATTEMPTS="1",
        **light_dagster,
    )


def logged(recon: Command, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (recon.folder / ".recon" / "logs" / f"{name}.jsonl").read_text().splitlines()]


def test_a_restated_day_is_found_repaired_and_reported(
    recon: Command, stand_in: StandInElexon, recordings: Path
) -> None:
    # given a day that is right
    assert recon("date", "2025-06-06").exit_code == 0
    agrees = recon("verify", "2025-06-06")
    assert agrees.exit_code == 0
    assert "2025-06-06 by witness: agrees" in agrees.stdout
    assert "prices and flags, which --method full compares" in agrees.stdout

    # when Elexon says something else of it
    change_recording(recordings, JUNE_6, restate)
    stand_in.requests.clear()
    differs = recon("verify", "2025-06-06")

    # then it is found with one request, and the last line is the command that mends it
    assert differs.exit_code == 1
    assert len(stand_in.requests) == 1
    assert differs.stdout.splitlines()[-1] == "recon reingest 2025-06-06"
    found = recon("verify", "2025-06-06", "--method", "full", "--format", "json")
    assert found.exit_code == 1
    assert (found.facts["finding"], found.facts["requests"]) == ("differs", 48)
    (difference,) = found.facts["differences"]
    assert difference["right_mwh"] - difference["stored_mwh"] == pytest.approx(CHANGED_BY, rel=1e-9, abs=0)

    # and converged, with the day before and after
    converged = recon("repair", "2025-06-06", "--format", "json")
    assert converged.exit_code == 0
    facts = converged.facts
    assert (facts["done"], facts["verified_again"]["finding"], facts["failures"]) == ("reingested", "agrees", [])
    assert facts["after"]["bids"]["mwh"] - facts["before"]["bids"]["mwh"] == pytest.approx(CHANGED_BY, rel=1e-9, abs=0)
    assert facts["after"]["records"]["gbp"] > facts["before"]["records"]["gbp"]
    assert facts["after"]["bitcoin"]["S9"] > facts["before"]["bitcoin"]["S9"]

    # and told
    (revision,) = recon("report", "--format", "json").facts["revisions"]
    assert revision["mwh_after"] - revision["mwh_before"] == pytest.approx(CHANGED_BY, rel=1e-9, abs=0)
    assert "revised day" in recon("report").stdout
    assert not (recon.folder / ".recon" / "logs" / "verify.jsonl").exists()  # a reading command writes nothing
    assert [(line["event"], line["done"]) for line in logged(recon, "repair")] == [("repaired", "reingested")]
    (earlier,) = (recon.folder / ".recon" / "archive" / "earlier").iterdir()
    assert earlier.name.startswith("2025-06-06.until-")


def test_a_repair_does_nothing_that_is_not_needed_and_force_reads_in_any_case(
    recon: Command, stand_in: StandInElexon
) -> None:
    assert recon("date", "2025-06-06").exit_code == 0
    stand_in.requests.clear()

    idle = recon("repair", "2025-06-06")
    assert idle.exit_code == 0
    assert "Done: nothing" in idle.stdout
    assert len(stand_in.requests) == 1

    forced = recon("repair", "2025-06-06", "--force")
    assert forced.exit_code == 0
    assert "Done: reingested" in forced.stdout
    assert len(stand_in.requests) > 48

    # and what cannot be read is a failure that changes nothing
    stand_in.faults.append(Fault("server_error", "/2025-06-06/7/"))
    failed = recon("repair", "2025-06-06", "--force", "--format", "json")
    assert (failed.exit_code, failed.facts["done"]) == (1, "failed")
    assert "2025-06-06 settlement period 7: " in failed.complaint
    assert recon("status", "--from", "2025-06-06", "--to", "2025-06-06").exit_code == 0


def test_a_day_is_read_again_from_the_archive_without_a_request(recon: Command, stand_in: StandInElexon) -> None:
    assert recon("date", "2025-06-06").exit_code == 0
    asked = len(stand_in.requests)
    archive = (recon.folder / ".recon" / "archive").as_uri()

    again = recon("reingest", "2025-06-06", "--periods", "5-7", ELEXON_API_URL=archive)

    assert again.exit_code == 0
    assert "2025-06-06 is as it was." in again.stdout
    assert len(stand_in.requests) == asked


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("verify", "2025-06-31"), "'2025-06-31' is not a date"),
        (("verify", "2025-06-06", "--method", "guess"), "'guess' is not one of"),
        (("verify", "2025-06-06"), "there is no database at"),
        (("reingest", "2025-06-06", "--periods", "44-49"), "2025-06-06 has settlement periods 1 to 48, not 49"),
        (("verify", "2021-12-31"), "2021-12-31 is before 2022-01-01"),
        (("repair", "2021-12-31"), "2021-12-31 is before 2022-01-01"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_takes_no_request(
    recon: Command, stand_in: StandInElexon, words: tuple[str, ...], complaint: str
) -> None:
    ended = recon(*words)

    assert ended.exit_code == 2
    assert complaint in ended.complaint
    assert stand_in.requests == []
