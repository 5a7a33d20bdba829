"""How earnings leave: as a tutor's own credit, or as a withdrawal that administrators approve, hold, pay or reject.

The money is reserved when a withdrawal is asked for. Lock order: withdrawal → attempts → ledger; `payouts.py` is the leg
over Stripe.
"""

import uuid
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, maturity, outbox, payout_accounts, payouts, policy
from billing.crashpoints import crashpoint
from billing.errors import (
    NoPayoutAccountError,
    PayoutAccountFrozenError,
    PayoutUnderWayError,
    ReasonTooShortError,
    SecondPersonError,
    WithdrawalHeldError,
    WithdrawalStateError,
    WithdrawalTooSmallError,
)
from billing.ledger import AccountKey, Leg, Order
from billing.messages import (
    WalletChanged,
    WithdrawalApproved,
    WithdrawalCompleted,
    WithdrawalRejected,
    WithdrawalRequested,
)
from billing.models import (
    PLATFORM,
    REASON_LEAST,
    AccountKind,
    AttemptStatus,
    JournalKind,
    OwnerId,
    PayoutMethod,
    Withdrawal,
    WithdrawalStatus,
)
from billing.money import Money


async def spend(session: AsyncSession, tutor_id: OwnerId, money: Money, *, key: str, now: datetime) -> int:
    """Make earnings the tutor's own credit, never to come back; return the journal.

    Raises:
        InvalidAmountError: Not positive.
        InsufficientFundsError: There are not so many earnings, once debts are repaid.
        IdempotencyMismatchError: The key was used with another amount.
    """
    ledger.require_movable(money)
    earnings, wallet = (
        AccountKey(kind, tutor_id, money.currency) for kind in (AccountKind.EARNINGS, AccountKind.WALLET)
    )
    order = Order(
        kind=JournalKind.EARNINGS_SPENT,
        scope=f"spend:{tutor_id}",
        key=key,
        request=money,
        actor=f"user:{tutor_id}",
        reason=None,
        ref_type="owner",
        ref_id=tutor_id,
        at=now,
    )
    journal_id, _ = await _let_out(session, order, earnings, wallet, money)
    return journal_id


async def request(
    session: AsyncSession, tutor_id: OwnerId, money: Money, *, note: str | None, key: str, now: datetime
) -> Withdrawal:
    """Ask for earnings and reserve them; the same key answers the withdrawal that it made before.

    Raises:
        WithdrawalTooSmallError: Less than the policy allows.
        NoPayoutAccountError: The tutor did not say where the money is to go.
        PayoutAccountFrozenError: That was changed lately.
        InsufficientFundsError: There are not so many earnings, once debts are repaid.
        IdempotencyMismatchError: The key was used with another withdrawal.
    """
    ledger.require_movable(money)
    terms = await policy.current(session, now)
    if money.amount < terms.withdrawal_least:
        raise WithdrawalTooSmallError(Money(terms.withdrawal_least, money.currency))
    account = await payout_accounts.current(session, tutor_id)
    if account.method == PayoutMethod.STRIPE and account.stripe_account is None:
        raise NoPayoutAccountError
    if now < account.usable_from:
        raise PayoutAccountFrozenError(account.usable_from)
    withdrawal_id = uuid.uuid4()
    order = Order(
        kind=JournalKind.WITHDRAWAL,
        scope=f"withdrawal:{tutor_id}",
        key=key,
        request=(money, note),
        actor=f"user:{tutor_id}",
        reason=None,
        ref_type="withdrawal",
        ref_id=withdrawal_id,
        at=now,
    )
    earnings, reserved = (
        AccountKey(kind, tutor_id, money.currency) for kind in (AccountKind.EARNINGS, AccountKind.WITHDRAWAL)
    )
    journal_id, is_new = await _let_out(session, order, earnings, reserved, money)
    if not is_new:
        return await _requested_by(session, journal_id)
    row = Withdrawal(
        id=withdrawal_id,
        tutor_id=tutor_id,
        payout_account=account.id,
        method=account.method,
        amount=money.amount,
        currency=money.currency,
        two_people_above=terms.withdrawal_two_people_above,
        note=note,
        status=WithdrawalStatus.PENDING,
        requested_at=now,
        request_journal=journal_id,
    )
    session.add(row)
    await session.flush()
    crashpoint("withdrawal.reserved")
    told = WithdrawalRequested(withdrawal_id=withdrawal_id, tutor_id=tutor_id, amount=money)
    outbox.record(session, told, at=now)
    return row


