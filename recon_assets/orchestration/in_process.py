"""Executes a Dagster run in this process, which keeps the terminal for the command."""

import sys
from contextlib import redirect_stderr
from typing import Any

import dagster as dg

from recon_assets.errors import DiskError

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster prints nothing: the terminal belongs to the command, and the event log keeps everything."""
EVENT_LOG_ERROR = "Exception while writing logger call to event log: "


class _WithoutEventLogErrors:
    """Passes on all but what Dagster prints before it raises an error of its event log, with the SQL."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith(EVENT_LOG_ERROR) else int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def execute(job: dg.JobDefinition, **arguments: Any) -> None:
    """Executes a job with the arguments of execute_in_process.

    KeyboardInterrupt when interrupted; DiskError if one ended the run, which would end every other run, too.
    """
    try:
        with redirect_stderr(_WithoutEventLogErrors(sys.stderr)):
            job.execute_in_process(**arguments)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None:
            if isinstance(behind, DiskError):
                raise behind from None
            behind = behind.__cause__ or behind.__context__
        raise
