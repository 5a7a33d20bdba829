"""Disputes of banks: a card payment is asked back, and who bears it.

An event is only a hint: Stripe's object is fetched, and `apply` brings our side to what it says, whatever came before. A
movement of our balance is booked once, by its own id; the status moves forward only; so order, repetition, loss and age of
events change nothing.

While it is open, credit of the payer is frozen, as far as their wallet has it. For the rest, what it may have bought: of
the holds paid from that wallet since the payment, the newest first, the tutor's share as long as it is in its risk window,
until their amounts make up the rest. Each look freezes what has come to the wallet since. An inquiry freezes nothing.

Won: all of it is free again. Lost: first the payer bears it, with their frozen credit. Then those holds are given back as
far as needed, by their split, tutor and platform each their part: the payer has that money already, from the bank. What is
left is our loss: a lesson that was given and whose risk window is over stays paid, so a tutor never owes for a student's card.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import divisions, ledger, maturity, outbox, payment_moves, refunds, stripe_entries
from billing.crashpoints import crashpoint
from billing.errors import UnsettledPaymentError
from billing.ledger import AccountKey, Leg, Order
from billing.messages import CardDisputeChanged, WalletChanged
from billing.models import (
    CARD_DISPUTE_ARROWS,
    PLATFORM,
    Account,
    AccountKind,
    CardAuthorization,
    CardDispute,
    CardDisputeStatus,
    CardRefund,
    CardRefundStatus,
    Cause,
    Hold,
    HoldFreeze,
    HoldStatus,
    Journal,
    JournalKind,
    Maturing,
    OwnerId,
    Settlement,
    StripeEntry,
    Transfer,
)
from billing.money import Money
from billing.stripe_api import StripeApi
from billing.stripe_objects import BalanceTransaction, Dispute

ACTOR = "system:card_dispute"
# Stripe's disputes have no UUID; ours are made of their ids.
_NAMES = UUID("b2f6c1a4-5a0e-4f0c-8f7e-0d6f0a9c4b11")

# By Stripe's words; those it may add are disputes that are open, and freeze.
STATUSES = {
    "warning_needs_response": CardDisputeStatus.INQUIRY,
    "warning_under_review": CardDisputeStatus.INQUIRY,
    "warning_closed": CardDisputeStatus.CLOSED,
    "won": CardDisputeStatus.WON,
    "lost": CardDisputeStatus.LOST,
}
ENDS = (CardDisputeStatus.WON, CardDisputeStatus.LOST, CardDisputeStatus.CLOSED)


class _Bought(msgspec.Struct, frozen=True):
    """A hold that may have been bought with the payment."""

    hold: Hold
    rest: int
    """What was not given back of it."""


async def look(sessions: async_sessionmaker[AsyncSession], api: StripeApi, *, now: datetime) -> int:
    """Ask how the disputes that are not over stand, whether or not an event came; return how many there are."""
    async with sessions() as session:
        query = (
            select(CardDispute.dispute).where(CardDispute.ended_at.is_(None)).order_by(CardDispute.opened_at)
        )
        waiting = (await session.scalars(query)).all()
    for dispute_id in waiting:
        found = await api.retrieve_dispute(dispute_id)
        crashpoint("card_dispute.looked")
        # What is on its way is where it goes to at the next look.
        with contextlib.suppress(UnsettledPaymentError):
            async with sessions.begin() as session:
                await apply(session, found, now=now)
    return len(waiting)


async def apply(session: AsyncSession, found: Dispute, *, now: datetime) -> CardDispute:
    """Apply what Stripe's object says, whatever was known before; the same again changes nothing.

    Raises:
        UnsettledPaymentError: The payment itself is not booked yet, or money of it is on its way back to the card.
    """
    row, is_new = await _row(session, found, now=now)
    if row.status in ENDS and not await _unbooked(session, row, found):
        return row
    status = _next(CardDisputeStatus(row.status), found)
    if is_new or status != row.status:
        row.status, row.ended_at = status, now if status in ENDS else None
        await session.flush()
        outbox.record(session, _told(row, status), at=now)
    holds = await _lock(session, row)
    taken = await _book(session, row, found, now=now)
    match status:
        case CardDisputeStatus.INQUIRY:
            pass
        case CardDisputeStatus.OPEN:
            await _freeze(session, row, row.amount, holds, now=now)
        case CardDisputeStatus.WON | CardDisputeStatus.CLOSED:
            await _thaw(session, row, now=now)
        case CardDisputeStatus.LOST:
            # What is lost is what Stripe took and did not give back; it may tell of that later than of the end.
            if taken > row.covered:
                await _require_still(session, row)
                await _freeze(session, row, taken - row.covered, holds, now=now)
                await _cover(session, row, taken - row.covered, holds, now=now)
            await _thaw(session, row, now=now)
    return row


def frozen_credit(row: CardDispute) -> AccountKey:
    """Name the account where the payer's credit is while it is frozen."""
    return AccountKey(AccountKind.FROZEN, row.id, row.currency)


