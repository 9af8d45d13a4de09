"""A rate limit and a limit on requests in flight that hold across all processes of the machine.

Processes share files in the system's temporary folder, one set per API address. Requests in flight are limited by
portalocker's named semaphore. The rate limit is our own: pyrate-limiter's SQLite bucket let 12 requests of three
processes through in one second where 8 were allowed (measured). Here every request reserves the next free instant in a
file, under a lock.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import portalocker

from recon_assets.folders import writing_to

SAFETY = 1.02
"""Reserved instants are 2 % further apart than the rate requires, because late wake-ups could crowd a second."""

LOCK_TIMEOUT_SECONDS = 600


class Throttle:
    """Admits at most `per_second` requests a second and `in_flight` at a time, per name, on the whole machine."""

    def __init__(self, name: str, *, per_second: float, in_flight: int) -> None:
        self._spacing = SAFETY / per_second
        self._in_flight = in_flight
        user = os.getuid() if hasattr(os, "getuid") else "user"
        self._folder = Path(tempfile.gettempdir()) / f"recon-throttle-{user}"
        self._name = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a place among the requests in flight and for the next free instant; holds it in the `with`."""
        with writing_to(self._folder, "TMPDIR"):
            self._folder.mkdir(mode=0o700, exist_ok=True)
        places = portalocker.NamedBoundedSemaphore(
            self._in_flight,
            name=self._name,
            directory=str(self._folder),
            timeout=LOCK_TIMEOUT_SECONDS,
            check_interval=0.01,
        )
        with writing_to(self._folder, "TMPDIR"):
            places.acquire()
        try:
            with writing_to(self._folder, "TMPDIR"):
                instant = self._reserve()
            time.sleep(max(0.0, instant - time.time()))
            yield
        finally:
            places.release()

    def _reserve(self) -> float:
        """The instant (Unix time) at which this request may start."""
        path = self._folder / f"{self._name}.next"
        with portalocker.Lock(path, "a+", timeout=LOCK_TIMEOUT_SECONDS, check_interval=0.002) as file:
            file.seek(0)
            now = time.time()
            # A reservation far ahead means that the clock was set back: it is ignored.
            reserved = float(file.read() or 0)
            instant = now if reserved > now + LOCK_TIMEOUT_SECONDS else max(now, reserved)
            file.seek(0)
            file.truncate()
            file.write(repr(instant + self._spacing))
            file.flush()  # the lock is released before the file is closed, and nobody may read an empty file
        return instant
