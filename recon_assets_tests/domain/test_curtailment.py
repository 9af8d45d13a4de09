import pytest
from hypothesis import given
from hypothesis import strategies as st

from recon_assets.domain.curtailment import CurtailmentRule, fingerprint, is_curtailment, payment_gbp

SO_FLAGGED, ALL_BIDS = CurtailmentRule.SO_FLAGGED, CurtailmentRule.ALL_BIDS

values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False))
tables = st.lists(st.tuples(values, values), max_size=8)


@pytest.mark.parametrize(
    ("volume_mwh", "so_flag", "cadl_flag", "flagged", "any_bid"),
    [
        (-3.2, True, False, True, True),
        (-3.2, False, True, True, True),
        (-3.2, True, True, True, True),
        (-3.2, False, False, False, True),
        (0.0, True, True, False, False),
        (3.2, True, True, False, False),
    ],
)
def test_the_rules(volume_mwh: float, so_flag: bool, cadl_flag: bool, flagged: bool, any_bid: bool) -> None:
    assert is_curtailment(SO_FLAGGED, volume_mwh, so_flag, cadl_flag) is flagged
    assert is_curtailment(ALL_BIDS, volume_mwh, so_flag, cadl_flag) is any_bid


def test_a_payment_is_positive_to_the_farm_and_negative_from_it() -> None:
    assert payment_gbp(-10.0, -43.79) == 437.9
    assert payment_gbp(-10.0, 88.56) == -885.6
    assert payment_gbp(-10.0, 0.0) == 0.0


@given(tables.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_a_fingerprint_does_not_depend_on_the_order(tables: tuple[list[object], list[object]]) -> None:
    rows, shuffled = tables

    assert fingerprint(rows) == fingerprint(shuffled)  # type: ignore[arg-type]  # tuples of values


@given(tables, st.tuples(values, values))
def test_a_fingerprint_tells_a_row_more(rows: list[tuple[object, object]], more: tuple[object, object]) -> None:
    assert fingerprint(rows) != fingerprint([*rows, more])


def test_a_fingerprint_tells_values_and_repetitions_apart() -> None:
    assert fingerprint([(1, -3.2)]) != fingerprint([(1, -3.3)])
    assert fingerprint([(1, None)]) != fingerprint([(1, "None")])
    assert fingerprint([(1, "a"), (1, "a")]) != fingerprint([(1, "a")])
