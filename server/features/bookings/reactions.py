"""What follows for bookings from rooms and money, and who is told. Each may run twice."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from billing import payment_states, payments
from billing.messages import HoldRefunded, PaymentCaptured, PaymentVoided
from billing.models import Cause, FactsRow, PaymentReason, PresenceRow, SourceKind
from billing.settlement import FROZEN
from rooms.messages import LessonCancelled, LessonEnded, LessonStarted
from server.features.accounts.models import admins, names_of
from server.features.bookings import life, models, rules
from server.features.bookings.life import Deed
from server.features.bookings.messages import BookingChanged, BookingUpdated
from server.features.bookings.models import Booking
from server.features.bookings.rules import BookingStatus, Outcome, Party
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Occasion, Post, Reaction, to_user

# Of the lesson whose payment ended without it.
_LOST = (PaymentReason.CARD_FAILED, PaymentReason.CANCELLED)


async def start_booking(occasion: Occasion, event: LessonStarted) -> Sequence[Post]:
    """A lesson began: so did its booking."""
    row = await models.find(occasion.session, event.room_id, lock=True)
    if row is not None and row.status == BookingStatus.SCHEDULED:
        await life.start(occasion.session, row, at=event.at)
    return ()


async def end_booking(occasion: Occasion, event: LessonEnded) -> Sequence[Post]:
    """A lesson is over: what became of it follows from who came, as with its money."""
    row = await models.find(occasion.session, event.room_id, lock=True)
    if row is not None and models.is_live(row):
        await life.end(occasion.session, row, await _outcome(occasion.session, row), at=event.ended_at)
    return ()


async def end_unopened(occasion: Occasion, event: LessonCancelled) -> Sequence[Post]:
    """Nobody opened the room in its time: the lesson was not held. Whoever cancels a booking has written so before."""
    row = await models.find(occasion.session, event.room_id, lock=True)
    if row is not None and models.is_live(row):
        await life.end(occasion.session, row, Outcome.NOT_HELD, at=event.at)
    return ()


async def follow_payment(occasion: Occasion, event: PaymentVoided) -> Sequence[Post]:
    """Without its money there is no lesson: a card brought nothing, or an administrator gave it back."""
    if event.reason in _LOST:
        payment = await payments.get(occasion.session, event.payment_id)
        await _cancel_unpaid(occasion, event.payment_id, payment.verdict_words)
    return ()


async def share_late(occasion: Occasion, event: PaymentCaptured) -> Sequence[Post]:
    """A card that paid for a late cancellation brought the money: its student gets what the terms say (G-5)."""
    if event.reason is PaymentReason.STUDENT_CANCEL_LATE:
        row = await models.find(occasion.session, event.payment_id, lock=True)
        if row is not None:
            await life.share_late(occasion.session, row, at=occasion.at)
    return ()


async def follow_package(occasion: Occasion, event: HoldRefunded) -> Sequence[Post]:
    """The same where a package pays."""
    is_slice = event.source_kind is SourceKind.PACKAGE_SLICE and event.cause is Cause.ADMIN
    if is_slice and event.lesson_id is not None:
        await _cancel_unpaid(occasion, event.lesson_id, event.reason)
    return ()


async def show(_: Occasion, event: BookingChanged) -> Sequence[Post]:
    """Have the windows of both parties look at the booking again."""
    shown = BookingUpdated(booking_id=event.booking_id, version=event.version, status=event.status)
    return [to_user(party, "booking.updated", shown) for party in (event.student_id, event.tutor_id)]


async def tell(occasion: Occasion, event: BookingChanged) -> Sequence[Post]:
    """Tell whoever did not do it what happened to a booking, and administrators of many strikes."""
    names = await names_of(occasion.session, [event.student_id, event.tutor_id])
    facts = {
        "booking_id": event.booking_id,
        "student": names[event.student_id],
        "tutor": names[event.tutor_id],
        "starts_at": f"{event.starts_at:%Y-%m-%d %H:%M}",
        "reason": event.reason or "-",
    }
    doer = {Party.STUDENT: event.student_id, Party.TUTOR: event.tutor_id}.get(event.party)
    told = [
        Notice(person, f"booking_{what}", facts, Page.BOOKING, event.booking_id)
        for person in (event.student_id, event.tutor_id)
        if person != doer and (what := _what(event)) is not None
    ]
    if event.strikes >= rules.STRIKES_MANY:
        many = {"tutor": names[event.tutor_id], "strikes": event.strikes, "booking_id": event.booking_id}
        told += [
            Notice(admin, "tutor_strikes", many, Page.BOOKING, event.booking_id)
            for admin in await admins(occasion.session)
        ]
    return await notify(occasion, told)


def _what(event: BookingChanged) -> str | None:
    """Name what people are told; None where they see it happen."""
    match event.status:
        case BookingStatus.REQUESTED:
            return "requested"
        case BookingStatus.SCHEDULED:
            return "accepted"
        case BookingStatus.ACTIVE:
            return "started"
        case BookingStatus.EXPIRED:
            return "expired"
        case BookingStatus.ENDED:
            return None if event.outcome is Outcome.COMPLETED else event.outcome
        case BookingStatus.CANCELLED:
            if event.was is BookingStatus.REQUESTED and event.party is Party.TUTOR:
                return "declined"
            if event.was is BookingStatus.REQUESTED and event.party is Party.STUDENT:
                return "withdrawn"
            return "cancelled_late" if event.is_late else "cancelled"


async def _outcome(session: AsyncSession, row: Booking) -> Outcome:
    """Return what became of a lesson by its frozen facts."""
    facts = await session.get_one(FactsRow, (row.id, FROZEN))
    presence = await session.get(PresenceRow, (row.id, FROZEN, row.student_id))
    _, reason = payment_states.outcome(
        student_came=presence is not None and presence.attended_s > 0,
        tutor_came=facts.tutor_attended_s > 0,
        cancelled=facts.cancelled,
    )
    return rules.outcome(reason)


async def _cancel_unpaid(occasion: Occasion, booking_id: UUID, reason: str | None) -> None:
    session = occasion.session
    row = await models.find(session, booking_id, lock=True)
    if row is None or not models.is_live(row):
        return
    if await session.get(FactsRow, (row.id, FROZEN)) is not None:
        # It is over, and its end is on its way.
        return
    deed = Deed(party=Party.SYSTEM, actor=life.SYSTEM, at=occasion.at, reason=reason)
    await life.cancel(session, row, deed)


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    LessonStarted: (start_booking,),
    LessonEnded: (end_booking,),
    LessonCancelled: (end_unopened,),
    PaymentVoided: (follow_payment,),
    PaymentCaptured: (share_late,),
    HoldRefunded: (follow_package,),
    BookingChanged: (show, tell),
}
