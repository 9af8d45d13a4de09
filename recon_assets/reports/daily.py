"""Writes the report of the daily check to a file a day, and keeps the newest files."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from recon_assets.folders import writing_to

REPORTS_KEPT = 90
"""A quarter of a year. A report covers the days that were checked, at most 30, and takes a few kB."""


def write_report(folder: Path, day: date, facts: Mapping[str, Any], kept: int = REPORTS_KEPT) -> Path:
    """Writes the report of a day, replaces an earlier one of the same day, and deletes all but the newest `kept`."""
    target = folder / f"{day}.json"
    unfinished = target.with_suffix(".tmp")
    with writing_to(target, "RECON_REPORTS"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        unfinished.replace(target)
        reports = sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"))
        for old in reports[: max(0, len(reports) - kept)]:
            old.unlink()
    return target
