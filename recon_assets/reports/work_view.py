"""The live view of the work on months, from the work log."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine, inspect

from recon_assets.database.engine import display_url
from recon_assets.database.progress_table import PROGRESS_TABLES
from recon_assets.database.transactions import reading
from recon_assets.database.work_log import NOT_WHOLE_PCT, MonthProgress, Status, read_progress
from recon_assets.domain.words import plural
from recon_assets.errors import SchemaError
from recon_assets.reports.workers import SILENCE_SECONDS, format_worker, worker_facts

FINISHED_SHOWN = 10
"""The most ended months that are shown, the latest; the others are only counted."""

HEADER = ("month", "progress", "", "records", "rate", "success", "failed", "time-outs", "left")
BAR, WIDEST_BAR = 1, 30
LEFT_OUT_FIRST = ("time-outs", "rate", "success", "failed", "records")
"""Columns that a narrow terminal does without, the first one first."""
LINES_AROUND = 5
"""The lines of a frame beside the months: the time, the sums, the header, the count of the rest, and the cursor."""

COUNTS = ("total_records", "processed_records", "failed_records", "timeouts")
NOTHING = "Nothing has been worked on yet: commands, backfills and sensors show here."
STYLES = {Status.IN_PROGRESS: "cyan", Status.COMPLETED: "green", Status.FAILED: "red"}


def work_facts(progress: Iterable[MonthProgress], now: datetime) -> list[dict[str, Any]]:
    """The work on every month at the instant `now` (with time zone): in progress first, then ended, latest first."""
    rows = list(progress)
    signs: dict[str, float] = {}
    for row in rows:
        age = _seconds(row.last_updated, now)
        if age is not None and row.worker is not None:
            signs[row.worker] = min(age, signs.get(row.worker, age))
    never = datetime.min.replace(tzinfo=UTC)
    ended = sorted(rows, key=lambda row: row.last_updated or never, reverse=True)
    ordered = [*filter(_is_running, rows), *(row for row in ended if not _is_running(row))]
    return [_month_facts(row, signs.get(row.worker or ""), now) for row in ordered]


def watch_facts(progress: Sequence[MonthProgress], now: datetime) -> dict[str, Any]:
    """What a frame shows: workers, months, the sums of those in progress and not silent, and what is left out."""
    workers = worker_facts(progress, now)
    # What a worker has not come to yet is only counted.
    months = work_facts([row for row in progress if row.status != Status.PENDING or row.worker is None], now)
    running = [month for month in months if month["status"] == Status.IN_PROGRESS]
    ended = [month for month in months if month["status"] != Status.IN_PROGRESS]
    earlier = ended[FINISHED_SHOWN:]
    return {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "in_progress": _sums([month for month in running if not month["is_silent"]], workers),
        "workers": workers,
        "silent_months": sum(month["is_silent"] for month in running),
        "months": [*running, *ended[:FINISHED_SHOWN]],
        "earlier_months": len(earlier),
        "earlier_failed": sum(month["status"] == Status.FAILED for month in earlier),
    }


def _is_running(row: MonthProgress) -> bool:
    return row.status == Status.IN_PROGRESS


def _month_facts(row: MonthProgress, sign_of_worker: float | None, now: datetime) -> dict[str, Any]:
    handled = row.processed_records + row.failed_records
    age = _seconds(row.last_updated, now)
    # A worker may begin several months at once; months not started or finished show no progress.
    sign = age if sign_of_worker is None or 0 < handled < row.total_records else sign_of_worker
    is_silent = _is_running(row) and (sign is None or sign > SILENCE_SECONDS)
    is_moving = _is_running(row) and not is_silent
    elapsed = _seconds(row.started_at, now if is_moving else row.last_updated)
    rate = handled / elapsed if elapsed and row.total_records else None
    left = max(0, row.total_records - handled)
    percentage = _pct(handled, row.total_records) if row.total_records else row.percentage_complete
    return {
        "month": row.time_period,
        "phase": row.phase,
        "status": str(row.status),
        "percentage_complete": min(NOT_WHOLE_PCT if row.status == Status.FAILED else 100.0, percentage),
        **{name: getattr(row, name) for name in COUNTS},
        "records_per_second": rate if rate is None else round(rate, 3),
        "success_pct": _pct(row.processed_records, handled) if handled else None,
        "remaining_seconds": round(left / rate) if rate and is_moving else None,
        "is_silent": is_silent,
        "age_seconds": age if age is None else round(age),
        "started_at": row.started_at and row.started_at.isoformat(),
        "last_updated": row.last_updated and row.last_updated.isoformat(),
        "worker": row.worker,
        "error_details": row.error_details,
    }


def _sums(months: Sequence[Mapping[str, Any]], workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = {name: sum(month[name] for month in months) for name in COUNTS}
    handled = counts["processed_records"] + counts["failed_records"]
    rates = [month["records_per_second"] for month in months if month["records_per_second"] is not None]
    # Workers work in parallel: the time left is that of the slowest.
    remaining = [worker["remaining_seconds"] for worker in workers if not worker["is_silent"]]
    known = [seconds for seconds in remaining if seconds is not None]
    return {
        "months": len(months),
        **counts,
        "records_per_second": round(sum(rates), 3) if rates else None,
        "success_pct": _pct(counts["processed_records"], handled) if handled else None,
        "remaining_seconds": max(known) if known and len(known) == len(remaining) else None,
    }


def _pct(part: int, whole: int) -> float:
    """A percentage, rounded down to 2 decimals: 100 only if the part is the whole."""
    return part * 10_000 // whole / 100


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    # The clock of another machine may be ahead.
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def format_seconds(seconds: float | None) -> str:
    """A duration in its two largest units; '-' if it is not known.

    >>> [format_seconds(seconds) for seconds in (None, 7, 125, 7500, 190_000)]
    ['-', '7s', '2m 05s', '2h 05m', '2d 04h']
    """
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part:02}{smaller}"
    return f"{whole}s"


def format_work(month: Mapping[str, Any], width: int) -> str:
    """The phase, status, age and worker of a month's work; in two lines if one would be wider than `width`."""
    age, worker = format_seconds(month["age_seconds"]), month["worker"]
    if month["is_silent"]:
        words, seen, by = ", no sign of life", f" for {age}", " from"
    else:
        is_over = month["status"] in (Status.COMPLETED, Status.FAILED)
        words, seen, by = f" {month['status'].replace('_', ' ')}", f"{'' if is_over else ','} {age} ago", " by"
    text = f"{month['phase'] or ''}{words}{seen if month['last_updated'] else ''}{by if worker else ''}".strip(" ,")
    if not worker:
        return text
    return f"{text} {worker}" if len(text) + len(worker) < width else f"{text}\n{worker}"


