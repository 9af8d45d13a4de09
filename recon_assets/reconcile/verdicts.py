"""Verdicts: the reconciled state, said as checks that hold or do not.

Belongs here: pure judgements on a state that was read once, each with its counts, its threshold and the worst dates.
Does not: reading (census.py), and Dagster, which shows them as asset checks.

None of them holds up other work. A layer leaves out the days that are not fit for it (repair.py); a verdict on the whole
history that stopped a run would hold up a thousand right days for a wrong one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, Engine, Integer, and_, case, cast, func, or_, select

from recon_assets import database
from recon_assets.mining import MODELS
from recon_assets.reconcile.audit import Tally
from recon_assets.reconcile.layering import Layer, in_days
from recon_assets.reconcile.layers import (
    BITCOIN_DAILY,
    BITCOIN_MONTHLY,
    BITCOIN_YEARLY,
    CALCULATIONS,
    CURTAILMENT,
    ENERGY_DAILY,
    ENERGY_MONTHLY,
    ENERGY_YEARLY,
)
from recon_assets.reconcile.scope import Scope
from recon_assets.reconcile.state import DayState, State
from recon_assets.settlement import london_day
from recon_assets.tables import curtailment_records, historical_bitcoin_calculations, proof_of_fetch

OFFENDERS = 20
"""Worst dates that a verdict names; how many there are in all, it counts."""

Offender = Mapping[str, str | int | float]
