"""A tutor who earned something, and everything that pays out, each at the word of the test."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import (
    disputes,
    jobs,
    ledger,
    maturity,
    payout_accounts,
    payouts,
    refunds,
    stripe_entries,
    stripe_events,
    stripe_webhooks,
    withdrawals,
)
from billing.disputes import Claim
from billing.ledger import AccountKey, Leg, Order
from billing.models import (
    PLATFORM,
    AccountKind,
    Cause,
    DisputeReason,
    Hold,
    HoldId,
    JournalKind,
    OwnerId,
    PayoutAttempt,
    SourceKind,
    Withdrawal,
)
from billing.money import Money
from billing.payout_accounts import BankData
from billing.refunds import GivenBack
from billing.stripe_api import Access, StripeApi
from billing.stripe_gate import Gate
from billing.stripe_objects import BalanceTransaction
from billing.vault import Vault
from server.integrations.stripe_fake.fake import StripeFake
from server.integrations.stripe_fake.machine import OURS
from tests.billing.world import NOW, PLANNED_S, Sessions, buy, end, facts, fund, new_hold, owner, usd

KEY = "sk_test_of_the_tests"
WEBHOOK_SECRET = "whsec_of_the_tests"
SECRET = "x" * 32
BANK = BankData(bank_name="Bank of Letters", account_number="1234567890", account_holder="Ann Lee")
RISK = timedelta(days=7)
# Exactly the ten characters that an administrator needs at least, like those of other tests.
NOTE = "Too early."


class Earner:
    """One tutor, two administrators, and Stripe."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.tutor = owner()
        self.admin, self.other_admin = uuid4(), uuid4()
        self.account = ""
        """The tutor's at Stripe."""
        self.now = NOW
        self.vault = Vault(SECRET)
        self.fake = StripeFake(key=KEY, secret=WEBHOOK_SECRET, now=lambda: self.now)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(self.fake))
        self.api = StripeApi(Access(KEY, "http://stripe.test"), http, retries=0, gate=Gate(per_second=1e6))

    def passes(self, by: timedelta) -> None:
        self.now += by

    # Earning ----------------------------------------------------------------------------------------------------

    async def teach(
        self, net: int, *, kind: SourceKind = SourceKind.COURSE_SESSION, tutor_attended_s: int = PLANNED_S
    ) -> HoldId:
        """Settle a lesson that brings the tutor so much: at once by a course, after a week by a booking."""
        student, lesson = owner(), uuid4()
        await fund(self.sessions, student, net)
        hold = new_hold(net, lesson_id=lesson, tutor_id=self.tutor, tutor_bps=10_000, source_kind=kind)
        [hold_id] = await buy(self.sessions, student, hold)
        known = facts(lesson, {student: PLANNED_S}, tutor_id=self.tutor, tutor_attended_s=tutor_attended_s)
        await end(self.sessions, known, now=self.now)
        return hold_id

    async def owe(self, amount: int) -> None:
        """Have the tutor owe something: they were paid for a lesson, the money left us, and was given back."""
        hold_id = await self.teach(amount)
        await self.move(AccountKey(AccountKind.EARNINGS, self.tutor, "USD"), EXPENSE, amount)
        await self.give_back(hold_id)

    async def owe_beside(self, amount: int) -> None:
        """Have the tutor owe something whatever they earned, as nothing in the product does."""
        await self.move(AccountKey(AccountKind.TUTOR_DEBT, self.tutor, "USD"), EXPENSE, amount)

    async def give_back(
        self, hold_id: UUID, amount: int | None = None, *, key: str | None = None, reason: str = NOTE
    ) -> GivenBack:
        async with self.sessions.begin() as session:
            return await self.gives_back(hold_id, amount, key=key, reason=reason)(session)

    def gives_back(
        self, hold_id: UUID, amount: int | None = None, *, key: str | None = None, reason: str = NOTE
    ) -> Callable[[AsyncSession], Awaitable[GivenBack]]:
        return lambda session: refunds.give_back(
            session,
            hold_id,
            amount=None if amount is None else Money(amount),
            cause=Cause.REFUND,
            actor=f"admin:{self.admin}",
            reason=reason,
            key=key or str(uuid4()),
            now=self.now,
        )

    async def move(self, giver: AccountKey, taker: AccountKey, amount: int) -> None:
        async with self.sessions.begin() as session:
            await self.post(session, giver, taker, amount)

    async def post(self, session: AsyncSession, giver: AccountKey, taker: AccountKey, amount: int) -> None:
        ids = await ledger.accounts(session, (giver, taker))
        await ledger.post(
            session, self.order(JournalKind.DISPUTE, amount), [Leg(ids[giver], ids[taker], usd(amount))]
        )

    def order(self, kind: JournalKind, amount: int) -> Order:
        return Order(
            kind=kind,
            scope="test",
            key=str(uuid4()),
            request=amount,
            actor="system:test",
            reason=None,
            ref_type="test",
            ref_id=uuid4(),
            at=self.now,
        )

    async def dispute(self, hold_id: UUID, student_id: OwnerId | None = None) -> UUID:
        """Have a hold's student dispute it, or somebody else."""
        student_id = student_id or (await self.lesson_of(HoldId(hold_id)))[1]
        claim = Claim(reason=DisputeReason.SESSION_QUALITY, words="The tutor slept.", student_id=student_id)
        async with self.sessions.begin() as session:
            return (await disputes.begin(session, hold_id, claim, now=self.now)).id

    async def lesson_of(self, hold_id: HoldId) -> tuple[UUID, OwnerId]:
        async with self.sessions() as session:
            hold = await session.get_one(Hold, hold_id)
        assert hold.lesson_id is not None
        return hold.lesson_id, OwnerId(hold.student_id)

    async def run(self, kind: str) -> None:
        """Do what is due by now."""
        while claims := await self.claim(kind):
            for claim in claims:
                if kind == maturity.JOB:
                    await maturity.run(self.sessions, claim, now=self.now)
                else:
                    await payouts.run(self.sessions, self.api, claim, now=self.now)

    async def claim(self, kind: str) -> list[jobs.Claim]:
        async with self.sessions.begin() as session:
            return await jobs.claim(session, [((kind,), self.now)], limit=9, lease=timedelta(seconds=30))

    # Withdrawing ------------------------------------------------------------------------------------------------

    async def set_bank(self, bank: BankData = BANK) -> UUID:
        async with self.sessions.begin() as session:
            row = await payout_accounts.set_bank(session, self.tutor, bank, vault=self.vault, now=self.now)
            return row.id

    async def set_stripe(self) -> str:
        """Have an account at Stripe that may be paid, and money of ours there."""
        await payout_accounts.onboard(
            self.sessions,
            self.api,
            self.tutor,
            country="US",
            email="ann@example.com",
            return_url="http://fourtalk.test",
            now=self.now,
        )
        async with self.sessions() as session:
            account = (await payout_accounts.current(session, self.tutor)).stripe_account
        assert account is not None
        await self.fake.act(f"/accounts/{account}/onboard")
        self.account = account
        return account

    async def ask(
        self, amount: int, *, key: str | None = None, note: str | None = None, at: datetime | None = None
    ) -> UUID:
        async with self.sessions.begin() as session:
            row = await withdrawals.request(
                session, self.tutor, Money(amount), note=note, key=key or str(uuid4()), now=at or self.now
            )
            return row.id

    async def approve(self, withdrawal_id: UUID, admin_id: UUID | None = None) -> str:
        async with self.sessions.begin() as session:
            row = await withdrawals.approve(
                session, withdrawal_id, admin_id=admin_id or self.admin, now=self.now
            )
            return row.status

    async def complete(self, withdrawal_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await withdrawals.complete(
                session,
                withdrawal_id,
                reference="TT-1",
                actor=f"admin:{self.admin}",
                reason="Bank transfer TT-1",
                now=self.now,
            )

    async def reject(self, withdrawal_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await withdrawals.reject(session, withdrawal_id, admin_id=self.admin, answer=NOTE, now=self.now)

    async def hold(self, withdrawal_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await withdrawals.hold(session, withdrawal_id, admin_id=self.admin, reason="Looks odd.")

    async def let_go(self, withdrawal_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await withdrawals.let_go(session, withdrawal_id, now=self.now)

    async def retry(self, withdrawal_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await withdrawals.retry(session, withdrawal_id, now=self.now)

    # At Stripe --------------------------------------------------------------------------------------------------

    async def put_at_stripe(self, amount: int) -> None:
        """Have money there, as top-ups bring it, in both books."""
        made = self.fake._machine.move(
            "topup", amount, source="tu_test", category="topup", currency="usd", after_s=0
        )
        movement = msgspec.convert(made, BalanceTransaction)
        order = self.order(JournalKind.BANK_TRANSFER, amount)
        async with self.sessions.begin() as session:
            await stripe_entries.post(session, order, movement, other=EXPENSE)

    async def at_stripe(self, account: str = OURS) -> int:
        await self.fake.tick()
        return self.fake._machine.available(account, "usd")

    async def fail_payout(self) -> None:
        """Have the bank not take the newest payout."""
        [*_, attempt] = await self.attempts()
        await self.fake.act(f"/payouts/{attempt.payout}/fail")

    async def hear(self, kind: str) -> None:
        """Take Stripe's events of this kind, and do what they ask for."""
        wall = datetime.now(UTC)
        for event in self.fake.events:
            if event["type"] == kind:
                body = msgspec.json.encode(event)
                signature = self.fake.sign(body, at=wall)
                read = stripe_webhooks.read(body, signature, secrets=[WEBHOOK_SECRET], wall=wall)
                async with self.sessions.begin() as session:
                    await stripe_events.receive(session, read, now=self.now)
        for claim in await self.claim(stripe_events.JOB):
            await stripe_events.handle(self.sessions, self.api, claim, now=self.now)

    async def end_leases(self) -> None:
        async with self.sessions.begin() as session:
            await session.execute(
                text("update job set leased_until = now() - interval '1 s' where lease is not null")
            )

    # What is there ----------------------------------------------------------------------------------------------

    async def withdrawal(self, withdrawal_id: UUID) -> Withdrawal:
        async with self.sessions() as session:
            return await session.get_one(Withdrawal, withdrawal_id)

    async def attempts(self) -> list[PayoutAttempt]:
        async with self.sessions() as session:
            rows = await session.scalars(text("select id from payout_attempt order by number"))
            return [await session.get_one(PayoutAttempt, row) for row in rows]

    async def has(self, *kinds: AccountKind) -> list[int]:
        """Balances, by kind of account."""
        query = text("select kind, sum(balance)::bigint as sum from ledger_account group by kind")
        async with self.sessions() as session:
            found: dict[str, Any] = {row.kind: row.sum for row in await session.execute(query)}
        return [found.get(kind, 0) for kind in kinds]


EXPENSE = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, "USD")
