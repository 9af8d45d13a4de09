"""One spot, which is a farm in one settlement period, with its calculations beside what they must be."""

from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import Engine, func, select

from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations, wind_bids, wind_bm_units
from recon_assets.domain.settlement import Days, period_starts_at
from recon_assets.errors import UsageError
from recon_assets.reconcile.expected import curtailed_energy
from recon_assets.reconcile.layer import in_scope
from recon_assets.reconcile.layers import CALCULATIONS
from recon_assets.reconcile.scope import Scope, reading


@dataclass(frozen=True)
class Calculation:
    """A model's bitcoin and difficulty: the expected ones (None if no row is expected), and every stored row."""

    expected: tuple[float, float] | None
    stored: tuple[tuple[float, float | None], ...]
    is_right: bool


@dataclass(frozen=True)
class Spot:
    """A settlement date, period and farm; energy in MWh."""

    day: date
    period: int
    farm: str
    records: int
    curtailed_mwh: float
    calculations: dict[str, Calculation]

    @property
    def is_right(self) -> bool:
        """Whether every model has exactly the row that it must have."""
        return all(calculation.is_right for calculation in self.calculations.values())


def read_spot(engine: Engine, scope: Scope, day: date, period: int, farm: str) -> Spot:
    """The spot as it is stored and as it must be; UsageError for a period or farm that does not exist."""
    period_starts_at(day, period)
    narrow = replace(scope, days=Days(day, day), periods=(period, period), farm=farm)
    with reading(engine, narrow) as (connection, narrow):
        known = select(wind_bm_units.c.bm_unit_id).where(wind_bm_units.c.bm_unit_id == farm)
        records = select(func.count()).where(in_scope(curtailment_records.c, narrow))
        of_farm = connection.execute(records).scalar_one()
        rows = list(
            connection.execute(
                select(
                    historical_bitcoin_calculations.c.miner_model,
                    historical_bitcoin_calculations.c.bitcoin_mined,
                    historical_bitcoin_calculations.c.difficulty,
                ).where(in_scope(historical_bitcoin_calculations.c, narrow))
            )
        )
        bids = connection.execute(select(func.count()).where(in_scope(wind_bids.c, narrow))).scalar_one()
        if not (of_farm or rows or bids) and connection.execute(known).first() is None:
            raise UsageError(f"{farm!r} is no wind BM unit that is known: write its Elexon name, for example T_SGRWO-1")
        energy = curtailed_energy(narrow).subquery("energy")
        mwh = connection.execute(select(energy.c.curtailed_mwh)).scalar() or 0.0
        expected = CALCULATIONS.expected(narrow).subquery("expected")
        compared = connection.execute(
            select(
                expected.c.miner_model,
                expected.c.bitcoin_mined,
                expected.c.difficulty,
                CALCULATIONS.table.c.id,
                CALCULATIONS.differs(connection, expected),
            ).select_from(CALCULATIONS.below(expected, narrow))
        ).all()
    stored = {model: tuple((r[1], r[2]) for r in rows if r[0] == model) for model in scope.models}
    calculations = {model: Calculation(None, stored[model], not stored[model]) for model in scope.models}
    for model, bitcoin, difficulty, identity, differs in compared:
        right = len(stored[model]) == 1 and identity is not None and not differs
        calculations[model] = Calculation((bitcoin, difficulty), stored[model], right)
    return Spot(day, period, farm, of_farm, float(mwh), calculations)
