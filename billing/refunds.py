"""Money of a released hold goes back to its student, in parts or whole."""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, maturity, outbox, releases
from billing.errors import HoldNotFoundError, RefundTooLargeError
from billing.ledger import AccountKey, Leg, Order
from billing.messages import WalletChanged
from billing.models import AccountKind, Cause, Hold, HoldId, JournalKind, OwnerId, Review, Settlement
from billing.money import Money, split


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """What one refund did."""

    hold_id: HoldId
    number: int
    """Of the hold's settlements, the one that tells of it."""
    amount: Money
    rest: Money
    """What can still be given back."""


async def give_back(
    session: AsyncSession,
    hold_id: UUID,
    *,
    amount: Money | None,
    cause: Cause,
    actor: str,
    reason: str,
    key: str,
    now: datetime,
) -> GivenBack:
    """Give money of a released hold back to its student's wallet; None is all that is left.

    The tutor's part comes from where the settlement put it.

    Raises:
        HoldNotFoundError: There is no such hold.
        RefundTooLargeError: More than is left of it.
        InsufficientFundsError: The tutor's part is not there any more.
    """
    hold = await session.scalar(select(Hold).where(Hold.id == hold_id).with_for_update(key_share=True))
    if hold is None:
        raise HoldNotFoundError(hold_id)
    latest = (
        await session.scalars(
            select(Settlement)
            .where(Settlement.hold_id == hold_id)
            .order_by(Settlement.number.desc())
            .limit(1)
        )
    ).one()
    rest = hold.amount - latest.to_student
    wanted = rest if amount is None else amount.amount
    if not 0 < wanted <= rest:
        raise RefundTooLargeError(Money(rest, hold.currency))
    to_student = latest.to_student + wanted
    to_tutor, to_platform = split(hold.amount - to_student, hold.tutor_bps)
    is_pending = await maturity.is_at_risk(session, hold.id)
    kind = AccountKind.EARNINGS_PENDING if is_pending else AccountKind.EARNINGS
    parts = (
        (AccountKey(kind, hold.tutor_id, hold.currency), latest.to_tutor - to_tutor),
        (releases.revenue(hold), latest.to_platform - to_platform),
    )
    ids = await ledger.accounts(session, [account for account, _ in parts])
    order = Order(
        kind=JournalKind.REFUND,
        scope=f"give_back:{actor}",
        key=key,
        request=(hold_id, amount, cause, reason),
        actor=actor,
        reason=reason,
        ref_type="hold",
        ref_id=hold_id,
        at=now,
    )
    legs = [
        Leg(ids[account], hold.wallet_account, Money(part, hold.currency), HoldId(hold.id))
        for account, part in parts
        if part
    ]
    posted = await ledger.post(session, order, legs)
    await session.execute(
        insert(Settlement).values(
            hold_id=hold.id,
            number=latest.number + 1,
            amount=hold.amount,
            tutor_bps=hold.tutor_bps,
            to_tutor=to_tutor,
            to_platform=to_platform,
            to_student=to_student,
            cause=cause,
            actor=actor,
            reason=reason,
            risk_until=latest.risk_until,
            journal_id=posted.journal_id,
            settled_at=now,
        )
    )
    await session.execute(delete(Review).where(Review.hold_id == hold_id))
    for owner_id in (hold.student_id, hold.tutor_id):
        outbox.record(session, WalletChanged(OwnerId(owner_id), hold.currency), at=now)
    return GivenBack(
        hold_id=HoldId(hold.id),
        number=latest.number + 1,
        amount=Money(wanted, hold.currency),
        rest=Money(rest - wanted, hold.currency),
    )
