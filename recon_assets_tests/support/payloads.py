"""What was published of the recorded days, and the same figures from the database.

Totals by both rules come from the recordings' own `totals.json`; MWh and GBP per unit, all bids, from
`truth_daily_by_unit.csv.gz`.
"""

import csv
import gzip
import json
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, text

from recon_assets.database.transactions import reading
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.domain.settlement import Days
from recon_assets_tests.support.paths import DATA

TOTALS: dict[str, dict[str, Any]] = json.loads((DATA / "totals.json").read_text())
NAMES = {CurtailmentRule.SO_FLAGGED: "flagged", CurtailmentRule.ALL_BIDS: "all_bids"}


def published_totals(days: Days, rule: CurtailmentRule) -> dict[str, Any]:
    """Rows, MWh and GBP of every day under a rule."""
    of_day = {str(day): TOTALS[str(day)][NAMES[rule]] for day in days}
    return {
        day: (total["rows"], pytest.approx(total["mwh"], abs=1e-6), pytest.approx(total["gbp"], abs=1e-4))
        for day, total in of_day.items()
    }


def stored_totals(engine: Engine, source: str) -> dict[str, tuple[int, float, float]]:
    """Rows, MWh and GBP of every day in a table or a part of one."""
    sums = "SELECT settlement_date, count(*), sum(volume), sum(volume * original_price)"
    with reading(engine) as connection:
        found = connection.execute(text(f"{sums} FROM {source} GROUP BY settlement_date"))
        return {str(day): (rows, float(mwh), float(gbp)) for day, rows, mwh, gbp in found}


def published_totals_of_units(days: Days) -> dict[tuple[str, str], Any]:
    """MWh and GBP of every day and unit, to 0.001 MWh and 0.01 GBP."""
    with gzip.open(DATA / "truth_daily_by_unit.csv.gz", "rt", encoding="utf-8") as table:
        return {
            (row["date"], row["bmu"]): (
                pytest.approx(float(row["volume_mwh"]), abs=0.001),
                pytest.approx(float(row["cost_gbp"]), abs=0.01),
            )
            for row in csv.DictReader(table)
            if date.fromisoformat(row["date"]) in days
        }


def stored_totals_of_units(engine: Engine) -> dict[tuple[str, str], tuple[float, float]]:
    """MWh and GBP of every day and farm in the curtailment records."""
    sums = "SELECT settlement_date, farm_id, sum(volume), sum(payment) FROM curtailment_records"
    with reading(engine) as connection:
        found = connection.execute(text(f"{sums} GROUP BY settlement_date, farm_id"))
        return {(str(day), farm): (float(mwh), float(gbp)) for day, farm, mwh, gbp in found}
