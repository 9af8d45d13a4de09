"""Ctrl-C that is not lost: a record of it that no other signal handler can take away.

While Dagster enters and leaves a run it notes SIGINT in a flag of its own and forgets the flag at the end; whoever
pressed Ctrl-C just then would wait for all the runs to come.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AGAIN_AFTER_SECONDS = 0.05
"""The callback in which an interrupt was lost is over by then."""


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], None]]:
    """Hands out a function that raises KeyboardInterrupt when SIGINT has come within; for the main thread only."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    # Python writes the number of every signal there, whatever handler is installed.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    report = sys.unraisablehook

    def deliver_again(lost: "sys.UnraisableHookArgs") -> None:
        # An interrupt that comes while the garbage collector calls back cannot be raised from there: Python would print
        # it and go on.
        if issubclass(lost.exc_type, Exception):
            report(lost)
            return
        again = threading.Timer(AGAIN_AFTER_SECONDS, signal.raise_signal, [signal.SIGINT])
        again.daemon = True
        again.start()

    def raise_if_interrupted() -> None:
        try:
            come = os.read(reader, 4096)
        except BlockingIOError:
            return
        if signal.SIGINT in come:
            raise KeyboardInterrupt

    sys.unraisablehook = deliver_again
    try:
        yield raise_if_interrupted
    finally:
        sys.unraisablehook = report
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
