"""The commands on BM units: which are wind, which are not, which nobody knows, and a person's word on one."""

import getpass

import click

from recon_assets.cli.options import TEXT, format_option
from recon_assets.cli.shared import RIGHT, echo_json, read_settings, reading_engine
from recon_assets.cli.through_dagster import declare_through_dagster
from recon_assets.errors import UsageError


@click.group()
def units() -> None:
    """Show which BM units are wind, not wind or unknown, and say what one is."""


@units.command("list")
@click.option("--wind", is_flag=True, help="Only units that are wind.")
@click.option("--unknown", is_flag=True, help="Only units of which nobody knows, and farms of records without proof.")
@click.option("--other", is_flag=True, help="Only units that are not wind.")
@format_option
def list_(wind: bool, unknown: bool, other: bool, style: str) -> int:
    """List the BM units, and what was not counted of them.

    A unit that Elexon lists without a fuel type is unknown until Elexon or a person says what it is.
    """
    from recon_assets.database import transactions
    from recon_assets.ingest.unit_facts import Kind, list_units
    from recon_assets.reports.state import open_console
    from recon_assets.reports.units import list_facts, print_list

    asked = [kind for kind, chosen in ((Kind.WIND, wind), (Kind.UNKNOWN, unknown), (Kind.OTHER, other)) if chosen]
    with reading_engine(read_settings()) as engine, transactions.reading(engine) as connection:
        facts = list_facts(list_units(connection), asked or list(Kind))
    if style == "json":
        echo_json(facts)
    else:
        print_list(open_console(), facts)
    return RIGHT


@units.command()
@click.argument("unit", type=TEXT, metavar="UNIT")
@format_option
def show(unit: str, style: str) -> int:
    """Show what is known of the BM unit UNIT from lists, a declaration, bids and records."""
    from recon_assets.database import transactions
    from recon_assets.ingest.unit_facts import show_unit
    from recon_assets.reports.state import open_console
    from recon_assets.reports.units import print_unit, show_facts

    with reading_engine(read_settings()) as engine, transactions.reading(engine) as connection:
        facts = show_facts(show_unit(connection, unit))
    if style == "json":
        echo_json(facts)
    else:
        print_unit(open_console(), facts)
    return RIGHT


@units.command()
@click.argument("unit", type=TEXT, metavar="UNIT")
@click.option("--wind/--not-wind", "is_wind", default=None, help="What the unit is; one of the two must be given.")
@click.option("--note", type=TEXT, metavar="TEXT", help="Why, for whoever reads it later.")
@click.option("--by", "name", type=TEXT, metavar="NAME", help="Who says so  [default: your login name]")
@click.option("--force", is_flag=True, help="Also if the name is in no list, bid or record.")
@format_option
def declare(unit: str, is_wind: bool | None, note: str | None, name: str | None, force: bool, style: str) -> int:
    """Say that the BM unit UNIT is wind, or that it is not.

    It is stronger than Elexon's list. Saying it again replaces what was said before. Stored days that hold bids of the
    unit are then read again, by 'recon reconcile' or by the sensor.
    """
    if is_wind is None:
        raise UsageError(f"say what {unit} is: --wind or --not-wind")
    who = _login_name() if name is None else name.strip()
    return declare_through_dagster(unit, is_wind=is_wind, by=who, note=note, force=force, style=style)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        raise UsageError("this login has no name: say who you are with --by") from None


COMMANDS = (units,)
