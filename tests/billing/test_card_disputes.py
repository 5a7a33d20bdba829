"""Banks that ask payments back: whatever comes of Stripe's messages in whatever order, the end is the same, and whole."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import card_disputes, disputes, holds, maturity, settlement
from billing.disputes import Claim
from billing.errors import UnsettledPaymentError
from billing.models import CARD_DISPUTE_ARROWS, CardDisputeStatus, DisputeReason, HoldId, SourceKind
from billing.stripe_objects import Dispute
from server.integrations.stripe_fake.disputes import FEE
from tests.billing.payments import Shop, open_shop
from tests.billing.world import PLANNED_S, Sessions, facts, fund, new_hold, owner, violations

PAID, PRICE, SHARE, OURS = 10_000, 6_000, 4_200, 1_800
CARD_FEE = PAID * 29 // 1000 + 30
RISK = timedelta(days=7)


class Buyer:
    """Somebody who paid by card and bought a lesson with it, and their tutor."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.id = owner()
        self.tutor = owner()
        self.payment = ""

    async def pay(self, amount: int = PAID) -> str:
        step = await self.shop.start(self.id, amount)
        await self.shop.fake.pay(step.top_up.checkout_id or "")
        await self.shop.tell_all()
        self.payment = (await self.shop.top_up(step.top_up.id)).payment_id or ""
        return self.payment

    async def take(self, price: int = PRICE, *, kind: SourceKind = SourceKind.BOOKING) -> HoldId:
        """Buy a lesson and attend it."""
        lesson, now = uuid4(), self.shop.now
        hold = new_hold(price, lesson_id=lesson, tutor_id=self.tutor, tutor_bps=7_000, source_kind=kind)
        async with self.shop.sessions.begin() as session:
            [hold_id] = await holds.place(
                session, holds=[hold], student_id=self.id, key=str(uuid4()), now=now
            )
        async with self.shop.sessions.begin() as session:
            await settlement.due(session, facts(lesson, {self.id: PLANNED_S}, tutor_id=self.tutor), now=now)
            await settlement.settle(session, lesson, now=now)
        return hold_id

    async def complain(self, **more: Any) -> str:
        answer = await self.shop.fake.act(f"/payments/{self.payment}/dispute", **more)
        return str(answer.body["id"])

    async def has(self) -> dict[str, int]:
        """Sums by kind of account, without what a payment itself does."""
        found = await self.shop.balances()
        return {kind: amount for kind, amount in found.items() if kind not in ("stripe", "platform_expense")}


@pytest.fixture
async def buyer(sessions: Sessions) -> AsyncIterator[Buyer]:
    async with open_shop(sessions) as shop:
        yield Buyer(shop)


async def expense(buyer: Buyer) -> int:
    return (await buyer.shop.balances()).get("platform_expense", 0)


async def whole(buyer: Buyer) -> None:
    """The books are sound, and Stripe's say the same."""
    assert await violations(buyer.shop.sessions) == []
    assert -(await buyer.shop.balances())["stripe"] == (await buyer.shop.api.balance()).total("USD")
    assert (await buyer.shop.reconcile()).findings == ()


async def test_an_open_dispute_freezes_credit_first_and_then_what_it_bought(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take()

    await buyer.complain()
    await buyer.shop.tell_all()

    assert await buyer.has() == {"frozen": 4_000 + SHARE, "platform_revenue": OURS, "stripe_disputed": -PAID}
    assert await expense(buyer) == -CARD_FEE - FEE
    await whole(buyer)


async def test_won_frees_everything_but_the_fee(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take()
    before = await buyer.has()
    dispute = await buyer.complain()
    await buyer.shop.tell_all()

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=True)
    await buyer.shop.tell_all()

    assert await buyer.has() == before
    assert await expense(buyer) == -CARD_FEE - FEE
    await whole(buyer)


async def test_lost_is_borne_by_the_payer_and_then_by_what_was_at_risk(buyer: Buyer) -> None:
    await buyer.pay()
    hold_id = await buyer.take()
    dispute = await buyer.complain()
    await buyer.shop.tell_all()

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)
    await buyer.shop.tell_all()

    assert await buyer.has() == {}
    assert await expense(buyer) == -CARD_FEE - FEE
    async with buyer.shop.sessions() as session:
        query = "select cause, to_student from hold_settlement where hold_id = :hold and number = 1"
        rows = (await session.execute(text(query), {"hold": hold_id})).all()
    assert [tuple(row) for row in rows] == [("card_dispute", PRICE)]
    await whole(buyer)


