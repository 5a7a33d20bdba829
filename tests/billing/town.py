"""A town of people who do everything with money that there is, and a few dictionaries that know what must come of it.

Operations come in batches: one transaction for many of them, a savepoint only where the model expects a refusal. After
each batch every account of the town is compared. One operation is one thing that somebody asks for, a refusal and a
repetition included; a purchase of three lessons is one, a lesson that ends and is settled is one.
"""

import copy
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import disputes, holds, maturity, payout_accounts, settlement, top_ups, wallet, withdrawals
from billing.disputes import Claim
from billing.errors import (
    BillingError,
    HoldNotHeldError,
    IdempotencyMismatchError,
    InsufficientFundsError,
    LessonOverError,
    WithdrawalHeldError,
    WithdrawalStateError,
    WithdrawalTooSmallError,
)
from billing.holds import NewHold
from billing.models import AccountKind, Cause, DisputeReason, HoldId, OwnerId, SourceKind, TopUpWay
from billing.money import Money, split
from billing.payout_accounts import BankData
from billing.stripe_objects import Payment
from billing.vault import Vault
from tests.billing.world import NOW, PLANNED_S, Sessions, facts, new_hold, owner, usd

BATCH = 40
RECENT = 20
# The policy's, in cents.
LEAST, TWO_PEOPLE_ABOVE = 1_000, 50_000
LATER = NOW + timedelta(days=8)
BANK = BankData(bank_name="Bank of Letters", account_number="1234567890", account_holder="Ann Lee")
ADMINS = (uuid4(), uuid4())


class Placed(msgspec.Struct):
    """What is known of a hold."""

    student: OwnerId
    tutor: OwnerId
    lesson: UUID
    amount: int
    bps: int
    kind: SourceKind
    status: str = "held"


class Asked(msgspec.Struct):
    """What is known of a withdrawal."""

    tutor: OwnerId
    amount: int
    status: str = "pending"
    held: bool = False


class Known(msgspec.Struct):
    """The whole model."""

    accounts: dict[tuple[str, UUID], int]
    holds: dict[HoldId, Placed] = {}
    purchases: list[tuple[OwnerId, tuple[NewHold, ...], str]] = []
    lessons: list[UUID] = []
    over: list[UUID] = []
    maturing: dict[HoldId, int] = {}
    frozen: dict[HoldId, UUID] = {}
    """The dispute of each hold whose share is frozen."""
    disputed: set[HoldId] = set()
    withdrawals: dict[UUID, Asked] = {}
    settled: Counter[str] = msgspec.field(default_factory=Counter)
    """Holds of which nobody asks any more, by their status."""


Work = Callable[[AsyncSession], Awaitable[Any]]


