"""Who may enter the room of a course session."""

from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.features.courses.models import CourseSession, Place


async def may_enter(
    session: AsyncSession, room_id: UUID, user_id: UUID
) -> Literal["tutor", "student"] | None:
    """Return as what somebody may enter: the tutor, or a student with a paid place in this session."""
    lesson = await session.scalar(select(CourseSession).where(CourseSession.room_id == room_id))
    if lesson is None:
        return None
    if lesson.tutor_id == user_id:
        return "tutor"
    place = select(Place.hold_id).where(
        Place.course_id == lesson.course_id,
        Place.number == lesson.number,
        Place.student_id == user_id,
        Place.live,
    )
    return "student" if await session.scalar(place) is not None else None
