"""The errors that a user may see, each with the exit code of the command."""


class ReconError(Exception):
    """Something failed; the message is one line that says what failed and what to do. Exit code 1."""

    exit_code = 1


class UsageError(ReconError):
    """The request is invalid (a date that does not exist, a range that ends before it starts). Exit code 2."""

    exit_code = 2


class ConfigurationError(ReconError):
    """A setting is wrong; the message names the environment variable. Exit code 2."""

    exit_code = 2


class DiskError(ReconError):
    """A disk is full or fails; the message names the file and the free space. Exit code 1."""


class UnreachableError(ConfigurationError):
    """The database cannot be connected to. Exit code 2."""


class SchemaError(ReconError):
    """The database has no schema, or a foreign, older or newer one. Exit code 2."""

    exit_code = 2


class UnpublishedError(ReconError):
    """Elexon has not published a day (yet). Exit code 1."""


class ElexonError(ReconError):
    """Elexon did not answer, or its answer is invalid or not plausible. Exit code 1."""


class SourceDownError(ReconError):
    """The source of Elexon's data answers nothing at all, and nothing more is asked of it. Exit code 1.

    No ElexonError, which is about one answer: this one is about all of them.
    """


def first_line(error: BaseException) -> str:
    """The type and first line of any error, of one of ours without the type.

    Of a database error, those of the driver, without the SQL statement.
    """
    if isinstance(error, ReconError):
        return str(error).splitlines()[0]
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no message'}"
