"""Addresses of databases as people write them."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url

from recon_assets.database.address import parse_database_url
from recon_assets.database.engine import display_url, open_engine
from recon_assets.database.transactions import reading, writing
from recon_assets.errors import ConfigurationError
from recon_assets_tests.support.steps import execute, scalar

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def parameters(text: str) -> dict[str, Any]:
    """What the driver is given for an address."""
    engine = open_engine(parse_database_url(text, Path("/somewhere")))
    _, found = engine.dialect.create_connect_args(engine.url)
    return {name: found[name] for name in ("host", "port", "user", "password", "dbname") if name in found}


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        (
            "postgresql://ann:p%40%2F%23%25@db.example:5433/wind",
            {"host": "db.example", "port": 5433, "user": "ann", "password": "p@/#%", "dbname": "wind"},
            "postgresql+psycopg://ann:***@db.example:5433/wind",
        ),
        (
            "postgres://ann:s3cret@one:5432,two:5433/wind?target_session_attrs=read-write",
            {"host": "one,two", "port": "5432,5433", "user": "ann", "password": "s3cret", "dbname": "wind"},
            "postgresql+psycopg://ann:***@one:5432,two:5433/wind",
        ),
        (
            "postgresql+psycopg://%2Fvar%2Frun%2Fpostgresql/wind",
            {"host": "/var/run/postgresql", "dbname": "wind"},
            "postgresql+psycopg:///var/run/postgresql/wind",
        ),
        (
            "postgresql:///wind?host=/run/pg&port=6000&password=s3cret",
            {"host": "/run/pg", "port": "6000", "password": "s3cret", "dbname": "wind"},
            "postgresql+psycopg:///run/pg:6000/wind",
        ),
        ("postgresql://[::1]:5432/wind", {"host": "::1", "port": 5432, "dbname": "wind"}, None),
        ("postgresql://", {}, "postgresql+psycopg://"),
    ],
)
def test_what_libpq_takes_is_taken(text: str, expected: dict[str, Any], shown: str | None) -> None:
    assert parameters(text) == expected
    if shown:
        assert display_url(parse_database_url(text, Path("/somewhere"))) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://pw:s3c@ret/w:rd%#1@host/db",
        "postgresql://ann:s3c%ret@host/db",
        "postgresql://ann:s3c/ret@host/db",
        "postgresql://ann:5432?s3cret@host/db",
        "postgresql://ann:s3cret@host:port/db",
        "postgresql://ann@host/db?passwort=s3cret",
        "postgresql:/ann:s3cret@host/db",
        "postgresql+psycopg2://ann:s3cret@host/db",
    ],
)
def test_of_what_cannot_be_read_nothing_is_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        parse_database_url(text, Path("/somewhere"))

    message = str(failure.value)
    assert message.startswith("DATABASE_URL")
    assert [part for part in ("s3c", "ret", "w:rd") if part in message] == []


@on_postgres
def test_the_first_host_that_answers_is_connected_to(engine: Engine) -> None:
    here, database = engine.url, engine.url.database
    text = f"postgresql://{here.username}@127.0.0.1:1,{here.host}:{here.port}/{database}"

    assert scalar(open_engine(parse_database_url(text, Path("/somewhere"))), "SELECT current_database()") == database


@on_postgres
def test_a_search_path_holds_for_each_transaction_and_no_longer(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA app", 'CREATE SCHEMA "Old Data"')
    plain = make_url(engine.url).set(drivername="postgresql").render_as_string(hide_password=False)
    chosen = open_engine(parse_database_url(f'{plain}?search_path=APP, "Old Data"', Path("/somewhere")))

    for opened in (reading(chosen), writing(chosen)):
        with opened as connection:
            found = connection.exec_driver_sql("SELECT current_schemas(false)").scalar_one()
        assert found == ["app", "Old Data"]
    with chosen.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.execute("SHOW search_path").fetchone() == ('"$user", public',)
