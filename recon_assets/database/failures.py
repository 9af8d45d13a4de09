"""What kind of failure an error of either database is: whether another attempt, or a smaller one, may help."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from sqlalchemy import exc

from recon_assets.errors import (
    ConfigurationError,
    DiskError,
    ReconError,
    SchemaError,
    UnreachableError,
    UsageError,
    first_line,
)

T = TypeVar("T")

TIMED_OUT = {"57014", "55P03"}
"""PostgreSQL: query_canceled (by statement_timeout), lock_not_available (by lock_timeout)."""

SAME_FOR_ALL = ("0A", "25006", "3D", "3F", "42")
"""PostgreSQL: not supported; a read-only transaction, as on a standby; no such database; no such schema; syntax or
access. The driver's classes are no help: it raises ProgrammingError also for what a trigger raised about one row."""

SQLITE_TIMED_OUT = ("interrupted", "locked", "busy")
"""SQLite: our deadline (transactions.py), and other writers."""


@dataclass(frozen=True)
class Failure:
    """Why a piece of work failed, in one line.

    `is_everywhere`: every other piece of work would fail in the same way, and trying again would not help.
    """

    reason: str
    is_timeout: bool = False
    is_everywhere: bool = False


def failure_of(error: Exception) -> Failure:
    """The failure that an error stands for."""
    if isinstance(error, ConfigurationError | DiskError | SchemaError | UsageError):
        return Failure(str(error), is_everywhere=True)
    if isinstance(error, ReconError):
        return Failure(str(error))
    if not isinstance(error, exc.DBAPIError):
        return Failure(first_line(error), is_everywhere=True)
    reason = first_line(error)
    state = getattr(error.orig, "sqlstate", None)
    if state in TIMED_OUT or (state is None and any(word in reason for word in SQLITE_TIMED_OUT)):
        return Failure(f"timed out: {reason}", is_timeout=True)
    if state is not None:
        return Failure(reason, is_everywhere=state.startswith(SAME_FOR_ALL))
    # A lost connection may come back. A statement that the database does not understand fails again, and so does a
    # write to a file that SQLite cannot write.
    misunderstood = isinstance(error, exc.ProgrammingError | exc.NotSupportedError)
    broken = isinstance(error, exc.OperationalError) and not error.connection_invalidated
    return Failure(reason, is_everywhere=misunderstood or broken)


def again_when_lost(do: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Does a piece of work, and does it again if the connection to the database was lost meanwhile.

    Five times within 15 s at most, which a server that starts again may need. Any other error is raised at once.
    """
    lost = False

    def may_come_back(error: BaseException) -> bool:
        nonlocal lost
        if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
            lost = True
            return True
        return lost and isinstance(error, UnreachableError)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_come_back),
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_exponential(1),
        sleep=sleep,
        reraise=True,
    )
    return retrying(do)
