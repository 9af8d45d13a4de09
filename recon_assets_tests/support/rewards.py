"""Rewards of settlement periods that must be known."""

from datetime import date

from recon_assets.domain.difficulty import DifficultyHistory, PeriodReward


def reward_of(history: DifficultyHistory, day: date, period: int) -> PeriodReward:
    """The reward of a period."""
    reward = history.reward(day, period)
    assert reward is not None
    return reward
