"""The command line. Belongs here: arguments, exit codes, and what is printed. Does not: work."""

import gc

# Before the imports: what they make stays, and looking it through for garbage is a tenth of a short command's time.
gc.set_threshold(100_000, 10, 10)

from recon_assets.cli.main import main, recon  # noqa: E402

__all__ = ["main", "recon"]
