"""Hosts for a test: Linux network namespaces, joined by a virtual link that can be taken down.

A namespace lives as long as a process in it, and its first one ends with the test process, however that ends.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

CLONE_NEWNET = 0x40000000
HERE = Path("/proc/thread-self/ns/net")
HOLD = ("unshare", "--net", "sh", "-c", "echo; read -r _")
"""A process that says when it is in a namespace of its own, and stays until its input is closed."""


def can_make_hosts() -> bool:
    """Whether this process may make network namespaces."""
    try:
        return subprocess.run(("unshare", "--net", "true"), check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Host:
    """A network namespace with a loopback and no other way out."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"\n"
        self.pid = self._holder.pid
        self.ip("link", "set", "lo", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and the processes that it starts, are on that host."""
        with HERE.open() as home, Path(f"/proc/{self.pid}/ns/net").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def ip(self, *words: str) -> None:
        """Runs `ip` there."""
        with self.inside():
            subprocess.run(["ip", *words], check=True, capture_output=True)

    def join(self, other: "Host", address: str, other_address: str) -> None:
        """Joins another host by a virtual link, `veth0` at each end; addresses have their prefix length."""
        self.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", str(other.pid))
        for host, own in ((self, address), (other, other_address)):
            host.ip("address", "add", own, "dev", "veth0")
            host.bring_up()

    def take_down(self) -> None:
        """Takes this host's end of the link down: the other end sees no carrier, and keeps its address and route."""
        self.ip("link", "set", "veth0", "down")

    def bring_up(self) -> None:
        """Brings this host's end of the link up."""
        self.ip("link", "set", "veth0", "up")


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
