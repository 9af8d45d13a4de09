"""The logs of unattended work: one JSON object a line, in the folder that RECON_LOGS names, rotated."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import gmtime

from pythonjsonlogger.json import JsonFormatter

from recon_assets.errors import ReconError
from recon_assets.folders import writing_to

BYTES_A_FILE = 5_000_000
"""About 20,000 lines: a year of daily checks."""
FILES_KEPT = 5


class _LogFile(RotatingFileHandler):
    """A file whose errors are raised. Python's own handler prints a traceback and goes on without the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line; errors as of `writing_to`."""
        with writing_to(Path(self.baseFilename), VARIABLE):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Raises the error that is being handled."""
        raise


@contextmanager
def open_log(folder: Path, name: str) -> Iterator[logging.Logger]:
    """The logger of a routine; it writes to `name`.jsonl in the folder.

    DiskError or ConfigurationError, here and from the logger, if that cannot be written.
    """
    file = folder / f"{name}.jsonl"
    with writing_to(folder, VARIABLE):
        folder.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(file, maxBytes=BYTES_A_FILE, backupCount=FILES_KEPT, encoding="utf-8")
    formatter = JsonFormatter("{asctime}{levelname}{message}", TIME, style="{", rename_fields=FIELDS)
    formatter.converter = gmtime
    handler.setFormatter(formatter)
    logger = logging.Logger(f"recon.{name}")
    logger.addHandler(handler)
    try:
        yield logger
    except BaseException as error:
        # The first error is raised, even if the log cannot be written, too.
        with suppress(ReconError):
            logger.error("ended", extra={"reason": str(error) or type(error).__name__})
        with suppress(OSError):
            handler.close()
        raise
    with writing_to(file, VARIABLE):
        handler.close()


VARIABLE = "RECON_LOGS"
TIME = "%Y-%m-%dT%H:%M:%SZ"
FIELDS = {"asctime": "time", "levelname": "level", "message": "event"}