async def test_what_is_lost_stays_frozen_until_stripe_says_what_it_took(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take()
    dispute = await buyer.complain()
    await buyer.shop.tell_all()
    frozen = await buyer.has()
    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)
    found = await buyer.shop.api.retrieve_dispute(dispute)

    async with buyer.shop.sessions.begin() as session:
        early = msgspec.structs.replace(found, balance_transactions=())
        await card_disputes.apply(session, early, now=buyer.shop.now)
    before = await buyer.has()
    await buyer.shop.tell_all()

    assert before == frozen
    assert await buyer.has() == {}
    await whole(buyer)


async def test_a_lesson_whose_risk_window_is_over_stays_paid_and_the_loss_is_ours(buyer: Buyer) -> None:
    await buyer.pay()
    matured = await buyer.take(2_500)
    await buyer.take(3_000, kind=SourceKind.COURSE_SESSION)
    buyer.shop.passes(RISK)
    async with buyer.shop.sessions.begin() as session:
        await maturity.mature(session, matured, now=buyer.shop.now)
    at_risk = await buyer.take(2_000)
    dispute = await buyer.complain()
    await buyer.shop.tell_all()
    async with buyer.shop.sessions() as session:
        frozen = (await session.scalars(text("select hold_id from hold_freeze"))).all()

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)
    await buyer.shop.tell_all()

    assert frozen == [at_risk]
    assert await buyer.has() == {"earnings": 3_850, "platform_revenue": 1_650}
    assert await expense(buyer) == -CARD_FEE - FEE - 5_500
    await whole(buyer)


async def test_of_what_was_bought_the_newest_is_frozen_and_only_as_much_as_is_missing(buyer: Buyer) -> None:
    await fund(buyer.shop.sessions, buyer.id, 3_000)
    buyer.shop.passes(timedelta(hours=1))
    await buyer.take(1_000)
    buyer.shop.passes(timedelta(hours=1))
    await buyer.pay()
    bought = []
    for price in (1_000, 2_000, 6_000, 3_000):
        buyer.shop.passes(timedelta(hours=1))
        bought.append(await buyer.take(price))

    dispute = await buyer.complain(amount=8_000)
    await buyer.shop.tell_all()
    async with buyer.shop.sessions() as session:
        frozen = set((await session.scalars(text("select hold_id from hold_freeze"))).all())
    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)
    await buyer.shop.tell_all()

    # Nothing is in the wallet: the last lesson is frozen for 3,000, and the one before for more than the other 5,000.
    assert frozen == set(bought[2:])
    assert await buyer.has() == {"earnings_pending": 3_500, "platform_revenue": 1_500}
    assert await expense(buyer) == -CARD_FEE - FEE - 3_000
    await whole(buyer)