def style_of(month: Mapping[str, Any]) -> str:
    """The colour of a month's work."""
    return "yellow" if month["is_silent"] else STYLES.get(month["status"], "default")


def render(facts: Mapping[str, Any], height: int | None = None) -> RenderableType:
    """A frame: the sums, then two lines a month, or three if something failed; as many months as fit in `height`.

    The last line counts the months that are left out.
    """
    return _Frame(facts, height)


@dataclass(frozen=True)
class _Frame:
    facts: Mapping[str, Any]
    height: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        facts, months = self.facts, self.facts["months"]
        yield Text(facts["at"].replace("T", " ").replace("+00:00", " UTC"), style="dim")
        if not months and not facts["workers"]:
            yield Text(NOTHING)
            return
        yield Text(_format_sums(facts), style="bold")
        room = None if self.height is None else self.height - LINES_AROUND
        for worker in facts["workers"]:
            if worker["to_come"]:
                durations = (format_seconds(worker[name]) for name in ("remaining_seconds", "age_seconds"))
                line = Text(format_worker(worker, *durations), style="yellow" if worker["is_silent"] else "cyan")
                room = None if room is None else room - len(console.render_lines(line, options))
                yield line
        columns = list(zip(HEADER, *(_figures(month) for month in months), strict=True))
        for name in LEFT_OUT_FIRST:
            if sum(max(map(len, column)) + 1 for column in columns if column[0] != HEADER[BAR]) < options.max_width:
                break
            columns = [column for column in columns if column[0] != name]
        header, *figures = (list(row) for row in zip(*columns, strict=True))
        widths = [max(map(len, column)) for column in columns]
        others = sum(widths) - widths[BAR]
        gap = 2 if others + 2 * len(header) + len(header[BAR]) <= options.max_width else 1
        widths[BAR] = max(1, min(WIDEST_BAR, options.max_width - others - gap * (len(header) - 1)))
        header[BAR] = header[BAR] if widths[BAR] >= len(header[BAR]) else ""
        yield _row([Text(name, style="bold underline") for name in header], widths, gap)
        shown = 0
        for month, cells in zip(months, figures, strict=True):
            block = _block(month, cells, widths, gap, options.max_width)
            if room is not None:
                room -= len(console.render_lines(block, options))
                if room < 0:
                    break
            yield block
            shown += 1
        more = len(months) - shown + facts["earlier_months"]
        failed = sum(month["status"] == Status.FAILED for month in months[shown:]) + facts["earlier_failed"]
        if more:
            yield Text(f"and {more:,} more" + (f", of which {failed:,} failed" if failed else ""), style="dim")


