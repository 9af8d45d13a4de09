"""Says what `make test-system` lacks on this machine: one line and exit code 3, or nothing and 0."""

from recon_assets_tests.system import REQUIRED

REQUIRED.exit()
