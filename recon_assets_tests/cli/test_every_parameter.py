"""Every option and argument of every command, found in the click tree: what nobody can mean is one line, exit code 2.

The commands run in this process. A value that gets past click would begin to work, so there is no source to read from.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from recon_assets.cli import recon
from recon_assets.cli.main import main
from recon_assets.cli.options import DayParameter, NumberParameter, PeriodsParameter, TextParameter

SENSIBLE: dict[type, str] = {
    DayParameter: "2025-06-06",
    PeriodsParameter: "7-8",
    TextParameter: "T_ABC-1",
    NumberParameter: "1",
    click.IntRange: "1",
}
NO_NUMBERS = ["", " ", "-1", "1e400", "inf", "-inf", "nan", "1.5e", "0x1"]
NO_DAYS = ["", " ", "9999-12-31", "10000-01-01", "0001-01-01", "2099-01-01", "2025-6-1", "20250601", "nan", "-1"]
SENSELESS: dict[type, list[str]] = {
    DayParameter: NO_DAYS,
    PeriodsParameter: ["", " ", "0-1", "1-51", "8-7", "-1", "nan", "1-", "1e400"],
    TextParameter: ["", " ", "\t"],
    NumberParameter: NO_NUMBERS,
    click.IntRange: [*NO_NUMBERS, "0.5"],
    click.Choice: ["", " ", "nan"],
}
BY_NAME = {
    "month": ["9999-12", "0001-01", "2025-00", "2025-6", "nan"],
    "year": ["9999", "0001", "0000", "10000", "25", "nan"],
}
Place = tuple[tuple[str, ...], click.Command]


def commands(command: click.Command = recon, path: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))
    else:
        yield path, command


def valued(command: click.Command) -> list[click.Parameter]:
    """The parameters that take a value."""
    return [one for one in command.params if not (isinstance(one, click.Option) and one.is_flag)]


def kind_of(parameter: click.Parameter) -> type:
    return next(kind for kind in (*SENSELESS, click.Choice) if isinstance(parameter.type, kind))


def call(path: Sequence[str], command: click.Command, spoilt: click.Parameter, value: str) -> list[str]:
    """The words of a call in which one parameter has a senseless value, and required others a good one."""
    words: list[str] = []
    options: list[str] = []
    for one in command.params:
        given = value if one is spoilt else SENSIBLE.get(kind_of(one)) if one in valued(command) else None
        if isinstance(one, click.Argument) and (one.required or one is spoilt):
            words.append(str(given))
        elif one is spoilt:
            options.append(f"{one.opts[-1]}={value}")
    return [*path, *options, "--", *words]


CALLS = [
    pytest.param(call(path, command, one, value), id=f"{' '.join(path)} {one.opts[-1]} {value!r}")
    for path, command in commands()
    for one in valued(command)
    for value in [*SENSELESS[kind_of(one)], *BY_NAME.get(one.name or "", [])]
]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without anything, and an Elexon that is not there."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "DAGSTER_HOME", "RECON_FIRST_DAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ELEXON_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MEMPOOL_API_URL", "none")
    return tmp_path


@pytest.mark.parametrize("path", [pytest.param(path, id=" ".join(path)) for path, _ in commands()])
def test_every_parameter_has_a_type_that_refuses_what_is_empty(path: tuple[str, ...]) -> None:
    command = dict(commands())[path]

    assert {one.name: type(one.type) for one in valued(command) if type(one.type) not in SENSELESS} == {}


@pytest.mark.parametrize("words", CALLS)
def test_what_nobody_can_mean_is_one_line(words: list[str], nowhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    said = capfd.readouterr()
    assert ended.value.code == 2, said.err
    (line,) = [line for line in said.err.splitlines() if line.strip()]
    assert line.startswith("Error: ")
    assert said.out == ""
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize(("path", "command"), [pytest.param(*place, id=" ".join(place[0])) for place in commands()])
def test_a_period_upside_down_is_one_line(
    path: tuple[str, ...], command: click.Command, capfd: pytest.CaptureFixture[str]
) -> None:
    days = [one for one in valued(command) if kind_of(one) is DayParameter]
    if len(days) != 2:
        return
    ends = ["2025-06-07", "2025-06-06"]
    named = [f"{one.opts[-1]}={end}" for one, end in zip(days, ends, strict=True) if isinstance(one, click.Option)]

    with pytest.raises(SystemExit) as ended:
        main([*path, *(named or ends)])

    assert ended.value.code == 2
    assert "the period is upside down: 2025-06-07 is after 2025-06-06" in capfd.readouterr().err


NUMBERS = [
    "ELEXON_REQUESTS_PER_SECOND", "ELEXON_REQUESTS_IN_FLIGHT", "ELEXON_ATTEMPTS", "ELEXON_TIMEOUT_SECONDS",
    "RECON_BATCH_SIZE", "RECON_PAUSE_SECONDS", "RECON_CONCURRENCY", "RECON_STATEMENT_TIMEOUT_SECONDS",
]  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *((name, value) for name in NUMBERS for value in ("-1", "1e400", "inf", "nan", "x")),
        *(("RECON_FIRST_DAY", day) for day in ("9999-01-01", "9999-12-31", "0001-01-01", "2099-01-01", "2025-06-06")),
    ],
)
def test_a_variable_that_nobody_can_mean_is_one_line_that_names_it(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as ended:
        main(["status", "--month", "2025-06"])

    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"Error: {variable}: ")
    assert len(said.splitlines()) == 1
