"""How the Dagster home keeps what Dagster knows, as its dagster.yaml says."""

import re
from pathlib import Path

from recon_assets.health.facts import DagsterHome

FAST_STORAGE = """\
storage:
  custom:
    module: recon_assets.orchestration.pooled_sqlite
    class: PooledSqliteStorage"""
"""What a dagster.yaml of this version says. Of a home without it Dagster opens every file anew for every event."""

NAMED = re.compile(r"^(storage|event_log_storage|run_storage|schedule_storage)\s*:", re.MULTILINE)
IS_SQLITE = re.compile(r"^storage\s*:\s*(#.*)?\n(\s*(#.*)?\n)*\s+sqlite\s*:", re.MULTILINE)


def examine_dagster_home(home: Path) -> DagsterHome | None:
    """Examines the home without Dagster, whose import takes longer than the rest; None if nothing ever ran there."""
    configuration = home / "dagster.yaml"
    try:
        written = configuration.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return DagsterHome(str(configuration), is_storage_slow=not NAMED.search(written) or bool(IS_SQLITE.search(written)))
