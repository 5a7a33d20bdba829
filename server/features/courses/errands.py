"""What rooms are asked once a change of courses is committed (see `server/errand.py`)."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import messages as m
from rooms.models import Room
from rooms.registry import Registry
from server.errand import Errands, ask, close_rooms
from server.features.courses import access
from server.features.courses.messages import CourseCancelled, PlacesEnded, SessionCancelled, SessionChanged
from server.features.courses.models import CourseSession
from server.features.courses.rules import SessionStatus
from server.reads import Reads


def table(sessions: async_sessionmaker[AsyncSession], reads: Reads, rooms: Registry) -> Errands:
    """Return what the relay does after the reactions."""

    async def close_session(event: SessionCancelled) -> None:
        await close_rooms(rooms, [event.room_id], actor=event.actor, reason=event.reason)

    async def close_course(event: CourseCancelled) -> None:
        await close_rooms(rooms, event.room_ids, actor=event.actor, reason=event.reason)

    async def move(event: SessionChanged) -> None:
        await update_room(sessions, rooms, event.room_id)

    async def put_out(event: PlacesEnded) -> None:
        await evict(sessions, reads, rooms, event)

    return {
        SessionCancelled: close_session,
        CourseCancelled: close_course,
        SessionChanged: move,
        PlacesEnded: put_out,
    }


async def update_room(sessions: async_sessionmaker[AsyncSession], rooms: Registry, room_id: UUID) -> None:
    """Give a room the title and the time of its session.

    A room whose lesson has begun keeps its time, and the session gets it back (`reactions.start_session`).

    Raises:
        RoomError: The room cannot answer now.
    """
    async with sessions() as session:
        row = await session.scalar(
            select(CourseSession).where(
                CourseSession.room_id == room_id, CourseSession.status == SessionStatus.SCHEDULED
            )
        )
    if row is not None:
        await ask(rooms, room_id, m.Reschedule(row.starts_at, row.ends_at))
        await ask(rooms, room_id, m.UpdateRoom(m.Identity(str(row.tutor_id)), row.title))


async def evict(
    sessions: async_sessionmaker[AsyncSession], reads: Reads, rooms: Registry, event: PlacesEnded
) -> None:
    """Have somebody put out of the rooms of places that ended, unless something else lets them in.

    Raises:
        RoomError: A room cannot answer now.
    """
    query = (
        select(CourseSession.room_id)
        .join(Room, Room.id == CourseSession.room_id)
        .where(
            CourseSession.course_id == event.course_id,
            CourseSession.number.in_(event.numbers),
            Room.state != m.RoomStatus.CLOSED,
        )
    )
    async with sessions() as session:
        room_ids = list(await session.scalars(query))
    for room_id in room_ids:
        if await access.may_enter(reads, room_id, event.student_id) is not None:
            continue
        await ask(rooms, room_id, m.Evict(m.Identity(str(event.student_id)), event.reason))
