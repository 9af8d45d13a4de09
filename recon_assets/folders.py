"""Folders that recon writes to: what is said if one cannot be written, or if its disk is full."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon_assets.errors import ConfigurationError, DiskError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""The disk is full, the user's share of it is, the file may not grow, the disk fails."""


@contextmanager
def writing_to(path: Path, variable: str) -> Iterator[None]:
    """Gives an OSError one line that names the file or folder, and the variable that says where it is.

    DiskError if the disk is full or fails, ConfigurationError if the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        file = f": {error.filename}" if error.filename and Path(error.filename) != path else ""
        reason = f"{error.strerror or error}{file}"
        if error.errno in DISK_ERRORS:
            raise disk_error(path, variable, reason) from error
        raise not_writable(path, variable, reason) from error


def disk_error(path: Path, variable: str, reason: str, *others: Path) -> DiskError:
    """The error of a disk that is full or fails, with the free space of the disk of `path`, and of other folders."""
    free = " and ".join(f"{free_bytes(place) / 1e6:,.1f} MB in {_folder_of(place)}" for place in (path, *others))
    return DiskError(
        f"{variable}: {path} cannot be written: {reason} (free: {free}); what was committed stays: make room, "
        "and the same command does the rest"
    )


def not_writable(path: Path, variable: str, reason: str) -> ConfigurationError:
    """The error of a file or folder that cannot be written."""
    return ConfigurationError(f"{variable}: {path} cannot be written: {reason}; set {variable} to one that can be")


def require_writable(folder: Path, variable: str) -> None:
    """ConfigurationError if a folder cannot be written, or made; nothing is made. Asked before long work."""
    reason = obstacle(folder)
    if reason is not None:
        raise ConfigurationError(
            f"{variable}: {folder} cannot be used: {reason}; set {variable} to a place that can be"
        )


def obstacle(folder: Path) -> str | None:
    """What prevents writing there; a missing folder would be made below the nearest existing one."""
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} cannot be written"


def free_bytes(path: Path) -> int:
    """The free space of the disk of a file or folder, which may not exist yet."""
    return shutil.disk_usage(_folder_of(path)).free


def _folder_of(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_dir())


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
