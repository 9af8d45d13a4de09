"""The whole work of each worker: how many of its months are done, and how long the rest will take."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recon_assets.database.work_log import MonthProgress, Status
from recon_assets.domain.words import plural

SILENCE_SECONDS = 120
"""A worker writes after every day that it reads and after every chunk, which is ended after 60 s at the latest."""

NEVER = datetime.min.replace(tzinfo=UTC)


def worker_facts(progress: Sequence[MonthProgress], now: datetime) -> list[dict[str, Any]]:
    """The workers that have months in progress or still to come, at the instant `now` (with time zone)."""
    of_worker: dict[str, list[MonthProgress]] = {}
    for row in progress:
        if row.worker is not None:
            of_worker.setdefault(row.worker, []).append(row)
    unfinished = (Status.IN_PROGRESS, Status.PENDING)
    return [
        _facts(worker, rows, now) for worker, rows in of_worker.items() if any(row.status in unfinished for row in rows)
    ]


def _facts(worker: str, rows: Sequence[MonthProgress], now: datetime) -> dict[str, Any]:
    counts = {status: sum(row.status == status for row in rows) for status in Status}
    started = min((row.started_at for row in rows if row.started_at), default=None)
    seen = max((row.last_updated or NEVER for row in rows), default=NEVER)
    age = None if seen is NEVER else max(0.0, (now - seen).total_seconds())
    is_silent = age is None or age > SILENCE_SECONDS
    return {
        "worker": worker,
        "months": len(rows),
        "done": counts[Status.COMPLETED] + counts[Status.FAILED],
        "failed": counts[Status.FAILED],
        "in_progress": counts[Status.IN_PROGRESS],
        "to_come": counts[Status.PENDING],
        "started_at": started and started.isoformat(),
        "age_seconds": age if age is None else round(age),
        "is_silent": is_silent,
        "remaining_seconds": None if is_silent or started is None else _remaining(rows, started, now),
    }


def _remaining(rows: Sequence[MonthProgress], started: datetime, now: datetime) -> int | None:
    """The seconds that are left: of the months in progress by what is done of them, of later ones by the earlier ones.

    Reading and converging count different records, so a whole month is the only measure of a month that is to come.
    """
    of_these = _of_begun([row for row in rows if row.status == Status.IN_PROGRESS], now)
    to_come = sum(row.status == Status.PENDING for row in rows)
    if not to_come:
        return of_these
    ended = [row.last_updated for row in rows if row.status in (Status.COMPLETED, Status.FAILED) and row.last_updated]
    if ended:
        a_month = (max(ended) - started).total_seconds() / len(ended)
        left = a_month * (len(rows) - len(ended)) - (now - max(ended)).total_seconds()
        return round(max(left, a_month * to_come, 0))
    if of_these is None:
        return None
    return round(of_these + to_come * ((now - started).total_seconds() + of_these))


def _of_begun(rows: Sequence[MonthProgress], now: datetime) -> int | None:
    """The seconds until the phase of these months is over; None if nothing says so."""
    rate, left = 0.0, 0
    for row in rows:
        handled = row.processed_records + row.failed_records
        elapsed = (now - row.started_at).total_seconds() if row.started_at else 0
        rate += handled / elapsed if elapsed > 0 and row.total_records else 0
        left += max(0, row.total_records - handled)
    return round(left / rate) if rate and left else None


def format_worker(facts: Mapping[str, Any], left: str, age: str) -> str:
    """A worker's whole work in one line; `left` and `age` are durations in words."""
    failed = f" ({facts['failed']:,} failed)" if facts["failed"] else ""
    words = f"{facts['done']:,} of {plural(facts['months'], 'month')} done{failed}"
    if facts["to_come"]:
        words += f", {facts['to_come']:,} to come"
    words += f", no sign of life for {age}" if facts["is_silent"] else f", {left} left"
    return f"{words}: {facts['worker']}"
