"""The command line: arguments, exit codes, and what is printed."""

import gc

from recon_assets.cli.interrupts import ending_at_once

# Before the imports: their objects stay, and collecting garbage among them takes a tenth of a short command's time.
gc.set_threshold(100_000, 10, 10)

with ending_at_once():
    from recon_assets.cli.main import main, recon

__all__ = ["main", "recon"]
