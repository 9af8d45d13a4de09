"""What a group of tests needs of the machine beyond Python packages, and how to install it."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

IS_MISSING = 3
"""The exit code that says so: not 1, Python's own for an error in the check itself, nor 2, which is make's."""


@dataclass(frozen=True)
class Requirements:
    """What `make TARGET` needs.

    `packages` maps each program to the Debian package that has it; `abilities` maps what this process must be able to
    do, in words that say how to get there, to the test of it.
    """

    target: str
    packages: Mapping[str, str]
    abilities: Mapping[str, Callable[[], bool]] = field(default_factory=dict)

    def complaint(self) -> str:
        """One line that names everything that is missing, and how to get it; empty if nothing is."""
        missing = [package for program, package in self.packages.items() if not shutil.which(program)]
        lines = [f"{' and '.join(missing)}: apt-get install {' '.join(missing)}"] if missing else []
        lines += [words for words, is_there in self.abilities.items() if not is_there()]
        return f"make {self.target} needs {'; it also needs '.join(lines)}" if lines else ""

    def exit(self) -> NoReturn:
        """Ends this process: with 0 if everything is there, else with the complaint on stderr and IS_MISSING."""
        complaint = self.complaint()
        if complaint:
            print(complaint, file=sys.stderr)
        sys.exit(IS_MISSING if complaint else 0)

    def insist(self) -> None:
        """Ends a test session before its first test if something is missing. Nothing is ever skipped for that."""
        if complaint := self.complaint():
            raise pytest.UsageError(complaint)