# What is known ------------------------------------------------------------------------------------------------------


async def _row(session: AsyncSession, found: Dispute, *, now: datetime) -> tuple[CardDispute, bool]:
    """Return our row of a dispute, locked, and whether it was made now."""
    dispute_id = uuid5(_NAMES, found.id)
    made = None
    if await session.get(CardDispute, dispute_id) is None:
        owner_id, paid_at = await _payment(session, found)
        values = {
            "id": dispute_id,
            "dispute": found.id,
            "charge": found.charge,
            "owner_id": owner_id,
            "amount": found.amount,
            "currency": found.currency.upper(),
            "reason": found.reason,
            "status": CardDisputeStatus.INQUIRY,
            "paid_at": paid_at,
            "opened_at": now,
        }
        query = insert(CardDispute).values(values).on_conflict_do_nothing().returning(CardDispute.id)
        made = await session.scalar(query)
    row = await session.get_one(
        CardDispute, dispute_id, with_for_update={"key_share": True}, populate_existing=True
    )
    return row, made is not None


async def _require_still(session: AsyncSession, row: CardDispute) -> None:
    """Refuse to say who bears a loss while money of the payment is neither here nor there.

    A refund that was asked for is in no wallet, and Stripe refuses it, for the bank was faster: then it is the payer's
    again, who has it twice if we have borne the loss meanwhile.

    Raises:
        UnsettledPaymentError: A refund of it is on its way to the card.
    """
    query = (
        select(CardRefund.id)
        .join(CardAuthorization, CardAuthorization.id == CardRefund.authorization_id)
        .join(StripeEntry, StripeEntry.journal_id == CardAuthorization.journal_id)
        .where(StripeEntry.source == row.charge, CardRefund.status == CardRefundStatus.ASKED)
    )
    if (await session.scalars(query)).first() is not None:
        raise UnsettledPaymentError(row.charge)


async def _payment(session: AsyncSession, found: Dispute) -> tuple[UUID, datetime]:
    """Return whose wallet a payment went into, and when.

    Raises:
        UnsettledPaymentError: It did not, so far.
    """
    query = (
        select(Account.owner_id, Journal.at)
        .join(Transfer, Transfer.credit_account == Account.id)
        .join(Journal, Journal.id == Transfer.journal_id)
        .join(StripeEntry, StripeEntry.journal_id == Journal.id)
        .where(StripeEntry.source == found.charge, Account.kind == AccountKind.WALLET)
    )
    known = (await session.execute(query)).one_or_none()
    if known is None:
        raise UnsettledPaymentError(found.payment_intent or found.charge)
    return known.owner_id, known.at


def _next(status: CardDisputeStatus, found: Dispute) -> CardDisputeStatus:
    """Return where a dispute stands now: what Stripe says, unless that is older than what we know. Pure."""
    said = STATUSES.get(found.status, CardDisputeStatus.OPEN)
    if said is CardDisputeStatus.LOST and not found.balance_transactions:
        # Nothing was taken yet: until Stripe says what, everything stays frozen.
        said = CardDisputeStatus.OPEN
    return said if said in CARD_DISPUTE_ARROWS.get(status, ()) else status


