"""What follows for courses from what happened in rooms and to holds, and who is told. Each may run twice."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from billing.messages import HoldRefunded, HoldReleased
from billing.models import Cause, SourceKind
from rooms.messages import LessonCancelled, LessonEnded, LessonStarted
from rooms.models import Room
from server.features.courses import life, models
from server.features.courses.messages import CourseCancelled, CourseChanged, SessionCancelled
from server.features.courses.models import Course, CourseSession, Place
from server.features.courses.rules import PurchaseStatus, SessionStatus
from server.features.notifications.notices import Notice, Page, notify
from server.reaction import Happened, Occasion, Post, Reaction, Together

_CLOSE = text("""
    update purchase set status = ended.status, reason = coalesce(ended.reason, purchase.reason), ended_at = ended.at
    from unnest(cast(:ids as uuid[]), cast(:statuses as text[]), cast(:reasons as text[]),
                cast(:moments as timestamptz[])) as ended (id, status, reason, at)
    where purchase.id = ended.id and purchase.status = 'active'
""")


async def start_session(occasion: Occasion, event: LessonStarted) -> Sequence[Post]:
    """A lesson began: so did its session, and with the first one the course."""
    found = await _session_of(occasion.session, event.room_id)
    if found is not None and found[1].status == SessionStatus.SCHEDULED:
        life.start_session(*found, at=event.at)
        # A lesson is held in the time of its room: a move that came in the moment of its beginning came too late.
        room = await occasion.session.get_one(Room, event.room_id)
        assert room.starts_at is not None, "lessons have a time"
        assert room.ends_at is not None, "lessons have a time"
        found[1].starts_at, found[1].ends_at = room.starts_at, room.ends_at
    return ()


async def end_session(occasion: Occasion, event: LessonEnded) -> Sequence[Post]:
    """A lesson is over: its session was held, or nobody came to open it."""
    found = await _session_of(occasion.session, event.room_id)
    if found is None:
        return ()
    course, row = found
    if row.status == SessionStatus.SCHEDULED:
        if event.outcome == "cancelled":
            await _cancel(occasion, course, row, actor=life.SYSTEM, reason=event.reason)
            return ()
        # The event of its start is still on the way; the database wants to see both arrows walked.
        life.start_session(course, row, at=event.started_at or row.starts_at)
        await occasion.session.flush()
    if row.status == SessionStatus.IN_PROGRESS:
        await life.complete_session(occasion.session, course, row, reason=event.reason, at=event.ended_at)
    return ()


async def cancel_session(occasion: Occasion, event: LessonCancelled) -> Sequence[Post]:
    """A lesson will not be held: nobody opened it, or its room was cancelled before its session."""
    found = await _session_of(occasion.session, event.room_id)
    if found is not None and found[1].status == SessionStatus.SCHEDULED:
        await _cancel(occasion, *found, actor=event.actor, reason=event.reason)
    return ()


async def close_purchases(session: AsyncSession, happened: Sequence[Happened]) -> Sequence[Sequence[Post]]:
    """The money of single sessions is settled: the student attended, missed it, or it was cancelled (C-08)."""
    closed = {
        event.source_id: _closed(occasion, event)
        for occasion, event in happened
        if event.source_kind is SourceKind.COURSE_SESSION
    }
    if closed:
        await models.lock_courses_of(session, closed)
        ids, ends = list(closed), list(closed.values())
        await session.execute(
            _CLOSE,
            {
                "ids": ids,
                "statuses": [status for status, _, _ in ends],
                "reasons": [reason for _, reason, _ in ends],
                "moments": [at for _, _, at in ends],
            },
        )
    return [()] * len(happened)


def _closed(
    occasion: Occasion, event: HoldReleased | HoldRefunded
) -> tuple[PurchaseStatus, str | None, datetime]:
    if isinstance(event, HoldReleased):
        return PurchaseStatus.ATTENDED, None, occasion.at
    if event.cause in (Cause.ATTENDANCE, Cause.TUTOR_ABSENT):
        return PurchaseStatus.MISSED, None, occasion.at
    return PurchaseStatus.CANCELLED, event.reason, occasion.at


async def tell_of_change(occasion: Occasion, event: CourseChanged) -> Sequence[Post]:
    """Tell everybody who has a place that the course, or a session's time, is different."""
    query = select(Place.student_id).where(Place.course_id == event.course_id, Place.live)
    if event.session_id is not None:
        query = query.join(
            CourseSession,
            (CourseSession.course_id == Place.course_id) & (CourseSession.number == Place.number),
        ).where(CourseSession.id == event.session_id)
    students = await occasion.session.scalars(query.distinct())
    facts: dict[str, Any] = {"course": event.title, "course_id": event.course_id}
    kind = "course_updated"
    if event.starts_at is not None:
        kind = "session_moved"
        facts |= {
            "session": event.session_title,
            "session_id": event.session_id,
            "starts_at": f"{event.starts_at:%Y-%m-%d %H:%M}",
        }
    return await _tell(occasion, students, kind, facts)


async def tell_of_cancelled_session(occasion: Occasion, event: SessionCancelled) -> Sequence[Post]:
    """Tell everybody who had a place, and the tutor unless they cancelled it, that the session is off (B-23)."""
    facts = {
        "course": event.course_title,
        "course_id": event.course_id,
        "session": event.session_title,
        "session_id": event.session_id,
        "reason": event.reason,
    }
    return await _tell(occasion, _concerned(event), "session_cancelled", facts)


async def tell_of_cancelled_course(occasion: Occasion, event: CourseCancelled) -> Sequence[Post]:
    """Tell every buyer, and the tutor unless they cancelled it, that the course will not be held."""
    facts = {"course": event.title, "reason": event.reason, "course_id": event.course_id}
    return await _tell(occasion, _concerned(event), "course_cancelled", facts)


def _concerned(event: SessionCancelled | CourseCancelled) -> tuple[UUID, ...]:
    is_tutors_deed = event.actor == f"user:{event.tutor_id}"
    return event.student_ids if is_tutors_deed else (*event.student_ids, event.tutor_id)


async def _tell(occasion: Occasion, people: Iterable[UUID], kind: str, facts: dict[str, Any]) -> list[Post]:
    notices = [Notice(person, kind, facts, Page.COURSE, facts["course_id"]) for person in people]
    return await notify(occasion, notices)


async def _cancel(occasion: Occasion, course: Course, row: CourseSession, *, actor: str, reason: str) -> None:
    await life.cancel_session(occasion.session, course, row, actor=actor, reason=reason, at=occasion.at)


async def _session_of(session: AsyncSession, room_id: UUID) -> tuple[Course, CourseSession] | None:
    """Return the course, locked, and the session that this room is for; None for other rooms."""
    course_id = await session.scalar(select(CourseSession.course_id).where(CourseSession.room_id == room_id))
    if course_id is None:
        return None
    course = await models.course_of(session, course_id, lock=True)
    row = await session.scalar(
        select(CourseSession)
        .where(CourseSession.room_id == room_id)
        .execution_options(populate_existing=True)
    )
    assert row is not None, "sessions are never deleted"
    return course, row


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    LessonStarted: (start_session,),
    LessonEnded: (end_session,),
    LessonCancelled: (cancel_session,),
    CourseChanged: (tell_of_change,),
    SessionCancelled: (tell_of_cancelled_session,),
    CourseCancelled: (tell_of_cancelled_course,),
}

TOGETHER: dict[type[msgspec.Struct], tuple[Together, ...]] = {
    HoldReleased: (close_purchases,),
    HoldRefunded: (close_purchases,),
}
