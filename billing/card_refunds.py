"""Money from a wallet back to the card that it came from, and only there.

    asked ──► sent
      └─────────┴──► failed

It leaves the wallet when it is asked for (`card_refund` has it), and our books when Stripe makes the refund, which is
when it leaves our balance there. Banks may refuse it for weeks after that: then it comes back, into the wallet. The
refund at Stripe is known by our id in its metadata, so whichever comes first, our answer or Stripe's event, is written
down once, and a call whose answer was lost is looked for before it is made under another key.

Where a bank took the same payment, its customer has that money already: of a refund that fails, what we bore of the loss
is ours, and only the rest goes into the wallet.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, ledger, outbox, stripe_entries
from billing.crashpoints import crashpoint
from billing.errors import NotByCardError, PaymentMismatchError, StripeAwayError, StripeRefusedError
from billing.ledger import AccountKey, Leg, Order
from billing.messages import CardRefundFailed, WalletChanged
from billing.models import (
    PLATFORM,
    AccountKind,
    AuthorizationStatus,
    CardAuthorization,
    CardDispute,
    CardRefund,
    CardRefundStatus,
    Journal,
    JournalKind,
    OwnerId,
    Payment,
    PaymentReason,
    StripeEntry,
    Transfer,
)
from billing.money import Money
from billing.stripe_api import StripeApi
from billing.stripe_objects import BalanceTransaction, Refund, tagged

# Kind of the job that carries a refund on.
JOB = "card_refund"
ACTOR = "system:card_refunds"
# What our refunds at Stripe carry, so that they are found again.
TAG = "card_refund"

# Stripe may forget a key after 24 hours; well before that we look for what was made, instead of asking for it again.
KEYS_LAST = timedelta(hours=20)
# Stripe's words for a refund that did not arrive.
LOST = ("failed", "canceled")
REFUSED = "refused"


class Due(msgspec.Struct, frozen=True):
    """Payload of the job."""

    refund_id: UUID


async def ask(session: AsyncSession, payment: Payment, amount: int, *, key: str, now: datetime) -> CardRefund:
    """Take money out of the wallet to send it to the card; the payment is locked, and its accounts with it.

    Raises:
        NotByCardError: So much was not taken from the payment's card, or it went back before.
        InsufficientFundsError: It is not in the wallet any more.
    """
    taken = await session.scalar(
        select(CardAuthorization).where(
            CardAuthorization.payment_id == payment.id,
            CardAuthorization.status == AuthorizationStatus.CAPTURED,
        )
    )
    back = await session.scalar(
        select(cast(func.coalesce(func.sum(CardRefund.amount), 0), BigInteger)).where(
            CardRefund.payment_id == payment.id, CardRefund.status != CardRefundStatus.FAILED
        )
    )
    if taken is None or (back or 0) + amount > payment.amount:
        raise NotByCardError
    row = CardRefund(
        id=uuid.uuid4(),
        payment_id=payment.id,
        authorization_id=taken.id,
        student_id=payment.student_id,
        key=key,
        amount=amount,
        currency=payment.currency,
        status=CardRefundStatus.ASKED,
        asked_at=now,
    )
    row.ask_journal = await _post(session, row, "ask", [(_wallet(row), _reserved(row), amount)], now)
    session.add(row)
    await session.flush()
    outbox.record(session, WalletChanged(OwnerId(row.student_id), row.currency), at=now)
    await look(session, row.id, now=now)
    crashpoint("card_refund.asked")
    return row


async def look(session: AsyncSession, refund_id: UUID, *, now: datetime) -> None:
    """Have a refund carried on, now."""
    await jobs.enqueue(session, JOB, Due(refund_id), key=str(refund_id), run_at=now)


async def run(
    sessions: async_sessionmaker[AsyncSession], api: StripeApi, claim: jobs.Claim, *, now: datetime
) -> None:
    """Job: make the refund at Stripe, or see what became of it.

    Raises:
        StripeAwayError: Stripe does not answer; the job comes again, with the same key.
    """
    refund_id = msgspec.json.decode(claim.payload, type=Due).refund_id
    async with sessions() as session:
        row = await session.get_one(CardRefund, refund_id)
        intent = (await session.get_one(CardAuthorization, row.authorization_id)).intent
    assert intent is not None, "only what was captured goes back"
    found: Refund | None = None
    refusal: str | None = None
    try:
        if row.status == CardRefundStatus.ASKED:
            found = await _make(api, row, intent, now)
            crashpoint("card_refund.answered")
        elif row.status == CardRefundStatus.SENT and row.refund is not None:
            found = await api.retrieve_refund(row.refund)
    except StripeRefusedError as error:
        refusal = error.stripe_code
    except StripeAwayError as error:
        if error.answered:
            await _take_another_key(sessions, refund_id)
        raise
    async with sessions.begin() as session:
        if found is not None:
            await apply(session, refund_id, found, now=now)
        elif refusal is not None:
            row = await _locked(session, refund_id)
            if row.status == CardRefundStatus.ASKED:
                await _fail(session, row, refusal, None, now)
        await jobs.finish(session, claim)


async def apply(session: AsyncSession, refund_id: UUID, found: Refund, *, now: datetime) -> None:
    """Apply what Stripe's refund says, whatever was known before; the same again changes nothing.

    Raises:
        PaymentMismatchError: It is not the refund that was asked for.
    """
    row = await _locked(session, refund_id)
    if (found.amount, found.currency.upper()) != (row.amount, row.currency) or row.refund not in (
        None,
        found.id,
    ):
        raise PaymentMismatchError(found.id, "amount, or is another refund")
    if found.status in LOST:
        await _lock_accounts(session, row)
    if row.status == CardRefundStatus.ASKED and found.balance_transaction is not None:
        movement = _movement(found, found.balance_transaction, -found.amount, "refund")
        row.sent_journal = await _post(
            session, row, "sent", [(_reserved(row), stripe_entries.at_stripe(row.currency), row.amount)], now
        )
        stripe_entries.record(session, row.sent_journal, movement)
        row.refund, row.status = found.id, CardRefundStatus.SENT
        await session.flush()
        crashpoint("card_refund.sent")
    if row.status == CardRefundStatus.SENT and found.status in LOST:
        if found.failure_balance_transaction is None:
            # It comes back in a moment; the movement's own event, or the reconciliation, has us look again.
            return
        movement = _movement(found, found.failure_balance_transaction, found.amount, "refund_failure")
        await _fail(session, row, found.failure_reason or str(found.status), movement, now)
    elif row.status == CardRefundStatus.ASKED and found.status in LOST:
        await _fail(session, row, found.failure_reason or str(found.status), None, now)


async def _make(api: StripeApi, row: CardRefund, intent: str, now: datetime) -> Refund:
    if row.broken > 0 or now - row.asked_at > KEYS_LAST:
        async for one in api.list_refunds(row.asked_at - KEYS_LAST, now + KEYS_LAST, payment=intent):
            if tagged(one.metadata, TAG) == row.id:
                return one
    return await api.create_refund(
        intent, row.amount, tags={TAG: str(row.id)}, key=f"card_refund:{row.id}:{row.broken}"
    )


async def _take_another_key(sessions: async_sessionmaker[AsyncSession], refund_id: UUID) -> None:
    """Stripe broke, has answered, and may have done it or not: the next try looks, and asks under another key."""
    async with sessions.begin() as session:
        row = await _locked(session, refund_id)
        if row.status == CardRefundStatus.ASKED:
            row.broken += 1


async def _fail(
    session: AsyncSession, row: CardRefund, failure: str, movement: BalanceTransaction | None, now: datetime
) -> None:
    """Give the money back to whom it belongs: it never left us, or it came back to our balance at Stripe."""
    await _lock_accounts(session, row)
    wallet, expense = _wallet(row), _expense(row)
    giver = _reserved(row) if movement is None else stripe_entries.at_stripe(row.currency)
    ours = min(row.amount, await _borne(session, row))
    theirs = row.amount - ours
    row.back_journal = await _post(
        session, row, "back", [(giver, expense, ours), (giver, wallet, theirs)], now
    )
    if movement is not None:
        stripe_entries.record(session, row.back_journal, movement)
    row.status, row.failure = CardRefundStatus.FAILED, failure
    payment = await session.get_one(Payment, row.payment_id)
    event = CardRefundFailed(
        payment_id=payment.id,
        lesson_id=payment.lesson_id,
        student_id=OwnerId(payment.student_id),
        tutor_id=OwnerId(payment.tutor_id),
        amount=Money(payment.amount, payment.currency),
        reason=PaymentReason.CARD_FAILED,
        refunded=Money(theirs, row.currency),
        kept=Money(ours, row.currency) if ours else None,
    )
    outbox.record(session, event, at=now)
    if theirs:
        outbox.record(session, WalletChanged(OwnerId(row.student_id), row.currency), at=now)
    crashpoint("card_refund.returned")


async def _lock_accounts(session: AsyncSession, row: CardRefund) -> None:
    """Lock all that any step of a failure touches, before the first one posts.

    Whoever covers a loss has these locked: what was borne is known from here on.
    """
    keys = (_reserved(row), stripe_entries.at_stripe(row.currency), _wallet(row), _expense(row))
    await ledger.accounts(session, keys)
    await ledger.locked(session, keys)


async def _borne(session: AsyncSession, row: CardRefund) -> int:
    """Return what we bore of this payment's lost disputes, less what failed refunds of it brought us back.

    A loss is ours only as far as nothing of the payer could bear it, so what did not reach them by a refund has reached
    them by their bank.
    """
    query = (
        select(CardDispute.id)
        .join(StripeEntry, StripeEntry.source == CardDispute.charge)
        .join(CardAuthorization, CardAuthorization.journal_id == StripeEntry.journal_id)
        .where(
            CardAuthorization.id == row.authorization_id,
            CardDispute.owner_id == row.student_id,
            CardDispute.covered > 0,
        )
    )
    lost = (await session.scalars(query)).all()
    if not lost:
        return 0
    keys = [
        AccountKey(kind, PLATFORM, row.currency)
        for kind in (AccountKind.PLATFORM_EXPENSE, AccountKind.STRIPE_DISPUTED)
    ]
    ids = await ledger.accounts(session, keys)
    expense, disputed = (ids[key] for key in keys)
    amount = cast(func.sum(Transfer.amount), BigInteger)
    borne = await session.scalar(
        select(amount)
        .join(Journal, Journal.id == Transfer.journal_id)
        .where(
            Transfer.debit_account == expense, Transfer.credit_account == disputed, Journal.ref_id.in_(lost)
        )
    )
    back = await session.scalar(
        select(amount)
        .join(CardRefund, CardRefund.back_journal == Transfer.journal_id)
        .where(CardRefund.payment_id == row.payment_id, Transfer.credit_account == expense)
    )
    return (borne or 0) - (back or 0)


def _wallet(row: CardRefund) -> AccountKey:
    return AccountKey(AccountKind.WALLET, row.student_id, row.currency)


def _expense(row: CardRefund) -> AccountKey:
    return AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, row.currency)


def _reserved(row: CardRefund) -> AccountKey:
    return AccountKey(AccountKind.CARD_REFUND, row.student_id, row.currency)


async def _post(
    session: AsyncSession,
    row: CardRefund,
    step: str,
    moves: Sequence[tuple[AccountKey, AccountKey, int]],
    now: datetime,
) -> int:
    moves = [move for move in moves if move[2]]
    ids = await ledger.accounts(session, [key for giver, taker, _ in moves for key in (giver, taker)])
    legs = [Leg(ids[giver], ids[taker], Money(amount, row.currency)) for giver, taker, amount in moves]
    return (await ledger.post(session, _order(row, step, now), legs)).journal_id


def _order(row: CardRefund, step: str, now: datetime) -> Order:
    return Order(
        kind=JournalKind.CARD_REFUND,
        scope="card_refund",
        key=f"{row.id}:{step}",
        request=row.amount,
        actor=ACTOR,
        reason=None,
        ref_type="card_refund",
        ref_id=row.id,
        at=now,
    )


def _movement(found: Refund, movement: str, amount: int, category: str) -> BalanceTransaction:
    """Return what this did to our balance: refunds cost nothing and take effect at once, so nobody need be asked."""
    return BalanceTransaction(
        id=movement,
        amount=amount,
        fee=0,
        net=amount,
        currency=found.currency,
        created=found.created,
        available_on=found.created,
        status="available",
        type=category,
        reporting_category=category,
        source=found.id,
    )


async def _locked(session: AsyncSession, refund_id: UUID) -> CardRefund:
    return (
        await session.scalars(
            select(CardRefund)
            .where(CardRefund.id == refund_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    ).one()
