"""The leg of a withdrawal over Stripe: a transfer to the tutor's account there, then a payout from it to their bank.

An attempt is a row before Stripe hears of it. Each step is one call with a key of the attempt, and a transaction that
writes down what came of it; whoever comes after a crash goes on from the row. The money leaves our books when it leaves
our balance at Stripe, with the transfer. What cannot be paid out is transferred back, so a failed attempt has left
everything where it was: reserved, until an administrator tries again or gives it back.

A payout that was `paid` may still fail within days. Then the money is on the tutor's own account at Stripe, theirs, and
nothing of ours changes.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypedDict
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, outbox, stripe_entries
from billing.crashpoints import Point, crashpoint
from billing.errors import StripeAwayError, StripeRefusedError, WithdrawalNotFoundError
from billing.ledger import AccountKey, Order
from billing.messages import PayoutFailed, WithdrawalCompleted
from billing.models import (
    AccountKind,
    AttemptStatus,
    JournalKind,
    OwnerId,
    PayoutAccount,
    PayoutAttempt,
    PayoutMethod,
    Withdrawal,
    WithdrawalStatus,
)
from billing.money import Money
from billing.stripe_api import StripeApi
from billing.stripe_objects import BalanceTransaction, Payout, Reversal, Transfer

# Kind of the job that carries an attempt on.
JOB = "pay_out"
ACTOR = "system:payouts"
# What our objects at Stripe carry, so that they are found again.
TAG = "payout_attempt"

# Stripe may forget a key after 24 hours; well before that we look for what was made, instead of asking for it again.
KEYS_LAST = timedelta(hours=20)
# A payout takes days, and a webhook says when it is over: this is the net for a webhook that is lost.
LOOK_EVERY = timedelta(hours=6)


class Due(msgspec.Struct, frozen=True):
    """Payload of the job."""

    attempt_id: UUID


class Step(StrEnum):
    """What an attempt needs next."""

    BEGIN = "begin"
    TRANSFER = "transfer"
    PAY = "pay"
    LOOK = "look"
    REVERSE = "reverse"
    NOTHING = "nothing"


class Facts(TypedDict):
    """What each event of a withdrawal says."""

    withdrawal_id: UUID
    tutor_id: OwnerId
    amount: Money


def facts(row: Withdrawal) -> Facts:
    """Return what each event of a withdrawal says."""
    return Facts(withdrawal_id=row.id, tutor_id=OwnerId(row.tutor_id), amount=Money(row.amount, row.currency))


def next_step(row: Withdrawal, attempt: PayoutAttempt) -> Step:
    """Say what an attempt needs next. A withdrawal that is held begins nothing, and ends what was begun."""
    if attempt.status != AttemptStatus.SUBMITTED:
        return Step.NOTHING
    if attempt.began_at is None:
        return Step.BEGIN if row.held_by is None else Step.NOTHING
    if attempt.failure is not None:
        return Step.REVERSE
    if attempt.transfer is None:
        return Step.TRANSFER
    return Step.PAY if attempt.payout is None else Step.LOOK


async def locked(session: AsyncSession, withdrawal_id: UUID) -> Withdrawal:
    """Return a withdrawal as it is now, locked.

    Raises:
        WithdrawalNotFoundError: There is none.
    """
    row = await session.scalar(
        select(Withdrawal)
        .where(Withdrawal.id == withdrawal_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise WithdrawalNotFoundError
    return row


async def live_attempt(session: AsyncSession, withdrawal_id: UUID) -> PayoutAttempt | None:
    """Return the attempt that is not over; the withdrawal is locked."""
    return await session.scalar(
        select(PayoutAttempt)
        .where(PayoutAttempt.withdrawal_id == withdrawal_id, PayoutAttempt.status == AttemptStatus.SUBMITTED)
        .execution_options(populate_existing=True)
    )


async def submit(session: AsyncSession, row: Withdrawal, *, now: datetime) -> PayoutAttempt:
    """Begin a new attempt to pay a withdrawal out, by a job; the withdrawal is locked and no attempt is live."""
    last = await session.scalar(
        select(func.max(PayoutAttempt.number)).where(PayoutAttempt.withdrawal_id == row.id)
    )
    attempt = PayoutAttempt(
        id=uuid.uuid4(),
        withdrawal_id=row.id,
        number=(last or 0) + 1,
        status=AttemptStatus.SUBMITTED,
        submitted_at=now,
    )
    session.add(attempt)
    await session.flush()
    await look(session, attempt.id, now=now)
    return attempt


async def look(session: AsyncSession, attempt_id: UUID, *, now: datetime) -> None:
    """Have an attempt carried on, now: it is new, or something is known to have happened at Stripe."""
    await jobs.enqueue(session, JOB, Due(attempt_id), key=str(attempt_id), run_at=now)


async def look_again(session: AsyncSession, row: Withdrawal, *, now: datetime) -> None:
    """Have the live attempt of a withdrawal carried on, if there is one."""
    attempt = await live_attempt(session, row.id) if row.method == PayoutMethod.STRIPE else None
    if attempt is not None:
        await look(session, attempt.id, now=now)


async def run(
    sessions: async_sessionmaker[AsyncSession], api: StripeApi, claim: jobs.Claim, *, now: datetime
) -> None:
    """Job: carry an attempt on as far as it goes now.

    Raises:
        StripeAwayError: Stripe does not answer; the job comes again, with the same keys.
        StripeRefusedError: Stripe does not give a transfer back; somebody must look.
    """
    attempt_id = msgspec.json.decode(claim.payload, type=Due).attempt_id
    while True:
        async with sessions.begin() as session:
            row, attempt = await _both(session, attempt_id)
            step = next_step(row, attempt)
            if step is Step.BEGIN:
                attempt.began_at = now
                continue
            if step is Step.NOTHING:
                await jobs.finish(session, claim)
                return
            account = await session.get_one(PayoutAccount, row.payout_account)
        crashpoint("payout.begun")
        try:
            outcome = await _do(_Call(api, row, attempt, account, now), step)
        except StripeAwayError as error:
            if error.answered:
                await _take_another_key(sessions, attempt_id, step)
            raise
        crashpoint(_DONE[step])
        async with sessions.begin() as session:
            row, attempt = await _both(session, attempt_id)
            # Two may have asked Stripe, under one key; the first who comes here writes it down.
            if next_step(row, attempt) is step and await _note(session, row, attempt, outcome, now):
                await jobs.finish(session, claim)
                crashpoint("payout.noted")
                due = now + LOOK_EVERY
                await jobs.enqueue(session, JOB, Due(attempt_id), key=str(attempt_id), run_at=due)
                return


# Stripe has done it, and nobody has written it down.
_DONE: Mapping[Step, Point] = {
    Step.TRANSFER: "payout.transferred",
    Step.PAY: "payout.paid_out",
    Step.LOOK: "payout.looked",
    Step.REVERSE: "payout.reversed",
}


async def _take_another_key(sessions: async_sessionmaker[AsyncSession], attempt_id: UUID, step: Step) -> None:
    """Stripe broke, has answered, and may have done it or not: the next try looks, and asks under another key."""
    async with sessions.begin() as session:
        row, attempt = await _both(session, attempt_id)
        if next_step(row, attempt) is step:
            attempt.broken += 1


class _Refused(msgspec.Struct, frozen=True):
    """Stripe will not do this."""

    code: str


class _Looked(msgspec.Struct, frozen=True):
    """How far a payout is."""

    payout: Payout


_Outcome = Transfer | Payout | _Looked | Reversal | _Refused | None


async def _do(call: "_Call", step: Step) -> _Outcome:
    """Take one step at Stripe."""
    match step:
        case Step.TRANSFER | Step.PAY:
            try:
                return await call.transfer() if step is Step.TRANSFER else await call.pay()
            except StripeRefusedError as error:
                return _Refused(error.stripe_code)
        case Step.LOOK:
            return _Looked(await call.look())
        case Step.REVERSE:
            return await call.reverse()
        case Step.BEGIN | Step.NOTHING:
            raise AssertionError("these steps ask nobody")


class _Call:
    """The calls of one attempt. What may have been made under a key that is of no use any more is looked for first."""

    def __init__(
        self, api: StripeApi, row: Withdrawal, attempt: PayoutAttempt, account: PayoutAccount, now: datetime
    ) -> None:
        assert attempt.began_at is not None, "an attempt begins before Stripe hears of it"
        assert account.stripe_account is not None, "a withdrawal by Stripe has an account there"
        self._api = api
        self._attempt = attempt
        self._account = account.stripe_account
        self._money = Money(row.amount, row.currency)
        self._began_at = attempt.began_at
        self._now = now
        self._tags = {TAG: str(attempt.id)}
        self._looks_first = attempt.broken > 0 or now - attempt.began_at > KEYS_LAST

    async def transfer(self) -> Transfer:
        group = f"payout:{self._attempt.id}"
        found = await self._api.find_transfer(group) if self._looks_first else None
        return found or await self._api.create_transfer(
            self._money, self._account, group=group, tags=self._tags, key=self._key("transfer")
        )

    async def pay(self) -> Payout:
        found = await self._find_payout() if self._looks_first else None
        return found or await self._api.create_payout(
            self._account, self._money, tags=self._tags, key=self._key("payout")
        )

    async def look(self) -> Payout:
        assert self._attempt.payout is not None, "only what was paid is looked at"
        return await self._api.retrieve_payout(self._attempt.payout, account=self._account)

    async def reverse(self) -> Reversal | None:
        transfer = self._attempt.transfer
        if transfer is None:
            return None
        found = await self._api.list_reversals(transfer) if self._looks_first else []
        if found:
            return found[0]
        return await self._api.reverse_transfer(
            transfer, self._money.amount, tags=self._tags, key=self._key("reversal")
        )

    async def _find_payout(self) -> Payout | None:
        async for one in self._api.list_payouts(self._began_at, self._now, account=self._account):
            if one.metadata.get(TAG) == str(self._attempt.id):
                return one
        return None

    def _key(self, step: str) -> str:
        return f"payout:{self._attempt.id}:{step}:{self._attempt.broken}"


async def _note(
    session: AsyncSession, row: Withdrawal, attempt: PayoutAttempt, outcome: _Outcome, now: datetime
) -> bool:
    """Write down what came of a step, and return whether there is nothing to do now but wait."""
    match outcome:
        case Transfer():
            movement = _movement(outcome, -outcome.amount, "transfer")
            attempt.transfer_journal = await _book(session, row, movement, step=f"{attempt.id}:sent", now=now)
            attempt.transfer = outcome.id
        case Payout():
            attempt.payout = outcome.id
        case _Refused():
            # What has left us comes back, in a step of its own.
            attempt.failure = outcome.code
        case _Looked() if outcome.payout.status in ("failed", "canceled"):
            attempt.failure = outcome.payout.failure_code or outcome.payout.status
        case _Looked() if outcome.payout.status == "paid":
            _complete(session, row, attempt, outcome.payout, now)
        case _Looked():
            return True
        case Reversal() | None:
            await _fail(session, row, attempt, outcome, now)
    return False


def _complete(
    session: AsyncSession, row: Withdrawal, attempt: PayoutAttempt, payout: Payout, now: datetime
) -> None:
    attempt.status, attempt.ended_at = AttemptStatus.PAID, now
    row.status, row.ended_at, row.reference = WithdrawalStatus.COMPLETED, now, payout.id
    row.end_journal = attempt.transfer_journal
    row.held_by = row.held_reason = None
    outbox.record(session, WithdrawalCompleted(**facts(row), reference=payout.id), at=now)


async def _fail(
    session: AsyncSession, row: Withdrawal, attempt: PayoutAttempt, reversal: Reversal | None, now: datetime
) -> None:
    """End an attempt: whatever had left us is back, or nothing had."""
    assert attempt.failure is not None, "only what failed comes back"
    if reversal is not None:
        movement = _movement(reversal, reversal.amount, "transfer_reversal")
        attempt.reversal_journal = await _book(session, row, movement, step=f"{attempt.id}:back", now=now)
        attempt.reversal = reversal.id
    attempt.status, attempt.ended_at = AttemptStatus.FAILED, now
    outbox.record(session, PayoutFailed(**facts(row), failure=attempt.failure), at=now)


async def _both(session: AsyncSession, attempt_id: UUID) -> tuple[Withdrawal, PayoutAttempt]:
    """Return an attempt and its withdrawal as they are now, the withdrawal locked."""
    withdrawal_id = await session.scalar(
        select(PayoutAttempt.withdrawal_id).where(PayoutAttempt.id == attempt_id)
    )
    assert withdrawal_id is not None, "an attempt is never deleted"
    row = await locked(session, withdrawal_id)
    return row, await session.get_one(PayoutAttempt, attempt_id, populate_existing=True)


async def _book(
    session: AsyncSession, row: Withdrawal, movement: BalanceTransaction, *, step: str, now: datetime
) -> int:
    order = Order(
        kind=JournalKind.WITHDRAWAL,
        scope="withdrawal",
        key=step,
        request=row.amount,
        actor=ACTOR,
        reason=None,
        ref_type="withdrawal",
        ref_id=row.id,
        at=now,
    )
    reserved = AccountKey(AccountKind.WITHDRAWAL, row.tutor_id, row.currency)
    journal_id = await stripe_entries.post(session, order, movement, other=reserved)
    assert journal_id is not None, "a step is written down once, under the lock of its withdrawal"
    return journal_id


def _movement(made: Transfer | Reversal, amount: int, category: str) -> BalanceTransaction:
    """Return what this did to our balance: transfers cost nothing and take effect at once, so nobody need be asked."""
    assert made.balance_transaction is not None, "a transfer has moved money"
    return BalanceTransaction(
        id=made.balance_transaction,
        amount=amount,
        fee=0,
        net=amount,
        currency=made.currency,
        created=made.created,
        available_on=made.created,
        status="available",
        type=category,
        reporting_category=category,
        source=made.id,
    )
