"""Money set aside for one lesson each: place, assign, refund. Release is the settlement's."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import cast
from uuid import UUID

import msgspec
from sqlalchemy import Table, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger, outbox
from billing.crashpoints import crashpoint
from billing.errors import (
    AlreadyHeldError,
    HoldNotFoundError,
    HoldNotHeldError,
    LessonOverError,
    ReasonTooShortError,
)
from billing.ledger import AccountKey, Leg, Order
from billing.messages import HoldPlaced, HoldRefunded, WalletChanged
from billing.models import (
    REASON_LEAST,
    AccountKind,
    Cause,
    Hold,
    HoldId,
    HoldStatus,
    JournalKind,
    OwnerId,
    Settlement,
    SourceKind,
    Transfer,
    violated,
)
from billing.money import Money
from billing.rows import Rows

# SQLSTATE of the trigger that knows a frozen lesson.
LESSON_OVER = "FT003"
ONE_OPEN = "uq_hold_one_open"


class NewHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold to be placed; everything that decides its money is frozen here."""

    id: HoldId
    lesson_id: UUID | None
    """Empty for a slice of a course whose session is not announced yet."""
    slice_no: int = 1
    """Unique among the holds of one source."""
    tutor_id: OwnerId
    money: Money
    tutor_bps: int
    attribution: str
    policy_version: int
    source_kind: SourceKind
    source_id: UUID


async def place(
    session: AsyncSession, *, holds: Sequence[NewHold], student_id: OwnerId, key: str, now: datetime
) -> list[HoldId]:
    """Move money from a student's wallet into escrow, all holds in one journal; return their ids.

    The same key gives the first holds again, in the order of their slices.

    Raises:
        InvalidAmountError: An amount is not positive.
        InsufficientFundsError: The wallet has too little; says how much is missing.
        IdempotencyMismatchError: The key was used with another purchase.
        AlreadyHeldError: The student has an open hold for one of the lessons.
        LessonOverError: One of the lessons is over.
    """
    assert holds, "a purchase has at least one hold"
    for hold in holds:
        ledger.require_movable(hold.money)
    lesson_ids = {hold.lesson_id for hold in holds if hold.lesson_id is not None}
    legs = [
        Leg(
            AccountKey(AccountKind.WALLET, student_id, hold.money.currency),
            escrow(hold),
            hold.money,
            hold.id,
        )
        for hold in holds
    ]
    currencies = sorted({hold.money.currency for hold in holds})
    events: list[msgspec.Struct] = [_placed(hold, student_id) for hold in holds]
    events += [WalletChanged(student_id, currency) for currency in currencies]
    rows = (_rows(holds, student_id, now), outbox.rows(session, events, at=now))
    order = _purchase(holds, student_id, key, now)
    with _named():
        posted = await ledger.post(session, order, legs, rows=rows, lessons=lesson_ids)
    crashpoint("purchase.written")
    if posted.replayed:
        return await _placed_by(session, posted.journal_id)
    return [hold.id for hold in holds]


async def assign(
    session: AsyncSession, lesson_id: UUID, *, source_ids: Collection[UUID], slice_no: int
) -> list[HoldId]:
    """Give the slices of these purchases their lesson; return those that had none and are held.

    The money stays where it is, in the escrow of its purchase.

    Raises:
        AlreadyHeldError: One of the students has an open hold for this lesson.
        LessonOverError: The lesson is over.
    """
    await ledger.lock_lessons(session, [lesson_id], shared=True)
    found = await session.scalars(
        select(Hold.id)
        .where(
            Hold.source_id.in_(source_ids),
            Hold.slice_no == slice_no,
            Hold.lesson_id.is_(None),
            Hold.status == HoldStatus.HELD,
        )
        .order_by(Hold.id)
        .with_for_update(key_share=True)
    )
    hold_ids = [HoldId(hold_id) for hold_id in found]
    await _give_lesson(session, hold_ids, lesson_id)
    return hold_ids


async def take(session: AsyncSession, source_id: UUID, lesson_id: UUID) -> HoldId:
    """Give the first slice of a package that nobody took its lesson; the package is locked and has one, its lesson too.

    Raises:
        AlreadyHeldError: The student has an open hold for this lesson.
        LessonOverError: The lesson is over.
    """
    hold_id = await session.scalar(
        select(Hold.id)
        .where(
            Hold.source_id == source_id,
            Hold.source_kind == SourceKind.PACKAGE_SLICE,
            Hold.lesson_id.is_(None),
            Hold.status == HoldStatus.HELD,
        )
        .order_by(Hold.slice_no)
        .limit(1)
        .with_for_update(key_share=True)
    )
    assert hold_id is not None, "the package counts its slices"
    await _give_lesson(session, [hold_id], lesson_id)
    return HoldId(hold_id)


