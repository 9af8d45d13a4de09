"""What counts as curtailment: the rule, the signs, the payment, and the fingerprint of published rows.

Signs: a volume is negative MWh; a payment is GBP, positive when it is paid to the farm, negative when the farm pays.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from recon_assets.domain.quantity import Quantity

CURTAILMENT_RULE_VARIABLE = "CURTAILMENT_RULE"


class CurtailmentRule(StrEnum):
    """Which accepted bids of a wind unit are curtailment.

    `so_flagged`: volume < 0 and flagged by the system operator (soFlag or cadlFlag).
    `all_bids`: volume < 0, as the Renewable Energy Foundation and Subsidy Clock count.
    """

    SO_FLAGGED = "so_flagged"
    ALL_BIDS = "all_bids"


def is_curtailment(rule: CurtailmentRule, volume_mwh: Quantity, so_flag: Quantity, cadl_flag: Quantity) -> Quantity:
    """Whether an accepted bid of a wind unit counts under the rule: a truth value, a Series or an SQL condition.

    >>> is_curtailment(CurtailmentRule.SO_FLAGGED, -3.2, so_flag=False, cadl_flag=True)
    True
    >>> is_curtailment(CurtailmentRule.SO_FLAGGED, -3.2, so_flag=False, cadl_flag=False)
    False
    """
    is_bid = volume_mwh < 0
    return is_bid if rule is CurtailmentRule.ALL_BIDS else is_bid & (so_flag | cadl_flag)


def payment_gbp(volume_mwh: Quantity, original_price: Quantity) -> Quantity:
    """What a bid pays the farm, before the transmission loss multiplier: volume x original price.

    >>> payment_gbp(-10.0, -43.79)
    437.9
    """
    return volume_mwh * original_price


def fingerprint(rows: Iterable[Iterable[Any]]) -> str:
    """A fingerprint of rows of plain values that does not depend on their order (128 bits, hexadecimal)."""
    digest = hashlib.blake2b(digest_size=16)
    for line in sorted(repr(tuple(row)) for row in rows):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()
