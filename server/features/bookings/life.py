"""What happens to bookings over time, and to the money that hangs on them.

Every function works inside the caller's transaction under the booking's row lock. Locks are taken in one order: booking,
then as billing has it (lesson, package or payment, hold, accounts), then the tutor against whom it counts.
"""

from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import holds, jobs, outbox, packages, payment_moves, payments, policy
from billing.models import Cause, Hold, HoldId, HoldStatus, PaymentMethod, PaymentReason, PaymentState
from billing.money import Money
from billing.payment_moves import Wish
from billing.policy import Policy
from server.features.accounts.models import user_of
from server.features.bookings import models, rules
from server.features.bookings.messages import BookingChanged
from server.features.bookings.models import Booking, Strike
from server.features.bookings.rules import BookingStatus, Outcome, Party

SYSTEM = "system:bookings"
# Kind of the job that ends a request which nobody answered.
EXPIRY_JOB = "booking_expiry"


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something to a booking, and when."""

    party: Party
    actor: str
    """As the ledger names people."""
    at: datetime
    reason: str | None = None
    """In words, for the other side."""


class ExpiryDue(msgspec.Struct, frozen=True):
    """Payload of the job."""

    booking_id: UUID


async def request(session: AsyncSession, row: Booking, deed: Deed) -> None:
    """Tell of a new request, and have it ended where nobody answers it."""
    _tell(session, row, None, deed)
    await jobs.enqueue(session, EXPIRY_JOB, ExpiryDue(row.id), key=str(row.id), run_at=row.answer_by)


async def accept(session: AsyncSession, row: Booking, deed: Deed) -> None:
    """The tutor agrees: the payment is authorised as soon as its money is there (ED-43)."""
    was = _move(row, BookingStatus.SCHEDULED)
    row.accepted_at = deed.at
    if row.package_id is None:
        await payments.authorize(session, row.id, actor=deed.actor, now=deed.at)
    _changed(session, row, was, deed)


async def expire(session: AsyncSession, row: Booking, *, at: datetime) -> None:
    """End a request that nobody answered; its money is free again (ED-49)."""
    was = _move(row, BookingStatus.EXPIRED)
    _over(row, Outcome.NOT_HELD, at)
    deed = Deed(party=Party.SYSTEM, actor=SYSTEM, at=at)
    await _let_go(session, row, PaymentReason.EXPIRED, deed)
    _changed(session, row, was, deed)


async def cancel(session: AsyncSession, row: Booking, deed: Deed) -> None:
    """Cancel what has not ended: whose money it is then follows from who cancels, and when (B-08a)."""
    was = _move(row, BookingStatus.CANCELLED)
    _over(row, Outcome.NOT_HELD, deed.at)
    row.cancelled_by, row.reason = deed.party, deed.reason
    terms = await terms_of(session, row)
    is_late = was is BookingStatus.SCHEDULED and deed.at > rules.free_until(row.starts_at, terms)
    is_kept = is_late and deed.party is Party.STUDENT and terms.late_cancel_percent < 100
    if is_kept:
        is_kept = await _keep(session, row, deed)
    if not is_kept:
        await _let_go(session, row, _why(was, deed.party), deed)
    strikes = 0
    if is_late and deed.party is Party.TUTOR:
        strikes = await _strike(session, row, "late_cancel", deed.at)
    _changed(session, row, was, deed, is_late=is_kept, strikes=strikes)


async def start(session: AsyncSession, row: Booking, *, at: datetime) -> None:
    """Mark a lesson as begun (ED-44)."""
    was = _move(row, BookingStatus.ACTIVE)
    row.started_at = at
    _changed(session, row, was, Deed(party=Party.SYSTEM, actor=SYSTEM, at=at))


async def end(session: AsyncSession, row: Booking, outcome: Outcome, *, at: datetime) -> None:
    """Mark a lesson as over, also one that nobody came to (ED-45); its money is settled by the same facts."""
    was = BookingStatus(row.status)
    if was is BookingStatus.SCHEDULED:
        # Its time has passed, and with it the lesson.
        _move(row, BookingStatus.ACTIVE)
        await session.flush()
    _move(row, BookingStatus.ENDED)
    _over(row, outcome, at)
    strikes = await _strike(session, row, "no_show", at) if outcome is Outcome.NO_SHOW_TUTOR else 0
    _changed(session, row, was, Deed(party=Party.SYSTEM, actor=SYSTEM, at=at), strikes=strikes)


async def share_late(session: AsyncSession, row: Booking, *, at: datetime) -> None:
    """Give the student what the terms leave them of a late cancellation; nothing while a card has not brought it."""
    # Locked before it is judged: an administrator decides about it without its booking.
    payment = await payment_moves.locked(session, row.id)
    terms = await terms_of(session, row)
    back = row.price * terms.late_cancel_percent // 100
    # Once something went back, this did, or an administrator has decided.
    if payment.state != PaymentState.CAPTURED or not back:
        return
    assert payment.verdict_actor is not None, "a constraint says so"
    wish = Wish(
        amount=Money(back, row.currency),
        to_card=payment.method == PaymentMethod.CARD,
        reason=PaymentReason.STUDENT_CANCEL,
        words=row.reason,
        key="late_cancel",
    )
    await payments.refund(session, row.id, wish, actor=payment.verdict_actor, now=at)


async def run_expiry(sessions: async_sessionmaker[AsyncSession], claim: jobs.Claim, *, now: datetime) -> None:
    """Job: end a request whose time is over; nothing, if it was answered."""
    booking_id = msgspec.json.decode(claim.payload, type=ExpiryDue).booking_id
    async with sessions.begin() as session:
        row = await models.booking_of(session, booking_id, lock=True)
        if row.status == BookingStatus.REQUESTED and now >= row.answer_by:
            await expire(session, row, at=now)
        await jobs.finish(session, claim)


async def terms_of(session: AsyncSession, row: Booking) -> Policy:
    """Return the terms under which a booking was made."""
    return (await policy.versions(session, [row.policy_version]))[row.policy_version]


async def hold_of(session: AsyncSession, row: Booking) -> Hold | None:
    """Return the money that is put aside for a booking, or was; None while there is none, or it is back in its package."""
    # A hold's lesson is its booking, whatever paid for it.
    query = select(Hold).where(Hold.lesson_id == row.id).execution_options(populate_existing=True)
    found: Hold | None = await session.scalar(query)
    return found


def _move(row: Booking, to: BookingStatus) -> BookingStatus:
    was = BookingStatus(row.status)
    row.status = rules.move(was, to)
    return was


def _over(row: Booking, outcome: Outcome, at: datetime) -> None:
    row.outcome, row.ended_at = outcome, at


def _why(was: BookingStatus, party: Party) -> PaymentReason:
    """Say why a payment is let go, as its history keeps it."""
    is_request = was is BookingStatus.REQUESTED
    match party:
        case Party.STUDENT:
            return PaymentReason.WITHDRAWN if is_request else PaymentReason.STUDENT_CANCEL
        case Party.TUTOR:
            return PaymentReason.DECLINED if is_request else PaymentReason.TUTOR_CANCEL
        case Party.ADMIN | Party.SYSTEM:
            return PaymentReason.CANCELLED


async def _let_go(session: AsyncSession, row: Booking, why: PaymentReason, deed: Deed) -> None:
    """Give back what is put aside: money to its student, a lesson to its package."""
    if row.package_id is None:
        payment = await payments.get(session, row.id)
        # Its card may have brought nothing, or an administrator was faster: then this follows from that.
        if payment.state != PaymentState.VOIDED:
            await payments.void(session, row.id, reason=why, actor=deed.actor, words=deed.reason, now=deed.at)
        return
    if await packages.give_back(session, row.package_id, row.id, now=deed.at):
        return
    hold = await hold_of(session, row)
    if hold is not None and hold.status == HoldStatus.HELD:
        await holds.refund(
            session,
            [HoldId(hold.id)],
            cause=Cause.CANCELLED,
            actor=deed.actor,
            reason=deed.reason or why.lower(),
            key=f"booking:{row.id}",
            now=deed.at,
        )


async def _keep(session: AsyncSession, row: Booking, deed: Deed) -> bool:
    """Let the tutor have what the terms keep of a late cancellation; return False where nothing was taken yet.

    A lesson of a package cannot be cut: it is kept whole.
    """
    why = PaymentReason.STUDENT_CANCEL_LATE
    if row.package_id is not None:
        await packages.forfeit(
            session,
            row.package_id,
            row.id,
            actor=deed.actor,
            reason=deed.reason or "cancelled late",
            now=deed.at,
        )
        return True
    payment = await payment_moves.locked(session, row.id)
    if payment.state != PaymentState.AUTHORIZED:
        return False
    # Two journals may follow, which lock one after the other.
    await payment_moves.lock_accounts(session, payment)
    await payments.capture(session, row.id, reason=why, actor=deed.actor, words=deed.reason, now=deed.at)
    await share_late(session, row, at=deed.at)
    return True


async def _strike(session: AsyncSession, row: Booking, cause: str, at: datetime) -> int:
    """Count a booking against its tutor, once; return how many count now."""
    # Strikes at once come one after the other, so that each counts those before it.
    await user_of(session, row.tutor_id, lock=True)
    await session.execute(
        insert(Strike)
        .values(booking_id=row.id, tutor_id=row.tutor_id, cause=cause, at=at)
        .on_conflict_do_nothing()
    )
    return await models.strikes_of(session, row.tutor_id, now=at)


def _changed(
    session: AsyncSession,
    row: Booking,
    was: BookingStatus,
    deed: Deed,
    *,
    is_late: bool = False,
    strikes: int = 0,
) -> None:
    row.version += 1
    _tell(session, row, was, deed, is_late=is_late, strikes=strikes)


def _tell(
    session: AsyncSession,
    row: Booking,
    was: BookingStatus | None,
    deed: Deed,
    *,
    is_late: bool = False,
    strikes: int = 0,
) -> None:
    event = BookingChanged(
        booking_id=row.id,
        version=row.version,
        was=was,
        status=BookingStatus(row.status),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        student_id=row.student_id,
        tutor_id=row.tutor_id,
        starts_at=row.starts_at,
        actor=deed.actor,
        party=deed.party,
        reason=deed.reason,
        is_late=is_late,
        strikes=strikes,
    )
    outbox.record(session, event, at=deed.at)
