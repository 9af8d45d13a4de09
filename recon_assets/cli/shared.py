"""What several commands share: the settings, the state of a period, exit codes, and JSON output."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recon_assets.cli.options import STRICT
from recon_assets.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from recon_assets.cli.options import Period
    from recon_assets.reconcile.state import State

RIGHT, NOT_RIGHT = 0, 1


def read_settings() -> Settings:
    """The settings of this process."""
    return Settings.from_environment(os.environ, Path.cwd())


def first_day_of(settings: Settings) -> date | None:
    """The first day of a command without a period; None without data or without a database."""
    from recon_assets.database import transactions
    from recon_assets.domain.settlement import all_kept_days
    from recon_assets.reconcile.state import default_first_day

    with engine_if_any(settings) as engine:
        if engine is None:
            return None
        with transactions.reading(engine) as connection:
            return default_first_day(connection, all_kept_days(settings.first_day, datetime.now(UTC)))


@contextmanager
def engine_if_any(settings: Settings) -> Iterator["Engine | None"]:
    """The engine of a database with the current schema, to read; None for a database without tables, or without a file.

    Nothing is created. SchemaError for any other schema.
    """
    from recon_assets.database import schema, transactions
    from recon_assets.database.engine import open_engine_to_read, sqlite_file

    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        yield None
        return
    engine = open_engine_to_read(settings.database_url)
    try:
        with transactions.reading(engine) as connection:
            is_empty = schema.schema_state(connection) is schema.SchemaState.EMPTY
        if not is_empty:
            schema.require_schema(engine, create=False, first_day=settings.first_day)
        yield None if is_empty else engine
    finally:
        engine.dispose()


@contextmanager
def reading_engine(settings: Settings) -> Iterator["Engine"]:
    """The engine of a database with the current schema, to read; nothing is created."""
    from recon_assets.database import schema
    from recon_assets.database.engine import open_engine_to_read

    engine = open_engine_to_read(settings.database_url)
    try:
        schema.require_schema(engine, create=False, first_day=settings.first_day)
        yield engine
    finally:
        engine.dispose()


def read_state(engine: "Engine", settings: Settings, period: "Period") -> "State":
    """The reconciled state of a period now."""
    from recon_assets.database import transactions
    from recon_assets.domain.settlement import all_kept_days
    from recon_assets.reconcile.read_state import reconciled_state
    from recon_assets.reconcile.scope import Scope
    from recon_assets.reconcile.state import default_first_day

    now = datetime.now(UTC)
    with transactions.reading(engine) as connection:
        days = period.resolve(settings, default_first_day(connection, all_kept_days(settings.first_day, now)))
    return reconciled_state(engine, Scope(days, settings.curtailment_rule, first_day=settings.first_day), now)


def exit_code(right: bool) -> int:
    """0 if everything is right, else 1."""
    return RIGHT if right else NOT_RIGHT


def exit_code_of(state: "State") -> int:
    """0 if nothing is known to be wrong, and with --strict only if all is proven, too; else 1."""
    from recon_assets.reconcile.state import Conclusion

    strict = click.get_current_context().meta.get(STRICT, False)
    enough = state.is_right or (state.conclusion is Conclusion.RIGHT_AS_FAR_AS_KNOWN and not strict)
    return exit_code(enough)


def echo_json(facts: Any) -> None:
    """Prints facts for programs; NaN and infinities, which JSON does not have, are null."""
    click.echo(json.dumps(_jsonable(facts), indent=2))


def _jsonable(facts: Any) -> Any:
    if isinstance(facts, Mapping):
        return {name: _jsonable(fact) for name, fact in facts.items()}
    if isinstance(facts, list | tuple):
        return [_jsonable(fact) for fact in facts]
    return None if isinstance(facts, float) and not isfinite(facts) else facts
