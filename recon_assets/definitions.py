"""What Dagster loads."""

import gc

# Before the imports: half a million objects are made that stay, and looking them through again and again for garbage
# took a quarter of the 2.6 s. Later work makes few: 100,000 more of them before a look are some MB.
gc.set_threshold(100_000, 10, 10)

from recon_assets.orchestration.build import build_defs  # noqa: E402

defs = build_defs()
