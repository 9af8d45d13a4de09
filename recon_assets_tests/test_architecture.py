"""The allowed imports between modules, what importing a module may do, and the contents of a wheel."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recon_assets
from recon_assets_tests.support.steps import JUNE

PACKAGE = Path(recon_assets.__file__).parent
PROJECT = PACKAGE.parent
RING = (
    "recon_assets.orchestration",
    "recon_assets.definitions",
    "recon_assets.cli",
    "recon_assets.cli.progress",
)
"""The modules that may import Dagster; all others import neither Dagster nor these."""

FRONT = (
    "recon_assets.definitions",
    "recon_assets.cli",
    "recon_assets.cli.progress",
)
"""The modules that people and Dagster call; nothing below them imports these."""

OUTSIDE = {"environ", "getenv", "now", "today", "utcnow", "cwd", "time", "monotonic", "urlopen", "connect"}
"""Attributes through which a module would use the environment, the clock or the network."""


def module_name(file: Path) -> str:
    """The dotted name of a module of the package."""
    parts = file.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_files() -> Iterator[Path]:
    """Every module, less the migrations, which only Alembic imports."""
    return (file for file in sorted(PACKAGE.rglob("*.py")) if "migrations" not in file.parts)


MODULES = {module_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in package_files()}


def imports_of(tree: ast.AST) -> set[str]:
    """Every module that a module imports anywhere, also within functions and for type checkers."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


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


def belongs_to(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of some packages, or within one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


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


@pytest.mark.parametrize("module", MODULES)
def test_only_the_ring_knows_dagster(module: str) -> None:
    known = imports_of(MODULES[module])

    if not belongs_to(module, RING):
        assert not {name for name in known if name.split(".")[0].startswith("dagster")}
        assert not {name for name in known if belongs_to(name, RING)}
    elif not belongs_to(module, FRONT):
        assert not {name for name in known if belongs_to(name, FRONT)}


def test_imports_go_round_nowhere() -> None:
    graph = {
        module: {name for name in imports_of(tree) & set(MODULES) if name not in (module, "recon_assets")}
        for module, tree in MODULES.items()
    }

    order = list(TopologicalSorter(graph).static_order())

    assert order.index("recon_assets.domain.settlement") < order.index("recon_assets.orchestration.assets")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_belongs_in_it(module: str) -> None:
    assert len(ast.get_docstring(MODULES[module]) or "") > 10


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
