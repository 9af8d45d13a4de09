"""Notices every Ctrl-C, even if another signal handler swallows it, and ends the process with one line.

While Dagster enters or leaves a run, it notes SIGINT in a flag of its own and forgets the flag at the end. A Ctrl-C at
that moment would not stop the runs that follow.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED = 130
LINE = "Interrupted: what was committed stays; the same command does the rest."

AGAIN_AFTER_SECONDS = 0.05
"""By then, the callback in which an interrupt was lost is over."""


def end_interrupted(*_: object) -> NoReturn:
    """Says where things stand and ends this process; it waits for nothing, such as requests that are in flight."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody may read it any more, or the signal came during another flush
            stream.flush()
    with suppress(OSError):
        os.write(2, f"{LINE}\n".encode())
    os._exit(INTERRUPTED)


def end_at_once() -> None:
    """From now on, Ctrl-C ends this process: for moments in which Python would print where it was."""
    # A process in the background of a shell ignores SIGINT, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_interrupted)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within it, Ctrl-C ends this process; only in the main thread, which alone may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    end_at_once()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
