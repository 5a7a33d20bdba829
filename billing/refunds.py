"""Money of a released hold goes back to its student, in parts or whole, however late.

A hold that is still held is refunded by `holds.refund`. Here the tutor was paid: their part comes from wherever it is,
frozen, at risk, earned, and what has left us already is owed (`tutor_debt`) and repaid from the next earnings. The
platform gives its part back too: what is left is divided by the frozen split.
"""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, cast, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import divisions, ledger, maturity, outbox
from billing.errors import HoldNotSettledError, ReasonTooShortError, RefundTooLargeError
from billing.ledger import AccountKey, Order
from billing.messages import HoldGivenBack, WalletChanged
from billing.models import (
    GIVEN_BACK,
    REASON_LEAST,
    Account,
    AccountKind,
    Cause,
    Hold,
    HoldId,
    JournalKind,
    OwnerId,
    Review,
    Settlement,
    SourceKind,
    Transfer,
)
from billing.money import Money


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """What one refund did."""

    hold_id: HoldId
    number: int
    """Of the hold's settlements, the one that tells of it."""
    amount: Money
    from_tutor: Money
    """Of the amount; the rest was ours."""
    owed: Money
    """Of the tutor's part, what had left us: they owe it."""
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
    """Give money of a released hold back to its student's wallet; the same key gives it once.

    Args:
        session: Commits all or nothing.
        hold_id: Which.
        amount: How much; None for all that is left.
        cause: `refund`, `dispute` or `card_dispute`.
        actor: Who asked for it.
        reason: Shown to both parties; an administrator needs ten characters.
        key: Of the request.
        now: Business time.

    Raises:
        ReasonTooShortError: An administrator gave fewer than ten characters.
        HoldNotFoundError: There is no such hold.
        HoldNotSettledError: It is still held.
        InvalidAmountError: The amount is not positive.
        RefundTooLargeError: More than is left of it.
        IdempotencyMismatchError: The key was used with another refund.
    """
    assert cause in GIVEN_BACK, "other causes settle a hold"
    if actor.startswith("admin:") and len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    if amount is not None:
        ledger.require_movable(amount)
    hold = await divisions.locked(session, hold_id)
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
    # Whoever used this key first had the lock first: what it gave back is visible now.
    earlier = await ledger.replayed(session, order)
    if earlier is not None:
        return await _given_by(session, hold, earlier)
    latest = await divisions.newest(session, hold_id)
    if latest is None:
        raise HoldNotSettledError(hold_id)
    rest = hold.amount - latest.to_student
    wanted = Money(rest, hold.currency) if amount is None else amount
    if wanted.currency != hold.currency or not 0 < wanted.amount <= rest:
        raise RefundTooLargeError(Money(rest, hold.currency))
    division = divisions.divide(hold.amount, hold.tutor_bps, to_student=latest.to_student + wanted.amount)
    shares = await _where(session, hold, latest, latest.to_tutor - division.to_tutor)
    await divisions.change(
        session,
        hold,
        latest,
        division,
        order,
        cause=cause,
        tutor=[(account, -part) for account, part in shares],
        known={},
    )
    # People decided; what late evidence asked for is answered.
    await session.execute(delete(Review).where(Review.hold_id == hold_id, Review.lesson_id == hold.lesson_id))
    given = GivenBack(
        hold_id=HoldId(hold_id),
        number=latest.number + 1,
        amount=wanted,
        from_tutor=Money(latest.to_tutor - division.to_tutor, hold.currency),
        owed=Money(_owed(shares), hold.currency),
        rest=Money(hold.amount - division.to_student, hold.currency),
    )
    outbox.record(session, _told(hold, given, cause, reason), at=now)
    for owner_id in (hold.student_id, hold.tutor_id):
        outbox.record(session, WalletChanged(OwnerId(owner_id), hold.currency), at=now)
    return given


def accounts_of(hold: Hold) -> list[AccountKey]:
    """Name every account in which money of a settled hold may be.

    Who does more than one thing to a hold locks them first: one thing after the other would be another order.
    """
    kinds = (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
    return [
        maturity.frozen_share(hold),
        *(AccountKey(kind, hold.tutor_id, hold.currency) for kind in kinds),
        AccountKey(AccountKind.WALLET, hold.student_id, hold.currency),
        divisions.revenue(hold),
    ]


async def _where(
    session: AsyncSession, hold: Hold, latest: Settlement, part: int
) -> list[tuple[AccountKey, int]]:
    """Say which accounts have this part of the tutor's share, those that are least theirs first."""
    keys = accounts_of(hold)
    frozen, pending, earnings, debt, *_ = keys
    has = {key: account.balance for key, account in (await ledger.locked(session, keys)).items()}
    # The other holds of the tutor have their shares in the same account.
    at_risk = latest.to_tutor if await maturity.is_at_risk(session, hold.id) else 0
    there = ((frozen, has.get(frozen, 0)), (pending, at_risk), (earnings, has.get(earnings, 0)))
    found: list[tuple[AccountKey, int]] = []
    left = part
    for key, most in there:
        taken = min(left, most)
        found += [(key, taken)] if taken else []
        left -= taken
    return [*found, (debt, left)] if left else found


def _owed(shares: list[tuple[AccountKey, int]]) -> int:
    return sum(part for key, part in shares if key.kind is AccountKind.TUTOR_DEBT)


async def _given_by(session: AsyncSession, hold: Hold, journal_id: int) -> GivenBack:
    """Return what a refund did when it was done."""
    query = select(Settlement).where(Settlement.hold_id == hold.id)
    rows = {row.number: row for row in await session.scalars(query)}
    row = next(row for row in rows.values() if row.journal_id == journal_id)
    before = rows[row.number - 1]
    return GivenBack(
        hold_id=HoldId(hold.id),
        number=row.number,
        amount=Money(row.to_student - before.to_student, hold.currency),
        from_tutor=Money(before.to_tutor - row.to_tutor, hold.currency),
        owed=Money(await _debited(session, journal_id, AccountKind.TUTOR_DEBT), hold.currency),
        rest=Money(hold.amount - row.to_student, hold.currency),
    )


async def _debited(session: AsyncSession, journal_id: int, kind: AccountKind) -> int:
    query = (
        select(cast(func.coalesce(func.sum(Transfer.amount), 0), BigInteger))
        .join(Account, Account.id == Transfer.debit_account)
        .where(Transfer.journal_id == journal_id, Account.kind == kind)
    )
    return await session.scalar(query) or 0


def _told(hold: Hold, given: GivenBack, cause: Cause, reason: str) -> HoldGivenBack:
    return HoldGivenBack(
        hold_id=given.hold_id,
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        lesson_id=hold.lesson_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        amount=Money(hold.amount, hold.currency),
        given=given.amount,
        from_tutor=given.from_tutor,
        owed=given.owed,
        rest=given.rest,
        cause=cause,
        reason=reason,
    )
