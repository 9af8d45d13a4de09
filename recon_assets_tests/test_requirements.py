"""What a machine lacks for the tests with more than Python is said in one line, and never skipped."""

import subprocess
import sys

import pytest

from recon_assets_tests.support.paths import ROOT
from recon_assets_tests.support.requirements import IS_MISSING, Requirements

INSTALL = {
    "system": "pgbouncer and iproute2: apt-get install pgbouncer iproute2",
    "browser": "chromium: apt-get install chromium",
}


def run_without_programs(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env={"PATH": ""}, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("kind", INSTALL)
def test_what_is_missing_is_named_with_the_way_to_install_it(kind: str) -> None:
    ended = run_without_programs(f"recon_assets_tests.{kind}")

    assert (ended.returncode, ended.stdout) == (IS_MISSING, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"make test-{kind} needs {INSTALL[kind]}")


def test_a_session_without_it_ends_before_its_first_test() -> None:
    ended = run_without_programs("pytest", "-n", "0", "-p", "no:cacheprovider", "recon_assets_tests/system")

    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: make test-system needs {INSTALL['system']}" in ended.stderr
    assert "passed" not in ended.stdout
    assert "skipped" not in ended.stdout


def test_a_machine_that_has_everything_gets_no_complaint() -> None:
    assert Requirements("test-it", packages={"sh": "dash"}, abilities={"luck": lambda: True}).complaint() == ""


def test_everything_that_is_missing_is_in_one_line() -> None:
    needs = Requirements(
        "test-it",
        packages={"sh": "dash", "no-such-program": "one", "nor-this": "other"},
        abilities={"luck": lambda: False},
    )

    assert needs.complaint() == "make test-it needs one and other: apt-get install one other; it also needs luck"
