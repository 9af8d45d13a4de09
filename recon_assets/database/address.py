"""Reads the address of the database, DATABASE_URL.

A PostgreSQL address is read by libpq, which takes more than SQLAlchemy: several hosts, and a socket's folder as a host.
What cannot be read is not shown, because a part of it may be a password.
"""

from pathlib import Path
from urllib.parse import parse_qsl

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from recon_assets.errors import ConfigurationError

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
OPTIONS = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | {"search_path"}
NOT_A_URL = "DATABASE_URL is not a URL: write postgresql://user:password@host:5432/database or sqlite:///file.db"


def parse_database_url(text: str, folder: Path) -> URL:
    """The URL of a PostgreSQL database, or of an SQLite file relative to a folder; ConfigurationError otherwise."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in SCHEMES:
        return _postgresql_url(rest)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        raise ConfigurationError(NOT_A_URL) from None
    if url.drivername != "sqlite":
        raise ConfigurationError(f"DATABASE_URL: {scheme!r} is not known: write postgresql://... or sqlite:///...")
    if not url.database:
        raise ConfigurationError("DATABASE_URL names no file: write sqlite:///file.db")
    return url.set(database=str((folder / url.database).absolute()))


def _postgresql_url(rest: str) -> URL:
    address, _, query = rest.partition("?")
    try:
        found = conninfo_to_dict(f"postgresql://{address}")
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            f"{NOT_A_URL}; in the password, write %25 for %, %40 for @, %2F for / and %23 for #"
        ) from None
    hosts, ports, database = (str(found.get(name) or "") for name in ("host", "port", "dbname"))
    # A / in a password ends the host for the parser, and the rest of the password would be shown as the database.
    if "@" in hosts + database:
        raise ConfigurationError(
            "DATABASE_URL has more than one @, or a / before it: write %40 for an @ and %2F for a / in the password"
        )
    options = parse_qsl(query, keep_blank_values=True)
    if not OPTIONS.issuperset(name for name, _ in options):
        raise ConfigurationError(
            "DATABASE_URL has an option after its ? that PostgreSQL does not know; write %3F for a ? in the password"
        )
    if any(port and not port.isdecimal() for port in ports.split(",")):
        raise ConfigurationError(NOT_A_URL)
    url = URL.create(
        "postgresql+psycopg",
        username=str(found["user"]) if "user" in found else None,
        password=str(found["password"]) if "password" in found else None,
        database=database or None,
    ).update_query_pairs(options)
    if "," not in hosts:
        return url.set(host=hosts or None, port=int(ports) if ports else None)
    return url.update_query_dict({"host": hosts, "port": ports} if ports.strip(",") else {"host": hosts})
