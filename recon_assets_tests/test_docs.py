"""The documentation is complete and correct: commands with their options, variables, checks, links, old scripts."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import dagster as dg
import pytest

import recon_assets
from recon_assets.cli import recon
from recon_assets.cli.verify import METHODS
from recon_assets.elexon.generation import TOLERATED_OF_GENERATION
from recon_assets.elexon.http import LONGEST_RETRY_AFTER_SECONDS
from recon_assets.elexon.payloads import TOLERATED
from recon_assets.elexon.stand_in import main as stand_in
from recon_assets.elexon.stand_in_faults import FaultKind
from recon_assets.ingest.acceptance_volumes import TOLERANCE_MWH
from recon_assets.ingest.comparison import TOLERANCE_GBP, TOLERANCE_RELATIVE
from recon_assets.ingest.verification import Finding, Method
from recon_assets.ingest.verify import FIXED_PERIODS, RANDOM_PERIODS
from recon_assets.orchestration.build import build_defs
from recon_assets.orchestration.checks import CHECKS
from recon_assets.orchestration.jobs import REINGEST_JOB
from recon_assets.settings import Settings, Unattended
from recon_assets_tests.support.openapi import operation_of

PROJECT = Path(recon_assets.__file__).parent.parent
PAGES = (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", *PROJECT.glob("docs/*.md"))
DOCS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
COMMANDS, OPERATIONS = DOCS["commands.md"], DOCS["operations.md"]
LONG_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OLD_SCRIPTS = (
    *(f"efficient_reconciliation {word}" for word in ("status", "analyze", "reconcile", "date", "range")),
    *(f"minimal_reconciliation {word}" for word in ("sequence", "critical-date", "most-critical", "spot-fix")),
    *(f"connection_timeout_analyzer {word}" for word in ("analyze", "test")),
    "reconciliation_progress_check",
    "reconciliation_progress_report",
    "unified_reconciliation",
    "daily_reconciliation_check",
    "auto_reconcile.sh",
    *(f"comprehensive_reconcile {word}" for word in ("status", "status-month", "report")),
    "complete_reingestion_process",
    "batch_process_periods",
    "reingest_single_batch",
    "optimized_critical_date_processor",
    *(f"verify_and_fix_data {word}" for word in ("verify", "fix", "force-fix")),
    "check_elexon_data",
    "reingest-data",
    "run_migration",
    "run_wind_data_migration",
    "update_wind_generation_data",
    "update_summaries",
    "process_all_periods",
    "process_bitcoin_optimized",
    "process_complete_cascade",
    "fix_incomplete_data_optimized",
)


def section_of(command: str) -> str:
    """What commands.md says under the heading of a command."""
    found = re.search(rf"^### `recon {command}`$(.*?)(?=^##|\Z)", COMMANDS, re.DOTALL | re.MULTILINE)
    assert found, f"docs/commands.md has no section on recon {command}"
    return found[1]


def long_options(command: click.Command) -> set[str]:
    own = {
        name for option in command.params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")
    }
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(long_options, below))


def calls_in(text: str) -> Iterator[tuple[str, set[str]]]:
    """Every `recon X ...` that a page tells to type, with its long options."""
    code = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    for block in re.findall(r"```[a-z]+\n(.*?)```", text, re.DOTALL):
        # The other lines are output.
        code += [line for line in block.splitlines() if line.startswith("$ ") or "bin/recon " in line]
    for line in code:
        for name, rest in re.findall(r"(?:^|[ /])recon ([a-z][a-z-]*)([^#;&>]*)", line):
            yield name, set(LONG_OPTION.findall(rest))


@pytest.mark.parametrize("name", recon.commands)
def test_every_command_is_documented_with_all_its_options(name: str) -> None:
    assert long_options(recon.commands[name]) - set(LONG_OPTION.findall(section_of(name))) == set()


def test_every_documented_command_is_there() -> None:
    headings = re.findall(r"^### `recon ([^`]+)`$", COMMANDS, re.MULTILINE)

    assert sorted(headings) == sorted(recon.commands)


@pytest.mark.parametrize("name", recon.commands)
def test_a_section_on_a_command_names_no_option_that_it_lacks(name: str) -> None:
    # Output may name other commands.
    prose = re.sub(r"```.*?```", "", section_of(name), flags=re.DOTALL)

    assert set(LONG_OPTION.findall(prose)) - long_options(recon.commands[name]) == set()


@pytest.mark.parametrize("page", DOCS)
def test_every_call_of_the_command_in_a_page_would_be_understood(page: str) -> None:
    calls = list(calls_in(DOCS[page]))

    assert [name for name, _ in calls if name not in recon.commands] == []
    assert {
        name: unknown
        for name, options in calls
        if (unknown := options - long_options(recon.commands[name]) - {"--help"})
    } == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`recon nothing` or `recon date D` · `recon range A B`", ["nothing", "date", "range"]),
        (
            "```console\n$ recon nothing --year 2024\n$ .venv/bin/recon status\nrecon says so\n```",
            ["nothing", "status"],
        ),
    ],
)
def test_a_call_that_nobody_would_understand_is_found(text: str, found: list[str]) -> None:
    assert [name for name, _ in calls_in(text)] == found


@pytest.mark.parametrize("name", OLD_SCRIPTS)
def test_every_old_script_has_its_row(name: str) -> None:
    rows = COMMANDS[COMMANDS.index("## Coming from the old scripts") :]

    assert re.search(rf"^\| `{re.escape(name)}(?: [A-Z][A-Z ]*)?`", rows, re.MULTILINE)


def variables_of_settings() -> set[str]:
    """The names of variables in settings.py."""
    tree = ast.parse((PROJECT / "recon_assets" / "settings.py").read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {word for word in words if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", word)}


def variables_of_example() -> dict[str, str]:
    """The variables of .env.example, each with the value that stands there first."""
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    return dict(reversed(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE)))


def test_the_example_of_the_environment_has_the_variables_that_are_read() -> None:
    assert set(variables_of_example()) == variables_of_settings()


def test_the_example_of_the_environment_has_the_defaults() -> None:
    # Where the database and Dagster live by default is said in words.
    given = {
        name: value for name, value in variables_of_example().items() if name not in ("DATABASE_URL", "DAGSTER_HOME")
    }

    assert Settings.from_environment(given, PROJECT) == Settings.from_environment({}, PROJECT)


def test_the_variables_of_recon_are_documented() -> None:
    pages = COMMANDS + DOCS["operations.md"]

    assert {name for name in variables_of_settings() if name.startswith("RECON_") and f"`{name}" not in pages} == set()


def test_what_runs_by_itself_is_documented_with_whether_it_runs() -> None:
    tables = DOCS["operations.md"].partition("## Unattended")[2].partition("### Who tries again")[0]
    said = dict(re.findall(r"^\| `(\w+)`[^|]*\| (on|off) \|", tables, re.MULTILINE))

    defs = build_defs(unattended=Unattended(everything=False, tick_seconds=60))
    running = {
        **{sensor.name: sensor.default_status.value for sensor in defs.sensors or ()},
        **{schedule.name: schedule.default_status.value for schedule in defs.schedules or ()},
    }
    assert {name: {"RUNNING": "on", "STOPPED": "off"}[status] for name, status in running.items()} == said


def section_on_the_stand_in() -> str:
    """What data.md says of the server that stands in for Elexon."""
    return DOCS["data.md"].partition("\n## The stand-in\n")[2].partition("\n## ")[0]


def test_every_kind_of_fault_of_the_stand_in_is_documented_and_no_other() -> None:
    table = section_on_the_stand_in().partition("| kind |")[2]

    assert re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE) == list(get_args(FaultKind))


def test_the_stand_ins_options_are_documented_and_no_other() -> None:
    assert set(LONG_OPTION.findall(section_on_the_stand_in())) == long_options(stand_in)


def test_every_method_of_verification_is_documented_and_no_other() -> None:
    methods = re.findall(
        r"^\| `(\w+)`(?: \(default\))? \|", section_of("verify").partition("| finding |")[0], re.MULTILINE
    )

    assert sorted(methods) == sorted(METHODS) == sorted(Method)
    assert f"| `{METHODS[0]}` (default) |" in section_of("verify")


def test_every_finding_of_a_verification_is_documented_and_no_other() -> None:
    findings = re.findall(r"^\| `([\w ]+)` \|", section_of("verify").partition("| finding |")[2], re.MULTILINE)

    assert sorted(findings) == sorted(Finding)


def test_every_count_of_what_is_tolerated_is_documented_and_no_other() -> None:
    section = DOCS["data.md"].partition("\n### What is tolerated\n")[2].partition("\n### ")[0]

    assert re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE) == list(TOLERATED)


FIELD_TABLES = {
    "The bid stack": "/balancing/settlement/stack/all/bid/2025-06-06/7",
    "The acceptance volumes": "/balancing/settlement/acceptance/volumes/all/bid/2025-06-06",
    "The system prices": "/balancing/settlement/system-prices/2025-06-06",
    "Wind and solar": "/generation/actual/per-type/wind-and-solar",
    "The BM units": "/reference/bmunits/all",
}


@pytest.mark.parametrize("title", FIELD_TABLES)
def test_every_field_of_an_answer_that_is_read_is_documented_and_no_other(title: str) -> None:
    section = DOCS["data.md"].partition("\n### Every field\n")[2].partition("\n### ")[0]
    table = section.partition(f"\n{title}, `")[2].partition("\n| field |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]

    documented = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(operation_of(FIELD_TABLES[title]).fields)


def test_every_row_that_is_left_out_of_the_generation_is_documented() -> None:
    assert [name for name in TOLERATED_OF_GENERATION if f"(`{name}`)" not in DOCS["data.md"]] == []


def test_the_limits_in_the_pages_are_those_of_the_code() -> None:
    periods = ", ".join(map(str, FIXED_PERIODS))

    assert f"in periods {periods} and the last" in section_of("verify")
    assert RANDOM_PERIODS == 10
    for limit in (f"{TOLERANCE_RELATIVE:g}".replace("e-0", "e-"), f"{TOLERANCE_MWH:g} MWh", f"{TOLERANCE_GBP:g} GBP"):
        assert limit in section_of("verify")
    assert f"`Retry-After` is honoured up to {LONGEST_RETRY_AFTER_SECONDS:g} s." in DOCS["data.md"]


def test_the_numbers_in_the_page_on_performance_are_those_of_the_code() -> None:
    numbers = re.findall(r"^\| `([\w.]+)\.([A-Z_]+)` \| ([\d,]+) \|", DOCS["performance.md"], re.MULTILINE)

    assert len(numbers) >= 5
    for module, name, value in numbers:
        assert getattr(import_module(f"recon_assets.{module}"), name) == int(value.replace(",", "")), name


def test_the_config_of_a_job_in_a_page_is_one_that_it_takes() -> None:
    (config,) = re.findall(r"```yaml\n(ops:.*?)```", OPERATIONS, re.DOTALL)

    dg.validate_run_config(build_defs().resolve_job_def(REINGEST_JOB.name), dg.config_from_yaml_strings([config]))


def test_the_storage_in_a_page_is_that_of_the_packaged_configuration() -> None:
    (storage,) = re.findall(r"```yaml\n(storage:.*?)```", OPERATIONS, re.DOTALL)

    assert storage in (PROJECT / "recon_assets" / "data" / "dagster.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({check.name for check in CHECKS}))
def test_every_asset_check_is_documented(name: str) -> None:
    assert f"| `{name}` |" in OPERATIONS


@pytest.mark.parametrize("page", DOCS)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    folder = PROJECT if (PROJECT / page).exists() else PROJECT / "docs"

    assert [target for target in links_in(DOCS[page]) if not leads_somewhere(folder / page, target)] == []


def links_in(text: str) -> list[str]:
    """The targets of links and pictures within the project."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether there is such a file and, where the target names one, such a heading in it."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
    return not anchor or anchor in {
        re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


def test_every_module_and_name_in_contributing_is_there() -> None:
    table = DOCS["CONTRIBUTING.md"].partition("## Find your way")[2].partition("\n## ")[0]
    rows = re.findall(r"\[`([\w/]+\.py)`\]\(recon_assets/\1\), `([\w.]+)`", table)

    assert len(rows) >= 7
    for file, name in rows:
        found = import_module("recon_assets." + file.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)
