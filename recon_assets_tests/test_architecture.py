"""How modules may import each other, what importing one may do, and what a wheel holds."""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import recon_assets
from recon_assets_tests.support.steps import JUNE

PACKAGE = Path(recon_assets.__file__).parent
PROJECT = PACKAGE.parent
OUTSIDE = {"environ", "getenv", "now", "today", "utcnow", "cwd", "time", "monotonic", "urlopen", "connect"}
"""Attributes through which a module would use the environment, the clock or the network."""


def module_name(file: Path) -> str:
    """The dotted name of a module of the package."""
    parts = file.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_files() -> Iterator[Path]:
    """Every module, less the migrations, which only Alembic imports."""
    return (file for file in sorted(PACKAGE.rglob("*.py")) if "migrations" not in file.parts)


FILES = list(package_files())
MODULES = {module_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything of a module that is executed when it is imported: all but the bodies of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda) and not _is_main_guard(node):
            waiting += ast.iter_child_nodes(node)


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def python(code: str, folder: Path, **environment: str) -> str:
    """What a fresh Python prints."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter with the project's contracts on a copy of the package."""
    return subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_package(folder: Path) -> None:
    """Copies the package and its contracts."""
    shutil.copytree(PACKAGE, folder / "recon_assets", ignore=shutil.ignore_patterns("__pycache__", "recordings"))
    shutil.copy(PROJECT / "pyproject.toml", folder)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("domain/mining.py", "from recon_assets.database.tables import wind_bids", "Imports point one way"),
        ("reports/analysis.py", "import dagster", "Only orchestration, definitions and cli know Dagster"),
        ("domain/mining.py", "import sqlalchemy", "The domain knows no database and no network"),
        (
            "domain/settlement.py",
            "from recon_assets.domain import difficulty",
            "No module imports itself by way of others",
        ),
    ],
)
def test_an_import_that_points_the_wrong_way_fails_lint(tmp_path: Path, module: str, line: str, contract: str) -> None:
    # given the package with one import more
    copy_package(tmp_path)
    file = tmp_path / "recon_assets" / module
    file.write_text(file.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")

    # when
    linted = lint_imports(tmp_path)

    # then
    assert linted.returncode == 1
    assert f"\n{contract} BROKEN\n" in linted.stdout


def test_the_package_as_it_is_keeps_every_contract(tmp_path: Path) -> None:
    copy_package(tmp_path)

    linted = lint_imports(tmp_path)

    assert linted.returncode == 0, linted.stdout
    assert " 0 broken" in linted.stdout


def test_the_root_of_the_package_is_small_and_no_module_is_long() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6
    lengths = {str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_one_sentence_what_it_is_for(module: str) -> None:
    first, *rest = (ast.get_docstring(MODULES[module]) or "").split("\n\n")

    assert len(first) > 10
    assert first.endswith((".", "?"))
    assert not any("belongs here" in part.lower() or "does not:" in part.lower() for part in (first, *rest))


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_asks_neither_environment_nor_clock_nor_network(module: str) -> None:
    reached = {
        ast.unparse(node)
        for node in at_import(MODULES[module])
        if (isinstance(node, ast.Attribute) and node.attr in OUTSIDE)
        or (isinstance(node, ast.Name) and node.id in ("environ", "getenv", "urlopen"))
    }

    assert reached == set()


def test_importing_everything_writes_nothing_and_connects_nowhere(tmp_path: Path) -> None:
    # given a Python that tells of every file it writes and every connection and process it starts
    code = f"""
import importlib, sys
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in ("socket.connect", "subprocess.Popen", "sqlite3.connect", "os.mkdir"):
        print(event, arguments[0])
import dagster, pandera.pandas, rich.progress
sys.addaudithook(watch)
for module in {list(MODULES)!r}:
    importlib.import_module(module)
"""

    # when
    printed = python(code, tmp_path)

    # then
    assert printed == ""
    assert list(tmp_path.iterdir()) == []


def test_the_command_starts_without_dagster_and_pandas(tmp_path: Path) -> None:
    code = "import recon_assets.cli, sys; print({'dagster', 'pandas', 'alembic'} & set(sys.modules))"

    assert python(code, tmp_path) == "set()\n"


def test_a_reading_command_needs_neither_dagster_nor_pandas(tmp_path: Path) -> None:
    # given a database
    python("from recon_assets.cli import main; main(['migrate'])", tmp_path)

    # when
    code = """
import sys
from recon_assets.cli import main
try:
    main(["status", "--month", "2025-06"])
finally:
    print({"dagster", "pandas", "alembic"} & set(sys.modules))
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    # then
    assert process.returncode == 1, process.stderr
    assert process.stdout.endswith("set()\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the project so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("*.egg-info", "build", "dist", "__pycache__", "*.db")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    for name in ("recon_assets", "recon_assets_tests"):
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder],
        check=True,
        capture_output=True,
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_a_wheel_holds_the_data_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {entry.filename: entry for entry in archive.infolist()}
        configuration = archive.read("recon_assets/data/dagster.yaml")

    source = {
        str(file.relative_to(PROJECT))
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in held if name.startswith("recon_assets/")} == source
    assert len([name for name in held if name.startswith("recon_assets/data/recordings/")]) == 30
    assert not [name for name in held if "test" in name]
    # a real file, though the project's own is the same
    assert configuration == (PROJECT / "dagster.yaml").read_bytes()
    assert held["recon_assets/data/dagster.yaml"].external_attr >> 28 != 0o12


def test_the_command_of_a_wheel_works_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    # given the wheel's files alone, before this project on the path
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    code = """
import sys, recon_assets
from recon_assets.cli import main
print(recon_assets.__file__)
main(["date", "2025-06-07", "--format", "json"])
"""

    # when
    said = python(code, folder, PYTHONPATH=str(tmp_path / "installed"), ELEXON_API_URL=JUNE.as_uri())

    # then
    assert said.startswith(str(tmp_path / "installed"))
    assert '"completion_pct": 100.0' in said
    assert {path.name for path in (folder / ".recon").iterdir()} >= {"recon.db", "dagster"}
