"""The Dagster ring: everything that knows Dagster, around a domain that does not."""

import warnings

import dagster as dg

# In beta; the project pins the minor version of Dagster for that, and a user can do nothing.
warnings.filterwarnings(
    "ignore", category=dg.BetaWarning, message=".*(backfill_policy|use_user_code_server|`owners`).*"
)
