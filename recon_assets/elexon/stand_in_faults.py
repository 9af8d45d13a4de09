"""The faults that the stand-in for Elexon can simulate, and how each changes a correct reply."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any, Literal, get_args

FaultKind = Literal[
    # no complete answer: a reset; nothing for `seconds`, then a close; a close before Content-Length is reached
    "reset", "stall", "short_body",
    # another answer: 429 (with `retry_after`), `status`, 404, HTML with status 200, {"data":null}, {"data":[]}
    "too_many_requests", "server_error", "not_found", "html", "null_data", "empty_data",
    # the correct answer, spoiled: half of the JSON with a matching Content-Length; content type text/plain
    "truncated", "wrong_content_type",
    # other rows: null in the nullable fields of the first, each row twice, one more field, another date or period
    "null_fields", "duplicate_rows", "unknown_fields", "other_day", "other_period",
]  # fmt: skip
UNFINISHED = ("reset", "stall", "short_body")


@dataclass
class Fault:
    """A fault on paths (below the base, with query) that contain `path_contains`; `times` counts down.

    A slash is added to the path first: `2025-06-01/4/` is period 4 alone, `2025-06-01/4` is also 40 to 48.
    """

    kind: FaultKind
    path_contains: str = ""
    times: int | None = None  # None: always
    retry_after: int | None = None  # seconds; the header of too_many_requests, None: without
    status: int = 503  # of server_error
    seconds: float = 60.0  # of stall

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"{self.kind!r} is not a kind of fault; there are {', '.join(get_args(FaultKind))}")


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    retry_after: int | None = None


def compact(body: object) -> bytes:
    """A JSON body without spaces, as the API writes it."""
    return json.dumps(body, separators=(",", ":")).encode()


def problem(status: int, retry_after: int | None = None) -> Reply:
    """An error in the format of the API (RFC 9457)."""
    body = compact({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status})
    return Reply(status, body, "application/problem+json; charset=utf-8", retry_after)


def spoil(fault: Fault, reply: Reply, never_null: set[str]) -> Reply:
    """The reply changed by the fault; fields in `never_null` keep their values."""
    replies = {
        "too_many_requests": problem(429, fault.retry_after),
        "server_error": problem(fault.status),
        "not_found": problem(404),
        "html": Reply(200, b"<!DOCTYPE html><html><body>Service unavailable</body></html>", "text/html"),
        "null_data": Reply(200, b'{"data":null}'),
        "empty_data": Reply(200, b'{"data":[]}'),
        "truncated": replace(reply, body=reply.body[: len(reply.body) // 2]),
        "wrong_content_type": replace(reply, content_type="text/plain; charset=utf-8"),
    }
    if fault.kind in replies or fault.kind in UNFINISHED or reply.status != 200:
        return replies.get(fault.kind, reply)
    body = json.loads(reply.body)
    rows = body if isinstance(body, list) else body["data"] or []
    rows[:] = _spoil_rows(fault.kind, rows, never_null)
    return replace(reply, body=compact(body))


def _spoil_rows(kind: FaultKind, rows: list[dict[str, Any]], never_null: set[str]) -> list[dict[str, Any]]:
    def changed(field: str, change: Callable[[Any], Any]) -> list[dict[str, Any]]:
        return [row | {field: change(row[field])} if field in row else row for row in rows]

    match kind:
        case "null_fields":
            return [{k: v if k in never_null else None for k, v in row.items()} for row in rows[:1]] + rows[1:]
        case "duplicate_rows":
            return [row for row in rows for _ in range(2)]
        case "unknown_fields":
            return [row | {"fieldOfTheFuture": {"nested": [1]}} for row in rows]
        case "other_day":
            return changed("settlementDate", lambda day: str(date.fromisoformat(day) + timedelta(days=1)))
        case "other_period":  # the one before, which exists on every day
            return changed("settlementPeriod", lambda period: period - 1 or 2)
    raise AssertionError(kind)
