"""The command `recon`: its group, and how every command ends.

Only commands that write import Dagster, so that reading commands start fast.

Exit codes: 0 done and right; 1 something is missing, wrong, behind or failed; 2 wrong usage or configuration;
130 interrupted.
"""

import logging
import os
import sys
from pathlib import Path

import click

from recon_assets.cli.interrupts import end_at_once, end_interrupted, noticed_interrupts
from recon_assets.cli.read import COMMANDS as READ
from recon_assets.cli.routines import COMMANDS as ROUTINES
from recon_assets.cli.shared import NOT_RIGHT, RIGHT
from recon_assets.cli.units import COMMANDS as UNITS
from recon_assets.cli.verify import COMMANDS as VERIFY
from recon_assets.cli.write import COMMANDS as WRITE
from recon_assets.demo import DEMO_HOME, demo_home
from recon_assets.errors import ReconError, first_line


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="recon")
@click.option("--demo", is_flag=True, help="Work in .recon/demo/, the home of `recon demo`, whatever is set.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def recon(demo: bool, debug: bool) -> None:
    """Keeps GB wind-curtailment data and its bitcoin-mining potential reconciled.

    DATABASE_URL names the database, ELEXON_API_URL the source; .env.example lists every variable.
    """
    os.environ.pop(DEMO_HOME, None)
    if demo:
        os.environ[DEMO_HOME] = str(demo_home(Path.cwd()))
    else:
        from dotenv import load_dotenv

        load_dotenv(Path.cwd() / ".env")


for command in (*WRITE, *READ, *VERIFY, *UNITS, *ROUTINES):
    recon.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits; an error shows its traceback only with --debug."""
    # SQLAlchemy would print a traceback if Ctrl-C came while it closes a connection.
    logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())
    words = sys.argv[1:] if arguments is None else arguments
    code = _run(words)
    # Python still ends threads and tidies up, and would print a traceback if Ctrl-C came meanwhile.
    end_at_once()
    sys.exit(code)


def _run(words: list[str]) -> int:
    """Runs the command; its exit code."""
    try:
        with noticed_interrupts():
            return recon.main(words or ["--help"], prog_name="recon", standalone_mode=False) or RIGHT
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "recon"
        _complain(f"{error.format_message()} ('{command} --help' shows how)")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        end_interrupted()
    except Exception as error:
        if "--debug" in words:
            raise
        _complain(str(error) if isinstance(error, ReconError) else f"{first_line(error)} (--debug shows where)")
        return error.exit_code if isinstance(error, ReconError) else NOT_RIGHT


def _complain(line: str) -> None:
    click.echo(f"Error: {line}", err=True)


if __name__ == "__main__":
    main()