async def test_what_comes_to_the_wallet_later_is_frozen_at_the_next_look(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take(10_000, kind=SourceKind.COURSE_SESSION)
    await buyer.complain()
    await buyer.shop.tell_all()
    nothing = (await buyer.has()).get("frozen", 0)
    looked = []
    for amount in (1_500, 500):
        await fund(buyer.shop.sessions, buyer.id, amount)
        looked.append(await card_disputes.look(buyer.shop.sessions, buyer.shop.api, now=buyer.shop.now))

    assert (nothing, looked) == (0, [1, 1])
    assert (await buyer.has())["frozen"] == 2_000
    assert await violations(buyer.shop.sessions) == []


async def test_an_inquiry_moves_and_freezes_nothing(buyer: Buyer) -> None:
    await buyer.pay()
    before = await buyer.shop.balances()
    dispute = await buyer.complain(inquiry=True)
    await buyer.shop.tell_all()
    between = await buyer.shop.balances()

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide")
    await buyer.shop.tell_all()

    assert before == between == await buyer.shop.balances()
    async with buyer.shop.sessions() as session:
        assert await session.scalar(text("select status from card_dispute")) == "closed"
    await whole(buyer)


async def test_a_student_and_a_bank_may_dispute_the_same_lesson(buyer: Buyer) -> None:
    await buyer.pay()
    hold_id = await buyer.take()
    claim = Claim(reason=DisputeReason.OTHER, words="It was not for me.", student_id=buyer.id)
    async with buyer.shop.sessions.begin() as session:
        mine = await disputes.begin(session, hold_id, claim, now=buyer.shop.now)
    dispute = await buyer.complain()
    await buyer.shop.tell_all()
    async with buyer.shop.sessions.begin() as session:
        await disputes.uphold(session, mine.id, admin_id=uuid4(), notes="It was.   .", now=buyer.shop.now)
    still = await buyer.has()

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=True)
    await buyer.shop.tell_all()

    assert still["frozen"] == 4_000 + SHARE
    assert await buyer.has() == {"wallet": 4_000, "earnings_pending": SHARE, "platform_revenue": OURS}
    await whole(buyer)


async def test_the_student_got_it_back_before_the_bank_decided(buyer: Buyer) -> None:
    """What an administrator gave back is in the wallet, and the bank's loss is borne by it."""
    await buyer.pay()
    hold_id = await buyer.take()
    claim = Claim(reason=DisputeReason.OTHER, words="It was not for me.", student_id=buyer.id)
    async with buyer.shop.sessions.begin() as session:
        mine = await disputes.begin(session, hold_id, claim, now=buyer.shop.now)
    dispute = await buyer.complain()
    await buyer.shop.tell_all()
    async with buyer.shop.sessions.begin() as session:
        await disputes.refund(
            session, mine.id, None, admin_id=uuid4(), notes="That is so.", now=buyer.shop.now
        )

    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)
    await buyer.shop.tell_all()

    assert await buyer.has() == {}
    assert await expense(buyer) == -CARD_FEE - FEE
    await whole(buyer)


# Messages ------------------------------------------------------------------------------------------------------------


async def test_doubled_and_shuffled_webhooks_end_the_same(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take()
    before = await buyer.has()
    dispute = await buyer.complain(inquiry=True)
    await buyer.shop.fake.act(f"/disputes/{dispute}/escalate")
    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=True)
    told = [event for event in buyer.shop.fake.events if "dispute" in event["type"]]
    dice = random.Random(3)
    shuffled = dice.sample(told * 2, k=len(told) * 2)

    for event in shuffled:
        await buyer.shop.receive(event)
        await buyer.shop.run_jobs()

    assert len(told) == 5
    assert await buyer.has() == before
    await whole(buyer)


async def test_reconciliation_finds_what_no_webhook_told_and_a_look_the_end(buyer: Buyer) -> None:
    await buyer.pay()
    await buyer.take()
    dispute = await buyer.complain()
    buyer.shop.passes(timedelta(minutes=20))
    report = await buyer.shop.reconcile()
    frozen = (await buyer.has())["frozen"]
    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=False)

    await card_disputes.look(buyer.shop.sessions, buyer.shop.api, now=buyer.shop.now)

    assert (report.repaired, report.findings, frozen) == (1, (), 4_000 + SHARE)
    assert await buyer.has() == {}
    await whole(buyer)