async def put_back(session: AsyncSession, source_id: UUID, lesson_id: UUID) -> HoldId | None:
    """Take the lesson from the slice of a package that pays for it; None if none does, or it is settled.

    Package and lesson are locked; the money stays where it is, in the escrow of the package.

    Raises:
        LessonOverError: The lesson is over: who came decides.
    """
    hold_id = await session.scalar(
        select(Hold.id)
        .where(
            Hold.source_id == source_id,
            Hold.source_kind == SourceKind.PACKAGE_SLICE,
            Hold.lesson_id == lesson_id,
            Hold.status == HoldStatus.HELD,
        )
        .with_for_update(key_share=True)
    )
    if hold_id is None:
        return None
    await _give_lesson(session, [hold_id], None)
    return HoldId(hold_id)


async def refund(
    session: AsyncSession,
    hold_ids: Collection[UUID],
    *,
    cause: Cause,
    actor: str,
    reason: str,
    key: str,
    now: datetime,
    only_held: bool = False,
) -> list[HoldId]:
    """Give the money of these holds back, all in one journal; return the holds that were refunded by this key.

    What they pay for does not end with them: whoever calls this ends it in the same transaction.

    Args:
        session: Commits all or nothing.
        hold_ids: Which; none of them is nothing to do.
        cause: `cancelled`, `expired` or `admin`; attendance refunds by settlement alone.
        actor: Who asked for it.
        reason: Shown to both parties; an admin needs ten characters.
        key: Of the request.
        now: Business time.
        only_held: Pass over holds that were settled meanwhile instead of refusing them.

    Raises:
        ReasonTooShortError: An admin gave fewer than ten characters.
        HoldNotFoundError: One of the ids is unknown.
        HoldNotHeldError: One of the holds is released or refunded already.
        IdempotencyMismatchError: The key was used with another refund.
    """
    assert cause in (Cause.CANCELLED, Cause.EXPIRED, Cause.ADMIN), "attendance is judged by the settlement"
    if (cause is Cause.ADMIN or actor.startswith("admin:")) and len(reason.strip()) < REASON_LEAST:
        raise ReasonTooShortError(REASON_LEAST)
    if not hold_ids:
        return []
    holds = await _locked(session, hold_ids)
    held = [hold for hold in holds if hold.status == HoldStatus.HELD]
    order = Order(
        kind=JournalKind.REFUND,
        scope=f"refund:{actor}",
        key=key,
        request=(sorted(hold_ids), cause, reason),
        actor=actor,
        reason=reason,
        ref_type="hold" if len(holds) == 1 else "purchase",
        ref_id=holds[0].id if len(holds) == 1 else holds[0].source_id,
        at=now,
    )
    # Whoever used this key first had the locks first: what it refunded is visible now.
    earlier = await ledger.replayed(session, order)
    if earlier is not None:
        return await _refunded_by(session, earlier)
    settled = next((hold for hold in holds if hold.status != HoldStatus.HELD), None)
    if settled is not None and not only_held:
        raise HoldNotHeldError(settled.id, settled.status)
    if not held:
        return []
    legs = [
        Leg(hold.escrow_account, hold.wallet_account, Money(hold.amount, hold.currency), HoldId(hold.id))
        for hold in held
    ]
    given = Rows(
        cast(Table, Settlement.__table__),
        {
            "hold_id": [hold.id for hold in held],
            "amount": [hold.amount for hold in held],
            "tutor_bps": [hold.tutor_bps for hold in held],
            "to_student": [hold.amount for hold in held],
        },
        {
            "number": 0,
            "to_tutor": 0,
            "to_platform": 0,
            "cause": cause.value,
            "actor": actor,
            "reason": reason,
            "settled_at": now,
        },
        journal="journal_id",
    )
    events: list[msgspec.Struct] = [refunded(hold, cause, reason) for hold in held]
    events += [
        WalletChanged(OwnerId(owner_id), currency)
        for owner_id, currency in sorted({(hold.student_id, hold.currency) for hold in held})
    ]
    await ledger.post(session, order, legs, rows=(given, outbox.rows(session, events, at=now)))
    crashpoint("refund.written")
    return [HoldId(hold.id) for hold in held]


