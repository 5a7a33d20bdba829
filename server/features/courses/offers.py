"""What a course or a session costs one person right now: shown by a quote, computed again by its confirmation."""

import hashlib
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from billing import policy
from billing.models import SourceKind
from billing.money import BPS_WHOLE
from server.errors import ConflictError, NotFoundError
from server.features.accounts.models import is_approved_tutor, user_of
from server.features.courses import models, rules
from server.features.courses.messages import Split
from server.features.courses.models import Course, CourseSession, Purchase
from server.features.courses.rules import (
    CourseStatus,
    Publication,
    PurchaseKind,
    PurchaseStatus,
    SessionStatus,
)


class Offer(msgspec.Struct, frozen=True):
    """Everything a purchase is made from."""

    kind: PurchaseKind
    price: int
    currency: str
    numbers: tuple[int, ...]
    """The sessions it pays for; a full course also those without a date."""
    replaces: tuple[UUID, ...]
    """Single purchases that are refunded first."""
    returned: int
    """What they give back."""
    seats_left: int
    split: Split
    attendance_percent: int
    """Of the terms that the split is from."""

    @property
    def terms(self) -> str:
        """Return the digest that a quote carries; seats may go, everything else must stay."""
        shown = msgspec.json.encode(
            (self.kind, self.price, self.currency, self.numbers, self.replaces, self.split)
        )
        return hashlib.sha256(shown).hexdigest()


async def make(
    session: AsyncSession, course: Course, session_id: UUID | None, *, student_id: UUID, now: datetime
) -> Offer:
    """Return what the student can buy.

    Raises:
        ConflictError: It is not for sale, full, over, or the student has it already.
        NotFoundError: There is no such course or session to be seen.
    """
    await _check_on_sale(session, course, student_id)
    sessions = await models.sessions_of(session, course.id)
    if session_id is None:
        return await _full_course(session, course, sessions, student_id=student_id, now=now)
    chosen = next((row for row in sessions if row.id == session_id), None)
    if chosen is None:
        raise NotFoundError("There is no such session in this course.")
    return await _single(session, course, chosen, student_id=student_id, now=now)


async def _check_on_sale(session: AsyncSession, course: Course, student_id: UUID) -> None:
    if course.tutor_id == student_id:
        raise ConflictError("Nobody buys their own course.", code="own_course")
    if course.publication != Publication.PUBLISHED:
        raise NotFoundError("There is no such course.")
    if course.status not in (CourseStatus.UPCOMING, CourseStatus.ONGOING):
        raise ConflictError(f"The course is {course.status}.", code="course_over")
    if not await is_approved_tutor(session, course.tutor_id):
        raise ConflictError("The course is not on sale at the moment.", code="not_on_sale")


async def _full_course(
    session: AsyncSession,
    course: Course,
    sessions: list[CourseSession],
    *,
    student_id: UUID,
    now: datetime,
) -> Offer:
    if course.price_full_course is None:
        raise ConflictError("This course is sold by the session only.", code="not_sold_whole")
    if await _is_enrolled(session, course.id, student_id):
        raise ConflictError("You have the full course already.", code="already_enrolled")
    gone = {
        row.number for row in sessions if not rules.is_open(SessionStatus(row.status), row.starts_at, now=now)
    }
    numbers = tuple(number for number in range(1, course.total_sessions + 1) if number not in gone)
    if not numbers:
        raise ConflictError("No session of this course is left to buy.", code="nothing_left")
    by_id = {row.id: row.number for row in sessions}
    singles = await session.scalars(
        select(Purchase)
        .where(
            Purchase.student_id == student_id,
            Purchase.course_id == course.id,
            Purchase.session_id.is_not(None),
            Purchase.status == PurchaseStatus.ACTIVE,
        )
        .order_by(Purchase.id)
    )
    replaced = [
        single for single in singles if single.session_id is not None and by_id[single.session_id] in numbers
    ]
    freed = {by_id[single.session_id] for single in replaced if single.session_id is not None}
    taken = await models.places_taken(session, course.id)
    fullest = max(taken.get(number, 0) - (number in freed) for number in numbers)
    if fullest >= course.max_students:
        raise ConflictError("The course is full.", code="course_full", seats_left=0)
    terms = await policy.current(session, now)
    return Offer(
        PurchaseKind.FULL_COURSE,
        rules.full_price(
            course.price_full_course,
            remaining=len(numbers),
            total=course.total_sessions,
            least=terms.min_price,
        ),
        course.currency,
        numbers,
        tuple(single.id for single in replaced),
        sum(single.amount for single in replaced),
        course.max_students - fullest,
        await _split(session, course, terms, student_id=student_id),
        terms.attendance_percent,
    )


async def _single(
    session: AsyncSession, course: Course, chosen: CourseSession, *, student_id: UUID, now: datetime
) -> Offer:
    if course.price_per_session is None:
        raise ConflictError("This course is sold as a whole only.", code="not_sold_singly")
    if not rules.is_open(SessionStatus(chosen.status), chosen.starts_at, now=now):
        raise ConflictError("The session has begun, or will not be held.", code="session_not_open")
    if await _is_enrolled(session, course.id, student_id):
        raise ConflictError("The full course that you have includes this session.", code="already_enrolled")
    bought = select(Purchase.id).where(
        Purchase.student_id == student_id,
        Purchase.session_id == chosen.id,
        Purchase.status != PurchaseStatus.CANCELLED,
    )
    if await session.scalar(bought) is not None:
        raise ConflictError("You have this session already.", code="already_bought")
    taken = (await models.places_taken(session, course.id)).get(chosen.number, 0)
    if taken >= course.max_students:
        raise ConflictError("The session is full.", code="session_full", seats_left=0)
    terms = await policy.current(session, now)
    return Offer(
        PurchaseKind.SESSION,
        course.price_per_session,
        course.currency,
        (chosen.number,),
        (),
        0,
        course.max_students - taken,
        await _split(session, course, terms, student_id=student_id),
        terms.attendance_percent,
    )


async def _is_enrolled(session: AsyncSession, course_id: UUID, student_id: UUID) -> bool:
    found = select(Purchase.id).where(
        Purchase.student_id == student_id,
        Purchase.course_id == course_id,
        Purchase.kind == PurchaseKind.FULL_COURSE,
        Purchase.status == PurchaseStatus.ACTIVE,
    )
    return await session.scalar(found) is not None


async def _split(session: AsyncSession, course: Course, terms: policy.Policy, *, student_id: UUID) -> Split:
    student = await user_of(session, student_id)
    owed_to = rules.attribution(student.referred_by, course.tutor_id)
    bps = policy.tutor_bps(terms, SourceKind.COURSE_SESSION, owed_to, lifetime=0)
    return Split(bps, BPS_WHOLE - bps, owed_to, terms.version)
