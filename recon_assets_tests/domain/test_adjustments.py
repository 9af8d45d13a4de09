"""What an answer of mempool.space may look like, and what is made of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from recon_assets.domain.adjustments import parse_adjustments, with_tail
from recon_assets.domain.difficulty import (
    DifficultyHistory,
    Retarget,
    packaged_retargets,
)
from recon_assets.errors import ReconError
from recon_assets_tests.support.adjustments import Row, answer
from recon_assets_tests.support.rewards import reward_of

PACKAGED = packaged_retargets()
LAST = PACKAGED[-1]
OBSERVED = datetime(2026, 9, 30, 12, tzinfo=UTC)
UNCHANGED, NEXT = LAST.height + 2016, LAST.height + 2 * 2016
"""The epoch after the packaged table, which leaves the difficulty as it is, and the one after that."""
CHANGED = (datetime(2026, 9, 5, 20, tzinfo=UTC), NEXT, 1.3e14)


def joined(rows: list[Row], known: list[Retarget] = PACKAGED) -> list[Retarget]:
    """What is known after an answer."""
    return with_tail(known, parse_adjustments(rows, OBSERVED))


def test_an_answer_goes_back_to_block_0_and_has_463_rows() -> None:
    rows = answer()

    assert (len(rows), rows[0][1], rows[-1], rows[-2][1]) == (463, LAST.height, [1_231_006_505, 0, 1, 0], 32_256)


def test_an_answer_back_to_block_0_extends_the_table_and_makes_its_times_exact() -> None:
    known = joined(answer())

    assert [entry.height for entry in known] == [entry.height for entry in PACKAGED]
    assert all(entry.time_exact for entry in known)
    assert DifficultyHistory(known).known_until == OBSERVED


def test_an_epoch_without_a_row_has_the_difficulty_of_the_one_before() -> None:
    rows = answer(CHANGED)
    assert UNCHANGED not in {row[1] for row in rows}

    known = {entry.height: entry for entry in joined(rows)}

    carried = known[UNCHANGED]
    assert (carried.difficulty, carried.time_exact, carried.source) == (LAST.difficulty, False, "carried")
    assert carried.starts_at == datetime(2026, 8, 22, 20, 19, tzinfo=UTC)
    assert known[NEXT].difficulty == 1.3e14
    history = DifficultyHistory(known.values())
    assert reward_of(history, date(2026, 8, 20), 1).difficulty == reward_of(history, date(2026, 9, 1), 1).difficulty
    assert reward_of(history, date(2026, 9, 6), 1).difficulty == 1.3e14


def test_two_epochs_without_rows_are_carried_alike() -> None:
    known = joined(answer((datetime(2026, 9, 19, tzinfo=UTC), NEXT + 2016, 1.1e14)))

    assert [entry.difficulty for entry in known[-4:]] == [*[LAST.difficulty] * 3, 1.1e14]
    assert [entry.time_exact for entry in known[-4:]] == [True, False, False, True]


def test_a_carried_epoch_is_known_from_then_on_and_its_time_is_replaced_when_there_is_one() -> None:
    known = joined(answer(CHANGED))
    seen = (datetime(2026, 8, 22, 19, tzinfo=UTC), UNCHANGED, LAST.difficulty)

    assert joined(answer(CHANGED), known) == known
    again = {entry.height: entry for entry in joined(answer(seen, CHANGED), known)}
    assert (again[UNCHANGED].starts_at, again[UNCHANGED].time_exact) == (seen[0], True)


@pytest.mark.parametrize("ratio", [1.01978, 1.01977])
def test_the_ratio_may_be_off_by_its_rounding(ratio: float) -> None:
    rows = answer((CHANGED[0], NEXT, LAST.difficulty * 1.019775))
    rows[0][3] = ratio

    assert joined(rows)[-2].height == UNCHANGED


@pytest.mark.parametrize("ratio", [1.01978 + 2e-5, 1.02, 0, -1, None, "1.01978", float("nan")])
def test_a_missing_row_whose_successor_does_not_confirm_it_is_damage(ratio: Any) -> None:
    rows = answer((CHANGED[0], NEXT, LAST.difficulty * 1.019775))
    rows[0][3] = ratio

    with pytest.raises(ReconError, match=f"a gap or a disorder after block {LAST.height}.*nothing was changed"):
        joined(rows)


def test_a_row_that_changed_and_was_lost_is_damage() -> None:
    rows = answer((datetime(2026, 8, 22, tzinfo=UTC), UNCHANGED, 1.2e14), CHANGED)
    del rows[1]

    with pytest.raises(ReconError, match=f"a gap or a disorder after block {LAST.height}.*nothing was changed"):
        joined(rows)


def test_the_order_of_the_rows_does_not_matter_and_a_repeated_one_neither() -> None:
    rows = answer(CHANGED)

    assert joined([*rows[::-1], rows[0]]) == joined(rows)


def test_two_rows_of_one_height_that_differ_are_damage() -> None:
    rows = answer(CHANGED)
    rows.insert(1, [rows[0][0], NEXT, 1.31e14, 1.02])

    with pytest.raises(ReconError, match=rf"not what mempool\.space documents: two rows of block {NEXT}"):
        joined(rows)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, "1788638400", "'1788638400'"),
        (0, None, "None"),
        (0, 1e300, "1e\\+300"),
        (0, int(OBSERVED.timestamp()) + 3 * 3600, "in the future"),
        (1, NEXT + 1, str(NEXT + 1)),
        (1, -2016, "-2016"),
        (1, str(NEXT), f"'{NEXT}'"),
        (1, True, "True"),
        (2, 0, "0"),
        (2, -1.3e14, "-1"),
        (2, None, "None"),
        (2, "1.3e14", "'1.3e14'"),
        (2, float("nan"), "nan"),
        (2, float("inf"), "inf"),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error_that_shows_it(place: int, value: Any, reason: str) -> None:
    rows = answer(CHANGED)
    rows[0][place] = value

    with pytest.raises(ReconError, match=rf"not what mempool\.space documents: .*{reason}"):
        joined(rows)


def test_a_block_may_be_two_hours_ahead_of_the_clock() -> None:
    rows = answer((OBSERVED + timedelta(hours=1), UNCHANGED, 1.2e14))

    history = DifficultyHistory(joined(rows))

    assert history.known_until == OBSERVED
    assert reward_of(history, date(2026, 9, 29), 1).difficulty == LAST.difficulty


def earlier_than_its_predecessor(rows: list[Row]) -> None:
    rows[0][0] = rows[1][0] - 1


def another_difficulty(rows: list[Row]) -> None:
    rows[100][2] *= 1.00001


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (earlier_than_its_predecessor, f"a gap or a disorder after block {UNCHANGED}"),
        (another_difficulty, "the difficulty of block"),
    ],
)
def test_an_answer_that_contradicts_itself_or_what_is_known_is_damage(
    change: Callable[[list[Row]], None], reason: str
) -> None:
    rows = answer((datetime(2026, 8, 22, tzinfo=UTC), UNCHANGED, 1.2e14), CHANGED)
    change(rows)

    with pytest.raises(ReconError, match=f"{reason}.*nothing was changed"):
        joined(rows)


@pytest.mark.parametrize("lost", [1, 2, 200])
def test_an_answer_without_the_newest_rows_makes_nothing_forgotten_or_newer(lost: int) -> None:
    known = joined(answer(CHANGED))
    tail = parse_adjustments(answer(CHANGED)[lost:], OBSERVED + timedelta(days=1))

    assert with_tail(known, tail) == known


def test_a_carried_epoch_that_was_lost_is_carried_again() -> None:
    known = joined(answer(CHANGED))

    assert joined(answer(CHANGED), [entry for entry in known if entry.height != UNCHANGED]) == known


def test_a_known_table_with_a_gap_is_not_blamed_on_an_answer() -> None:
    with pytest.raises(ReconError, match=f"^the difficulty table has a gap or a disorder after block {LAST.height}$"):
        with_tail([*PACKAGED, replace(LAST, height=NEXT, starts_at=CHANGED[0])], [])


def test_an_answer_before_the_packaged_table_alone_changes_nothing() -> None:
    assert joined(answer()[-200:]) == PACKAGED


def test_a_clock_that_was_set_back_does_not_shorten_what_is_known() -> None:
    known = joined(answer(CHANGED))

    assert with_tail(known, [replace(known[-1], observed_at=OBSERVED - timedelta(days=2))]) == known
