"""Statements that are compiled once in a test process; SQLAlchemy would compile them anew for each engine."""

from sqlalchemy import Engine

FIRST: dict[str, Engine] = {}
"""Of each kind of database the engine that came first; it has been connected, so that its dialect knows the server."""


def share_statements(engine: Engine) -> None:
    """Makes an engine use what others have compiled; what is compiled is kept by dialect.

    A sixth of the time of tests that reconcile went into compiling.
    """
    if engine.name not in FIRST:
        engine.connect().close()
    first = FIRST.setdefault(engine.name, engine)
    engine.dialect = engine.pool._dialect = first.dialect
    engine._compiled_cache = first._compiled_cache
