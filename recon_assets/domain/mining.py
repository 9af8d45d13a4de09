"""From curtailed energy to bitcoin: the equation, its units and the table of miner models."""

from dataclasses import dataclass

from recon_assets.domain.quantity import Quantity

JOULES_PER_MWH = 3.6e9
HASHES_PER_TERAHASH = 1e12
HASHES_PER_DIFFICULTY = 2.0**32
"""Hashes that a block needs on average at difficulty 1."""

BITCOIN_DECIMALS = 12
"""Decimals of a stored value. A satoshi has 8, with which the smallest rows would lose 1.8 %."""


@dataclass(frozen=True)
class MinerModel:
    """A mining machine: its hash rate in TH/s and the power that it draws in W."""

    name: str
    hashrate_th_s: float
    power_w: float

    @property
    def hashes_per_mwh(self) -> float:
        """Hashes per MWh on this model (not rounded down to whole machines)."""
        return JOULES_PER_MWH / self.power_w * self.hashrate_th_s * HASHES_PER_TERAHASH


MODELS: dict[str, MinerModel] = {
    model.name: model
    for model in (
        MinerModel("S19J_PRO", hashrate_th_s=100, power_w=3050),
        MinerModel("S9", hashrate_th_s=13.5, power_w=1323),
        MinerModel("M20S", hashrate_th_s=68, power_w=3360),
    )
}
"""The miner models, by name. A new model is one line here; assets, checks, summaries and commands follow."""


def model_like(spelling: str) -> str | None:
    """The declared model that a text names if case, spaces, `-` and `_` are ignored; None if there is none.

    >>> model_like("s19j pro"), model_like("S21")
    ('S19J_PRO', None)
    """
    names = {_letters(name): name for name in MODELS}
    return names.get(_letters(spelling))


def _letters(text: str) -> str:
    return "".join(sign for sign in text.upper() if not sign.isspace() and sign not in "-_")


def bitcoin_per_hash(difficulty: Quantity, subsidy_btc: Quantity) -> Quantity:
    """Bitcoin that a hash earns on average, without fees: subsidy / (difficulty x 2^32)."""
    return subsidy_btc / (difficulty * HASHES_PER_DIFFICULTY)


def bitcoin_mined(curtailed_mwh: Quantity, hashes_per_mwh: Quantity, bitcoin_per_hash: Quantity) -> Quantity:
    """Bitcoin (BTC) that a miner model could have mined with an amount of energy.

    `BTC = MWh x hashes_per_MWh x BTC_per_hash`, which is
    `BTC = MWh x 3.6e9 J / power_W x hashrate_TH/s x 1e12 / (difficulty x 2^32) x subsidy`

    >>> earned = bitcoin_per_hash(112_149_504_190_349, subsidy_btc=3.125)
    >>> round(bitcoin_mined(44_140.93, MODELS["S19J_PRO"].hashes_per_mwh, earned), 8)
    33.80157547
    """
    return curtailed_mwh * hashes_per_mwh * bitcoin_per_hash
