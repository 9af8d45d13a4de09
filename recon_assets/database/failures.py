"""What kind of failure an error of either database is: whether another attempt, or a smaller one, may help."""

from dataclasses import dataclass

from sqlalchemy import exc

from recon_assets.errors import ConfigurationError, DiskError, ReconError, SchemaError, UsageError, first_line

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
