"""Who may see, change and cancel a course, and enter the rooms of its sessions."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from rooms.messages import RoomStatus
from rooms.models import Room
from server import audit
from server.context import Context
from server.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
)
from server.features.accounts.models import is_approved_tutor
from server.features.courses import models
from server.features.courses.models import Course, CourseSession, Purchase
from server.features.courses.rules import CourseStatus, Publication
from server.reads import Lookup, Reads

_ENTRY = Lookup("""
    select a.no, case when s.tutor_id = a.user_id then 'tutor' when exists (
        select from course_place p
        where p.course_id = s.course_id and p.number = s.number and p.student_id = a.user_id and p.live
    ) then 'student' end as role
    from unnest($1::uuid[], $2::uuid[]) with ordinality as a (room_id, user_id, no)
    join course_session s on s.room_id = a.room_id
""")


async def may_enter(reads: Reads, room_id: UUID, user_id: UUID) -> Literal["tutor", "student"] | None:
    """Return as what somebody may enter: the tutor, or a student with a paid place in this session."""
    row = await reads.find(_ENTRY, room_id, user_id)
    return None if row is None else row["role"]


async def own_course(ctx: Context, course_id: UUID, *, lock: bool = True) -> Course:
    """Return a course that the caller may change: their own, or any for an administrator."""
    course = await models.course_of(ctx.session, course_id, lock=lock)
    if not (ctx.user.is_admin or course.tutor_id == ctx.user.user_id):
        raise ForbiddenError("Only the tutor of the course may do this.")
    return course


async def selling_course(ctx: Context, course_id: UUID) -> Course:
    """Return a course that the caller may put on sale or add to, locked: only approved tutors sell (B-14).

    An administrator may act in the place of a tutor whose approval is gone; that is noted like all they do.
    """
    course = await own_course(ctx, course_id)
    if not (ctx.user.is_admin or await is_approved_tutor(ctx.session, course.tutor_id)):
        raise ForbiddenError("Only tutors who are approved may do this.")
    return course


async def visible_course(ctx: Context, course_id: UUID) -> Course:
    """Return a course that the caller may see: published, their own, bought, or any for an administrator."""
    course = await models.course_of(ctx.session, course_id)
    if course.publication == Publication.PUBLISHED:
        return course
    try:
        user = ctx.user
    except UnauthenticatedError:
        raise NotFoundError("There is no such course.") from None
    bought = select(Purchase.id).where(Purchase.course_id == course.id, Purchase.student_id == user.user_id)
    if user.is_admin or course.tutor_id == user.user_id or await ctx.session.scalar(bought.limit(1)):
        return course
    raise NotFoundError("There is no such course.")


def check_changeable(course: Course) -> None:
    """Refuse to change a course that is completed or cancelled."""
    if course.status not in (CourseStatus.UPCOMING, CourseStatus.ONGOING):
        raise ConflictError(f"The course is {course.status}.", code="course_over")


async def check_not_begun(session: AsyncSession, rows: Sequence[CourseSession]) -> None:
    """Refuse to cancel or move sessions whose rooms know better than their rows: the tutor has just come in.

    Raises:
        ConflictError: One of them has begun or is over.
    """
    begun = select(Room.id).where(Room.id.in_([row.room_id for row in rows]), Room.state != RoomStatus.OPEN)
    if await session.scalar(begun.limit(1)) is not None:
        raise ConflictError("The session has begun.", code="session_not_open")


def who_cancels(ctx: Context, course: Course, reason: str | None) -> tuple[str, str]:
    """Return the actor for the ledger and the reason that the students read."""
    if ctx.user.user_id == course.tutor_id:
        return f"user:{ctx.user.user_id}", reason or "cancelled by the tutor"
    if reason is None:
        raise BadRequestError(
            "An administrator says why.", (FieldError("reason", "is needed in at least 10 characters"),)
        )
    return f"admin:{ctx.user.user_id}", reason


def record_admin(
    ctx: Context,
    action: str,
    target_id: UUID,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
    reason: str | None = None,
) -> None:
    """Note in the audit log what an administrator did to somebody's course; a tutor's own deeds are not noted."""
    if ctx.user.is_admin:
        audit.record(ctx, action, target_id, before=before, after=after, reason=reason)
