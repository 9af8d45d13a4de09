"""One SQLAlchemy engine for each SQLite file, shared by a whole process.

An engine keeps a connection open and remembers the statements that it has compiled. At most MOST_FILES files are open:
the one that was used longest ago is closed first. Threads never share a connection, and a forked process never uses one
of its parent.
"""

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine

from recon_assets.database.disk import name_disk_errors

MOST_FILES = 24
"""An open file takes three descriptors: the database, its write-ahead log and the index of that. A process uses three
files all the time (runs, index, schedules) and one for each run that it writes or shows."""

Identity = tuple[int, int] | None
"""Device and inode of a file; None if there is no file."""


@dataclass(frozen=True)
class _OpenFile:
    engine: Engine
    identity: Identity


class SqliteEngines:
    """The open files of this process, by path."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        self._of_parents: list[_OpenFile] = []

    def engine(self, path: Path, connect_args: Mapping[str, Any], prepare: Callable[[], None]) -> Engine:
        """The engine of a file. `prepare` is called before a file is opened, and may make it and its tables."""
        with self._lock:
            found = self._files.get(path)
            # A file that was removed or replaced meanwhile has another identity, and its old connections see the old
            # content for ever.
            if found is not None and found.identity is not None and found.identity == _identity(path):
                self._files.move_to_end(path)
                return found.engine
        prepare()
        # One idle connection is kept, others are opened as threads need them. The driver may be told to let threads use
        # a connection one after another, because the pool never lends one to two of them at once.
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            pool_size=1,
            max_overflow=-1,
            connect_args={"check_same_thread": False, **connect_args},
        )
        name_disk_errors(engine, "DAGSTER_HOME")
        opened = _OpenFile(engine, _identity(path))
        with self._lock:
            found = self._files.get(path)
            if found is not None and found.identity is not None and found.identity == opened.identity:
                # Another thread was faster.
                closed, engine = [opened], found.engine
            else:
                closed = [found] if found else []
                self._files[path] = opened
            self._files.move_to_end(path)
            while len(self._files) > MOST_FILES:
                closed.append(self._files.popitem(last=False)[1])
        for file in closed:
            file.engine.dispose()
        return engine

    def close(self, path: Path) -> None:
        """Closes a file if it is open. A connection that a thread still uses is closed once Python finds it unused."""
        with self._lock:
            found = self._files.pop(path, None)
        if found is not None:
            found.engine.dispose()

    def close_folder(self, folder: Path) -> None:
        """Closes the open files of a folder."""
        for path in self.open_files():
            if path.parent == folder:
                self.close(path)

    def close_all(self) -> None:
        """Closes all files."""
        for path in self.open_files():
            self.close(path)

    def open_files(self) -> list[Path]:
        """The files that are open, the one that was used last at the end."""
        with self._lock:
            return list(self._files)

    def close_idle(self) -> None:
        """Closes the connections that nobody uses at the moment; the engines keep what they have compiled."""
        with self._lock:
            files = list(self._files.values())
        for file in files:
            file.engine.dispose()

    def _forget(self) -> None:
        """Lets go of the parent's connections in a forked process, without closing them.

        SQLite forbids both to use and to close a connection that another process opened. They are kept, so that Python
        does not close them either.
        """
        self._lock = threading.Lock()
        self._of_parents += self._files.values()
        self._files = OrderedDict()


def _identity(path: Path) -> Identity:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


ENGINES = SqliteEngines()
"""The open files of this process."""

atexit.register(ENGINES.close_all)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    # Closed first, so that a forked process inherits no connection that is not in use at that moment.
    os.register_at_fork(before=ENGINES.close_idle, after_in_child=ENGINES._forget)
