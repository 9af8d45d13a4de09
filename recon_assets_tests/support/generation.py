"""Bodies of wind generation, made from Elexon's OpenAPI schema because no recording has one."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from recon_assets.database import transactions
from recon_assets.database.tables import wind_generation_data
from recon_assets.domain.settlement import period_starts_at, periods_in
from recon_assets_tests.support.steps import change_recording

BUSINESS = {"Wind Onshore": "Wind generation", "Wind Offshore": "Wind generation", "Solar": "Solar generation"}
WIND = ("Wind Onshore", "Wind Offshore")
PATH = "/generation/actual/per-type/wind-and-solar"
ONSHORE_MW, OFFSHORE_MW = 1000.5, 3000.25
DAY_MWH = {"onshore": 24 * ONSHORE_MW, "offshore": 24 * OFFSHORE_MW, "total": 24 * (ONSHORE_MW + OFFSHORE_MW)}
"""Of a day with 48 settlement periods that is published by `body_of`."""


def row(day: date, period: int, kind: str, mw: Any, published: datetime | None = None, **other: Any) -> dict[str, Any]:
    """A row of the wind-and-solar endpoint, by default published an hour after the start of its period."""
    start = period_starts_at(day, period)
    return {
        "publishTime": f"{published or start + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "businessType": BUSINESS[kind],
        "psrType": kind,
        "quantity": mw,
        "startTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "settlementDate": day.isoformat(),
        "settlementPeriod": period,
        **other,
    }


def body_of(day: date, *, later: timedelta = timedelta(), mw: float = 0.0) -> dict[str, Any]:
    """The rows of a whole day, solar included; published `later` than usual, and with so many MW more of each kind."""
    kinds = {"Wind Onshore": ONSHORE_MW + mw, "Wind Offshore": OFFSHORE_MW + mw, "Solar": 7.0}
    return envelope(
        row(day, period, kind, quantity, period_starts_at(day, period) + timedelta(hours=1) + later)
        for period in range(1, periods_in(day) + 1)
        for kind, quantity in kinds.items()
    )


def envelope(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The body that rows come in."""
    return {"data": list(rows), "metadata": {"datasets": ["AGWS"]}}


def without(body: dict[str, Any], *periods: int, kind: str | None = None) -> dict[str, Any]:
    """The body less some settlement periods, of one kind or of all."""
    rows = body["data"]
    return envelope(r for r in rows if r["settlementPeriod"] not in periods or kind not in (None, r["psrType"]))


def store(engine: Engine, day: date, *half_hours: tuple[float, float], first: int = 1) -> None:
    """Stores (onshore MW, offshore MW) of half-hours as an old database has them: nothing says when it was published.

    Of one settlement period after the other, from `first` on.
    """
    with transactions.writing(engine) as connection:
        for period, (onshore, offshore) in enumerate(half_hours, start=first):
            amounts = {"wind_onshore": onshore, "wind_offshore": offshore, "total_wind": onshore + offshore}
            key = {"settlement_date": day, "settlement_period": period}
            connection.execute(wind_generation_data.insert(), key | amounts)


def publish(recordings: Path, day: date, body: dict[str, Any] | None) -> None:
    """Puts the body into a recording, and so into the answers of its server; None removes it."""

    def change(content: dict[str, Any]) -> None:
        content.pop("wind_and_solar", None)
        if body is not None:
            content["wind_and_solar"] = body

    change_recording(recordings, day, change)
