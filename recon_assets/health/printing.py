"""Prints the findings of `recon doctor`, from the dictionary of Health.facts()."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recon_assets.database.schema import SCHEMA_LOCK
from recon_assets.database.work_log import WORK_LOG_LOCK
from recon_assets.domain.words import plural
from recon_assets.ingest.reference import REFERENCE_LOCK

MB, GB = 1e6, 1e9
ROOMY = 100
"""Terminals at least so wide get two spaces between columns."""

STYLES = {"ok": "green", "slow": "yellow", "timed_out": "red", "failed": "red", "skipped": "dim"}
WORDS = ("verdict", "statistics")
"""Columns that hold no numbers."""
NOT_ASKED = "not asked: only the packaged difficulty table is used"
NOT_KEPT = "nothing is archived: recordings are read"
OTHER_LOCKS = {WORK_LOG_LOCK.isoformat(): "work log", REFERENCE_LOCK.isoformat(): "reference data"}
ENGINES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}

Facts = Mapping[str, Any]


def print_health(console: Console, facts: Facts) -> None:
    """Everything that was found, then what to change."""
    roomy = console.width >= ROOMY
    conclusion = ("healthy", "green") if facts["is_healthy"] else ("not healthy", "red")
    console.print(Text.assemble(("Health: ", "bold"), conclusion))
    overview = Table.grid(padding=(0, 2))
    for label, lines in _sections(facts):
        for number, line in enumerate(lines):
            overview.add_row("" if number else label, Text(line, overflow="fold"))
    console.print(overview, "")
    console.print(_probes(facts["probes"], roomy))
    for reason, names in _reasons(facts["probes"], facts["database"]["error"]).items():
        console.print(Text(f"{', '.join(names)}: {reason}"))
    console.print()
    if facts["tables"]:
        console.print(_tables(facts["tables"], roomy), "")
    if not facts["advice"]:
        console.print(Text("Nothing to change.", style="green"))
        return
    console.print(Text("What to change", style="bold"))
    advice = Table.grid(padding=(0, 1))
    for line in facts["advice"]:
        advice.add_row("-", Text(line, overflow="fold"))
    console.print(advice)


def _sections(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    """A label and its lines, for everything but the probes and the tables."""
    yield "Database", list(_database(facts["database"]))
    if facts["sqlite"]:
        yield "File", list(_file(facts["sqlite"]))
    if facts["connections"]:
        yield "Connections", [_connections(facts["connections"])]
    if facts["timeouts"]:
        yield "Time-outs", [_timeouts(facts["timeouts"], facts["database"]["engine"])]
    if facts["indexes"]:
        faults = [f"{index['fault'].replace('_', ' ')}: {_columns(index)}" for index in facts["indexes"]]
        yield "Indexes", faults
    elif facts["database"]["schema"] == "current" and "indexes" not in facts["unread"]:
        yield "Indexes", ["as declared"]
    if facts["sessions"]:
        yield "Sessions", list(_sessions(facts["sessions"])) or ["nobody is in the way"]
    if facts["file_locks"] and facts["file_locks"]["holders"]:
        yield "Locks", list(_file_locks(facts["file_locks"]))
    for disk in facts["disks"]:
        free, total = disk["free_bytes"] / GB, disk["total_bytes"] / GB
        yield f"Disk of {disk['what'].replace('_', ' ')}", [f"{free:,.1f} of {total:,.1f} GB free at {disk['path']}"]
    yield "Elexon", _source(facts["elexon"])
    yield "mempool", _source(facts["mempool"]) if facts["mempool"] else [NOT_ASKED]
    yield "Archive", list(_archive(facts["archive"])) if facts["archive"] else [NOT_KEPT]
    if facts["unread"]:
        yield "Not read", [f"{section}: {reason}" for section, reason in facts["unread"].items()]


def _database(database: Facts) -> Iterator[str]:
    yield database["address"]
    if database["error"]:
        yield f"cannot be used: {database['error']}"
        return
    engine = f"{ENGINES.get(database['engine'], database['engine'])} {database['server_version'] or ''}".strip()
    yield f"{engine} by {database['driver']}"
    yield f"schema {database['schema'] or 'not known'}, newest day {database['newest_day'] or 'none'}"
    if database["missing_tables"]:
        yield f"missing: {', '.join(database['missing_tables'])}"


def _file(file: Facts) -> Iterator[str]:
    pages = f"{plural(file['page_count'], 'page')} of {file['page_size_bytes']:,} bytes"
    pages += f", {file['free_pages']:,} of them empty"
    yield f"{file['size_bytes'] / MB:,.1f} MB: {pages}"
    yield f"journal mode {file['journal_mode']}, write-ahead log {file['wal_bytes'] / MB:,.1f} MB"


def _connections(used: Facts) -> str:
    usable = used["max_connections"] - used["reserved"]
    where = f"{used['of_this_database']} to this database, {used['of_recon']} of recon"
    return f"{used['in_use']} of {usable} in use ({used['share_used']:.0%}): {where}"


def _timeouts(timeouts: Facts, engine: str) -> str:
    if engine == "sqlite":
        return f"recon waits {_ms(timeouts['recon_busy_ms'])} for a lock"
    names = {"statement": "statement_ms", "lock": "lock_ms", "idle in transaction": "idle_in_transaction_ms"}
    limits = ", ".join(f"{name} {_ms(timeouts[key])}" for name, key in names.items())
    return f"{limits}; recon waits {timeouts['recon_lock']} for a lock"


def _ms(ms: float | None) -> str:
    if ms is None:
        return "none"
    return f"{ms / 1000:,g} s" if ms >= 1000 else f"{ms:,g} ms"


def _columns(index: Facts) -> str:
    return f"{index['table']} ({', '.join(index['columns'])})"


def _file_locks(locks: Facts) -> Iterator[str]:
    for lock in locks["holders"]:
        who = f"pid {lock['pid']} ({lock['program'] or 'no name'}, {lock['user'] or 'unknown user'})"
        whom = "readers and writers" if lock["keeps_readers_out"] else "writers"
        yield f"{who} has kept {whom} out for {_ms(locks['lock_ms'])} or more"


def _sessions(sessions: Facts) -> Iterator[str]:
    for lock in sessions["table_locks"]:
        whom = "readers and writers" if lock["keeps_readers_out"] else "writers"
        query = f", its last query: {lock['query']}" if lock["query"] else ""
        yield f"{_who(lock)} has kept {whom} out of {', '.join(lock['tables'])}{_for(lock)}{query}"
    for session in sessions["blocked"]:
        holders = ", ".join(str(pid) for pid in session["blocked_by"])
        yield f"{_who(session)} has waited{_for(session)} for {session['waits_for'] or 'a lock'} of pid {holders}"
    for session in sessions["long_queries"]:
        yield f"{_who(session)} has been running one query{_for(session)}: {session['query']}"
    for session in sessions["idle_in_transaction"]:
        query = f", its last query: {session['query']}" if session["query"] else ""
        yield f"{_who(session)} has left a transaction open{_for(session)}{query}"
    for locks in sessions["day_locks"]:
        yield f"{_who(locks)} {'holds' if locks['is_granted'] else 'waits for'} the lock of {_locked(locks)}"


def _who(session: Facts) -> str:
    return f"pid {session['pid']} ({session['application'] or 'no name'}, {session['user'] or 'unknown user'})"


def _for(session: Facts) -> str:
    return "" if session["age_seconds"] is None else f" for {session['age_seconds']:,.0f} s"


def _locked(locks: Facts) -> str:
    first, last = locks["first_day"], locks["last_day"]
    if first == SCHEMA_LOCK.isoformat():
        return "schema" if last == first else f"schema and of {plural(locks['days'] - 1, 'day')} up to {last}"
    if first in OTHER_LOCKS:
        return OTHER_LOCKS[first]
    return f"{plural(locks['days'], 'day')} {first}" + (f"..{last}" if last != first else "")


def _source(source: Facts) -> list[str]:
    if not source["is_reachable"]:
        return [source["address"], f"cannot be read: {source['error']}"]
    if source["recordings"] is not None:
        return [
            source["address"],
            f"{plural(source['recordings'], 'recording')} {source['first_day']}..{source['last_day']}",
        ]
    return [source["address"], f"HTTP {source['http_status']} in {_ms(source['latency_ms'])}"]


def _archive(archive: Facts) -> Iterator[str]:
    yield archive["path"]
    days = f" {archive['first_day']}..{archive['last_day']}" if archive["recordings"] else ""
    yield f"{plural(archive['recordings'], 'recording')}{days}, {archive['size_bytes'] / MB:,.1f} MB"
    yield f"earlier versions: {archive['earlier']:,}, of them corrupt: {archive['corrupt']:,}"
    writing = f"cannot be used: {archive['error']}" if archive["error"] else "can be written"
    yield f"{writing}; {archive['retention']}"


def _probes(probes: Sequence[Facts], roomy: bool) -> Table:
    table = _table(("probe", "ms", *(["slow from"] if roomy else []), "rows", "verdict"), roomy)
    for probe in probes:
        slow = [f"{probe['slow_ms']:,}"] if roomy else []
        status = Text(probe["verdict"].replace("_", " "), style=STYLES[probe["verdict"]])
        table.add_row(probe["what"], _latency(probe["latency_ms"]), *slow, _number(probe["rows"]), status)
    return table


def _reasons(probes: Sequence[Facts], known: str | None) -> dict[str, list[str]]:
    """The errors of the probes, each once with its probes; without the error of the database, already printed."""
    reasons: dict[str, list[str]] = {}
    for probe in probes:
        if probe["error"] and probe["error"] != known:
            status = probe["verdict"].replace("_", " ")
            reasons.setdefault(f"{status}, {probe['error']}", []).append(probe["name"])
    return reasons


def _tables(tables: Sequence[Facts], roomy: bool) -> Table:
    # Only PostgreSQL has dead rows, which stay until the next VACUUM.
    has_dead = any(size["dead_rows"] is not None for size in tables)
    table = _table(("table", "rows about", "MB", "index MB", *(["dead"] if has_dead else []), "statistics"), roomy)
    for size in tables:
        dead = [_number(size["dead_rows"])] if has_dead else []
        analyzed = (size["last_analyzed"] or "yes")[:10] if size["has_statistics"] else "none"
        sizes = (_megabytes(size["table_bytes"]), _megabytes(size["index_bytes"]))
        table.add_row(size["table"], _number(size["rows_estimate"]), *sizes, *dead, analyzed)
    return table


def _table(header: Sequence[str], roomy: bool) -> Table:
    table = Table(
        *header, box=None, padding=(0, 2 if roomy else 1, 0, 0), pad_edge=False, header_style="bold underline"
    )
    for number, column in enumerate(table.columns):
        column.no_wrap = True
        column.justify = "left" if number == 0 or column.header in WORDS else "right"
    return table


def _latency(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _megabytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / MB:,.1f}"
