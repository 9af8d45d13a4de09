"""The demo home: the folder `.recon/demo/`, in which June 2025 is worked on from the packaged recordings.

Nothing that the user has set takes part in it: neither the shell's variables nor those of `.env`.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from recon_assets.domain.settlement import Days

DEMO_HOME = "RECON_DEMO_HOME"
"""The variable that tells a process, and those that it starts, to work in the demo home. `recon --demo` sets it."""

DEMO_DAYS = Days.of_month("2025-06")
"""The days of the packaged recordings, and of the partitions of the demo home."""


def demo_home(folder: Path) -> Path:
    """The demo home of a folder."""
    return folder.absolute() / ".recon" / "demo"


def in_effect(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that count: those of the demo home where a process works there, else the given ones."""
    home = environ.get(DEMO_HOME)
    return environ if home is None else demo_variables(Path(home))


def demo_variables(home: Path) -> dict[str, str]:
    """The variables of a demo home."""
    return {
        "DATABASE_URL": f"sqlite:///{home / 'recon.db'}",
        "DAGSTER_HOME": str(home / "dagster"),
        "ELEXON_API_URL": Path(str(files("recon_assets.data") / "recordings")).as_uri(),
        "MEMPOOL_API_URL": "none",
        "RECON_FIRST_DAY": f"{DEMO_DAYS.first.year}-01-01",
        "RECON_ARCHIVE": str(home / "archive"),
        "RECON_LOGS": str(home / "logs"),
        "RECON_REPORTS": str(home / "reports"),
    }