def _format_sums(facts: Mapping[str, Any]) -> str:
    sums, silent = facts["in_progress"], facts["silent_months"]
    begins = any(not worker["is_silent"] for worker in facts["workers"])
    words = f"{plural(sums['months'], 'month')} in progress" if sums["months"] else "Nothing is in progress"
    words = "Work begins" if begins and not sums["months"] else words
    if sums["success_pct"] is not None:
        words += f": {_rate(sums)}, {_success(sums)} success, {format_seconds(sums['remaining_seconds'])} left"
    return words + (f"; {silent:,} silent" if silent else "")


def _figures(month: Mapping[str, Any]) -> list[str]:
    """The cells of a month under HEADER; the cell of the bar is empty."""
    return [
        month["month"],
        "",
        f"{int(month['percentage_complete'])}%",
        f"{month['processed_records']:,}/{month['total_records']:,}" if month["total_records"] else "-",
        _rate(month),
        _success(month),
        f"{month['failed_records']:,}",
        f"{month['timeouts']:,}",
        format_seconds(month["remaining_seconds"]),
    ]


def _rate(facts: Mapping[str, Any]) -> str:
    rate = facts["records_per_second"]
    return "-" if rate is None else f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _success(facts: Mapping[str, Any]) -> str:
    return "-" if facts["success_pct"] is None else f"{facts['success_pct']:.2f}%"


def _block(
    month: Mapping[str, Any], cells: Sequence[str], widths: Sequence[int], gap: int, max_width: int
) -> RenderableType:
    style, left = style_of(month), widths[0] + gap
    bar = ProgressBar(completed=month["percentage_complete"], complete_style=style, finished_style=style)
    row: list[RenderableType] = [Text(cell) for cell in cells]
    row[0], row[BAR] = Text(cells[0], style="bold"), bar
    below = [Text(format_work(month, max_width - left), style=style)]
    if month["error_details"] and month["status"] != Status.COMPLETED:
        below.append(Text(month["error_details"]))
    return Group(_row(row, widths, gap), *(Padding(line, (0, 0, 0, left)) for line in below))


def _row(cells: Iterable[RenderableType], widths: Sequence[int], gap: int) -> Table:
    grid = Table.grid(padding=(0, gap, 0, 0))
    for number, width in enumerate(widths):
        grid.add_column(width=width, no_wrap=True, justify="left" if number <= BAR else "right")
    grid.add_row(*cells)
    return grid


def watch(
    engine: Engine,
    console: Console,
    now: Callable[[], datetime],
    interval_seconds: float,
    once: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Draws a frame every `interval_seconds` until Ctrl-C; only one if `once`, or if the output is not a terminal."""
    if once or not console.is_terminal:
        console.print(render(watch_facts(_read(engine), now())))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            frame = render(watch_facts(_read(engine), now()), console.height)
            # The terminal prints ^C into the empty line; at the end of a full line it would shift the last frame.
            live.update(Group(frame, Text()), refresh=True)
            sleep(interval_seconds)


def _read(engine: Engine) -> list[MonthProgress]:
    """The rows of the work log now; SchemaError if there is no work log."""
    with reading(engine) as connection:
        if not set(PROGRESS_TABLES).intersection(inspect(connection).get_table_names()):
            raise SchemaError(f"{display_url(engine.url)} keeps no progress yet: run 'recon migrate'")
        return read_progress(connection)
