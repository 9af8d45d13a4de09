"""Measures the reconciled state of three years, and every check alone, against a plain scan of both tables.

python -m benchmarks.history URL
python -m benchmarks.state URL
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from sqlalchemy import func, select

from benchmarks.figures import Figure, alone, engine_of, in_turn, scope_of, seconds_of, show
from benchmarks.history import HISTORY
from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.database.transactions import reading
from recon_assets.orchestration.checks import CHECKS, evaluate
from recon_assets.orchestration.resource import ReconResource
from recon_assets.reconcile.read_state import reconciled_state
from recon_assets.settings import Settings

PART = "The state of three years"
CHECKS_PART = "Each check alone"
AT_MOST = {"sqlite": 4.0, "postgresql": 2.0}


def measure(url: str) -> Iterator[Figure]:
    """The figures of one engine; the database holds three years that are right."""
    name = engine_of(url).dialect.name
    taken = in_turn({"scan": ((url,), scan), "state": ((url,), state), "command": ((url,), command)})
    at_most = AT_MOST[name]
    yield taken["scan"].figure(PART, "plain scan: both tables counted and summed", name)
    yield taken["state"].figure(PART, "the state: every value compared", name, at_most)
    yield taken["state"].ratio(PART, "the state against the scan", name, taken["scan"])
    yield taken["command"].figure(PART, "`recon status` as a whole process", name)
    checks = {"/".join([*check.asset_key.path, check.name]): check for check in CHECKS}
    yield in_turn({"all": ((url,), all_checks)}, turns=1)["all"].figure(
        PART, f"all {len(checks)} checks together", name
    )
    for words in checks:
        seconds, peak = alone(one_check, url, words)
        yield Figure(CHECKS_PART, words, name, seconds, at_most=at_most, peak_mb=peak)


def scan(url: str) -> float:
    """Reads every row of both tables, one after the other."""
    records, calculations = curtailment_records.c, historical_bitcoin_calculations.c
    sums = (
        select(func.count(), func.sum(records.volume), func.sum(records.payment)),
        select(func.count(), func.sum(calculations.bitcoin_mined), func.sum(calculations.difficulty)),
    )
    with reading(engine_of(url)) as connection:
        return seconds_of(lambda: [connection.execute(query).one() for query in sums])


def state(url: str) -> float:
    """The query of `recon status`."""
    engine = engine_of(url)
    return seconds_of(lambda: reconciled_state(engine, scope_of(HISTORY), datetime.now(UTC)))


def command(url: str) -> float:
    """`recon status` as a whole process."""
    recon = [
        sys.executable,
        "-m",
        "recon_assets.cli",
        "status",
        "--from",
        str(HISTORY.first),
        "--to",
        str(HISTORY.last),
    ]
    environment = {**os.environ, "DATABASE_URL": url}
    return seconds_of(lambda: subprocess.run(recon, env=environment, capture_output=True, check=True))


def one_check(url: str, words: str) -> float:
    """One check alone, as the button in the UI evaluates it."""
    (*key, check) = words.split("/")
    return _evaluate(url, [dg.AssetCheckKey(dg.AssetKey(key), check)])


def all_checks(url: str) -> float:
    """All checks, in one step."""
    return _evaluate(url, list(CHECKS))


def _evaluate(url: str, checks: list[dg.AssetCheckKey]) -> float:
    settings = Settings.from_environment({"DATABASE_URL": url}, Path.cwd())
    resource = ReconResource(settings, engine_of(url))
    return seconds_of(lambda: list(evaluate(resource, checks)))


if __name__ == "__main__":
    show(measure(sys.argv[1]))
