"""The command line. Belongs here: arguments, exit codes, and what is printed. Does not: work."""

from recon_assets.cli.main import main, recon

__all__ = ["main", "recon"]
