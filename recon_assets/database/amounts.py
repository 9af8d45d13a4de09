"""The amounts of a stored curtailment record as SQL columns. An old database may hold a volume with either sign."""

from sqlalchemy import ColumnElement, func

from recon_assets.database.tables import curtailment_records
from recon_assets.domain.curtailment import payment_gbp

CURTAILED_MWH: ColumnElement[float] = func.abs(curtailment_records.c.volume)
"""MWh that were curtailed, positive."""

VOLUME_MWH: ColumnElement[float] = -CURTAILED_MWH
"""MWh with the sign of a bid that was accepted: negative."""

DUE_GBP: ColumnElement[float] = payment_gbp(VOLUME_MWH, curtailment_records.c.original_price)
"""GBP that the record's volume and price say, whatever its own payment is; positive when it is paid to the farm."""
