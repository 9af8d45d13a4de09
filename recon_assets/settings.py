"""Reads and validates the settings from environment variables, once, at the start of the program.

A wrong value is a ConfigurationError of one line that names the variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import URL

from recon_assets.database.address import parse_database_url
from recon_assets.database.limits import MOST_WRITERS, WorkLimits
from recon_assets.demo import in_effect
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import FIRST_DAY, london_day, parse_day
from recon_assets.errors import ConfigurationError, UsageError

ELEXON_LIVE_URL = "https://data.elexon.co.uk/bmrs/api/v1"
MEMPOOL_LIVE_URL = "https://mempool.space/api"
NO_TAIL = "none"
"""The value of MEMPOOL_API_URL with which only the packaged difficulty table is used."""

FIRST_YEAR = 2001
"""The balancing mechanism of Great Britain began on 2001-03-27."""

STATE_FOLDER = ".recon"
"""The folder, in the current one, of everything for which no other place is set."""


@dataclass(frozen=True)
class Settings:
    """All settings; `mempool_api_url` is None when only the packaged difficulty table is used."""

    database_url: URL
    elexon_api_url: str
    mempool_api_url: str | None
    curtailment_rule: CurtailmentRule
    first_day: date
    dagster_home: Path
    elexon_requests_per_second: float
    elexon_requests_in_flight: int
    elexon_attempts: int
    elexon_timeout_seconds: float
    outage_minutes: float
    limits: WorkLimits
    log_folder: Path
    archive_folder: Path
    report_folder: Path
    alert_urls: tuple[str, ...] = field(repr=False)  # they carry passwords

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], folder: Path) -> "Settings":
        """The settings for a process that runs in `folder`; a variable that is set but blank counts as unset."""
        environ = in_effect(environ)
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        elexon = _elexon_url(given.get("ELEXON_API_URL", ELEXON_LIVE_URL))
        # With recordings instead of Elexon, mempool.space is not used either, unless its variable is set.
        mempool = given.get("MEMPOOL_API_URL", NO_TAIL if elexon.startswith("file:") else MEMPOOL_LIVE_URL)
        return cls(
            database_url=_database_url(given.get("DATABASE_URL"), folder),
            elexon_api_url=elexon,
            mempool_api_url=None if mempool == NO_TAIL else _http_url("MEMPOOL_API_URL", mempool),
            curtailment_rule=_rule(given.get("CURTAILMENT_RULE", CurtailmentRule.SO_FLAGGED)),
            first_day=first_kept_day(environ),
            log_folder=_folder(given, "RECON_LOGS", folder, "logs"),
            archive_folder=_folder(given, "RECON_ARCHIVE", folder, "archive"),
            report_folder=_folder(given, "RECON_REPORTS", folder, "reports"),
            alert_urls=tuple(given.get("RECON_ALERT_URLS", "").split()),
            dagster_home=_folder(given, "DAGSTER_HOME", folder, "dagster"),
            elexon_requests_per_second=_positive(given, "ELEXON_REQUESTS_PER_SECOND", 8),
            elexon_requests_in_flight=_positive_whole(given, "ELEXON_REQUESTS_IN_FLIGHT", 8),
            elexon_attempts=_positive_whole(given, "ELEXON_ATTEMPTS", 5),
            elexon_timeout_seconds=_positive(given, "ELEXON_TIMEOUT_SECONDS", 30),
            outage_minutes=_positive(given, "RECON_OUTAGE_MINUTES", 30, or_zero=True),
            limits=WorkLimits(
                batch_size=_positive_whole(given, "RECON_BATCH_SIZE", WorkLimits.batch_size),
                pause_seconds=_positive(given, "RECON_PAUSE_SECONDS", WorkLimits.pause_seconds, or_zero=True),
                concurrency=_positive_whole(given, "RECON_CONCURRENCY", WorkLimits.concurrency, at_most=MOST_WRITERS),
                statement_timeout_seconds=_positive(
                    given, "RECON_STATEMENT_TIMEOUT_SECONDS", WorkLimits.statement_timeout_seconds
                ),
            ),
        )

    @property
    def recordings(self) -> Path | None:
        """The folder of recordings that is read instead of the network; None for the live API."""
        parts = urlsplit(self.elexon_api_url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True)
class Unattended:
    """What runs unattended: whether all sensors and schedules do, and how often sensors tick."""

    everything: bool
    tick_seconds: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Unattended":
        """From RECON_UNATTENDED and RECON_TICK_SECONDS."""
        given = {name: value.strip() for name, value in in_effect(environ).items() if value.strip()}
        switch = given.get("RECON_UNATTENDED", "off")
        if switch.lower() not in ("on", "off"):
            raise ConfigurationError(f"RECON_UNATTENDED: {switch!r} is no switch: write on or off")
        return cls(switch.lower() == "on", _positive_whole(given, "RECON_TICK_SECONDS", 60))


def first_kept_day(environ: Mapping[str, str]) -> date:
    """The first settlement day that is kept, from RECON_FIRST_DAY: a 1 January, so that years are kept whole."""
    text = in_effect(environ).get("RECON_FIRST_DAY", "").strip() or FIRST_DAY.isoformat()
    try:
        day = parse_day(text)
    except UsageError as error:
        raise ConfigurationError(f"RECON_FIRST_DAY: {error}") from None
    if (day.month, day.day) != (1, 1):
        raise ConfigurationError(f"RECON_FIRST_DAY: {text} is no 1 January: write for example {day.year}-01-01")
    if day > london_day(datetime.now(UTC)):
        raise ConfigurationError(f"RECON_FIRST_DAY: {text} is still to come")
    if day.year < FIRST_YEAR:
        raise ConfigurationError(f"RECON_FIRST_DAY: {text} is before {FIRST_YEAR}: nothing was settled by bids then")
    return day


def _database_url(text: str | None, folder: Path) -> URL:
    if text is None:
        return URL.create("sqlite", database=str(folder.absolute() / STATE_FOLDER / "recon.db"))
    return parse_database_url(text, folder)


def _elexon_url(text: str) -> str:
    if not text.startswith("file:"):
        return _http_url("ELEXON_API_URL", text)
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(f"ELEXON_API_URL: {text} is not a folder: write file:///absolute/path")
    return text


def _http_url(variable: str, text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that are no IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        # The text is not shown: it may be the URL of something else, with a password.
        kinds = "http(s)://... or file:///..." if variable == "ELEXON_API_URL" else "http(s)://..."
        raise ConfigurationError(f"{variable} is not a URL: write {kinds}")
    return text.rstrip("/")


def _folder(given: Mapping[str, str], variable: str, folder: Path, default: str) -> Path:
    """The folder that a variable names, or one in the state folder."""
    try:
        return (folder / Path(given.get(variable, f"{STATE_FOLDER}/{default}")).expanduser()).absolute()
    except RuntimeError:  # ~name of a user who does not exist
        raise ConfigurationError(f"{variable}: there is no folder {given[variable]}") from None


def _rule(text: str) -> CurtailmentRule:
    try:
        return CurtailmentRule(text)
    except ValueError:
        choices = " or ".join(CurtailmentRule)
        raise ConfigurationError(f"CURTAILMENT_RULE: {text!r} is not a rule: write {choices}") from None


def _positive(given: Mapping[str, str], variable: str, default: float, *, or_zero: bool = False) -> float:
    text = given.get(variable, str(default))
    try:
        value = float(text)
    except ValueError:
        raise ConfigurationError(f"{variable}: {text!r} is not a number") from None
    if not (0 < value < float("inf") or (or_zero and value == 0)):
        raise ConfigurationError(f"{variable}: {text} is {'neither 0 nor' if or_zero else 'not'} a positive number")
    return value


def _positive_whole(given: Mapping[str, str], variable: str, default: float, *, at_most: float = float("inf")) -> int:
    value = _positive(given, variable, default)
    if value > at_most:
        raise ConfigurationError(f"{variable}: {given[variable]} is more than {at_most}")
    if value != int(value):
        raise ConfigurationError(f"{variable}: {given[variable]} is not a whole number")
    return int(value)
