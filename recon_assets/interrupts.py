"""Ctrl-C that is not lost: a record of it that no other signal handler can take away.

While Dagster enters and leaves a run it notes SIGINT in a flag of its own and forgets the flag at the end; whoever
pressed Ctrl-C just then would wait for all the runs to come.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], None]]:
    """Hands out a function that raises KeyboardInterrupt when SIGINT has come within; for the main thread only."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    # Python writes the number of every signal there, whatever handler is installed.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def raise_if_interrupted() -> None:
        try:
            come = os.read(reader, 4096)
        except BlockingIOError:
            return
        if signal.SIGINT in come:
            raise KeyboardInterrupt

    try:
        yield raise_if_interrupted
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
