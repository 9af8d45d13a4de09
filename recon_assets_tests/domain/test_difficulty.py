import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from recon_assets.domain.adjustments import parse_adjustments, with_tail
from recon_assets.domain.difficulty import (
    DifficultyHistory,
    PeriodReward,
    Retarget,
    packaged_retargets,
    subsidy_btc,
    with_packaged,
)
from recon_assets.domain.settlement import Days, period_starts_at, periods_in
from recon_assets.errors import ReconError
from recon_assets_tests.support.rewards import reward_of

PACKAGED = packaged_retargets()
HISTORY = DifficultyHistory(PACKAGED)
HASHES = 2**32
DAY = date(2025, 6, 10)
FIRST_HEIGHT = 2016 * 420
"""Of the made-up epochs: no halving is near."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def expanded(days: Iterable[date]) -> list[PeriodReward]:
    """The rewards of days, period by period."""
    return [
        PeriodReward(span.settlement_date, period, span.difficulty, span.bitcoin_per_hash)
        for span in HISTORY.rewards(days)
        for period in range(span.first, span.last + 1)
    ]


def epochs(starts_at: Sequence[datetime], difficulties: Sequence[float], known_until: datetime) -> list[Retarget]:
    return [
        Retarget(FIRST_HEIGHT + 2016 * n, start, True, difficulty, "made up", known_until)
        for n, (start, difficulty) in enumerate(zip(starts_at, difficulties, strict=True))
    ]


@pytest.mark.parametrize(
    ("height", "subsidy"),
    [(0, 50), (209_999, 50), (210_000, 25), (839_999, 6.25), (840_000, 3.125), (1_050_000, 1.5625)],
)
def test_the_subsidy_halves_every_210000_blocks(height: int, subsidy: float) -> None:
    assert subsidy_btc(height) == subsidy


def test_the_packaged_table_is_a_chain_whose_newest_times_are_approximate() -> None:
    approximate = [retarget for retarget in PACKAGED if not retarget.time_exact]

    assert [PACKAGED[0].height, PACKAGED[-1].height] == [495_936, 961_632]
    assert len(approximate) == 41
    assert min(retarget.starts_at for retarget in approximate) > utc("2025-01-27")


def test_the_difficulty_of_a_historical_day_is_that_days() -> None:
    assert reward_of(HISTORY, date(2025, 3, 11), 20).difficulty == pytest.approx(112_149_504_190_349, rel=1e-12, abs=0)


@pytest.mark.parametrize(("period", "share_before"), [(2, 1.0), (3, 0.315), (4, 0.0)])
def test_the_period_of_the_halving_is_split_at_its_second(period: int, share_before: float) -> None:
    # Settlement date 2024-04-20 begins at 23:00Z the day before; block 840000 was found at 00:09:27Z, 567 s into
    # period 3, which is 31.5 % of its 1800 s.
    difficulty = 86_388_558_925_171.02

    reward = reward_of(HISTORY, date(2024, 4, 20), period)

    subsidy = share_before * 6.25 + (1 - share_before) * 3.125
    assert reward.bitcoin_per_hash == pytest.approx(subsidy / (difficulty * HASHES), rel=1e-12, abs=0)
    assert reward.difficulty == pytest.approx(difficulty, rel=1e-12, abs=0)


def test_the_period_of_a_retarget_is_the_mean_of_both_rewards() -> None:
    # Block 840672 was found at 2024-04-24T14:51:52Z, 1312 s into settlement period 32.
    before, after, share = 86_388_558_925_171.02, 88_104_191_118_793.16, 1312 / 1800

    reward = reward_of(HISTORY, date(2024, 4, 24), 32)

    earned = share * 3.125 / before + (1 - share) * 3.125 / after
    assert reward.bitcoin_per_hash == pytest.approx(earned / HASHES, rel=1e-12, abs=0)
    assert reward.difficulty == pytest.approx(share * before + (1 - share) * after, rel=1e-12, abs=0)


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 48),
    st.lists(st.integers(-3000, 3000), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.floats(1e12, 1e15), min_size=5, max_size=5),
)
def test_a_reward_is_the_average_over_every_second(period: int, offsets: list[int], difficulties: list[float]) -> None:
    start = period_starts_at(DAY, period)
    # given: retargets some seconds before, within or after the period
    starts = [start - timedelta(days=10), *(start + timedelta(seconds=offset) for offset in offsets)]
    chain = epochs(starts, difficulties[: len(starts)], start + timedelta(days=1))

    reward = reward_of(DifficultyHistory(chain), DAY, period)

    seconds = [
        next(epoch.difficulty for epoch in reversed(chain) if epoch.starts_at <= start + timedelta(seconds=second))
        for second in range(1800)
    ]
    earned = [3.125 / (difficulty * HASHES) for difficulty in seconds]
    assert reward.bitcoin_per_hash == pytest.approx(sum(earned) / 1800, rel=1e-9, abs=0)
    assert reward.difficulty == pytest.approx(sum(seconds) / 1800, rel=1e-9, abs=0)
    assert min(earned) * (1 - 1e-9) <= reward.bitcoin_per_hash <= max(earned) * (1 + 1e-9)


@pytest.mark.parametrize("day", [date(2024, 4, 20), date(2024, 4, 24), date(2025, 3, 30), date(2025, 10, 26), DAY])
def test_the_rewards_of_days_are_those_of_their_periods(day: date) -> None:
    rewards = expanded([day])

    assert rewards == [HISTORY.reward(day, period) for period in range(1, periods_in(day) + 1)]


@pytest.mark.parametrize("day", [date(2017, 11, 24), date(2010, 1, 1), date(2026, 8, 17), date(2030, 1, 1)])
def test_a_period_outside_of_the_table_is_not_known_and_the_date_is_named(day: date) -> None:
    assert not HISTORY.covers(day)
    assert HISTORY.reward(day, 1) is None
    assert re.search(f"difficulty of {day} is not known.*2017-11-24.*2026-08-16T00:00Z", HISTORY.unknown(day))


def test_the_open_epoch_is_known_up_to_its_observation_and_no_further() -> None:
    # Observed at 2026-08-16T00:00Z, the end of the second period of that settlement day.
    observed_on = date(2026, 8, 16)

    assert HISTORY.covers(date(2026, 8, 15))
    assert not HISTORY.covers(observed_on)
    assert [reward.settlement_period for reward in expanded(Days(observed_on, date(2026, 8, 20)))] == [1, 2]


def test_a_table_of_exactly_one_day_covers_that_day_and_no_other() -> None:
    begin, end = period_starts_at(DAY, 1), period_starts_at(DAY + timedelta(days=1), 1)

    history = DifficultyHistory(epochs([begin], [1e14], end))

    assert [history.covers(DAY + timedelta(days=n)) for n in (-1, 0, 1)] == [False, True, False]
    assert [history.reward(DAY, period) is not None for period in (1, 48)] == [True, True]
    assert history.reward(DAY - timedelta(days=1), 48) is history.reward(DAY + timedelta(days=1), 1) is None
    later = DifficultyHistory(epochs([begin + timedelta(seconds=1)], [1e14], end - timedelta(seconds=1)))
    assert not later.covers(DAY)
    assert [later.reward(DAY, period) is not None for period in (1, 2, 47, 48)] == [False, True, True, False]


def test_an_epoch_with_a_halving_whose_time_is_not_listed_is_not_covered() -> None:
    height = 1_050_000 // 2016 * 2016
    first, second = utc("2028-03-01T00:00"), utc("2028-03-15T00:00")
    history = DifficultyHistory(
        [
            Retarget(height - 2016, first, True, 1e14, "made up", utc("2028-03-25T00:00")),
            Retarget(height, second, True, 1e14, "made up", utc("2028-03-25T00:00")),
        ]
    )

    assert history.covers(date(2028, 3, 10))
    assert not history.covers(date(2028, 3, 16))
    assert history.reward(date(2028, 3, 16), 1) is None


def test_no_retarget_at_all_is_an_error() -> None:
    with pytest.raises(ReconError, match="no difficulty is known: materialize network_difficulty"):
        DifficultyHistory([])


def test_a_gap_in_the_chain_is_refused() -> None:
    gapped = [retarget for retarget in PACKAGED if retarget.height != 840_672]

    with pytest.raises(ReconError, match="a gap or a disorder after block 838656"):
        DifficultyHistory(gapped)


def test_times_that_run_backwards_are_refused() -> None:
    chain = epochs([utc("2025-01-15T00:00"), utc("2025-01-01T00:00")], [1e14, 1e14], utc("2025-02-01T00:00"))

    with pytest.raises(ReconError, match=f"a disorder after block {FIRST_HEIGHT}"):
        DifficultyHistory(chain)


OBSERVED = utc("2026-08-20T12:00")


def tail_of(*retargets: Retarget, later: timedelta = timedelta(minutes=7)) -> list[Retarget]:
    """The same retargets as the live tail has them, with slightly later times."""
    return [
        replace(r, starts_at=r.starts_at + later, time_exact=True, source="mempool", observed_at=OBSERVED)
        for r in retargets
    ]


def test_a_tail_replaces_approximate_times_and_never_exact_ones() -> None:
    exact = next(retarget for retarget in PACKAGED if retarget.height == 840_672)
    approximate = next(retarget for retarget in PACKAGED if retarget.height == 901_152)

    merged = {retarget.height: retarget for retarget in with_tail(PACKAGED, tail_of(exact, approximate))}

    assert merged[840_672] == exact
    assert merged[901_152].starts_at == approximate.starts_at + timedelta(minutes=7)
    assert merged[901_152].time_exact
    assert merged[901_152].difficulty == approximate.difficulty
    others = {retarget.height: retarget for retarget in PACKAGED} | {901_152: merged[901_152]}
    assert merged == others


def test_a_tail_without_a_new_epoch_extends_the_open_one_to_its_observation() -> None:
    assert not HISTORY.covers(date(2026, 8, 19))

    extended = DifficultyHistory(with_tail(PACKAGED, tail_of(PACKAGED[-1])))

    assert extended.covers(date(2026, 8, 19))
    assert not extended.covers(date(2026, 8, 20))


def test_another_observation_extends_the_open_epoch_and_leaves_its_exact_start() -> None:
    known = with_tail(PACKAGED, tail_of(PACKAGED[-1]))
    later = OBSERVED + timedelta(days=2)

    seen_again = [replace(retarget, observed_at=later) for retarget in tail_of(known[-1])]
    extended = with_tail(known, seen_again)

    assert extended[-1] == replace(known[-1], observed_at=later)
    assert DifficultyHistory(extended).known_until == later


def test_a_tail_adds_new_epochs() -> None:
    new = Retarget(963_648, utc("2026-08-19T06:00"), True, 1.3e14, "mempool", OBSERVED)

    extended = DifficultyHistory(with_tail(PACKAGED, [new]))

    assert reward_of(extended, date(2026, 8, 19), 10).difficulty == PACKAGED[-1].difficulty
    assert reward_of(extended, date(2026, 8, 19), 20).difficulty == 1.3e14


def test_a_tail_that_contradicts_a_known_difficulty_is_refused() -> None:
    other = replace(tail_of(PACKAGED[-3])[0], difficulty=PACKAGED[-3].difficulty * 1.00001)

    with pytest.raises(ReconError, match=f"difficulty of block {PACKAGED[-3].height} .*MEMPOOL_API_URL"):
        with_tail(PACKAGED, [other])


def test_a_tail_that_leaves_a_gap_is_refused() -> None:
    after_next = Retarget(961_632 + 2 * 2016, utc("2026-09-06T00:00"), True, 1.3e14, "mempool", OBSERVED)

    with pytest.raises(ReconError, match="a gap or a disorder after block 961632"):
        with_tail(PACKAGED, [after_next])


def test_the_answer_of_mempool_is_read() -> None:
    assert parse_adjustments([[1_786_221_480, 961_632, 127_479_855_693_691.4, 1.00989]], OBSERVED) == [
        Retarget(961_632, utc("2026-08-08T20:38"), True, 127_479_855_693_691.4, "mempool", OBSERVED)
    ]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"error": "rate limited"},
        "Too Many Requests",
        [[1_786_221_480, 961_632]],
        [["soon", 961_632, 1.2e14, 1.0]],
        [[1_786_221_480, 961_633, 1.2e14, 1.0]],
        [[1_786_221_480, 961_632, 0, 1.0]],
    ],
)
def test_any_other_answer_is_an_error(body: Any) -> None:
    with pytest.raises(ReconError, match=r"not what mempool\.space documents"):
        parse_adjustments(body, OBSERVED)


def test_what_is_known_without_a_stored_table_is_the_packaged_one() -> None:
    assert with_packaged([]) == PACKAGED


def test_a_stored_retarget_replaces_the_packaged_one_but_its_approximate_time_not_an_exact_one() -> None:
    exact = next(retarget for retarget in PACKAGED if retarget.time_exact)
    newest = PACKAGED[-1]
    later = newest.observed_at + timedelta(days=2)
    told = replace(exact, starts_at=exact.starts_at + timedelta(minutes=3), time_exact=False, source="old")
    after = replace(newest, height=newest.height + 2016, starts_at=later - timedelta(days=1), observed_at=later)
    own = replace(PACKAGED[40], difficulty=1.0)

    known = {retarget.height: retarget for retarget in with_packaged([told, after, own])}

    assert len(known) == len(PACKAGED) + 1
    assert known[exact.height] == replace(exact, source="old")
    assert known[after.height] == after
    assert known[own.height] == own
