"""Everything that imports Dagster: assets, checks, jobs, sensors, and the runs that the commands start."""

import warnings

import dagster as dg

# These features are in beta. The project pins the minor version of Dagster, and a user can do nothing about it.
warnings.filterwarnings(
    "ignore", category=dg.BetaWarning, message=".*(backfill_policy|use_user_code_server|`owners`).*"
)
