"""No message recommends a command that is then refused."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import pytest
from sqlalchemy import Engine

import recon_assets
from recon_assets.cli import recon as recon_command
from recon_assets.errors import ReconError
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.steps import JUNE, JUNE_6, JUNE_7, execute

HOLE = "\x00"
"""Stands for a value in an f-string."""
FILLINGS = (
    "2025-06-06",
    "2025-06",
    "2025",
    "month",
    "year",
    "reconcile",
    "summaries",
    "witness",
    "T_ABC-1",
    "--month 2025-06",
)
ADVICE = re.compile(r"(?:^|')recon ([a-z\x00][^'`;:,()\n]*)")
NOT_ADVICE = {"cannot", "keeps", "has", "is", "waits", "would", "sets", "worked", "removes"}
"""What follows the word recon in a sentence about it."""


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the product that is no docstring, with its place."""
    for path in sorted(Path(recon_assets.__path__[0]).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in prose | parts:
                continue
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield (
                    where,
                    "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values),
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield where, node.value


def advised() -> Iterator[tuple[str, str]]:
    """Every command that a text recommends, with its place."""
    for where, text in texts():
        for words in ADVICE.findall(text):
            if words.split()[0] not in NOT_ADVICE:
                yield where, words.strip()


def is_accepted(words: list[str]) -> bool:
    """Whether click accepts the words; nothing is executed."""
    command: click.Command = recon_command
    try:
        while isinstance(command, click.Group) and words:
            _, command, words = command.resolve_command(click.Context(command), words)  # type: ignore[assignment]
        command.make_context("recon", list(words))
    except (click.ClickException, ReconError):
        return False
    return True


def test_there_is_advice() -> None:
    assert len(set(advised())) > 20


@pytest.mark.parametrize(("where", "words"), sorted(set(advised())))
def test_click_accepts_every_command_that_a_message_recommends(where: str, words: str) -> None:
    holes = words.count(HOLE)
    filled = (words.replace(HOLE, "{}").format(*values).split() for values in product(FILLINGS, repeat=holes))

    assert any(is_accepted(candidate) for candidate in filled), f"{where}: recon {words.replace(HOLE, '...')}"


@pytest.fixture
def recon(database_url: str, tmp_path: Path, light_dagster: dict[str, str]) -> Command:
    """The command on a database with two days, which are right."""
    return Command(
        tmp_path, DATABASE_URL=database_url, ELEXON_API_URL=JUNE.as_uri(), MEMPOOL_API_URL="none", **light_dagster
    )


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
QUOTED = re.compile(r"'recon ([^']+)'")


@ON_SQLITE
def test_on_a_spoilt_database_every_command_that_is_recommended_works(recon: Command, small_days: Engine) -> None:
    # given missing records, missing calculations, stale sums, a missing index and a day that was never read
    execute(
        small_days,
        f"DELETE FROM curtailment_records WHERE settlement_date = '{JUNE_6}' AND settlement_period = 7",
        f"DELETE FROM historical_bitcoin_calculations WHERE settlement_date = '{JUNE_7}' AND miner_model = 'S9'",
        "UPDATE monthly_summaries SET total_payment = 1",
        "UPDATE yearly_summaries SET total_payment = 1",
    )
    period = ("--from", "2025-06-06", "--to", "2025-06-08")

    # when
    analysis = recon("analyze", *period, "--format", "json").facts
    report = recon("report", *period, "--format", "json").facts
    said = "".join(recon(*words).stdout for words in (("status", *period), ("doctor",), ("most-critical", *period)))

    # then
    commands = [finding["mend"] for finding in (*analysis["findings"], *analysis["stale_periods"])]
    commands += [step["command"] for step in report["next"]]
    commands += [f"recon {words}" for words in QUOTED.findall(" ".join(said.split()))]
    assert len(commands) >= 4
    for command in dict.fromkeys(commands):
        ended = recon(*command.split()[1:])
        assert (ended.exit_code, ended.stderr) in ((0, ""), (1, "")), (command, ended.stderr)
    assert recon("status", *period).exit_code == 0


@ON_SQLITE
@pytest.mark.parametrize("first_day", ["2022-01-01", "2025-01-01"])
@pytest.mark.parametrize("word", ["status", "doctor"])
def test_the_first_step_that_an_empty_database_is_told_is_one(recon: Command, word: str, first_day: str) -> None:
    recon.environment["RECON_FIRST_DAY"] = first_day
    ended = recon(word)
    (advice,) = set(QUOTED.findall(" ".join((ended.stdout + ended.stderr).split()))) - {"status --help"}

    done = recon(*advice.split())

    assert (done.exit_code, "Everything is right." in done.stdout) == (0, True), done
