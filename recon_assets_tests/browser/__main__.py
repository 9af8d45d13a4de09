"""Says what `make test-browser` lacks on this machine: one line and exit code 3, or nothing and 0."""

from recon_assets_tests.browser import REQUIRED

REQUIRED.exit()
