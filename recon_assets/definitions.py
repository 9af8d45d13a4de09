"""The Dagster definitions that the code location loads."""

import gc

# Before the imports, because these create half a million objects that stay. Scanning them again and again for garbage
# took a quarter of the 2.6 s. Later work creates few objects: 100,000 more before a scan are some MB.
gc.set_threshold(100_000, 10, 10)

from recon_assets.orchestration.build import build_defs  # noqa: E402

defs = build_defs()
