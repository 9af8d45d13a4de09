"""The report of a day, as a file: what the daily check found, did and left.

Belongs here: writing, and keeping only so many. Does not: what it says (progress_report.py, report.py).
"""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

REPORTS_KEPT = 90
"""A quarter of a year. A report is a few kB: it speaks of the days that were checked, 30 at most."""


def write_report(folder: Path, day: date, facts: Mapping[str, Any], kept: int = REPORTS_KEPT) -> Path:
    """Writes the report of a day, in place of an earlier one of the same day, and drops all but the newest ones."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{day}.json"
    unfinished = target.with_suffix(".tmp")
    unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(target)
    reports = sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"))
    for old in reports[: max(0, len(reports) - kept)]:
        old.unlink()
    return target
