"""Dagster's storage on PostgreSQL, with connections that stay open.

Belongs here: what `storage: custom:` in dagster.yaml names. Does not: anything of our own tables.

Dagster's own class opens a connection for every statement, except in its webserver. Planning a backfill of three years
is thousands of events, one after the other, of two statements each.
"""

from collections.abc import Mapping
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

STATEMENT_SECONDS = 600
"""Longer than any statement of Dagster's takes; its webserver, which people wait for, sets its own limit."""
RECYCLE_SECONDS = 300
"""A connection older than that is replaced before its next use, so that a server's restart is soon forgotten."""


class PooledPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage that keeps one connection of each part open; others are opened as threads need them."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledPostgresStorage":
        """From `postgres_url` or `postgres_db`, as of Dagster's own class."""
        storage = cls(
            pg_url_from_config(config_value), config_value.get("should_autocreate_tables", True), inst_data=inst_data
        )
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            part.optimize_for_webserver(STATEMENT_SECONDS * 1000, RECYCLE_SECONDS, max_overflow=-1)
        return storage