def escrow(hold: NewHold) -> AccountKey:
    """Name the account where a hold's money waits: the lesson's, or the purchase's while there is no lesson."""
    return AccountKey(AccountKind.ESCROW, hold.lesson_id or hold.source_id, hold.money.currency)


def refunded(hold: Hold, cause: Cause, reason: str | None = None) -> HoldRefunded:
    """Tell that the whole hold was given back."""
    return HoldRefunded(
        hold_id=HoldId(hold.id),
        student_id=OwnerId(hold.student_id),
        tutor_id=OwnerId(hold.tutor_id),
        lesson_id=hold.lesson_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        amount=Money(hold.amount, hold.currency),
        cause=cause,
        reason=reason,
    )


def _purchase(holds: Sequence[NewHold], student_id: OwnerId, key: str, now: datetime) -> Order:
    """Return the order of a purchase; ids that each try makes anew are no part of what was asked for."""
    request = [(hold.lesson_id, hold.slice_no, hold.tutor_id, hold.money, hold.source_kind) for hold in holds]
    return Order(
        kind=JournalKind.PURCHASE,
        scope=f"purchase:{student_id}",
        key=key,
        request=request,
        actor=f"user:{student_id}",
        reason=None,
        ref_type="purchase",
        ref_id=holds[0].source_id,
        at=now,
    )


def _rows(holds: Sequence[NewHold], student_id: OwnerId, now: datetime) -> Rows:
    return Rows(
        cast(Table, Hold.__table__),
        {
            "id": [hold.id for hold in holds],
            "tutor_id": [hold.tutor_id for hold in holds],
            "lesson_id": [hold.lesson_id for hold in holds],
            "source_kind": [hold.source_kind.value for hold in holds],
            "source_id": [hold.source_id for hold in holds],
            "slice_no": [hold.slice_no for hold in holds],
            "amount": [hold.money.amount for hold in holds],
            "currency": [hold.money.currency for hold in holds],
            "tutor_bps": [hold.tutor_bps for hold in holds],
            "attribution": [hold.attribution for hold in holds],
            "policy_version": [hold.policy_version for hold in holds],
        },
        {"student_id": student_id, "placed_at": now},
        journal="place_journal",
        sides=(("wallet_account", "debits"), ("escrow_account", "credits")),
    )


def _placed(hold: NewHold, student_id: OwnerId) -> HoldPlaced:
    return HoldPlaced(
        hold_id=hold.id,
        student_id=student_id,
        tutor_id=hold.tutor_id,
        lesson_id=hold.lesson_id,
        source_kind=hold.source_kind,
        source_id=hold.source_id,
        amount=hold.money,
    )


async def _give_lesson(session: AsyncSession, hold_ids: Sequence[UUID], lesson_id: UUID | None) -> None:
    with _named():
        await session.execute(
            update(Hold)
            .where(Hold.id.in_(hold_ids))
            .values(lesson_id=lesson_id)
            .execution_options(synchronize_session=False)
        )


async def _placed_by(session: AsyncSession, journal_id: int) -> list[HoldId]:
    ids = await session.scalars(
        select(Hold.id)
        .join(Transfer, Transfer.hold_id == Hold.id)
        .where(Transfer.journal_id == journal_id)
        .order_by(Hold.source_id, Hold.slice_no)
    )
    return [HoldId(hold_id) for hold_id in ids]


async def _refunded_by(session: AsyncSession, journal_id: int) -> list[HoldId]:
    ids = await session.scalars(
        select(Settlement.hold_id).where(Settlement.journal_id == journal_id).order_by(Settlement.hold_id)
    )
    return [HoldId(hold_id) for hold_id in ids]


async def _locked(session: AsyncSession, hold_ids: Collection[UUID]) -> Sequence[Hold]:
    """Lock holds by id and read them as they are now.

    Raises:
        HoldNotFoundError: One of them does not exist.
    """
    holds = (
        await session.scalars(
            select(Hold)
            .where(Hold.id.in_(hold_ids))
            .order_by(Hold.id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    ).all()
    missing = set(hold_ids) - {hold.id for hold in holds}
    if missing:
        raise HoldNotFoundError(min(missing))
    return holds


@contextmanager
def _named() -> Iterator[None]:
    """Translate what the tables refuse into this package's errors."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == LESSON_OVER:
            raise LessonOverError from error
        if violated(error) == ONE_OPEN:
            raise AlreadyHeldError from error
        raise
