"""Who may enter a room, and who may look at it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from rooms import journal
from rooms.errors import BannedError, RoomNotFoundError
from rooms.journal import Nature
from rooms.messages import Identity, Role as SeatRole, RoomKind
from server.context import Parts, Principal
from server.errors import ForbiddenError, NotFoundError
from server.features.courses import access as courses


async def role_in(session: AsyncSession, room_id: UUID, user_id: UUID) -> SeatRole | None:
    """Return as what somebody may enter a room, None when they may not.

    A talk is everybody's who knows of it; a lesson is its tutor's and those who paid for it.

    Raises:
        NotFoundError: There is no such room.
    """
    try:
        nature = await journal.nature(session, room_id)
    except RoomNotFoundError:
        raise NotFoundError("There is no such room.") from None
    if nature.kind is RoomKind.COURSE_SESSION:
        return await courses.may_enter(session, room_id, user_id)
    return _role_by_nature(nature, user_id)


def _role_by_nature(nature: Nature, user_id: UUID) -> SeatRole | None:
    """Return as what somebody may enter a room about which only its nature decides."""
    is_owner = nature.owner == str(user_id)
    if nature.kind is RoomKind.TALK:
        return "host" if is_owner else "member"
    return "tutor" if is_owner else None


async def may_read(session: AsyncSession, room_id: UUID, principal: Principal) -> bool:
    """Return whether somebody may see a room and follow its channel: who may enter it, and admins.

    Raises:
        NotFoundError: There is no such room.
        BannedError: They were banned from it.
    """
    if not principal.is_admin and await journal.is_banned(session, room_id, Identity(str(principal.user_id))):
        raise BannedError
    return principal.is_admin or await role_in(session, room_id, principal.user_id) is not None


async def require_role(parts: Parts, room_id: UUID, user_id: UUID) -> SeatRole:
    """Return as what somebody may enter a room.

    Of a talk nothing is asked that the room does not say itself: a thousand who join at once need no connection to
    the database, and wait for none.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: They may not enter it.
    """
    try:
        nature = await parts.rooms.nature(room_id)
    except RoomNotFoundError:
        raise NotFoundError("There is no such room.") from None
    if nature.kind is RoomKind.COURSE_SESSION:
        async with parts.sessions() as session:
            role: SeatRole | None = await courses.may_enter(session, room_id, user_id)
    else:
        role = _role_by_nature(nature, user_id)
    if role is None:
        raise no_place()
    return role


def no_place() -> ForbiddenError:
    """Return what is said to those who may not enter or see a lesson."""
    return ForbiddenError("This lesson is for its tutor and those who bought a place in it.")
