"""What somebody has: balances, the entries that made them, and the adjustments of an admin."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, cast, func, literal, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, outbox
from billing.errors import ReasonTooShortError
from billing.ledger import AccountKey, Leg, Order
from billing.messages import GoodwillGiven, WalletChanged
from billing.models import (
    PLATFORM,
    REASON_LEAST,
    Account,
    AccountKind,
    Hold,
    HoldStatus,
    Journal,
    JournalKind,
    OwnerId,
    Transfer,
)
from billing.money import Money

ID_MOST = 2**63 - 1
# The accounts of somebody that they are shown movements of.
PERSONAL = (
    AccountKind.WALLET,
    AccountKind.EARNINGS_PENDING,
    AccountKind.EARNINGS,
    AccountKind.TUTOR_DEBT,
)


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """What one person has in one currency."""

    balance: Money
    """Can be spent; what is held is not in it."""
    held: Money
    """Set aside for lessons that are not settled."""
    earnings_pending: Money
    """Released to a tutor, still in the risk window."""
    earnings_available: Money


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one movement did to one account of a person."""

    journal_id: int
    account_id: int
    account: AccountKind
    kind: JournalKind
    amount: Money
    """Negative where money left the account."""
    reason: str | None
    ref_type: str
    ref_id: UUID
    at: datetime

    @property
    def cursor(self) -> str:
        """Return what to ask for the entries before this one."""
        return f"{self.journal_id}-{self.account_id}"


async def balances(session: AsyncSession, owner_id: OwnerId, currency: str = "USD") -> Balances:
    """Return what somebody has; zeros for whoever never had anything."""
    return (await balances_of(session, [owner_id], currency))[owner_id]


async def balances_of(
    session: AsyncSession, owner_ids: Collection[OwnerId], currency: str
) -> dict[OwnerId, Balances]:
    """Return what each of these people has."""
    rows = await session.execute(
        select(Account.owner_id, Account.kind, Account.balance).where(
            Account.owner_id.in_(owner_ids), Account.currency == currency, Account.kind.in_(PERSONAL)
        )
    )
    amounts = {(owner_id, kind): amount for owner_id, kind, amount in rows}
    sums = await session.execute(
        select(Hold.student_id, cast(func.sum(Hold.amount), BigInteger))
        .where(Hold.student_id.in_(owner_ids), Hold.currency == currency, Hold.status == HoldStatus.HELD)
        .group_by(Hold.student_id)
    )
    held = dict(sums.all())

    def of(owner_id: OwnerId, kind: AccountKind) -> Money:
        return Money(amounts.get((owner_id, kind), 0), currency)

    return {
        owner_id: Balances(
            balance=of(owner_id, AccountKind.WALLET),
            held=Money(held.get(owner_id, 0), currency),
            earnings_pending=of(owner_id, AccountKind.EARNINGS_PENDING),
            earnings_available=of(owner_id, AccountKind.EARNINGS),
        )
        for owner_id in owner_ids
    }


async def entries(
    session: AsyncSession, owner_id: OwnerId, *, limit: int, before: str | None = None
) -> Sequence[Entry]:
    """Return the movements of somebody's accounts, newest first.

    Args:
        session: Only read.
        owner_id: Whose.
        limit: At most so many.
        before: The `cursor` of the last entry that was seen.

    Raises:
        ValueError: `before` is no cursor.
    """
    own = select(Account.id).where(Account.owner_id == owner_id, Account.kind.in_(PERSONAL))
    account_ids = (await session.scalars(own)).all()
    sides = union_all(
        *(
            select(Transfer.journal_id, account.label("account_id"), signed.label("amount")).where(
                account.in_(account_ids)
            )
            for account, signed in (
                (Transfer.credit_account, Transfer.amount),
                (Transfer.debit_account, -Transfer.amount),
            )
        )
    ).subquery()
    place = tuple_(sides.c.journal_id, sides.c.account_id)
    page = (
        select(
            sides.c.journal_id, sides.c.account_id, cast(func.sum(sides.c.amount), BigInteger).label("amount")
        )
        .group_by(sides.c.journal_id, sides.c.account_id)
        .order_by(sides.c.journal_id.desc(), sides.c.account_id.desc())
        .limit(limit)
    )
    if before is not None:
        page = page.where(place < tuple_(*(literal(part, BigInteger) for part in _position(before))))
    found = page.subquery()
    rows = await session.execute(
        select(found.c.amount, Account, Journal)
        .join(Account, Account.id == found.c.account_id)
        .join(Journal, Journal.id == found.c.journal_id)
        .order_by(found.c.journal_id.desc(), found.c.account_id.desc())
    )
    return [
        Entry(
            journal_id=journal.id,
            account_id=account.id,
            account=AccountKind(account.kind),
            kind=JournalKind(journal.kind),
            amount=Money(amount, account.currency),
            reason=journal.reason,
            ref_type=journal.ref_type,
            ref_id=journal.ref_id,
            at=journal.at,
        )
        for amount, account, journal in rows
    ]


