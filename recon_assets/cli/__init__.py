"""The command line: arguments, exit codes, and what is printed."""

import gc

# Before the imports: their objects stay, and collecting garbage among them takes a tenth of a short command's time.
gc.set_threshold(100_000, 10, 10)

from recon_assets.cli.main import main, recon  # noqa: E402

__all__ = ["main", "recon"]
