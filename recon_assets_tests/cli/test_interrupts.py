import gc
import os
import signal
import time
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from recon_assets.cli.interrupts import noticed_interrupts


@pytest.fixture
def swallowed() -> Iterator[list[int]]:
    """The signals that another handler swallowed."""
    taken: list[int] = []

    def swallow(number: int, frame: FrameType | None) -> None:
        taken.append(number)

    before = {number: signal.signal(number, swallow) for number in (signal.SIGINT, signal.SIGUSR1)}
    yield taken
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_that_another_handler_swallowed_is_raised_once(swallowed: list[int]) -> None:
    with noticed_interrupts() as raise_if_interrupted:
        # when
        os.kill(os.getpid(), signal.SIGINT)

        # then
        assert swallowed == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
        raise_if_interrupted()


def test_without_an_interrupt_nothing_is_raised(swallowed: list[int]) -> None:
    with noticed_interrupts() as raise_if_interrupted:
        raise_if_interrupted()
        os.kill(os.getpid(), signal.SIGUSR1)
        raise_if_interrupted()

    assert swallowed == [signal.SIGUSR1]


def test_afterwards_everything_is_as_before(swallowed: list[int]) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with pytest.raises(ValueError, match="of the work"), noticed_interrupts():
            raise ValueError("of the work")
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


class Cycle:
    """An object that only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_an_interrupt_lost_in_a_callback_of_the_collector_comes_again(
    raised: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    reported: list[type[BaseException]] = []
    monkeypatch.setattr("sys.unraisablehook", lambda lost: reported.append(lost.exc_type))

    def interrupted(reference: object) -> None:
        raise raised

    # The collector must not come by itself before there is anyone who notices.
    gc.disable()
    reference = weakref.ref(Cycle(), interrupted)
    # A process in the background of a shell begins with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    # when
    come = False
    with noticed_interrupts():
        try:
            gc.collect()
            time.sleep(1)
        except KeyboardInterrupt:
            come = True
        finally:
            gc.enable()
            signal.signal(signal.SIGINT, before)

    # then
    assert reference() is None
    assert come == (raised is KeyboardInterrupt)
    assert reported == ([] if come else [raised])
    assert capsys.readouterr().err == ""
