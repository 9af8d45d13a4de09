"""Every error that a user may meet, each with the exit code that the command ends with."""


class ReconError(Exception):
    """Something failed; the message is one line that says what and what to do. Exit code 1."""

    exit_code = 1


class UsageError(ReconError):
    """What was asked for makes no sense (a date that does not exist, a range upside down). Exit code 2."""

    exit_code = 2


class ConfigurationError(ReconError):
    """A setting is wrong; the message names the environment variable. Exit code 2."""

    exit_code = 2


class SchemaError(ReconError):
    """The database has no schema, a foreign one or an older one. Exit code 2."""

    exit_code = 2


class DifficultyUnknownError(ReconError):
    """The network difficulty of an instant is not known; the message names the date."""


class UnpublishedError(ReconError):
    """Elexon has nothing of a day (yet)."""


class ElexonError(ReconError):
    """Elexon did not answer, or answered with something that cannot be believed."""


def first_line(error: BaseException) -> str:
    """The first line of an error from elsewhere; a driver's error without the statement that it happened in."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no message'}"
