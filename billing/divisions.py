"""Where the money of a settled hold is, and how it comes to be elsewhere: a further row of `hold_settlement`.

No row changes. Each states the whole new division, and its journal moves the difference between student, tutor and
platform. The split stays the frozen one, whatever is divided by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger
from billing.errors import HoldNotFoundError
from billing.ledger import AccountKey, Leg, Order, Posted
from billing.models import Cause, Hold, HoldId, Settlement
from billing.money import Money, split


class Division(msgspec.Struct, frozen=True):
    """The three parts of a hold's amount."""

    to_tutor: int
    to_platform: int
    to_student: int


def divide(amount: int, tutor_bps: int, *, to_student: int) -> Division:
    """Return the division that leaves the student so much; the rest goes by the split."""
    return Division(*split(amount - to_student, tutor_bps), to_student)


async def locked(session: AsyncSession, hold_id: UUID) -> Hold:
    """Lock a hold and read it as it is now: nobody else moves its money until the commit.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    hold = await session.scalar(
        select(Hold)
        .where(Hold.id == hold_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if hold is None:
        raise HoldNotFoundError(hold_id)
    return hold


async def newest(session: AsyncSession, hold_id: UUID) -> Settlement | None:
    """Return where a hold's money is now; None while it is held. The caller has locked the hold."""
    query = (
        select(Settlement).where(Settlement.hold_id == hold_id).order_by(Settlement.number.desc()).limit(1)
    )
    return await session.scalar(query)


def revenue(hold: Hold) -> AccountKey:
    """Name the account of our share of a hold."""
    return ledger.revenue(hold.lesson_id or hold.source_id, hold.currency)


async def change(
    session: AsyncSession,
    hold: Hold,
    latest: Settlement,
    division: Division,
    order: Order,
    *,
    cause: Cause,
    tutor: Sequence[tuple[AccountKey, int]],
    known: Mapping[str, Any],
) -> Posted:
    """Move the money of a locked hold to a new division, and write it down with the next number.

    Args:
        session: Commits all or nothing.
        hold: Locked.
        latest: Its newest row.
        division: The new one; another than that of `latest`.
        order: Of the journal; a key that was used before is a bug.
        cause: Why.
        tutor: By how much each of the tutor's accounts changes, together by the difference of the tutor's share.
        known: What else the row says: facts, risk window.

    Raises:
        InsufficientFundsError: An account would fall below zero.
    """
    assert sum(by for _, by in tutor) == division.to_tutor - latest.to_tutor, (
        "the tutor's part is the difference"
    )
    changes = [*tutor, (revenue(hold), division.to_platform - latest.to_platform)]
    ids = await ledger.accounts(session, [key for key, by in changes if by])
    legs: list[Leg] = []
    for key, by in changes:
        # The split is frozen, so both shares rise out of the student's wallet or both fall back into it.
        if by:
            giver, taker = (hold.wallet_account, ids[key]) if by > 0 else (ids[key], hold.wallet_account)
            legs.append(Leg(giver, taker, Money(abs(by), hold.currency), HoldId(hold.id)))
    posted = await ledger.post(session, order, legs)
    assert not posted.replayed, "whoever holds the lock looked for the key before"
    row = {
        "hold_id": hold.id,
        "number": latest.number + 1,
        "amount": hold.amount,
        "tutor_bps": hold.tutor_bps,
        "cause": cause,
        "actor": order.actor,
        "reason": order.reason,
        "risk_until": latest.risk_until,
        "journal_id": posted.journal_id,
        "settled_at": order.at,
    }
    await session.execute(insert(Settlement).values(row | msgspec.structs.asdict(division) | dict(known)))
    return posted
