"""Where the tests find the project and their own data."""

from pathlib import Path

import recon_assets_tests

DATA = Path(recon_assets_tests.__file__).parent / "data"
ROOT = Path(recon_assets_tests.__file__).parent.parent
