"""What the archive of Elexon's answers holds, and whether the next answer can be kept.

The recordings are not read: a corrupt one is found, and set aside, when its day is read again.
"""

from recon_assets import folders
from recon_assets.elexon.archive import Archive
from recon_assets.health.facts import ArchiveFolder
from recon_assets.settings import Settings


def examine_archive(settings: Settings) -> ArchiveFolder | None:
    """Examines the archive without writing to it; None if recordings are read, because those are not archived."""
    if settings.recordings is not None:
        return None
    folder = settings.archive_folder
    try:
        size, obstacle = Archive(folder).size(), folders.obstacle(folder)
    except (OSError, ValueError) as error:
        return ArchiveFolder(str(folder), error=str(error))
    return ArchiveFolder(
        path=str(folder),
        error=obstacle,
        recordings=size.recordings,
        first_day=size.first_day,
        last_day=size.last_day,
        earlier=size.earlier,
        corrupt=size.corrupt,
        size_bytes=size.bytes,
    )
