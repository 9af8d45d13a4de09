"""Permissions that hold for root, too: tests run as anybody, and root may write where the bits forbid it."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION_3, DROP_FROM_BOUNDING_SET = 0x20080522, 24
IGNORE_WRITE, IGNORE_READ = 1, 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux."""


def obey_permissions() -> None:
    """Takes from this process, and those it starts, what lets root pass over permission bits. It stays the owner.

    Another user would not do: it may not enter the folder of the tests, or of the project. Nobody else needs it.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = ctypes.create_string_buffer(struct.pack("Ii", VERSION_3, 0)), ctypes.create_string_buffer(24)
    for capability in (IGNORE_WRITE, IGNORE_READ):
        _must(libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0))
    _must(libc.capget(header, data))
    low = ~(1 << IGNORE_WRITE | 1 << IGNORE_READ) & 0xFFFFFFFF
    effective, permitted, inheritable, *high = struct.unpack("6I", data.raw)
    kept = struct.pack("6I", effective & low, permitted & low, inheritable & low, *high)
    _must(libc.capset(header, ctypes.create_string_buffer(kept)))


@contextmanager
def protected(*paths: Path) -> Iterator[None]:
    """Takes the permission to write to files and folders, and gives it back."""
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in reversed(paths):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _must(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
