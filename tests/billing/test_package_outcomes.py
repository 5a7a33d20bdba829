"""What becomes of a package's lessons, taken and untaken."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from billing.packages import EXPIRY_GRACE
from billing.policy import Changes
from tests.billing.earner import Earner
from tests.billing.seller import Seller, enact
from tests.billing.world import Sessions, violations

DAY = timedelta(days=1)
# Of a lesson for 10,000 by the first tier.
PRICE, TUTORS = 10_000, 8_000


@pytest.fixture
def seller(sessions: Sessions) -> Seller:
    return Seller(sessions)


async def owes(seller: Seller, amount: int) -> None:
    """Have terms without a risk window, and a tutor who owes something."""
    await enact(seller.sessions, Changes(booking_risk_days=0))
    earner = Earner(seller.sessions)
    earner.tutor = seller.tutor
    await earner.owe(amount)


async def debt(seller: Seller) -> int:
    query = text("select balance from ledger_account where kind = 'tutor_debt' and owner_id = :id")
    async with seller.sessions() as session:
        return -int(await session.scalar(query, {"id": seller.tutor}) or 0)


async def test_debts_are_repaid_from_what_expires_without_a_risk_window(seller: Seller) -> None:
    await owes(seller, 2 * TUTORS + 1)
    await seller.sell(lessons=2, price=2 * PRICE, validity_days=1)

    await seller.passes(DAY + EXPIRY_GRACE)

    assert await debt(seller) == 1
    assert await violations(seller.sessions) == []