async def adjust(
    session: AsyncSession,
    owner_id: OwnerId,
    money: Money,
    *,
    actor: str,
    reason: str,
    key: str,
    now: datetime,
) -> int:
    """Give credit, or take it where the amount is negative; return the journal's id.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        InvalidAmountError: Zero, or beyond any balance.
        InsufficientFundsError: The wallet has less than is to be taken.
        IdempotencyMismatchError: The key was used with another adjustment.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    moved = Money(abs(money.amount), money.currency)
    ledger.require_movable(moved)
    wallet_key = AccountKey(AccountKind.WALLET, owner_id, money.currency)
    expense_key = AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, money.currency)
    ids = await ledger.accounts(session, (wallet_key, expense_key))
    giver, taker = (expense_key, wallet_key) if money.amount > 0 else (wallet_key, expense_key)
    order = Order(
        kind=JournalKind.ADMIN_ADJUSTMENT,
        scope=f"adjust:{actor}",
        key=key,
        request=(owner_id, money, reason),
        actor=actor,
        reason=reason,
        ref_type="owner",
        ref_id=owner_id,
        at=now,
    )
    posted = await ledger.post(session, order, [Leg(ids[giver], ids[taker], moved)])
    if not posted.replayed:
        outbox.record(session, WalletChanged(owner_id, money.currency), at=now)
    return posted.journal_id


async def give(
    session: AsyncSession,
    owner_id: OwnerId,
    money: Money,
    *,
    why: str,
    actor: str,
    reason: str,
    key: str,
    now: datetime,
) -> int:
    """Give credit as goodwill; return the journal's id.

    Args:
        session: Commits all or nothing.
        owner_id: To whom.
        money: How much; who may give how much is the caller's question.
        why: Code of the reason.
        actor: The administrator.
        reason: In words.
        key: Of the request.
        now: Business time.

    Raises:
        ReasonTooShortError: Fewer than ten characters.
        InvalidAmountError: Not positive.
        IdempotencyMismatchError: The key was used with another gift.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    ledger.require_movable(money)
    expense, wallet = (
        AccountKey(AccountKind.PLATFORM_EXPENSE, PLATFORM, money.currency),
        AccountKey(AccountKind.WALLET, owner_id, money.currency),
    )
    ids = await ledger.accounts(session, (expense, wallet))
    order = Order(
        kind=JournalKind.GOODWILL,
        scope=f"goodwill:{actor}",
        key=key,
        request=(owner_id, money, why, reason),
        actor=actor,
        reason=reason,
        ref_type="owner",
        ref_id=owner_id,
        at=now,
    )
    posted = await ledger.post(session, order, [Leg(ids[expense], ids[wallet], money)])
    if not posted.replayed:
        outbox.record(session, GoodwillGiven(owner_id=owner_id, amount=money, why=why), at=now)
        outbox.record(session, WalletChanged(owner_id, money.currency), at=now)
    return posted.journal_id


def _position(cursor: str) -> tuple[int, int]:
    journal_id, dash, account_id = cursor.partition("-")
    parts = (journal_id, account_id)
    # Nineteen digits may pass 64 bits, and the database would not take them.
    if not dash or not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in parts):
        raise ValueError(f"{cursor!r} is no cursor of entries")
    return min(int(journal_id), ID_MOST), min(int(account_id), ID_MOST)
