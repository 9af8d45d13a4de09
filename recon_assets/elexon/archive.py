"""The archive: a folder that keeps, as received, every answer of Elexon from which rows were stored.

It has the format of the recordings. `YYYY-MM-DD.json.gz` holds the newest answer of every body of a day, and
`bmunits_all.json` the newest reference list; `ELEXON_API_URL=file://` with the folder reads it instead of the network.
If a newer answer differs, the earlier recording is kept in `earlier/`. Nothing is ever deleted.
"""

import gzip
import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import portalocker

from recon_assets.errors import ReconError
from recon_assets.folders import writing_to

COMPRESSION = 6
"""gzip's default: the heaviest day of June 2025 goes from 3.7 MB to 250 kB in 0.1 s."""
LOCK_TIMEOUT_SECONDS = 60
EARLIER = "earlier"
CORRUPT = ".corrupt.json.gz"
REFERENCE = "bmunits_all.json"
RETENTION = "nothing is deleted"
WHITESPACE = " \t\r\n"


@dataclass(frozen=True)
class Kept:
    """A recording that was written or existed already; `earlier` is the file of the one that it replaced."""

    recording: Path
    earlier: Path | None = None
    was_corrupt: bool = False


@dataclass(frozen=True)
class Size:
    """What an archive holds: the number of days with a recording, and the first and last of them; the number of
    recordings that a newer answer replaced, and how many of these were corrupt; the bytes in all.
    """

    recordings: int
    earlier: int
    corrupt: int
    bytes: int
    first_day: date | None
    last_day: date | None


class Archive:
    """A folder of recordings that grows as days are read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recording(self, day: date) -> Path:
        """The file of a day's recording, which may not exist."""
        return self.folder / f"{day}.json.gz"

    def keep(self, day: date, received: Mapping[str, str], now: datetime) -> Kept:
        """Writes answers of a day to disk, by name (that of a period is `stack_bid/7`), all of them or none.

        Answers of other periods and other bodies stay. ReconError when the folder cannot be written.
        """
        path = self.recording(day)
        answers = {name: body.strip(WHITESPACE) for name, body in received.items()}
        with self._held():
            old = path.read_bytes() if path.exists() else None
            was_corrupt = False
            before: dict[str, str] = {}
            if old is not None:
                try:
                    before = read_bodies(old)
                except ValueError:
                    was_corrupt = True
            after = {**before, **answers}
            if after == before:
                return Kept(path)
            earlier = None
            # If a recording only gains bodies, nothing of the earlier one is lost.
            if old is not None and (was_corrupt or any(after[name] != body for name, body in before.items())):
                kind = CORRUPT if was_corrupt else ".json.gz"
                earlier = self.folder / EARLIER / f"{day}.until-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{kind}"
                _write(earlier, old)
            _write(path, gzip.compress(_recording(day, after).encode(), COMPRESSION, mtime=0))
        return Kept(path, earlier, was_corrupt)

    def keep_reference(self, received: str) -> None:
        """Writes the newest list of BM units; an earlier one is not needed, because units are stored by union."""
        with self._held():
            _write(self.folder / REFERENCE, received.encode())

    def reference_seen_at(self) -> datetime | None:
        """When the newest list of BM units was kept; None if none was."""
        try:
            return datetime.fromtimestamp((self.folder / REFERENCE).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def size(self) -> Size:
        """The size of the archive, from the names of its files; zero if the folder does not exist yet."""
        recordings = sorted(self.folder.glob("????-??-??.json.gz"))
        earlier = list((self.folder / EARLIER).glob("*.json.gz"))
        files = [*recordings, *earlier, *self.folder.glob(REFERENCE)]
        days = [date.fromisoformat(path.name.partition(".")[0]) for path in recordings]
        return Size(
            recordings=len(recordings),
            earlier=len(earlier),
            corrupt=sum(path.name.endswith(CORRUPT) for path in earlier),
            bytes=sum(path.stat().st_size for path in files),
            first_day=days[0] if days else None,
            last_day=days[-1] if days else None,
        )

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            with writing_to(self.folder, "RECON_ARCHIVE"):
                self.folder.mkdir(parents=True, exist_ok=True)
                with portalocker.Lock(self.folder / ".lock", "a", timeout=LOCK_TIMEOUT_SECONDS):
                    yield
        except portalocker.LockException as error:
            raise ReconError(f"RECON_ARCHIVE: {self.folder} cannot be written: {error}") from error


def read_bodies(recording: bytes) -> dict[str, str]:
    """The bodies of a recording as they were received, by name (as in `keep`); ValueError when it is corrupt."""
    try:
        content = _members(gzip.decompress(recording).decode())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    stacks = _members(content.pop("stack_bid", "{}"))
    content.pop("settlementDate", None)
    return {**content, **{f"stack_bid/{period}": body for period, body in stacks.items()}}


def _recording(day: date, bodies: Mapping[str, str]) -> str:
    stacks = {name.removeprefix("stack_bid/"): body for name, body in bodies.items() if name.startswith("stack_bid/")}
    others = {name: body for name, body in bodies.items() if not name.startswith("stack_bid/")}
    periods = dict(sorted(stacks.items(), key=lambda item: int(item[0])))
    return _object({"settlementDate": json.dumps(day.isoformat()), "stack_bid": _object(periods), **others})


def _object(members: Mapping[str, str]) -> str:
    """A JSON object from members that are JSON text; the text is not changed."""
    return "{" + ",\n".join(f"{json.dumps(name)}:{text}" for name, text in members.items()) + "}"


def _members(text: str) -> dict[str, str]:
    """The members of a JSON object as JSON text, unchanged; ValueError when the text is not an object."""
    decoder = json.JSONDecoder()
    found: dict[str, str] = {}
    position = _expect(text, 0, "{")
    while text[position : position + 1] != "}":
        if found:
            position = _expect(text, position, ",")
        name, end = decoder.raw_decode(text, position)
        position = _expect(text, end, ":")
        _, end = decoder.raw_decode(text, position)
        found[name] = text[position:end]
        position = _skip(text, end)
    return found


def _expect(text: str, position: int, sign: str) -> int:
    position = _skip(text, position)
    if text[position : position + 1] != sign:
        raise ValueError(f"no {sign!r} at character {position}")
    return _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in WHITESPACE:
        position += 1
    return position


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and flushes it to disk, so that it survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a write has no file in its error, and who opens has the temporary one
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
