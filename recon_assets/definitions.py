"""What Dagster loads."""

from recon_assets.orchestration.assembly import build_defs

defs = build_defs()
