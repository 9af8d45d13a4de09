"""The logs of unattended work: one JSON object a line, in .recon/logs/, rotated."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import gmtime

from pythonjsonlogger.json import JsonFormatter

BYTES_A_FILE = 5_000_000
"""About 20,000 lines: a year of daily checks."""
FILES_KEPT = 5


@contextmanager
def open_log(folder: Path, name: str) -> Iterator[logging.Logger]:
    """The logger of a routine; it writes to `name`.jsonl in the folder."""
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
