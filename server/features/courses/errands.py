"""What rooms are asked once a change of courses is committed.

The database decides and the rooms follow: a command commits first and asks no room while it holds a lock. It asks
right afterwards; whether or not it lived to do so, the relay asks again from the committed event, until the rooms
have answered. So each errand may run twice, and reads what is true when it runs.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import messages as m
from rooms.errors import RoomError
from rooms.models import Room
from rooms.registry import Registry
from server.features.courses import access
from server.features.courses.messages import CourseCancelled, PlacesEnded, SessionCancelled, SessionChanged
from server.features.courses.models import CourseSession
from server.features.courses.rules import SessionStatus
from server.reads import Reads

log = structlog.get_logger()

Errand = Callable[[Any], Awaitable[None]]


def table(
    sessions: async_sessionmaker[AsyncSession], reads: Reads, rooms: Registry
) -> dict[type[msgspec.Struct], Errand]:
    """Return what the relay does after the reactions, by the event's type."""

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


async def close_rooms(rooms: Registry, room_ids: Iterable[UUID], *, actor: str, reason: str) -> None:
    """Close the rooms of cancelled sessions.

    Raises:
        RoomError: A room cannot answer now.
    """
    for room_id in room_ids:
        if not await _asked(rooms, room_id, m.CancelLesson(reason, actor)):
            # It began in the very moment. Everybody has their money back, so nobody is kept in it.
            await _asked(rooms, room_id, m.EndLesson(m.Identity(actor), admin=True))


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
        await _asked(rooms, room_id, m.Reschedule(row.starts_at, row.ends_at))
        await _asked(rooms, room_id, m.UpdateRoom(m.Identity(str(row.tutor_id)), row.title))


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
        await _asked(rooms, room_id, m.Evict(m.Identity(str(event.student_id)), event.reason))


async def at_once(errand: Awaitable[None]) -> None:
    """Run an errand for a caller who would like to see it done; the relay repeats it in any case."""
    try:
        await errand
    except (RoomError, SQLAlchemyError, OSError) as error:
        log.info("errand_left_to_relay", why=str(error))


async def _asked(rooms: Registry, room_id: UUID, command: m.Command) -> bool:
    """Ask a room; return False when what it has become forbids it."""
    try:
        await rooms.ask(room_id, command)
    except RoomError as error:
        if error.kind != "conflict":
            raise
        return False
    return True
