import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from recon_assets.ingest.bids import IngestedDay
from recon_assets.ingest.generation import GenerationDay
from recon_assets.orchestration.logs import open_log
from recon_assets.orchestration.observers import LogObserver, Observer
from recon_assets.reconcile.apply import Changes
from recon_assets.reconcile.converge_span import ConvergedSpan
from recon_assets.reconcile.plan import Plan
from recon_assets_tests.support.steps import JUNE_6, JUNE_7, SMALL_DAYS


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


class CallNames(Observer):
    """Keeps the names of the calls."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def planned(self, work: Plan) -> None:
        self.names.append("planned")

    def ingested(self, day: IngestedDay) -> None:
        self.names.append("ingested")

    def generation_read(self, day: GenerationDay) -> None:
        self.names.append("generation_read")

    def converged(self, days: object, span: ConvergedSpan) -> None:
        self.names.append("converged")

    def failed(self, day: date, reason: str) -> None:
        self.names.append("failed")

    def run_failed(self, job: str, reason: str) -> None:
        self.names.append("run_failed")


def test_what_is_done_is_written_down_line_by_line_and_told_on(tmp_path: Path) -> None:
    # given
    calls = CallNames()
    span = ConvergedSpan(
        days={},
        unfit={},
        changes={
            ("curtailment_records", None, "2025-06-06"): Changes(2, 0, 1),
            ("curtailment_records", None, "2025-06-07"): Changes(3, 1, 0),
            ("daily_summaries", None, "2025-06-06"): Changes(),
        },
    )

    # when
    with open_log(tmp_path / "logs", "auto") as log:
        observer = LogObserver(log, calls)
        observer.planned(Plan([[JUNE_6, JUNE_7]], [JUNE_6], ["2025-06"], ["2025"], [date(2025, 6, 9)], 48))
        observer.generation_read(GenerationDay(JUNE_6, Changes(46), 46, 12.5, 2.5, 10.0, pending=(47, 48)))
        observer.converged(SMALL_DAYS, span)
        observer.failed(JUNE_7, 'not "read"\nat all: é')
        observer.run_failed("ingest_days", "no answer")

    # then
    planned, generated, converged, failed, run_failed = lines_of(tmp_path / "logs" / "auto.jsonl")
    assert calls.names == ["planned", "generation_read", "converged", "failed", "run_failed"]
    for line in (planned, generated, converged, failed, run_failed):
        datetime.fromisoformat(line.pop("time"))
    assert planned == {
        "level": "INFO", "event": "planned", "read": "2025-06-06", "converge": "2025-06-06..2025-06-07",
        "months": ["2025-06"], "years": ["2025"], "out_of_reach": "2025-06-09", "requests": 48,
    }  # fmt: skip
    assert generated == {
        "level": "INFO", "event": "generation read", "settlement_date": "2025-06-06", "half_hours": 46,
        "total_mwh": 12.5, "pending_periods": [47, 48],
    }  # fmt: skip
    assert converged == {
        "level": "INFO", "event": "converged", "days": "2025-06-06..2025-06-07",
        "changes": {"curtailment_records": {"inserted": 5, "corrected": 1, "removed": 1}},
    }  # fmt: skip
    assert failed == {
        "level": "ERROR", "event": "failed", "settlement_date": "2025-06-07", "reason": 'not "read"\nat all: é',
    }  # fmt: skip
    assert run_failed == {
        "level": "ERROR", "event": "run failed", "job": "ingest_days", "reason": "no answer",
    }  # fmt: skip
