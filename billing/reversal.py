"""Undo a whole journal, at most once: the same legs backwards, as a journal of its own."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, outbox
from billing.errors import (
    AlreadyReversedError,
    JournalNotFoundError,
    NotReversibleError,
    ReasonTooShortError,
)
from billing.ledger import Leg, Order
from billing.messages import WalletChanged
from billing.models import (
    PLATFORM,
    REASON_LEAST,
    Account,
    HoldId,
    Journal,
    JournalKind,
    OwnerId,
    Reversal,
    Transfer,
)
from billing.money import Money

# Only what stands for itself. Money of holds goes back by `holds.refund` and `settlement.reconsider`, withdrawals by
# `withdrawals.reject`, and what moved at Stripe only moves with Stripe: undoing those here would leave the hold, the
# withdrawal or Stripe saying something else.
REVERSIBLE = frozenset({JournalKind.ADMIN_ADJUSTMENT, JournalKind.GOODWILL, JournalKind.EARNINGS_SPENT})


class Reversed(msgspec.Struct, frozen=True, kw_only=True):
    """A journal that was undone."""

    journal_id: int
    """The reversal."""
    reverses_id: int
    kind: JournalKind
    """Of what was undone, like the rest."""
    ref_type: str
    ref_id: UUID


async def reverse(
    session: AsyncSession, journal_id: int, *, actor: str, reason: str, key: str, now: datetime
) -> Reversed:
    """Move everything back that a journal moved; the same key gives the first answer again.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        JournalNotFoundError: No journal has this id.
        NotReversibleError: Its kind has a way back of its own.
        AlreadyReversedError: It was undone before.
        InsufficientFundsError: The money is not where it went any more; says how much is missing.
        IdempotencyMismatchError: The key was used with another reversal.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    # Whoever comes second waits here, and then finds the reversal.
    journal = await session.scalar(
        select(Journal).where(Journal.id == journal_id).with_for_update(key_share=True)
    )
    if journal is None:
        raise JournalNotFoundError(journal_id)
    order = Order(
        kind=JournalKind.REVERSAL,
        scope=f"reversal:{actor}",
        key=key,
        request=(journal_id, reason),
        actor=actor,
        reason=reason,
        ref_type=journal.ref_type,
        ref_id=journal.ref_id,
        at=now,
    )
    earlier = await ledger.replayed(session, order)
    if earlier is not None:
        return _reversed(journal, earlier)
    kind = JournalKind(journal.kind)
    if kind not in REVERSIBLE:
        raise NotReversibleError(kind)
    if await session.get(Reversal, journal_id) is not None:
        raise AlreadyReversedError(journal_id)
    transfers = (
        await session.scalars(
            select(Transfer).where(Transfer.journal_id == journal_id).order_by(Transfer.leg)
        )
    ).all()
    legs = [
        Leg(
            transfer.credit_account,
            transfer.debit_account,
            Money(transfer.amount, transfer.currency),
            None if transfer.hold_id is None else HoldId(transfer.hold_id),
        )
        for transfer in transfers
    ]
    posted = await ledger.post(session, order, legs)
    session.add(Reversal(reverses_id=journal_id, journal_id=posted.journal_id))
    await session.flush()
    for owner_id, currency in await _owners(session, transfers):
        outbox.record(session, WalletChanged(owner_id, currency), at=now)
    return _reversed(journal, posted.journal_id)


async def _owners(session: AsyncSession, transfers: Sequence[Transfer]) -> list[tuple[OwnerId, str]]:
    touched = {account for one in transfers for account in (one.debit_account, one.credit_account)}
    rows = await session.execute(
        select(Account.owner_id, Account.currency)
        .where(Account.id.in_(touched), Account.owner_id != PLATFORM)
        .distinct()
        .order_by(Account.owner_id, Account.currency)
    )
    return [(OwnerId(row.owner_id), row.currency) for row in rows]


def _reversed(journal: Journal, reversal_id: int) -> Reversed:
    return Reversed(
        journal_id=reversal_id,
        reverses_id=journal.id,
        kind=JournalKind(journal.kind),
        ref_type=journal.ref_type,
        ref_id=journal.ref_id,
    )
