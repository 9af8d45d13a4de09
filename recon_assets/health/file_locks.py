"""Finds the processes that hold an SQLite file locked. SQLite itself does not know them; Linux does.

Nothing is opened: closing a file would drop the locks that this process holds on it.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from recon_assets.health.lock_facts import FileLock, FileLocks

LOCKS = Path("/proc/locks")
PENDING_BYTE = 0x40000000
SHARED_BYTE = PENDING_BYTE + 2
"""Of the file itself, in every journal mode (sqlite3: os.h). Who has a write lock from here on keeps readers out."""
WAL_WRITE_BYTE = 120
"""Of the -shm file, if the journal mode is WAL (sqlite3: wal.c)."""
SECONDS_BETWEEN_LOOKS = 0.05


def file_locks(file: Path, lock_ms: int) -> FileLocks:
    """Who holds the file locked all the time for `lock_ms`. A writer that only has its turn is not named."""
    deadline = time.monotonic() + lock_ms / 1000
    found = {lock.pid: lock for lock in _holders(file)}
    while found and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        held = {lock.pid: lock for lock in _holders(file)}
        found = {pid: held[pid] for pid in found if pid in held}
    return FileLocks(is_known=LOCKS.exists(), holders=tuple(found.values()), lock_ms=lock_ms)


def _holders(file: Path) -> Iterator[FileLock]:
    inodes = {}
    for name in (file, file.with_name(f"{file.name}-shm")):
        if name.exists():
            inodes[name.stat().st_ino] = name
    try:
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:  # another system than Linux
        return
    locked: dict[int, bool] = {}
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 4711 08:01:131090 1073741825 1073741825; a waiter has -> before POSIX
        _, kind, _, mode, pid, where, first, last = (line.split() + [""] * 8)[:8]
        locked_file = inodes.get(int(where.rpartition(":")[2] or 0)) if kind in ("POSIX", "OFDLCK") else None
        if locked_file is None or mode != "WRITE":
            continue
        end = sys.maxsize if last == "EOF" else int(last)
        if locked_file == file and end >= PENDING_BYTE:
            locked[int(pid)] = locked.get(int(pid), False) or end >= SHARED_BYTE
        elif locked_file != file and int(first) <= WAL_WRITE_BYTE <= end:
            locked.setdefault(int(pid), False)
    for number, keeps_readers_out in locked.items():
        yield FileLock(number, *_process(number), keeps_readers_out)


def _process(pid: int) -> tuple[str | None, str | None, float | None]:
    """The name, the user and the age in seconds of a process; None for what is not known."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return process.name(), process.username(), round(max(0.0, time.time() - process.create_time()), 1)
    except (psutil.Error, ValueError):  # it has ended, or lives in another container
        return None, None, None
