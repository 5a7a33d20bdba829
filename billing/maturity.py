"""The risk window of earnings: what a tutor was paid out waits, may be frozen by a dispute, and then is theirs.

A settled hold with a risk window has a row in `maturing` and a job at its end. Whoever changes the row holds the lock
of the hold, so a dispute and the end of the window never both get the money.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import jobs, ledger, outbox
from billing.crashpoints import crashpoint
from billing.errors import HoldNotFoundError
from billing.ledger import AccountKey, Leg, Order
from billing.messages import WalletChanged
from billing.models import Account, AccountKind, Hold, JournalKind, Maturing, OwnerId, Settlement, Transfer
from billing.money import Money

# Kind of the job at the end of a risk window.
JOB = "mature"
ACTOR = "system:maturity"


class Due(msgspec.Struct, frozen=True):
    """Payload of the job."""

    hold_id: UUID


async def begin(session: AsyncSession, holds: Iterable[tuple[Hold, datetime | None]]) -> None:
    """Have the earnings of these settled holds mature at their time; those without one are at no risk."""
    waiting = [(hold, mature_at) for hold, mature_at in holds if mature_at is not None]
    if not waiting:
        return
    await session.execute(
        insert(Maturing),
        [
            {"hold_id": hold.id, "tutor_id": hold.tutor_id, "mature_at": mature_at}
            for hold, mature_at in waiting
        ],
    )
    for hold, mature_at in waiting:
        await jobs.enqueue(session, JOB, Due(hold.id), key=str(hold.id), run_at=mature_at)


async def run(sessions: async_sessionmaker[AsyncSession], claim: jobs.Claim, *, now: datetime) -> None:
    """Job: let what is not frozen mature."""
    hold_id = msgspec.json.decode(claim.payload, type=Due).hold_id
    async with sessions.begin() as session:
        await mature(session, hold_id, now=now)
        await jobs.finish(session, claim)


async def mature(session: AsyncSession, hold_id: UUID, *, now: datetime) -> bool:
    """Make a tutor's share their earnings, if its time has come and nothing freezes it; debts are repaid from it.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    hold = await _locked(session, hold_id)
    row = await session.get(Maturing, hold_id, populate_existing=True)
    if row is None or row.frozen_by is not None or now < row.mature_at:
        return False
    share = await session.scalar(
        select(Settlement.to_tutor)
        .where(Settlement.hold_id == hold_id)
        .order_by(Settlement.number.desc())
        .limit(1)
    )
    await session.execute(delete(Maturing).where(Maturing.hold_id == hold_id))
    if not share:
        return True
    tutor_id = OwnerId(hold.tutor_id)
    pending, earnings, debt = (
        AccountKey(kind, tutor_id, hold.currency)
        for kind in (AccountKind.EARNINGS_PENDING, AccountKind.EARNINGS, AccountKind.TUTOR_DEBT)
    )
    ids = await ledger.accounts(session, (pending, earnings))
    # All that both journals touch, at once: one after the other would be another order.
    await ledger.locked(session, (pending, earnings, debt))
    order = Order(
        kind=JournalKind.MATURITY,
        scope="maturity",
        key=str(hold_id),
        request=share,
        actor=ACTOR,
        reason=None,
        ref_type="hold",
        ref_id=hold_id,
        at=now,
    )
    await ledger.post(session, order, [Leg(ids[pending], ids[earnings], Money(share, hold.currency))])
    await repay(session, tutor_id, hold.currency, now=now)
    crashpoint("maturity.written")
    outbox.record(session, WalletChanged(tutor_id, hold.currency), at=now)
    return True


async def freeze(session: AsyncSession, hold_id: UUID, *, by: UUID) -> AccountKind:
    """Keep a settled hold's share from maturing until `thaw`; say which of the tutor's accounts has it now.

    The caller moves the money into the dispute's account in the same transaction.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    await _locked(session, hold_id)
    row = await session.get(Maturing, hold_id, populate_existing=True)
    if row is None:
        return AccountKind.EARNINGS
    assert row.frozen_by is None, "a hold has one open dispute"
    row.frozen_by = by
    return AccountKind.EARNINGS_PENDING


async def thaw(session: AsyncSession, hold_id: UUID, *, now: datetime) -> None:
    """Let a frozen share mature again, at once where its time has passed; it is back in the pending earnings.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    await _locked(session, hold_id)
    row = await session.get(Maturing, hold_id, populate_existing=True)
    if row is None or row.frozen_by is None:
        return
    row.frozen_by = None
    run_at = max(now, row.mature_at)
    await jobs.enqueue(session, JOB, Due(hold_id), key=str(hold_id), run_at=run_at)


async def is_at_risk(session: AsyncSession, hold_id: UUID) -> bool:
    """Return whether a hold's share is still pending and free to be adjusted; the caller has locked the hold."""
    found = await session.scalar(
        select(Maturing.hold_id).where(Maturing.hold_id == hold_id, Maturing.frozen_by.is_(None))
    )
    return found is not None


async def repay(session: AsyncSession, tutor_id: OwnerId, currency: str, *, now: datetime) -> Money:
    """Repay what a tutor owes from their earnings, as far as they go; return what was repaid.

    Whatever lets earnings out calls this first.
    """
    debt = AccountKey(AccountKind.TUTOR_DEBT, tutor_id, currency)
    earnings = AccountKey(AccountKind.EARNINGS, tutor_id, currency)
    locked = await ledger.locked(session, (debt, earnings))
    nothing = Money(0, currency)
    if debt not in locked or earnings not in locked:
        return nothing
    amount = min(-locked[debt].balance, locked[earnings].balance)
    if amount == 0:
        return nothing
    order = Order(
        kind=JournalKind.DEBT,
        scope="repay",
        # What the earnings were when it was repaid: while they are locked nothing can be added to them.
        key=f"{locked[earnings].id}:{await _newest(session, locked[earnings].id)}",
        request=amount,
        actor=ACTOR,
        reason=None,
        ref_type="owner",
        ref_id=tutor_id,
        at=now,
    )
    repaid = Money(amount, currency)
    await ledger.post(session, order, [Leg(locked[earnings].id, locked[debt].id, repaid)])
    return repaid


async def sweep(sessions: async_sessionmaker[AsyncSession], now: datetime) -> int:
    """Repay debts from earnings that came without a risk window; return how many tutors repaid."""
    async with sessions() as session:
        owing = (
            await session.execute(
                select(Account.owner_id, Account.currency).where(
                    Account.kind == AccountKind.TUTOR_DEBT, Account.balance < 0
                )
            )
        ).all()
    count = 0
    for tutor_id, currency in owing:
        async with sessions.begin() as session:
            repaid = await repay(session, OwnerId(tutor_id), currency, now=now)
            if repaid.amount:
                outbox.record(session, WalletChanged(OwnerId(tutor_id), currency), at=now)
                count += 1
    return count


async def _newest(session: AsyncSession, account_id: int) -> int | None:
    """Return the newest journal that touched an account."""
    sides = (
        select(func.max(Transfer.journal_id)).where(side == account_id).scalar_subquery()
        for side in (Transfer.debit_account, Transfer.credit_account)
    )
    return await session.scalar(select(func.greatest(*sides)))


async def _locked(session: AsyncSession, hold_id: UUID) -> Hold:
    hold = await session.scalar(
        select(Hold)
        .where(Hold.id == hold_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if hold is None:
        raise HoldNotFoundError(hold_id)
    return hold
