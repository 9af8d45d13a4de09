"""The connection settings that commands rely on."""

import pytest
from sqlalchemy import Engine

from recon_assets.database.engine import LOST_AFTER, open_engine

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def parameters(engine: Engine) -> dict[str, str]:
    """What libpq was given beyond its defaults."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        found: dict[str, str] = driver.info.get_parameters()
    engine.dispose()
    return found


@on_postgres
def test_a_lost_network_is_noticed_within_a_minute(engine: Engine) -> None:
    found = parameters(engine)

    assert {name: int(found[name]) for name in LOST_AFTER} == LOST_AFTER


@on_postgres
def test_the_address_may_name_other_limits(engine: Engine) -> None:
    url = engine.url.update_query_dict({"keepalives_idle": "77", "application_name": "mine"})

    found = parameters(open_engine(url))

    assert (found["keepalives_idle"], found["application_name"]) == ("77", "mine")
    assert int(found["tcp_user_timeout"]) == LOST_AFTER["tcp_user_timeout"]
