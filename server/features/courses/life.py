"""What happens to courses, sessions and purchases over time, and to the money that hangs on them.

Every function works inside the caller's transaction under the course's row lock, and finds nothing to do when it
runs a second time. Locks are taken in one order: course, then holds by id, then the ledger's accounts.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from billing import holds, outbox
from billing.models import Cause, HoldId
from server.features.courses import models, rules
from server.features.courses.messages import CourseCancelled, SessionCancelled
from server.features.courses.models import Course, CourseSession, Place, Purchase
from server.features.courses.rules import CourseStatus, PurchaseKind, PurchaseStatus, SessionStatus

SYSTEM = "system:courses"


def start_session(course: Course, row: CourseSession, *, at: datetime) -> None:
    """Mark a session as begun, and with the first one its course (F4-61, F4-64)."""
    row.status = rules.move(rules.SESSION_ARROWS, SessionStatus(row.status), SessionStatus.IN_PROGRESS)
    row.started_at = at
    if course.status == CourseStatus.UPCOMING:
        course.status = CourseStatus.ONGOING


async def complete_session(
    session: AsyncSession, course: Course, row: CourseSession, *, reason: str, at: datetime
) -> None:
    """Mark a session as held, and with the last one its course (F4-62, F4-65)."""
    row.status = rules.move(rules.SESSION_ARROWS, SessionStatus(row.status), SessionStatus.COMPLETED)
    row.ended_at = at
    row.reason = reason
    await _complete_course(session, course, at=at)


async def cancel_session(
    session: AsyncSession, course: Course, row: CourseSession, *, actor: str, reason: str, at: datetime
) -> None:
    """Cancel a session that has not begun: its places end and their holds are refunded (F4-66)."""
    row.status = rules.move(rules.SESSION_ARROWS, SessionStatus(row.status), SessionStatus.CANCELLED)
    row.ended_at = at
    row.reason = reason
    places = await _live_places(session, course.id, numbers=(row.number,))
    await give_back(session, places, actor=actor, reason=reason, at=at)
    await cancel_emptied(session, places, reason=reason, at=at)
    cancelled = SessionCancelled(
        course_id=course.id,
        tutor_id=course.tutor_id,
        course_title=course.title,
        session_id=row.id,
        session_title=row.title,
        room_id=row.room_id,
        starts_at=row.starts_at,
        actor=actor,
        reason=reason,
        student_ids=tuple(place.student_id for place in places),
    )
    outbox.record(session, cancelled, at=at)
    await _complete_course(session, course, at=at)


async def cancel_course(
    session: AsyncSession, course: Course, *, actor: str, reason: str, at: datetime
) -> CourseCancelled:
    """Cancel an upcoming course with all its sessions: all money goes back (F4-63).

    Returns:
        The event, which is recorded already.

    Raises:
        ConflictError: It is not upcoming.
    """
    rules.check_cancellable(CourseStatus(course.status))
    course.status = CourseStatus.CANCELLED
    dated = await models.sessions_of(session, course.id)
    ahead = [row for row in dated if row.status == SessionStatus.SCHEDULED]
    for row in ahead:
        row.status = SessionStatus.CANCELLED
        row.ended_at = at
        row.reason = reason
    places = await _live_places(session, course.id)
    await give_back(session, places, actor=actor, reason=reason, at=at)
    buyers = await session.scalars(
        update(Purchase)
        .where(Purchase.course_id == course.id, Purchase.status == PurchaseStatus.ACTIVE)
        .values(status=PurchaseStatus.CANCELLED, ended_at=at, reason=reason)
        .returning(Purchase.student_id)
    )
    cancelled = CourseCancelled(
        course_id=course.id,
        tutor_id=course.tutor_id,
        title=course.title,
        room_ids=tuple(row.room_id for row in ahead),
        actor=actor,
        reason=reason,
        student_ids=tuple(sorted(set(buyers))),
    )
    outbox.record(session, cancelled, at=at)
    return cancelled


async def give_back(
    session: AsyncSession,
    places: Iterable[Place],
    *,
    actor: str,
    reason: str,
    at: datetime,
    cause: Cause = Cause.CANCELLED,
) -> list[HoldId]:
    """End these places and refund those of their holds that are not settled yet; return the refunded ones."""
    hold_ids = []
    for place in places:
        place.live = False
        hold_ids.append(place.hold_id)
    if not hold_ids:
        return []
    return await holds.refund(
        session,
        hold_ids,
        cause=cause,
        actor=actor,
        reason=reason,
        # A place ends once, so its hold names this refund for ever.
        key=f"place:{min(hold_ids)}",
        now=at,
        only_held=True,
    )


async def cancel_emptied(
    session: AsyncSession, places: Iterable[Place], *, reason: str, at: datetime
) -> None:
    """Cancel the purchases that had these places and have none any more: nothing of them is left to hold."""
    await session.flush()
    live = select(Place.hold_id).where(Place.purchase_id == Purchase.id, Place.live)
    await session.execute(
        update(Purchase)
        .where(
            Purchase.id.in_([place.purchase_id for place in places]),
            Purchase.status == PurchaseStatus.ACTIVE,
            ~live.exists(),
        )
        .values(status=PurchaseStatus.CANCELLED, ended_at=at, reason=reason)
    )


async def _complete_course(session: AsyncSession, course: Course, *, at: datetime) -> None:
    """Complete the course when nothing is left to hold: slices without a session go back (C-06, F4-69)."""
    await session.flush()
    sessions = await models.sessions_of(session, course.id)
    if course.status != CourseStatus.ONGOING:
        return
    if not rules.is_complete([SessionStatus(row.status) for row in sessions]):
        return
    course.status = CourseStatus.COMPLETED
    dated = {row.number for row in sessions}
    undelivered = [place for place in await _live_places(session, course.id) if place.number not in dated]
    await give_back(session, undelivered, actor=SYSTEM, reason="not delivered", at=at)
    await session.execute(
        update(Purchase)
        .where(
            Purchase.course_id == course.id,
            Purchase.kind == PurchaseKind.FULL_COURSE,
            Purchase.status == PurchaseStatus.ACTIVE,
        )
        .values(status=PurchaseStatus.COMPLETED, ended_at=at)
    )


async def _live_places(
    session: AsyncSession, course_id: UUID, *, numbers: tuple[int, ...] | None = None
) -> list[Place]:
    query = select(Place).where(Place.course_id == course_id, Place.live).order_by(Place.hold_id)
    if numbers is not None:
        query = query.where(Place.number.in_(numbers))
    return list(await session.scalars(query))
