import msgspec
import pytest
from hypothesis import given, strategies as st
from sqlalchemy import text

from billing import policy
from billing.money import BPS_WHOLE, Money, slices, split
from tests.billing.world import NOW, Sessions

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


# Every amount that anybody pays -------------------------------------------------------------------------------------

MOST = 1_000_000


async def test_every_amount_by_every_share_in_use_loses_no_cent(sessions: Sessions) -> None:
    """By carrying: the tutor's next cent is due when their ten-thousandths have become a whole one."""
    async with sessions() as session:
        terms = msgspec.structs.asdict(await policy.current(session, NOW))
        shares = {value for name, value in terms.items() if name.endswith("_bps")}
        assert shares
        for bps in shares:
            tutor, carried = 0, 0
            for amount in range(1, MOST + 1):
                carried += bps
                if carried >= BPS_WHOLE:
                    tutor, carried = tutor + 1, carried - BPS_WHOLE
                if split(amount, bps) != (tutor, amount - tutor):
                    raise AssertionError((amount, bps))
        # And the database's own division, which guards each settlement, is the same.
        weighed = text("""
            select bps, sum(amount * bps / 10000 * (amount % 9973))::bigint from generate_series(1, :most) amount,
              unnest(cast(:shares as bigint[])) bps group by bps
        """)
        found: dict[int, int] = dict(
            (await session.execute(weighed, {"most": 100_000, "shares": list(shares)})).all()
        )
    assert found == {
        bps: sum(split(amount, bps)[0] * (amount % 9973) for amount in range(1, 100_001)) for bps in shares
    }


@pytest.mark.timeout(600)
def test_every_price_in_every_number_of_slices_loses_no_cent(*, full: bool) -> None:
    """Up to a year of weekly lessons; prices up to 50 dollars, in the long form up to 10,000."""
    for n in range(1, 53):
        for amount in range(1, (MOST if full else 5_000) + 1):
            cut = slices(amount, n)
            if sum(cut) != amount or len(cut) != n or cut[-1] - cut[0] > 1 or cut != sorted(cut):
                raise AssertionError((amount, n))
