import pytest
from hypothesis import given, strategies as st

from billing.money import Money, slices, split

amounts = st.integers(min_value=0, max_value=9_000_000_000_000_000)
shares = st.integers(min_value=0, max_value=10_000)


@pytest.mark.parametrize(
    ("amount", "bps", "tutor", "platform"),
    [
        (10_000, 3_000, 3_000, 7_000),
        (10_000, 7_000, 7_000, 3_000),
        (100, 7_000, 70, 30),
        (3_333, 3_000, 999, 2_334),
        (1, 3_000, 0, 1),
        (1, 10_000, 1, 0),
    ],
)
def test_split_gives_the_tutor_the_floor(amount: int, bps: int, tutor: int, platform: int) -> None:
    assert split(amount, bps) == (tutor, platform)


@given(amounts, shares)
def test_split_loses_nothing_and_is_less_than_a_cent_off(amount: int, bps: int) -> None:
    tutor, platform = split(amount, bps)

    assert tutor + platform == amount
    assert 0 <= amount * bps - tutor * 10_000 < 10_000


@given(amounts, st.integers(min_value=1, max_value=500))
def test_slices_are_equal_with_the_remainder_last(amount: int, n: int) -> None:
    cut = slices(amount, n)

    assert sum(cut) == amount
    assert len(cut) == n
    assert cut == sorted(cut)
    assert cut[-1] - cut[0] <= 1


def test_a_thousand_in_three_slices() -> None:
    assert slices(1_000, 3) == [333, 333, 334]


@pytest.mark.parametrize(
    ("money", "words"),
    [
        (Money(1_250), "12.50 USD"),
        (Money(-5), "-0.05 USD"),
        (Money(0), "0.00 USD"),
        (Money(20_000, "VND"), "20000 VND"),
    ],
)
def test_money_is_written_for_people(money: Money, words: str) -> None:
    assert str(money) == words
