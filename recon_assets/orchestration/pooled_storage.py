"""Dagster's storage on PostgreSQL, with connections that stay open; `storage: custom:` in dagster.yaml names it.

Dagster's own class opens a connection for every statement, except in its webserver. Planning a backfill of three years
writes thousands of events, one after another, with two statements each.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import Engine, create_engine, make_url


class PooledPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on connections that all instances of a process share.

    One connection stays open, others are opened as threads need them. With an `auth_provider`, whose tokens expire,
    the storage works as Dagster's own does.
    """

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterPostgresStorage:
        """The storage from the configuration that DagsterPostgresStorage takes."""
        address = config_value.get("postgres_url")
        if address:
            config_value = {**config_value, "postgres_url": _with_driver(address)}
        storage = super().from_config_value(inst_data, config_value)  # type: ignore[arg-type]
        if "auth_provider" not in config_value:
            for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
                # Dagster has no setting for this; its webserver replaces the same attribute.
                part._engine = _engine(storage.postgres_url)  # type: ignore[union-attr]
        return storage


def _with_driver(address: str) -> str:
    """The address with the driver that Dagster's storage is written for; SQLAlchemy's own choice is another one."""
    url = make_url(address)
    if url.drivername not in ("postgres", "postgresql"):
        return address
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


@cache
def _engine(url: str) -> Engine:
    # Cached, not one for each instance: every tick opens an instance, and none closes its connections. A connection is
    # tested before use (pool_pre_ping), because Dagster retries failures to connect, and no others.
    return create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1, pool_pre_ping=True)
