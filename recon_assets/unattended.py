"""Logs of unattended work: one JSON object a line, in .recon/logs/, rotated.

Belongs here: the log file, and writing down work as it is done. Does not: the work.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import gmtime

from pythonjsonlogger.json import JsonFormatter

from recon_assets.ingest import IngestedDay
from recon_assets.orchestration.workbench import Observer
from recon_assets.reconcile.plan import Plan, spell_days
from recon_assets.reconcile.repair import Repair
from recon_assets.settlement import Days

BYTES_A_FILE = 5_000_000
"""About 20,000 lines: a year of daily checks."""
FILES_KEPT = 5


@contextmanager
def open_log(folder: Path, name: str) -> Iterator[logging.Logger]:
    """The logger of a routine, which writes to `name`.jsonl in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        folder / f"{name}.jsonl", maxBytes=BYTES_A_FILE, backupCount=FILES_KEPT, encoding="utf-8"
    )
    formatter = JsonFormatter("{asctime}{levelname}{message}", TIME, style="{", rename_fields=FIELDS)
    formatter.converter = gmtime
    handler.setFormatter(formatter)
    logger = logging.Logger(f"recon.{name}")
    logger.addHandler(handler)
    try:
        yield logger
    except BaseException as error:
        logger.error("ended", extra={"reason": str(error) or type(error).__name__})
        raise
    finally:
        handler.close()


TIME = "%Y-%m-%dT%H:%M:%SZ"
FIELDS = {"asctime": "time", "levelname": "level", "message": "event"}


class LogObserver(Observer):
    """Writes down what it is told, and tells it on."""

    def __init__(self, log: logging.Logger, other: Observer) -> None:
        self._log = log
        self._other = other

    def planned(self, work: Plan) -> None:
        """See Observer."""
        days = sorted(day for chunk in work.chunks for day in chunk)
        self._log.info(
            "planned",
            extra={
                "read": spell_days(work.ingest),
                "converge": spell_days(days),
                "months": work.months,
                "years": work.years,
                "out_of_reach": spell_days(work.out_of_reach),
                "requests": work.requests,
            },
        )
        self._other.planned(work)

    def ingested(self, day: IngestedDay) -> None:
        """See Observer."""
        self._log.info(
            "read",
            extra={
                "settlement_date": day.settlement_date.isoformat(),
                "wind_rows": day.wind_rows,
                "inserted": day.changes.inserted,
                "corrected": day.changes.corrected,
                "removed": day.changes.removed,
                "pending_periods": list(day.pending),
            },
        )
        self._other.ingested(day)

    def repaired(self, days: Days, repair: Repair) -> None:
        """See Observer."""
        layers = dict.fromkeys(name for name, _, _ in repair.changes)
        changes = {name: repair.changes_of(name) for name in layers}
        self._log.info(
            "converged",
            extra={
                "days": str(days),
                "changes": {
                    name: {"inserted": made.inserted, "corrected": made.corrected, "removed": made.removed}
                    for name, made in changes.items()
                    if made.total
                },
            },
        )
        self._other.repaired(days, repair)

    def failed(self, day: date, reason: str) -> None:
        """See Observer."""
        self._log.error("failed", extra={"settlement_date": day.isoformat(), "reason": reason})
        self._other.failed(day, reason)

    def run_failed(self, job: str, reason: str) -> None:
        """See Observer."""
        self._log.error("run failed", extra={"job": job, "reason": reason})
        self._other.run_failed(job, reason)