async def test_a_dispute_brings_its_payment_with_it(buyer: Buyer) -> None:
    """C25: the bank is faster than the message of the payment itself."""
    step = await buyer.shop.start(buyer.id, PAID)
    await buyer.shop.fake.pay(step.top_up.checkout_id or "")
    session_id = step.top_up.checkout_id or ""
    paid = await buyer.shop.api.retrieve_checkout(session_id)
    buyer.payment = paid.payment_intent or ""
    await buyer.complain()
    [first, *_] = [event for event in buyer.shop.fake.events if "dispute" in event["type"]]

    await buyer.shop.receive(first)
    await buyer.shop.run_jobs()

    assert await buyer.has() == {"frozen": PAID, "stripe_disputed": -PAID}
    await buyer.shop.tell_all()
    await whole(buyer)


async def test_a_dispute_of_a_payment_that_is_not_booked_waits(buyer: Buyer) -> None:
    step = await buyer.shop.start(buyer.id, PAID)
    await buyer.shop.fake.pay(step.top_up.checkout_id or "")
    paid = await buyer.shop.api.retrieve_checkout(step.top_up.checkout_id or "")
    buyer.payment = paid.payment_intent or ""
    found = await buyer.shop.api.retrieve_dispute(await buyer.complain())

    async with buyer.shop.sessions() as session:
        with pytest.raises(UnsettledPaymentError):
            await card_disputes.apply(session, found, now=buyer.shop.now)


# Every order of what Stripe said -------------------------------------------------------------------------------------


async def balances(session: AsyncSession) -> dict[tuple[str, UUID], int]:
    query = "select kind, owner_id, sum(balance)::bigint from ledger_account group by 1, 2 having sum(balance) <> 0"
    return {(kind, owner_id): amount for kind, owner_id, amount in await session.execute(text(query))}


@pytest.mark.parametrize(("won", "count"), [(True, 120), (False, 6)])
async def test_every_order_of_stale_objects_ends_in_the_same_balances(
    buyer: Buyer, won: bool, count: int
) -> None:
    """Each message's object as it was when it was sent, in every order, some of them twice: only the newest counts."""
    await buyer.pay()
    await buyer.take()
    dispute = await buyer.complain(inquiry=won)
    if won:
        await buyer.shop.fake.act(f"/disputes/{dispute}/escalate")
    await buyer.shop.fake.act(f"/disputes/{dispute}/decide", won=won)
    said = [
        msgspec.convert(event["data"]["object"], Dispute)
        for event in buyer.shop.fake.events
        if event["type"].startswith("charge.dispute.")
    ]
    dice = random.Random(11)
    ends: list[dict[tuple[str, UUID], int]] = []

    async def walk(session: AsyncSession, before: list[Dispute], left: list[Dispute]) -> None:
        """Go on in every order; what orders begin with is done once for all of them, and undone behind them."""
        if not left:
            await card_disputes.apply(session, dice.choice(before), now=buyer.shop.now)
            ends.append(await balances(session))
        for found in left:
            savepoint = await session.begin_nested()
            await card_disputes.apply(session, found, now=buyer.shop.now)
            if dice.random() < 0.3:
                await card_disputes.apply(session, dice.choice([*before, found]), now=buyer.shop.now)
            await walk(session, [*before, found], [other for other in left if other is not found])
            await savepoint.rollback()
            session.expire_all()

    async with buyer.shop.sessions() as session:
        await walk(session, [], said)

    assert len(ends) == count
    assert all(end == ends[0] for end in ends)
    left = {
        kind: amount for (kind, _), amount in ends[0].items() if kind not in ("stripe", "platform_expense")
    }
    assert left == ({"wallet": 4_000, "earnings_pending": SHARE, "platform_revenue": OURS} if won else {})


def test_the_status_goes_forward_only() -> None:
    ends = {status for status in CardDisputeStatus if status not in CARD_DISPUTE_ARROWS}

    assert ends == set(card_disputes.ENDS)
    assert {status for arrows in CARD_DISPUTE_ARROWS.values() for status in arrows} == {
        CardDisputeStatus.OPEN,
        *ends,
    }