async def approve(session: AsyncSession, withdrawal_id: UUID, *, admin_id: UUID, now: datetime) -> Withdrawal:
    """Say yes to a withdrawal; a large one needs a second administrator who says yes too.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not pending.
        WithdrawalHeldError: Somebody stopped it.
        SecondPersonError: The administrator is its tutor, or has said yes before.
    """
    row = await payouts.locked(session, withdrawal_id)
    _require(row, WithdrawalStatus.PENDING)
    if admin_id in (row.tutor_id, row.approved_by):
        raise SecondPersonError
    if row.approved_by is None:
        row.approved_by = admin_id
    else:
        row.confirmed_by = admin_id
    if row.amount > row.two_people_above and row.confirmed_by is None:
        await session.flush()
        return row
    row.status = WithdrawalStatus.PROCESSING
    await session.flush()
    outbox.record(session, WithdrawalApproved(**payouts.facts(row)), at=now)
    if row.method == PayoutMethod.STRIPE:
        await payouts.submit(session, row, now=now)
    return row


async def hold(session: AsyncSession, withdrawal_id: UUID, *, admin_id: UUID, reason: str) -> Withdrawal:
    """Stop a withdrawal for a while. What Stripe was told already goes on.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is over.
        WithdrawalHeldError: Somebody else stopped it.
        ReasonTooShortError: Fewer than ten characters.
    """
    _require_reason(reason)
    row = await payouts.locked(session, withdrawal_id)
    _require(row, WithdrawalStatus.PENDING, WithdrawalStatus.PROCESSING)
    row.held_by, row.held_reason = admin_id, reason
    await session.flush()
    return row


async def let_go(session: AsyncSession, withdrawal_id: UUID, *, now: datetime) -> Withdrawal:
    """Let a withdrawal that was held go on.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not held.
    """
    row = await payouts.locked(session, withdrawal_id)
    if row.held_by is None:
        raise WithdrawalStateError(row.status)
    row.held_by = row.held_reason = None
    await session.flush()
    await payouts.look_again(session, row, now=now)
    return row


async def complete(
    session: AsyncSession, withdrawal_id: UUID, *, reference: str, actor: str, reason: str, now: datetime
) -> Withdrawal:
    """Write down that the bank transfer of a withdrawal was made.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not being processed, or goes by Stripe.
        WithdrawalHeldError: Somebody stopped it.
    """
    row = await payouts.locked(session, withdrawal_id)
    _require(row, WithdrawalStatus.PROCESSING)
    if row.method != PayoutMethod.BANK:
        raise WithdrawalStateError(row.status)
    bank = AccountKey(AccountKind.BANK, PLATFORM, row.currency)
    row.end_journal = await _end(session, row, bank, step="arrived", actor=actor, reason=reason, now=now)
    row.status, row.ended_at, row.reference = WithdrawalStatus.COMPLETED, now, reference
    await session.flush()
    outbox.record(session, WithdrawalCompleted(**payouts.facts(row), reference=reference), at=now)
    return row


