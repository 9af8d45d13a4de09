"""One SQLAlchemy engine for each SQLite file, shared by a whole process, and transactions in several of the files.

An engine keeps a connection open and remembers the statements that it has compiled. At most MOST_FILES files are open:
the one that was used longest ago is closed first. Threads never share a connection, and a forked process never uses one
of its parent.
"""

import atexit
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine

MOST_FILES = 24
"""An open file takes three descriptors: the database, its write-ahead log and the index of that. A process uses three
files all the time (runs, index, schedules) and one for each run that it writes or shows."""

LOCKED_AT_MOST_SECONDS = 0.05
"""After so long the next event begins another transaction. The webserver, the daemon and other runs write to the same
index, and wait for it meanwhile."""

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

    def engine(self, path: Path, connect_args: Mapping[str, Any], prepare: Callable[[Engine], None]) -> Engine:
        """The engine of a file. `prepare` is called with a new one, and may make the file and its tables."""
        with self._lock:
            found = self._files.get(path)
            # A file that was removed or replaced meanwhile has another identity, and its old connections see the old
            # content for ever.
            if found is not None and found.identity is not None and found.identity == _identity(path):
                self._files.move_to_end(path)
                return found.engine
        # One idle connection is kept, others are opened as threads need them. The driver may be told to let threads use
        # a connection one after another, because the pool never lends one to two of them at once.
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            pool_size=1,
            max_overflow=-1,
            connect_args={"check_same_thread": False, **connect_args},
        )
        prepare(engine)
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
        """Closes a file if it is open. What a thread still uses is closed as soon as the thread is done with it."""
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


class Transactions:
    """Transactions in several files, which one thread leaves open for a while."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._began = 0.0
        self._connections: dict[str, Connection] = {}

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process began them: a forked one must not go on with those of its parent."""
        return self._pid == os.getpid()

    @property
    def is_long(self) -> bool:
        """Whether others have waited long enough."""
        return bool(self._connections) and time.monotonic() - self._began > LOCKED_AT_MOST_SECONDS

    def connection(self, name: str, engine: Engine) -> Connection:
        """The connection to a file, in a transaction, which begins with the first call for that name."""
        if not self._connections:
            self._began = time.monotonic()
        if name not in self._connections:
            self._connections[name] = connection = engine.connect()
            connection.begin()
        return self._connections[name]

    def commit(self) -> None:
        """Commits, in the order in which the files were opened."""
        for connection in self._connections.values():
            connection.commit()
        self.close()

    def close(self) -> None:
        """Ends the transactions; what is not committed is rolled back."""
        for connection in self._connections.values():
            connection.close()
        self._connections = {}


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