class Town:
    """Six people, their money, and one connection."""

    def __init__(self, sessions: Sessions, seed: int) -> None:
        self.sessions = sessions
        self.dice = random.Random(seed)
        self.students = [owner() for _ in range(4)]
        self.tutors = [owner() for _ in range(2)]
        self.known = Known(accounts={})
        self.done: Counter[str] = Counter()
        self.vault = Vault("x" * 32)
        self.session: AsyncSession

    async def settle_in(self) -> None:
        """Give every tutor an account to be paid to."""
        async with self.sessions.begin() as session:
            for tutor in self.tutors:
                await payout_accounts.set_bank(session, tutor, BANK, vault=self.vault, now=NOW)

    async def batch(self) -> int:
        """Do a batch of operations in one transaction, compare, and return how many there were."""
        # Now and then everything goes back, as when a process dies before its commit.
        before = copy.deepcopy(self.known) if self.dice.random() < 0.05 else None
        session = self.sessions()
        self.session = session
        async with session.begin() as transaction:
            for _ in range(BATCH):
                name, deed = self.dice.choices(DEEDS, WEIGHTS)[0]
                self.done[name] += 1
                await deed(self)
            if before is not None:
                await transaction.rollback()
                self.known = before
        await session.close()
        await self.compare()
        self.forget()
        return BATCH

    def forget(self) -> None:
        """Keep of the past what can still be asked for."""
        known = self.known
        known.purchases, known.over = known.purchases[-RECENT:], known.over[-RECENT:]
        known.withdrawals = dict(list(known.withdrawals.items())[-RECENT:])
        asked = {hold.id for _, wanted, _ in known.purchases for hold in wanted}
        for hold_id, placed in list(known.holds.items()):
            if placed.status != "held" and hold_id not in asked and hold_id not in known.maturing:
                known.settled[placed.status] += 1
                del known.holds[hold_id]

    async def compare(self) -> None:
        """See that every account and every hold is what the model says."""
        people = [*self.students, *self.tutors, *self.known.frozen]
        async with self.sessions() as session:
            rows = await session.execute(_ACCOUNTS, {"owners": people})
            found = {(row.kind, row.owner_id): row.balance for row in rows if row.balance}
            counted = (await session.execute(_HOLDS, {"owners": self.students})).all()
        assert found == {key: amount for key, amount in self.known.accounts.items() if amount}
        statuses = self.known.settled + Counter(placed.status for placed in self.known.holds.values())
        assert {row.status: row.count for row in counted} == statuses

    # What a deed needs ------------------------------------------------------------------------------------------

    async def do(self, work: Work, *refusals: type[BillingError]) -> Any:
        """Do something that goes well, or is refused as one of these and changes nothing."""
        if not refusals:
            return await work(self.session)
        try:
            async with self.session.begin_nested():
                await work(self.session)
        except refusals:
            return None
        raise AssertionError(f"this should have been refused: {refusals}")

    def move(self, giver: tuple[AccountKind, UUID], taker: tuple[AccountKind, UUID], amount: int) -> None:
        self.add(*giver, -amount)
        self.add(*taker, amount)

    def add(self, kind: AccountKind, owner_id: UUID, amount: int) -> None:
        key = (kind.value, owner_id)
        self.known.accounts[key] = self.known.accounts.get(key, 0) + amount

    def has(self, kind: AccountKind, owner_id: UUID) -> int:
        return self.known.accounts.get((kind.value, owner_id), 0)

    # Deeds ------------------------------------------------------------------------------------------------------

    async def adjust(self) -> None:
        student, amount = self.dice.choice(self.students), self.dice.randint(-4_000, 20_000) or 1
        fails = self.has(WALLET, student) + amount < 0
        await self.do(
            lambda session: wallet.adjust(
                session,
                student,
                usd(amount),
                actor="admin:1",
                reason="By the town.",
                key=str(uuid4()),
                now=NOW,
            ),
            *((InsufficientFundsError,) if fails else ()),
        )
        if not fails:
            self.add(WALLET, student, amount)

    async def top_up(self) -> None:
        """A payment at Stripe succeeds; it is applied twice."""
        student, amount = self.dice.choice(self.students), self.dice.randint(500, 9_000)
        wish = top_ups.Wish(owner_id=student, money=usd(amount), way=TopUpWay.HOSTED, key=str(uuid4()))

        async def work(session: AsyncSession) -> None:
            row = await top_ups.create(session, wish, now=NOW)
            paid = payment(row.id, student, amount)
            for _ in range(2):
                await top_ups.apply(session, row.id, checkout=None, payment=paid, now=NOW)

        await self.do(work)
        self.add(WALLET, student, amount)

    async def buy(self) -> None:
        student, tutor = self.dice.choice(self.students), self.dice.choice(self.tutors)
        kind = self.dice.choice((SourceKind.COURSE_SESSION, SourceKind.BOOKING))
        taken = {
            placed.lesson
            for placed in self.known.holds.values()
            if placed.student == student and placed.status == "held"
        }
        while len(self.known.lessons) < 6:
            self.known.lessons.append(uuid4())
        free = [lesson for lesson in self.known.lessons if lesson not in taken]
        lessons = self.dice.sample(free, min(len(free), self.dice.choice((1, 1, 2, 3))))
        is_late = bool(self.known.over) and self.dice.random() < 0.1
        if is_late:
            lessons = [self.dice.choice(self.known.over)]
        if not lessons:
            return
        source, bps = uuid4(), self.dice.choice((0, 3_000, 3_333, 7_000, 10_000))
        asked = tuple(
            new_hold(
                self.dice.randint(1, 6_000),
                lesson_id=lesson,
                tutor_id=tutor,
                tutor_bps=bps,
                source_kind=kind,
                source_id=source,
                slice_no=number,
            )
            for number, lesson in enumerate(lessons, start=1)
        )
        price, key = sum(hold.money.amount for hold in asked), str(uuid4())
        refusals: list[type[BillingError]] = []
        if price > self.has(WALLET, student):
            refusals.append(InsufficientFundsError)
        elif is_late:
            refusals.append(LessonOverError)
        await self.do(
            lambda session: holds.place(session, holds=asked, student_id=student, key=key, now=NOW), *refusals
        )
        if refusals:
            return
        self.add(WALLET, student, -price)
        self.known.purchases.append((student, asked, key))
        for hold in asked:
            assert hold.lesson_id is not None
            self.known.holds[hold.id] = Placed(student, tutor, hold.lesson_id, hold.money.amount, bps, kind)

    async def buy_again(self) -> None:
        """The same key, for the same or for something else."""
        if not self.known.purchases:
            return
        student, asked, key = self.dice.choice(self.known.purchases)
        if self.dice.random() < 0.5:
            other = (msgspec.structs.replace(asked[0], money=Money(asked[0].money.amount + 1)), *asked[1:])
            await self.do(
                lambda session: holds.place(session, holds=other, student_id=student, key=key, now=NOW),
                IdempotencyMismatchError,
            )
            return
        again = await self.do(
            lambda session: holds.place(session, holds=asked, student_id=student, key=key, now=NOW)
        )
        assert again == [hold.id for hold in asked]

    async def refund(self) -> None:
        if not self.known.purchases:
            return
        student, asked, _ = self.dice.choice(self.known.purchases)
        ids = [hold.id for hold in asked]
        still = [hold_id for hold_id in ids if self.known.holds[hold_id].status == "held"]
        only_held = self.dice.random() < 0.5
        fails = not only_held and len(still) < len(ids)
        by_admin = self.dice.random() < 0.3
        await self.do(
            lambda session: holds.refund(
                session,
                ids,
                cause=Cause.ADMIN if by_admin else Cause.CANCELLED,
                actor="admin:1" if by_admin else f"user:{student}",
                reason="The town says so.",
                key=str(uuid4()),
                now=NOW,
                only_held=only_held,
            ),
            *((HoldNotHeldError,) if fails else ()),
        )
        for hold_id in [] if fails else still:
            placed = self.known.holds[hold_id]
            placed.status = "refunded"
            self.add(WALLET, placed.student, placed.amount)

    async def teach(self) -> None:
        """A lesson ends and is settled, twice."""
        if not self.known.lessons:
            return
        lesson = self.known.lessons.pop(self.dice.randrange(len(self.known.lessons)))
        seconds = {student: self.dice.choice((0, 1_079, 1_080, PLANNED_S)) for student in self.students}
        tutor_s = self.dice.choice((0, 1_079, 1_080, PLANNED_S, PLANNED_S))
        known = facts(lesson, seconds, tutor_attended_s=tutor_s)

        async def work(session: AsyncSession) -> None:
            await settlement.due(session, known, now=NOW)
            await settlement.settle(session, lesson, now=NOW)
            assert not await settlement.due(session, known, now=NOW)
            assert await settlement.settle(session, lesson, now=NOW) is None

        await self.do(work)
        self.known.over.append(lesson)
        for hold_id, placed in self.known.holds.items():
            if placed.lesson != lesson or placed.status != "held":
                continue
            is_booking = placed.kind is SourceKind.BOOKING
            if tutor_s == 0 if is_booking else min(tutor_s, seconds[placed.student]) < 1_080:
                placed.status = "refunded"
                self.add(WALLET, placed.student, placed.amount)
                share = 0
            else:
                placed.status = "released"
                share, _ = split(placed.amount, placed.bps)
            if is_booking:
                self.known.maturing[hold_id] = share
            self.add(PENDING if is_booking else EARNINGS, placed.tutor, share)

    async def mature(self) -> None:
        """A risk window ends, or has not ended yet."""
        if not self.known.maturing:
            return
        hold_id = self.dice.choice(list(self.known.maturing))
        is_over = self.dice.random() < 0.7
        moved = await self.do(
            lambda session: maturity.mature(session, hold_id, now=LATER if is_over else NOW)
        )
        assert moved is (is_over and hold_id not in self.known.frozen)
        if moved:
            tutor, share = self.known.holds[hold_id].tutor, self.known.maturing.pop(hold_id)
            self.move((PENDING, tutor), (EARNINGS, tutor), share)

    async def dispute(self) -> None:
        """A share that is at risk is disputed, or a dispute is decided for the tutor."""
        if self.known.frozen and self.dice.random() < 0.5:
            hold_id, dispute = self.dice.choice(list(self.known.frozen.items()))
            await self.do(
                lambda session: disputes.uphold(
                    session, dispute, admin_id=ADMINS[0], notes="Nothing was wrong.", now=NOW
                )
            )
            share = self.known.maturing[hold_id]
            self.move((AccountKind.FROZEN, hold_id), (PENDING, self.known.holds[hold_id].tutor), share)
            del self.known.frozen[hold_id]
            return
        free = [one for one, share in self.known.maturing.items() if share and one not in self.known.disputed]
        if not free:
            return
        hold_id = self.dice.choice(free)
        placed, share = self.known.holds[hold_id], self.known.maturing[hold_id]
        claim = Claim(reason=DisputeReason.OTHER, words="It was not as agreed.", student_id=placed.student)
        begun = await self.do(lambda session: disputes.begin(session, hold_id, claim, now=NOW))
        assert begun.frozen == share
        self.move((PENDING, placed.tutor), (AccountKind.FROZEN, hold_id), share)
        self.known.frozen[hold_id] = begun.id
        self.known.disputed.add(hold_id)

    async def spend(self) -> None:
        tutor, amount = self.dice.choice(self.tutors), self.dice.randint(1, 3_000)
        fails = amount > self.has(EARNINGS, tutor)
        await self.do(
            lambda session: withdrawals.spend(session, tutor, usd(amount), key=str(uuid4()), now=NOW),
            *((InsufficientFundsError,) if fails else ()),
        )
        if not fails:
            self.move((EARNINGS, tutor), (WALLET, tutor), amount)

    async def withdraw(self) -> None:
        tutor, amount = self.dice.choice(self.tutors), self.dice.randint(LEAST - 100, 4_000)
        refusals: tuple[type[BillingError], ...] = ()
        if amount < LEAST:
            refusals = (WithdrawalTooSmallError,)
        elif amount > self.has(EARNINGS, tutor):
            refusals = (InsufficientFundsError,)
        row = await self.do(
            lambda session: withdrawals.request(
                session, tutor, usd(amount), note=None, key=str(uuid4()), now=NOW
            ),
            *refusals,
        )
        if row is not None:
            self.known.withdrawals[row.id] = Asked(tutor, amount)
            self.move((EARNINGS, tutor), (RESERVED, tutor), amount)

    async def decide(self) -> None:
        """An administrator does something with a withdrawal, allowed or not."""
        if not self.known.withdrawals:
            return
        withdrawal_id = self.dice.choice(list(self.known.withdrawals))
        asked = self.known.withdrawals[withdrawal_id]
        match self.dice.choice(("approve", "approve", "complete", "reject", "hold", "let_go")):
            case "approve":
                fails = self.refusal(asked, "pending")
                await self.do(
                    lambda session: withdrawals.approve(session, withdrawal_id, admin_id=ADMINS[0], now=NOW),
                    *fails,
                )
                if not fails:
                    asked.status = "processing"
            case "complete":
                fails = self.refusal(asked, "processing")
                await self.do(
                    lambda session: withdrawals.complete(
                        session,
                        withdrawal_id,
                        reference="TT",
                        actor="admin:1",
                        reason="Transfer TT made",
                        now=NOW,
                    ),
                    *fails,
                )
                if not fails:
                    asked.status = "completed"
                    self.add(RESERVED, asked.tutor, -asked.amount)
            case "reject":
                # Also what is held.
                fails = () if asked.status in ("pending", "processing") else (WithdrawalStateError,)
                await self.do(
                    lambda session: withdrawals.reject(
                        session, withdrawal_id, admin_id=ADMINS[1], answer="Not like this.", now=NOW
                    ),
                    *fails,
                )
                if not fails:
                    asked.status, asked.held = "rejected", False
                    self.move((RESERVED, asked.tutor), (EARNINGS, asked.tutor), asked.amount)
            case "hold":
                fails = self.refusal(asked, "pending", "processing")
                await self.do(
                    lambda session: withdrawals.hold(
                        session, withdrawal_id, admin_id=ADMINS[0], reason="Looks odd to me."
                    ),
                    *fails,
                )
                asked.held = asked.held or not fails
            case "let_go":
                fails = () if asked.held else (WithdrawalStateError,)
                await self.do(lambda session: withdrawals.let_go(session, withdrawal_id, now=NOW), *fails)
                asked.held = False

    def refusal(self, asked: Asked, *statuses: str) -> tuple[type[BillingError], ...]:
        if asked.status not in statuses:
            return (WithdrawalStateError,)
        return (WithdrawalHeldError,) if asked.held else ()


