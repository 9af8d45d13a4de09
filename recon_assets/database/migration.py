"""Runs Alembic in a transaction, and remembers the statements that it executed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event

MIGRATIONS = Path(__file__).parent / "migrations"
CHANGING = ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE")
"""The statements that change something; all others read."""


@contextmanager
def recorded(connection: Connection) -> Iterator[list[str]]:
    """The statements that change something and are executed on the connection in the meantime."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(CHANGING):
            lines = (line.rstrip() for line in statement.strip().splitlines())
            statements.append("\n".join(line for line in lines if line))

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(connection, "before_cursor_execute", note)


def upgrade(connection: Connection) -> None:
    """Brings the schema to the newest revision; on SQLite, what a table loses when it is made again is put back."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    triggers = _triggers(connection)
    with warnings.catch_warnings():
        # On SQLite a CHECK without a name is lost when its table is made again. The list of changes says so.
        warnings.filterwarnings("ignore", message=".*CHECK constraint")
        command.upgrade(config, "head")
    for name, statement in triggers.items():
        if name not in _triggers(connection):
            connection.exec_driver_sql(statement)


def revisions() -> list[str]:
    """The revisions that this version knows, newest first."""
    # Read from the file names, because importing Alembic would cost every reading command half a second.
    return sorted((path.stem.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")), reverse=True)


def _triggers(connection: Connection) -> dict[str, str]:
    """SQLite's triggers. To change a column, Alembic copies its table and drops it, and its triggers go with it."""
    if connection.dialect.name != "sqlite":
        return {}
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return {name: statement for name, statement in rows}
