"""Notices every Ctrl-C, even if another signal handler swallows it.

While Dagster enters or leaves a run, it notes SIGINT in a flag of its own and forgets the flag at the end. A Ctrl-C at
that moment would not stop the runs that follow.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AGAIN_AFTER_SECONDS = 0.05
"""By then, the callback in which an interrupt was lost is over."""


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], None]]:
    """Gives a function that raises KeyboardInterrupt if SIGINT has come since; only in the main thread."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    # Python writes the number of every signal to this pipe, whatever handler is installed.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    report = sys.unraisablehook

    def deliver_again(lost: "sys.UnraisableHookArgs") -> None:
        # An interrupt during a callback of the garbage collector cannot be raised from there: Python would print it and
        # go on.
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
