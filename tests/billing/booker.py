"""One student who books lessons with one tutor, and everything that pays for them, each at the word of the test."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import (
    card_payments,
    card_refunds,
    hold_views,
    jobs,
    payment_moves,
    payments,
    reconciliation,
    settlement,
    stripe_events,
    stripe_webhooks,
    top_ups,
)
from billing.card_payments import Asked
from billing.hold_views import HoldView
from billing.models import (
    CardAuthorization,
    CardRefund,
    HoldId,
    OwnerId,
    Payment,
    PaymentMethod,
    PaymentReason,
    PaymentRefund,
    PaymentState,
)
from billing.payment_moves import Booking, Wish
from server.integrations.stripe_fake.fake import Fault, StripeFake
from server.integrations.stripe_fake.machine import Call
from tests.billing.payments import KEY, SECRET, api_of
from tests.billing.world import NOW, PLANNED_S, Sessions, facts, fund, owner, usd, violations

PRICE = 10_000
SOON, FAR = timedelta(days=1), timedelta(days=20)
TUTOR_BPS = 3_000
JOBS = (card_payments.JOB, card_refunds.JOB, stripe_events.JOB)
WORDS = "It was agreed by phone."


class Booker:
    """The desk where bookings are paid, without a server."""

    def __init__(self, sessions: Sessions, *, fake: StripeFake | None = None) -> None:
        self.sessions = sessions
        self.student, self.tutor = owner(), owner()
        self.now = NOW
        self.fake = fake or StripeFake(key=KEY, secret=SECRET, now=lambda: self.now)
        self.api = api_of(self.fake)
        self.told = 0
        """How many of the fake's events came here."""

    def passes(self, by: timedelta) -> None:
        self.now += by

    # What people do ---------------------------------------------------------------------------------------------

    def booking(self, *, starts_in: timedelta = SOON) -> Booking:
        return Booking(
            id=uuid4(),
            lesson_id=uuid4(),
            student_id=self.student,
            tutor_id=self.tutor,
            money=usd(PRICE),
            tutor_bps=TUTOR_BPS,
            attribution="platform",
            policy_version=1,
            starts_at=self.now + starts_in,
        )

    async def open(
        self,
        booking: Booking | None = None,
        *,
        method: PaymentMethod = PaymentMethod.WALLET,
        card: str | None = None,
    ) -> UUID:
        booking = booking or self.booking()
        async with self.sessions.begin() as session:
            await payments.open_payment(session, booking, method=method, card=card, now=self.now)
        return booking.id

    async def by_wallet(self) -> UUID:
        """A payment from the wallet that has just what it needs."""
        await fund(self.sessions, self.student, PRICE)
        return await self.open()

    async def by_card(self, card: str | None = "4242", *, starts_in: timedelta = SOON) -> UUID:
        """A payment with a saved card, as far as its owner brings it."""
        saved = None if card is None else await self.save_card(card)
        booking = self.booking(starts_in=starts_in)
        payment_id = await self.open(booking, method=PaymentMethod.CARD, card=saved)
        await self.start(payment_id)
        return payment_id

    async def save_card(self, card: str) -> str:
        customer = await top_ups.customer_of(
            self.sessions, self.api, self.student, key=uuid4().hex, now=self.now
        )
        return await self.fake.save_card(customer, card)

    async def start(self, payment_id: UUID) -> Asked:
        return await card_payments.start(self.sessions, self.api, payment_id, now=self.now)

    async def accept(self, payment_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await payments.authorize(session, payment_id, actor=f"user:{self.tutor}", now=self.now)

    async def capture(
        self, payment_id: UUID, reason: PaymentReason = PaymentReason.STUDENT_CANCEL_LATE
    ) -> None:
        async with self.sessions.begin() as session:
            await payments.capture(
                session, payment_id, reason=reason, actor=f"user:{self.student}", now=self.now
            )

    async def void(self, payment_id: UUID, reason: PaymentReason = PaymentReason.TUTOR_CANCEL) -> None:
        async with self.sessions.begin() as session:
            await payments.void(session, payment_id, reason=reason, actor=f"user:{self.tutor}", now=self.now)

    async def return_whole(self, payment_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await payments.return_whole(session, payment_id, actor=f"user:{self.student}", now=self.now)

    async def refund(
        self,
        payment_id: UUID,
        amount: int | None = None,
        *,
        actor: str = "admin:1",
        reason: PaymentReason = PaymentReason.GOODWILL,
        words: str = WORDS,
        key: str = "k",
        to_card: bool = False,
    ) -> PaymentRefund:
        asked = None if amount is None else usd(amount)
        wish = Wish(amount=asked, to_card=to_card, reason=reason, words=words, key=key)
        async with self.sessions.begin() as session:
            return await payments.refund(session, payment_id, wish, actor=actor, now=self.now)

    async def ends(
        self, payment_id: UUID, *, student_s: int = PLANNED_S, tutor_s: int = PLANNED_S, **more: Any
    ) -> None:
        """The lesson is over, and its room says who was there."""
        row = await self.row(payment_id)
        known = facts(
            row.lesson_id,
            {OwnerId(row.student_id): student_s} if student_s else {},
            tutor_id=self.tutor,
            tutor_attended_s=tutor_s,
            ended_at=self.now,
            **more,
        )
        async with self.sessions.begin() as session:
            await settlement.due(session, known, now=self.now)
            await settlement.settle(session, row.lesson_id, now=self.now)

    async def hears_late(self, payment_id: UUID, *, student_s: int, tutor_s: int) -> settlement.Reconsidered:
        row = await self.row(payment_id)
        known = facts(
            row.lesson_id,
            {self.student: student_s} if student_s else {},
            tutor_id=self.tutor,
            tutor_attended_s=tutor_s,
        )
        async with self.sessions.begin() as session:
            return await settlement.reconsider(session, known, now=self.now)

    # What the server does by itself -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Do all work that is due, and what follows from it; what fails is raised."""
        while claims := await self.claim():
            for claim in claims:
                await self.do(claim)

    async def claim(self, *kinds: str) -> list[jobs.Claim]:
        async with self.sessions.begin() as session:
            return await jobs.claim(
                session, [(kinds or JOBS, self.now)], limit=100, lease=timedelta(seconds=30)
            )

    async def do(self, claim: jobs.Claim) -> None:
        if claim.kind == stripe_events.JOB:
            await stripe_events.handle(self.sessions, self.api, claim, now=self.now)
        elif claim.kind == card_payments.JOB:
            await card_payments.run(self.sessions, self.api, claim, now=self.now)
        else:
            await card_refunds.run(self.sessions, self.api, claim, now=self.now)

    async def dies(self) -> None:
        """Whoever did the work is dead: it may be taken over."""
        async with self.sessions.begin() as session:
            await session.execute(text("update job set lease = null, leased_until = null"))

    async def receive(self) -> None:
        """Bring every event that did not come yet."""
        events = self.fake.events[self.told :]
        self.told = len(self.fake.events)
        wall = datetime.now(UTC)
        async with self.sessions.begin() as session:
            for event in events:
                body = msgspec.json.encode(event)
                signed = self.fake.sign(body, at=wall)
                read = stripe_webhooks.read(body, signed, secrets=[SECRET], wall=wall)
                await stripe_events.receive(session, read, now=self.now)

    async def hear(self) -> None:
        """Bring every event that did not come yet, and do what it asks for."""
        await self.receive()
        await self.run()

    def breaks(self, step: str, fault: Fault, *, times: int = 1) -> None:
        """Have the network or Stripe fail the next calls whose key or path has this in it."""
        left = [times]

        def fails(call: Call) -> Fault:
            if left[0] and call.method == "POST" and step in f"{call.path} {call.key}":
                left[0] -= 1
                return fault
            return "none"

        self.fake.fault = fails

    # What is there ----------------------------------------------------------------------------------------------

    async def row(self, payment_id: UUID) -> Payment:
        async with self.sessions() as session:
            return await payments.get(session, payment_id)

    async def state(self, payment_id: UUID) -> PaymentState:
        return PaymentState((await self.row(payment_id)).state)

    async def way(self, payment_id: UUID) -> list[str]:
        """The states of a payment, in the order in which it went through them."""
        async with self.sessions() as session:
            return [event.to_state for event in await payments.history(session, payment_id)]

    async def view(self, payment_id: UUID) -> HoldView:
        hold_id = await self.hold(payment_id)
        async with self.sessions() as session:
            return await hold_views.view(session, hold_id)

    async def authorizations(self, payment_id: UUID | None = None) -> list[CardAuthorization]:
        query = select(CardAuthorization).order_by(CardAuthorization.opened_at, CardAuthorization.number)
        if payment_id is not None:
            query = query.where(CardAuthorization.payment_id == payment_id)
        async with self.sessions() as session:
            return list(await session.scalars(query))

    async def refunds(self) -> list[CardRefund]:
        async with self.sessions() as session:
            return list(await session.scalars(select(CardRefund).order_by(CardRefund.asked_at)))

    async def hold(self, payment_id: UUID) -> HoldId:
        found = (await self.row(payment_id)).hold_id
        assert found is not None
        return HoldId(found)

    def at_stripe(self, kind: str = "payment_intent") -> list[dict[str, Any]]:
        """The objects of a kind, in their order."""
        return [one for one in self.fake.objects.values() if one["object"] == kind]

    async def balances(self) -> dict[str, int]:
        """Sums by kind of account, but for those of ours that gave the student money."""
        query = text(
            "select kind, sum(balance)::bigint from ledger_account group by kind having sum(balance) <> 0"
        )
        async with self.sessions() as session:
            found: dict[str, int] = dict((await session.execute(query)).all())
        found.pop("platform_expense", None)
        return found

    async def checked(self) -> None:
        """What must hold in the end: every invariant, and Stripe's balance to the cent."""
        assert await violations(self.sessions) == []
        stripe = (await self.api.balance()).total("USD")
        assert -(await self.balances()).get("stripe", 0) == stripe
        assert (await reconciliation.run(self.sessions, self.api, now=self.now)).findings == ()


async def followed(session: AsyncSession, payment_id: UUID, now: datetime) -> None:
    """Bring a payment to its hold, as whoever gave the hold back does."""
    row = await payment_moves.locked(session, payment_id)
    await payment_moves.follow(session, row, Wish(reason=PaymentReason.OTHER), actor="system:test", now=now)
