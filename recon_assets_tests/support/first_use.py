"""Reads a settlement period and makes a run, on being imported: what libraries import at their first use, they have.

Commands are forked from a process that has imported this (command.py): each would import fsspec, pandera's backends
and, where it is installed, all of hypothesis again.
"""

import dagster as dg

from recon_assets.elexon.client import Elexon
from recon_assets.elexon.recordings import RecordingSource
from recon_assets.orchestration.in_process import QUIET
from recon_assets_tests.support.steps import JUNE, JUNE_7, NOW


@dg.job
def _nothing() -> None:
    pass


Elexon(RecordingSource(JUNE)).settlement_stack(JUNE_7, NOW, [7])
with dg.DagsterInstance.ephemeral() as _instance:
    _nothing.execute_in_process(instance=_instance, run_config=QUIET)
