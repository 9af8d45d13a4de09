"""Tests of the Dagster UI in a real browser. `make test-browser` runs them; `make test` does not.

The browser is the machine's Chromium. Playwright, the Python package that drives it, is the extra `browser`.
"""

from recon_assets_tests.support.requirements import Requirements

BROWSER = "chromium"

REQUIRED = Requirements("test-browser", packages={BROWSER: "chromium"})