async def _bought(session: AsyncSession, row: CardDispute) -> Sequence[_Bought]:
    """Return the holds whose shares are at risk and may have been bought with the payment, newest first."""
    newest = (
        select(Settlement.to_student)
        .where(Settlement.hold_id == Hold.id)
        .order_by(Settlement.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(Hold, newest)
        .join(Maturing, Maturing.hold_id == Hold.id)
        .where(
            Hold.student_id == row.owner_id,
            Hold.currency == row.currency,
            Hold.placed_at >= row.paid_at,
            Hold.status == HoldStatus.RELEASED,
        )
        .order_by(Hold.placed_at.desc(), Hold.id.desc())
    )
    return [_Bought(hold, hold.amount - back) for hold, back in await session.execute(query)]


async def _frozen_holds(session: AsyncSession, row: CardDispute) -> set[UUID]:
    query = select(HoldFreeze.hold_id).where(HoldFreeze.dispute_id == row.id)
    return set((await session.scalars(query)).all())


async def _lock(session: AsyncSession, row: CardDispute) -> Sequence[_Bought]:
    """Lock the holds that may be concerned, and then every account: what follows has several journals.

    Return those that may have been bought with the payment, newest first, as they are now.
    """
    concerned = {one.hold.id for one in await _bought(session, row)} | await _frozen_holds(session, row)
    keys = [frozen_credit(row), *_ours(row)]
    await payment_moves.of_holds(session, concerned)
    for hold_id in sorted(concerned):
        keys += refunds.accounts_of(await divisions.locked(session, hold_id))
    await ledger.locked(session, keys)
    # What was settled at this moment is not locked, and waits for the next look.
    return [one for one in await _bought(session, row) if one.hold.id in concerned]


def _ours(row: CardDispute) -> Iterable[AccountKey]:
    yield AccountKey(AccountKind.WALLET, row.owner_id, row.currency)
    for kind in (AccountKind.STRIPE, AccountKind.STRIPE_DISPUTED, AccountKind.PLATFORM_EXPENSE):
        yield AccountKey(kind, PLATFORM, row.currency)


# What it does -------------------------------------------------------------------------------------------------------


async def _book(session: AsyncSession, row: CardDispute, found: Dispute, *, now: datetime) -> int:
    """Book the movements that were not yet; return what the dispute has taken from us by all that are."""
    disputed = AccountKey(AccountKind.STRIPE_DISPUTED, PLATFORM, row.currency)
    for movement in await _unbooked(session, row, found):
        order = _order(row, f"movement:{movement.id}", (movement.amount, movement.fee), now)
        await stripe_entries.post(session, order, movement, other=disputed)
        crashpoint("card_dispute.booked")
    await session.flush()
    query = select(func.coalesce(func.sum(StripeEntry.amount), 0)).where(StripeEntry.source == row.dispute)
    return -int(await session.scalar(query) or 0)


async def _unbooked(session: AsyncSession, row: CardDispute, found: Dispute) -> list[BalanceTransaction]:
    query = select(StripeEntry.id).where(StripeEntry.source == row.dispute)
    known = set((await session.scalars(query)).all())
    return [movement for movement in found.balance_transactions if movement.id not in known]


async def _freeze(
    session: AsyncSession, row: CardDispute, target: int, bought: Sequence[_Bought], *, now: datetime
) -> None:
    """Freeze what is missing to the target: credit first, then shares of what it may have bought."""
    mine = await _frozen_holds(session, row)
    wallet = AccountKey(AccountKind.WALLET, row.owner_id, row.currency)
    frozen = frozen_credit(row)
    has = await _balances(session, wallet, frozen)
    missing = target - has[frozen] - sum(one.rest for one in bought if one.hold.id in mine)
    credit = min(missing, has[wallet])
    if credit > 0:
        # What is frozen only grows until it is covered or free, so a key never stands for two movements.
        await _post(session, row, f"freeze:{row.covered}:{has[frozen]}", [(wallet, frozen, credit)], now)
        missing -= credit
    wanted: list[UUID] = []
    for one in bought:
        if missing > 0 and one.rest > 0 and one.hold.id not in mine:
            wanted.append(one.hold.id)
            missing -= one.rest
    for hold_id in sorted(wanted):
        await maturity.freeze(session, hold_id, by=row.id, only_pending=True, now=now)
    crashpoint("card_dispute.frozen")


async def _thaw(session: AsyncSession, row: CardDispute, *, now: datetime) -> None:
    """Let go of everything that is frozen for this dispute."""
    for hold_id in sorted(await _frozen_holds(session, row)):
        await maturity.thaw(session, hold_id, by=row.id, now=now)
    wallet = AccountKey(AccountKind.WALLET, row.owner_id, row.currency)
    frozen = frozen_credit(row)
    amount = (await _balances(session, frozen))[frozen]
    if amount:
        await _post(session, row, f"thaw:{row.covered}", [(frozen, wallet, amount)], now)
    crashpoint("card_dispute.thawed")


async def _cover(
    session: AsyncSession, row: CardDispute, owed: int, bought: Sequence[_Bought], *, now: datetime
) -> None:
    """Book what is lost to who bears it; what is needed is frozen."""
    wallet = AccountKey(AccountKind.WALLET, row.owner_id, row.currency)
    frozen = frozen_credit(row)
    disputed, expense = (
        AccountKey(kind, PLATFORM, row.currency)
        for kind in (AccountKind.STRIPE_DISPUTED, AccountKind.PLATFORM_EXPENSE)
    )
    credit = min(owed, (await _balances(session, frozen))[frozen])
    mine = await _frozen_holds(session, row)
    back = 0
    for one in bought:
        part = min(owed - credit - back, one.rest)
        if one.hold.id in mine and part > 0:
            await payment_moves.give_back(
                session,
                one.hold.id,
                amount=Money(part, row.currency),
                cause=Cause.CARD_DISPUTE,
                actor=ACTOR,
                reason=f"The bank took the payment back ({row.dispute}).",
                key=f"{row.id}:{one.hold.id}:{row.covered}",
                now=now,
            )
            back += part
    borne = [(frozen, disputed, credit), (wallet, disputed, back), (expense, disputed, owed - credit - back)]
    await _post(session, row, f"lost:{row.covered}", borne, now)
    row.covered += owed
    await session.flush()
    crashpoint("card_dispute.covered")


async def _balances(session: AsyncSession, *keys: AccountKey) -> dict[AccountKey, int]:
    found = await ledger.locked(session, keys)
    return {key: found[key].balance if key in found else 0 for key in keys}


async def _post(
    session: AsyncSession,
    row: CardDispute,
    step: str,
    moves: Sequence[tuple[AccountKey, AccountKey, int]],
    now: datetime,
) -> None:
    moves = [move for move in moves if move[2]]
    ids = await ledger.accounts(session, [key for giver, taker, _ in moves for key in (giver, taker)])
    order = _order(row, step, [amount for _, _, amount in moves], now)
    legs = [Leg(ids[giver], ids[taker], Money(amount, row.currency)) for giver, taker, amount in moves]
    await ledger.post(session, order, legs)
    outbox.record(session, WalletChanged(OwnerId(row.owner_id), row.currency), at=now)


def _order(row: CardDispute, step: str, request: object, now: datetime) -> Order:
    return Order(
        kind=JournalKind.CARD_DISPUTE,
        scope="card_dispute",
        key=f"{row.id}:{step}",
        request=request,
        actor=ACTOR,
        reason=None,
        ref_type="card_dispute",
        ref_id=row.id,
        at=now,
    )


def _told(row: CardDispute, status: CardDisputeStatus) -> CardDisputeChanged:
    return CardDisputeChanged(
        card_dispute_id=row.id,
        owner_id=OwnerId(row.owner_id),
        amount=Money(row.amount, row.currency),
        status=status,
        dispute=row.dispute,
    )
