"""The risk window of earnings: what a tutor was paid out waits, may be frozen by a dispute, and then is theirs.

A settled hold with a risk window has a row in `maturing` and a job at its end. Whoever changes the row holds the lock
of the hold, so a dispute and the end of the window never both get the money.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import divisions, jobs, ledger, outbox
from billing.crashpoints import crashpoint
from billing.ledger import AccountKey, Leg, Order
from billing.messages import WalletChanged
from billing.models import Account, AccountKind, Hold, HoldFreeze, JournalKind, Maturing, OwnerId, Transfer
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
    hold = await divisions.locked(session, hold_id)
    row = await session.get(Maturing, hold_id, populate_existing=True)
    if row is None or row.frozen_by is not None or now < row.mature_at:
        return False
    latest = await divisions.newest(session, hold_id)
    assert latest is not None, "what matures was settled"
    share = latest.to_tutor
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


async def freeze(
    session: AsyncSession, hold_id: UUID, *, by: UUID, only_pending: bool, now: datetime
) -> Money | None:
    """Freeze what there is of a settled hold's share until `thaw`; return what is frozen now.

    A share in its risk window is frozen whole. One that matured is frozen as far as the tutor has earnings: the rest has
    left us. What another dispute froze before stays frozen for both.

    Args:
        session: Commits all or nothing.
        hold_id: A settled hold.
        by: The dispute; it freezes a hold once.
        only_pending: Leave alone what matured, and answer None.
        now: Business time.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    hold = await divisions.locked(session, hold_id)
    latest = await divisions.newest(session, hold_id)
    assert latest is not None, "only what is settled can be frozen"
    row = await session.get(Maturing, hold_id, populate_existing=True)
    if only_pending and row is None:
        return None
    others = await _freezes(session, hold_id)
    await session.execute(insert(HoldFreeze).values(hold_id=hold_id, dispute_id=by))
    frozen = frozen_share(hold)
    if others:
        has = await ledger.locked(session, [frozen])
        return Money(has[frozen].balance if frozen in has else 0, hold.currency)
    if row is not None:
        row.frozen_by = by
        await session.flush()
    giver = AccountKey(_kind(row), hold.tutor_id, hold.currency)
    has = await ledger.locked(session, [giver])
    amount = min(latest.to_tutor, has[giver].balance if giver in has else 0)
    if amount:
        order = _dispute(hold, f"freeze:{by}:{hold_id}", amount, now)
        await _move(session, order, giver, frozen, Money(amount, hold.currency))
        outbox.record(session, WalletChanged(OwnerId(hold.tutor_id), hold.currency), at=now)
    return Money(amount, hold.currency)


async def thaw(session: AsyncSession, hold_id: UUID, *, by: UUID, now: datetime) -> None:
    """Let go of a share; if nobody else freezes it, it is back where it came from, and matures at once if its time is past.

    Raises:
        HoldNotFoundError: There is no such hold.
    """
    hold = await divisions.locked(session, hold_id)
    row = await session.get(Maturing, hold_id, populate_existing=True)
    others = [dispute for dispute in await _freezes(session, hold_id) if dispute != by]
    if row is not None and row.frozen_by == by:
        row.frozen_by = others[0] if others else None
        await session.flush()
    gone = delete(HoldFreeze).where(HoldFreeze.hold_id == hold_id, HoldFreeze.dispute_id == by)
    if await session.scalar(gone.returning(HoldFreeze.hold_id)) is None or others:
        return
    tutor_id = OwnerId(hold.tutor_id)
    frozen, taker = frozen_share(hold), AccountKey(_kind(row), tutor_id, hold.currency)
    debt = AccountKey(AccountKind.TUTOR_DEBT, tutor_id, hold.currency)
    await ledger.accounts(session, [taker])
    # All that both journals touch, at once: one after the other would be another order.
    has = await ledger.locked(session, (frozen, taker, debt))
    amount = has[frozen].balance if frozen in has else 0
    if amount:
        order = _dispute(hold, f"thaw:{by}:{hold_id}", amount, now)
        await _move(session, order, frozen, taker, Money(amount, hold.currency))
        outbox.record(session, WalletChanged(tutor_id, hold.currency), at=now)
    if row is None:
        await repay(session, tutor_id, hold.currency, now=now)
    else:
        await jobs.enqueue(session, JOB, Due(hold_id), key=str(hold_id), run_at=max(now, row.mature_at))


def frozen_share(hold: Hold) -> AccountKey:
    """Name the account where a hold's share is while it is frozen."""
    return AccountKey(AccountKind.FROZEN, hold.id, hold.currency)


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


# Made once: every settlement asks.
_OWING = (
    select(Account.owner_id, Account.currency)
    .where(
        Account.kind == AccountKind.TUTOR_DEBT,
        tuple_(Account.owner_id, Account.currency).in_(bindparam("tutors", expanding=True)),
        Account.balance < 0,
    )
    .order_by(Account.owner_id)
)


async def repay_all(session: AsyncSession, tutors: Iterable[tuple[OwnerId, str]], *, now: datetime) -> None:
    """Repay what these tutors owe, each in a currency, from earnings that this transaction brought them."""
    wanted = sorted(set(tutors))
    if not wanted:
        return
    # Debts arise only under the lock of the earnings, which this transaction has: whoever owes is seen here.
    owing = await session.execute(_OWING, {"tutors": wanted})
    for tutor_id, currency in owing.all():
        await repay(session, OwnerId(tutor_id), currency, now=now)


async def sweep(sessions: async_sessionmaker[AsyncSession], now: datetime) -> int:
    """Repay debts that stand beside earnings, the net below all ways into earnings; return how many tutors repaid."""
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


async def _freezes(session: AsyncSession, hold_id: UUID) -> Sequence[UUID]:
    query = select(HoldFreeze.dispute_id).where(HoldFreeze.hold_id == hold_id).order_by(HoldFreeze.dispute_id)
    return (await session.scalars(query)).all()


def _kind(row: Maturing | None) -> AccountKind:
    """Say which of the tutor's accounts a share is in while nobody freezes it."""
    return AccountKind.EARNINGS if row is None else AccountKind.EARNINGS_PENDING


def _dispute(hold: Hold, key: str, amount: int, now: datetime) -> Order:
    return Order(
        kind=JournalKind.DISPUTE,
        scope="dispute",
        key=key,
        request=amount,
        actor="system:dispute",
        reason=None,
        ref_type="hold",
        ref_id=hold.id,
        at=now,
    )


async def _move(
    session: AsyncSession, order: Order, giver: AccountKey, taker: AccountKey, money: Money
) -> None:
    ids = await ledger.accounts(session, (giver, taker))
    await ledger.post(session, order, [Leg(ids[giver], ids[taker], money)])