WALLET, EARNINGS, PENDING, RESERVED = (
    AccountKind.WALLET,
    AccountKind.EARNINGS,
    AccountKind.EARNINGS_PENDING,
    AccountKind.WITHDRAWAL,
)

Deed = Callable[[Town], Awaitable[None]]
# By name, so that what exists later is one line more; and how often each comes.
TABLE: Mapping[str, tuple[Deed, int]] = {
    "adjust": (Town.adjust, 3),
    "top_up": (Town.top_up, 2),
    "buy": (Town.buy, 8),
    "buy_again": (Town.buy_again, 3),
    "refund": (Town.refund, 3),
    "teach": (Town.teach, 2),
    "mature": (Town.mature, 5),
    "dispute": (Town.dispute, 2),
    "spend": (Town.spend, 2),
    "withdraw": (Town.withdraw, 2),
    "decide": (Town.decide, 4),
}
DEEDS = [(name, deed) for name, (deed, _) in TABLE.items()]
WEIGHTS = [weight for _, weight in TABLE.values()]

_ACCOUNTS = text("select kind, owner_id, balance from ledger_account where owner_id = any(:owners)")
_HOLDS = text("select status, count(*) as count from hold where student_id = any(:owners) group by status")


def payment(top_up_id: UUID, owner_id: OwnerId, amount: int) -> Payment:
    """A payment that succeeded, as Stripe shows it."""
    number = uuid4().hex
    movement = {
        "id": f"txn_{number}",
        "amount": amount,
        "fee": amount // 30,
        "net": amount - amount // 30,
        "currency": "usd",
        "created": int(NOW.timestamp()),
        "available_on": int(NOW.timestamp()),
        "status": "available",
        "type": "charge",
        "reporting_category": "charge",
        "source": f"ch_{number}",
    }
    found = {
        "id": f"pi_{number}",
        "status": "succeeded",
        "amount": amount,
        "amount_received": amount,
        "amount_capturable": 0,
        "currency": "usd",
        "created": int(NOW.timestamp()),
        "customer": None,
        "client_secret": None,
        "latest_charge": {"id": f"ch_{number}", "balance_transaction": movement},
        "payment_method": "pm_card",
        "last_payment_error": None,
        "next_action": None,
        "metadata": {top_ups.TAG: str(top_up_id), top_ups.OWNER_TAG: str(owner_id)},
    }
    return msgspec.convert(found, Payment)
