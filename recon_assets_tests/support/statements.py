"""Statements that are compiled once in a test process; SQLAlchemy would compile them anew for each engine."""

from typing import Any

from sqlalchemy import Connection, Engine, event

from recon_assets.database.engine import _begin_sqlite

FIRST: dict[tuple[Any, ...], Engine] = {}
"""Of each kind of database the engine that was connected first, so that its dialect knows the server."""
SHARED = {"shares_statements": True}
"""The execution options of engines that share, besides those of this project."""


def share_statements() -> None:
    """Has engines use what others of their kind have compiled, once they are connected.

    A sixth of the time of tests that reconcile went into compiling, and a quarter of that of a command that only reads.
    """
    if not event.contains(Engine, "engine_connect", _share):
        event.listen(Engine, "engine_connect", _share)


def _share(connection: Connection) -> None:
    engine, known = connection.engine, connection.dialect
    is_other = SHARED.items() <= engine.get_execution_options().items()
    if is_other or engine.driver == "psycopg" or event.contains(engine, "begin", _begin_sqlite):
        # What is compiled is kept by dialect.
        kind = (is_other, engine.driver, known.server_version_info, known.default_schema_name)
        first = FIRST.setdefault(kind, engine)
        if first is not engine:
            engine.dialect = engine.pool._dialect = connection.dialect = first.dialect
            engine._compiled_cache = first._compiled_cache
