"""How far the archive was searched for uncounted bids, as the database keeps it in `recon_settings`."""

from datetime import date

from sqlalchemy import Connection, delete, insert, select

from recon_assets.database.tables import recon_settings

NAME = "uncounted_bids_from_archive"
DONE = "done"


def searched_back_to(connection: Connection) -> date | None:
    """The oldest day that was searched (the newest come first); date.min if all were, None if none was."""
    value = connection.execute(select(recon_settings.c.value).where(recon_settings.c.name == NAME)).scalar()
    if value is None:
        return None
    return date.min if value == DONE else date.fromisoformat(value)


def note_searched(connection: Connection, day: date) -> None:
    """Notes that the days from this one on were searched; date.min if all were. Under the lock of reference data."""
    search_again(connection)
    value = DONE if day == date.min else day.isoformat()
    connection.execute(insert(recon_settings), {"name": NAME, "value": value})


def search_again(connection: Connection) -> None:
    """Has all days searched again. Bids of a unit that was known not to be wind are not kept in `uncounted_bids`, so
    that only the archive has them if the unit turns out to be wind.
    """
    connection.execute(delete(recon_settings).where(recon_settings.c.name == NAME))
