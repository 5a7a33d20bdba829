"""Who may enter a room, and who may look at it."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from rooms import journal
from rooms.errors import BannedError
from rooms.messages import Identity, Role as SeatRole, RoomKind
from rooms.models import Room
from server.context import Principal
from server.errors import ForbiddenError, NotFoundError
from server.features.courses import access as courses


async def role_in(session: AsyncSession, room_id: UUID, user_id: UUID) -> SeatRole | None:
    """Return as what somebody may enter a room, None when they may not.

    A talk is everybody's who knows of it; a lesson is its tutor's and those who paid for it.

    Raises:
        NotFoundError: There is no such room.
    """
    row = (await session.execute(select(Room.kind, Room.owner).where(Room.id == room_id))).one_or_none()
    if row is None:
        raise NotFoundError("There is no such room.")
    kind, owner = row
    match RoomKind(kind):
        case RoomKind.TALK:
            return "host" if owner == str(user_id) else "member"
        case RoomKind.COURSE_SESSION:
            return await courses.may_enter(session, room_id, user_id)
        case RoomKind.BOOKING:
            return "tutor" if owner == str(user_id) else None


async def may_read(session: AsyncSession, room_id: UUID, principal: Principal) -> bool:
    """Return whether somebody may see a room and follow its channel: who may enter it, and admins.

    Raises:
        NotFoundError: There is no such room.
        BannedError: They were banned from it.
    """
    if not principal.is_admin and await journal.is_banned(session, room_id, Identity(str(principal.user_id))):
        raise BannedError
    return principal.is_admin or await role_in(session, room_id, principal.user_id) is not None


async def require_role(session: AsyncSession, room_id: UUID, user_id: UUID) -> SeatRole:
    """Return as what somebody may enter a room.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: They may not enter it.
    """
    role = await role_in(session, room_id, user_id)
    if role is None:
        raise no_place()
    return role


def no_place() -> ForbiddenError:
    """Return what is said to those who may not enter or see a lesson."""
    return ForbiddenError("This lesson is for its tutor and those who bought a place in it.")
