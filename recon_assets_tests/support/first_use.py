"""Reconciles two days, on being imported: what libraries import and compile at their first use, they have then.

Commands are forked from a process that has imported this (command.py): each would import fsspec, pandera's backends
and, where it is installed, all of hypothesis again, and compile every statement.
"""

import gc
from pathlib import Path
from tempfile import TemporaryDirectory

from recon_assets.orchestration.outcome import Options
from recon_assets.orchestration.reconciliation import Reconciliation
from recon_assets.orchestration.resource import open_resource
from recon_assets.settings import Settings
from recon_assets_tests.support.light_dagster import light_instance, make_home
from recon_assets_tests.support.statements import share_statements
from recon_assets_tests.support.steps import JUNE, SMALL_DAYS

share_statements()
with TemporaryDirectory() as _folder:
    make_home(Path(_folder, "home"))
    _settings = Settings.from_environment({"ELEXON_API_URL": JUNE.as_uri(), "MEMPOOL_API_URL": "none"}, Path(_folder))
    with (
        open_resource(_settings) as _resource,
        light_instance(Path(_folder, "home"), Path(_folder, "copy")) as _instance,
    ):
        Reconciliation(_resource, _instance, "first use").reconcile(SMALL_DAYS, Options())
        _resource.engine.dispose()

# Frozen before the fork: in a fork this would write to every object, and the system would copy all of its memory.
gc.collect()
gc.freeze()