async def reject(
    session: AsyncSession, withdrawal_id: UUID, *, admin_id: UUID, answer: str, now: datetime
) -> Withdrawal:
    """Say no, and give the money back to the tutor's earnings.

    Raises:
        ReasonTooShortError: The answer has fewer than ten characters.
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is over.
        PayoutUnderWayError: Stripe may have sent the money.
    """
    _require_reason(answer)
    row = await payouts.locked(session, withdrawal_id)
    if row.status not in (WithdrawalStatus.PENDING, WithdrawalStatus.PROCESSING):
        raise WithdrawalStateError(row.status)
    attempt = await payouts.live_attempt(session, row.id)
    if attempt is not None:
        if attempt.began_at is not None:
            raise PayoutUnderWayError
        attempt.status, attempt.ended_at = AttemptStatus.CANCELLED, now
        await session.flush()
    earnings = AccountKey(AccountKind.EARNINGS, row.tutor_id, row.currency)
    actor = f"admin:{admin_id}"
    tutor_id = OwnerId(row.tutor_id)
    reserved, debt = (
        AccountKey(kind, tutor_id, row.currency) for kind in (AccountKind.WITHDRAWAL, AccountKind.TUTOR_DEBT)
    )
    # All that both journals touch, at once: one after the other would be another order.
    await ledger.locked(session, (earnings, reserved, debt))
    row.end_journal = await _end(session, row, earnings, step="returned", actor=actor, reason=answer, now=now)
    row.status, row.ended_at, row.rejected_by = WithdrawalStatus.REJECTED, now, admin_id
    row.answer, row.held_by, row.held_reason = answer, None, None
    await session.flush()
    await maturity.repay(session, tutor_id, row.currency, now=now)
    outbox.record(session, WithdrawalRejected(**payouts.facts(row), answer=answer), at=now)
    outbox.record(session, WalletChanged(tutor_id, row.currency), at=now)
    return row


async def retry(session: AsyncSession, withdrawal_id: UUID, *, now: datetime) -> Withdrawal:
    """Try to pay out by Stripe again what failed.

    Raises:
        WithdrawalNotFoundError: There is none.
        WithdrawalStateError: It is not being processed, or goes to a bank.
        WithdrawalHeldError: Somebody stopped it.
        PayoutUnderWayError: The last try is not over.
    """
    row = await payouts.locked(session, withdrawal_id)
    _require(row, WithdrawalStatus.PROCESSING)
    if row.method != PayoutMethod.STRIPE:
        raise WithdrawalStateError(row.status)
    if await payouts.live_attempt(session, row.id) is not None:
        raise PayoutUnderWayError
    await payouts.submit(session, row, now=now)
    return row


async def _let_out(
    session: AsyncSession, order: Order, earnings: AccountKey, taker: AccountKey, money: Money
) -> tuple[int, bool]:
    """Repay debts, then move earnings to another account; return the journal, and whether it is new."""
    tutor_id = OwnerId(earnings.owner_id)
    debt = AccountKey(AccountKind.TUTOR_DEBT, tutor_id, money.currency)
    ids = await ledger.accounts(session, (earnings, taker))
    # All that both journals touch, at once: one after the other would be another order.
    await ledger.locked(session, (earnings, taker, debt))
    earlier = await ledger.replayed(session, order)
    if earlier is not None:
        return earlier, False
    await maturity.repay(session, tutor_id, money.currency, now=order.at)
    posted = await ledger.post(session, order, [Leg(ids[earnings], ids[taker], money)])
    outbox.record(session, WalletChanged(tutor_id, money.currency), at=order.at)
    return posted.journal_id, True


async def _end(
    session: AsyncSession,
    row: Withdrawal,
    taker: AccountKey,
    *,
    step: str,
    actor: str,
    reason: str,
    now: datetime,
) -> int:
    """Move the reserved money of a withdrawal to where it ends; return the journal."""
    reserved = AccountKey(AccountKind.WITHDRAWAL, row.tutor_id, row.currency)
    ids = await ledger.accounts(session, (reserved, taker))
    order = Order(
        kind=JournalKind.WITHDRAWAL,
        scope="withdrawal",
        key=f"{row.id}:{step}",
        request=row.amount,
        actor=actor,
        reason=reason,
        ref_type="withdrawal",
        ref_id=row.id,
        at=now,
    )
    leg = Leg(ids[reserved], ids[taker], Money(row.amount, row.currency))
    posted = await ledger.post(session, order, [leg])
    crashpoint("withdrawal.ended")
    return posted.journal_id


async def _requested_by(session: AsyncSession, journal_id: int) -> Withdrawal:
    row = await session.scalar(select(Withdrawal).where(Withdrawal.request_journal == journal_id))
    assert row is not None, "a withdrawal and its journal are written in one transaction"
    return row


def _require(row: Withdrawal, *statuses: WithdrawalStatus) -> None:
    if row.status not in statuses:
        raise WithdrawalStateError(row.status)
    if row.held_reason is not None:
        raise WithdrawalHeldError(row.held_reason)


def _require_reason(reason: str) -> None:
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
