"""Commands that read give the same answer to a role that may only read, and on a hot standby."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from recon_assets_tests.cli.test_writes_nothing import READING
from recon_assets_tests.support.command import Command, Ended
from recon_assets_tests.support.postgres import PostgresServer

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

QUESTIONS = {
    name: words for name, words in READING.items() if words[0] not in ("doctor", "migrate") and words[0][0] != "-"
}
"""What reading commands are asked; the doctor measures times, so that no two answers of it are the same."""


@pytest.fixture
def spoilt(small_days: Engine) -> Engine:
    """Two days, without the calculations of one model and with a stale total, so that the answers say something."""
    with psycopg.connect(plain(small_days)) as connection:
        connection.execute("DELETE FROM historical_bitcoin_calculations WHERE miner_model = 'S9'")
        connection.execute("UPDATE monthly_summaries SET total_payment = 1")
    return small_days


def plain(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def answers(folder: Path, url: str, recordings: Path) -> dict[str, tuple[int, str, str]]:
    """What each question is answered at an address of the database."""
    folder.mkdir()
    recon = Command(folder, DATABASE_URL=url, ELEXON_API_URL=recordings.as_uri())
    return {name: _without_times(recon(*words)) for name, words in QUESTIONS.items()}


def _without_times(ended: Ended) -> tuple[int, str, str]:
    times = r"\d+(\.\d+)? s\b|\"seconds\": [\d.]+|\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?"
    return ended.exit_code, re.sub(times, "", ended.stdout), ended.stderr


@contextmanager
def role(engine: Engine, *settings: str) -> Iterator[str]:
    """The address for a new role that may only SELECT, with settings of its own."""
    name, database = f"reader_{uuid.uuid4().hex}", engine.url.database
    with psycopg.connect(plain(engine), autocommit=True) as owner:
        owner.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        owner.execute(f"CREATE ROLE {name} LOGIN")
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        for setting in settings:
            owner.execute(f"ALTER ROLE {name} SET {setting}")
        yield make_url(plain(engine)).set(username=name).render_as_string(hide_password=False)
        owner.execute(f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")


@pytest.fixture
def reader(spoilt: Engine) -> Iterator[str]:
    """The address for a role that may only SELECT, and whose transactions are read-only."""
    with role(spoilt, "default_transaction_read_only = on") as url:
        yield url


def test_a_role_that_may_only_read_gets_every_answer(
    spoilt: Engine, reader: str, recordings: Path, tmp_path: Path
) -> None:
    expected = answers(tmp_path / "owner", plain(spoilt), recordings)

    assert answers(tmp_path / "reader", reader, recordings) == expected
    assert {code for code, *_ in expected.values()} == {0, 1}
    assert {stderr for *_, stderr in expected.values()} == {""}
    health = Command(tmp_path, DATABASE_URL=reader, ELEXON_API_URL=recordings.as_uri())("doctor", "--format", "json")
    assert health.facts["unread"] == {}, health


def test_a_hot_standby_gives_every_answer(
    postgres: PostgresServer, spoilt: Engine, recordings: Path, tmp_path: Path
) -> None:
    assert spoilt.url.database
    with PostgresServer(tmp_path, primary=postgres) as standby:
        standby.wait_for_primary()

        found = answers(tmp_path / "standby", standby.url(spoilt.url.database), recordings)

    assert found == answers(tmp_path / "primary", plain(spoilt), recordings)


WRITING = {
    "reconcile": ("reconcile", "--no-ingest", "--month", "2025-06"),
    "range": ("range", "2025-06-06", "2025-06-06"),
    "summaries": ("summaries", "--month", "2025-06"),
    "spot-fix": ("spot-fix", "2025-06-06", "4", "T_GRGBW-2"),
    "wind": ("wind", "2025-06-06", "2025-06-06"),
}


@pytest.mark.parametrize("words", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize("setting", ["", "default_transaction_read_only = on"], ids=["no right", "read-only"])
def test_a_role_that_may_not_write_is_told_so(
    spoilt: Engine, words: tuple[str, ...], setting: str, recordings: Path, tmp_path: Path
) -> None:
    with role(spoilt, *([setting] if setting else [])) as url:
        ended = Command(tmp_path, DATABASE_URL=url, ELEXON_API_URL=recordings.as_uri())(*words)

    assert ended.exit_code == 1, ended
    assert "read-only transaction" in ended.stderr if setting else "permission denied" in ended.stderr
    assert "Pipeline" not in ended.stderr
    assert "Traceback" not in ended.stderr
