"""Bookings as people see them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import policy
from billing.models import Hold, Payment, PaymentMethod, PaymentState
from billing.money import Money
from server.features.accounts.models import names_of
from server.features.bookings import rules
from server.features.bookings.messages import BookingPaid, BookingView
from server.features.bookings.models import Booking, Strike
from server.features.bookings.rules import BookingStatus, Outcome, Party


async def view(session: AsyncSession, row: Booking, *, viewer: UUID) -> BookingView:
    """Return one booking as somebody sees it; what was changed is written first."""
    await session.flush()
    return (await views(session, [row], viewer=viewer))[0]


async def views(session: AsyncSession, rows: Sequence[Booking], *, viewer: UUID) -> list[BookingView]:
    """Return bookings as somebody sees them, in their order: strikes are nothing for students."""
    ids = [row.id for row in rows]
    names = await names_of(session, [person for row in rows for person in (row.student_id, row.tutor_id)])
    terms = await policy.versions(session, {row.policy_version for row in rows})
    fresh = {"populate_existing": True}
    payments = {
        payment.id: payment
        for payment in await session.scalars(
            select(Payment).where(Payment.id.in_(ids)).execution_options(**fresh)
        )
    }
    slices = dict(
        (await session.execute(select(Hold.lesson_id, Hold.id).where(Hold.lesson_id.in_(ids)))).all()
    )
    struck = set(
        await session.scalars(
            select(Strike.booking_id).where(Strike.booking_id.in_(ids), Strike.lifted_at.is_(None))
        )
    )
    return [
        _view(
            row,
            names,
            payments.get(row.id),
            hold_id=slices.get(row.id),
            has_strike=row.id in struck and viewer != row.student_id,
            terms=terms[row.policy_version],
        )
        for row in rows
    ]


def _view(
    row: Booking,
    names: dict[UUID, str],
    payment: Payment | None,
    *,
    hold_id: UUID | None,
    has_strike: bool,
    terms: policy.Policy,
) -> BookingView:
    return BookingView(
        id=row.id,
        status=BookingStatus(row.status),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        student_id=row.student_id,
        student_name=names[row.student_id],
        tutor_id=row.tutor_id,
        tutor_name=names[row.tutor_id],
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        minutes=row.minutes,
        topic=row.topic,
        notes=row.notes,
        student_timezone=row.student_timezone,
        tutor_timezone=row.tutor_timezone,
        price=Money(row.price, row.currency),
        hourly_rate=None if row.hourly_rate is None else Money(row.hourly_rate, row.currency),
        package_id=row.package_id,
        payment=None if payment is None else _paid(payment),
        hold_id=hold_id,
        room_id=None if row.accepted_at is None else row.id,
        answer_by=row.answer_by,
        free_cancel_until=rules.free_until(row.starts_at, terms),
        late_cancel_percent=terms.late_cancel_percent,
        cancelled_by=None if row.cancelled_by is None else Party(row.cancelled_by),
        reason=row.reason,
        has_strike=has_strike,
        requested_at=row.requested_at,
        accepted_at=row.accepted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        version=row.version,
    )


def _paid(payment: Payment) -> BookingPaid:
    return BookingPaid(
        method=PaymentMethod(payment.method),
        state=PaymentState(payment.state),
        captured=Money(payment.captured, payment.currency),
        refunded=Money(payment.refunded, payment.currency),
    )
