"""What tests of commands share."""

from collections.abc import Iterator

import pytest

from recon_assets.elexon.stand_in import StandInElexon
from recon_assets_tests.support.steps import JUNE


@pytest.fixture
def elexon() -> Iterator[StandInElexon]:
    """A server with every day of June 2025."""
    with StandInElexon(JUNE) as server:
        yield server
