"""Who may enter a room, and who may look at it."""

from uuid import UUID

import msgspec

from rooms.errors import BannedError, RoomNotFoundError
from rooms.journal import Nature
from rooms.messages import Identity, Role as SeatRole, RoomKind
from server import outage
from server.context import Parts, Principal
from server.errors import ForbiddenError, NotFoundError
from server.features.bookings import access as bookings
from server.features.courses import access as courses
from server.reads import Lookup

_ROOM = Lookup("""
    select a.no, r.kind, r.owner,
        exists (select from room_ban b where b.room_id = r.id and b.identity = a.user_id::text) as is_banned
    from unnest($1::uuid[], $2::uuid[]) with ordinality as a (room_id, user_id, no)
    join room r on r.id = a.room_id
""")


class Standing(msgspec.Struct, frozen=True):
    """What somebody is to a room."""

    kind: RoomKind
    role: SeatRole | None
    """As what they may enter it, None when they may not."""
    is_banned: bool


async def standing(parts: Parts, room_id: UUID, user_id: UUID) -> Standing:
    """Return what somebody is to a room: what the room says itself from memory where it runs here.

    A talk is everybody's who knows of it; a lesson is its tutor's and those who paid for it.

    Raises:
        NotFoundError: There is no such room.
        OverloadedError: The database is away.
    """
    identity = Identity(str(user_id))
    state = parts.rooms.here(room_id)
    if state is not None:
        kind, owner, is_banned = state.spec.kind, state.spec.owner, identity in state.banned
    else:
        with outage.refused():
            row = await parts.reads.find(_ROOM, room_id, user_id)
        if row is None:
            raise _no_room()
        kind, owner, is_banned = RoomKind(row["kind"]), Identity(row["owner"]), row["is_banned"]
    return Standing(kind, await _role(parts, Nature(kind, owner), room_id, user_id), is_banned)


async def _role(parts: Parts, nature: Nature, room_id: UUID, user_id: UUID) -> SeatRole | None:
    with outage.refused():
        match nature.kind:
            case RoomKind.COURSE_SESSION:
                return await courses.may_enter(parts.reads, room_id, user_id)
            case RoomKind.BOOKING:
                return await bookings.may_enter(parts.reads, room_id, user_id)
            case RoomKind.TALK:
                return "host" if nature.owner == str(user_id) else "member"


async def may_read(parts: Parts, room_id: UUID, principal: Principal) -> bool:
    """Return whether somebody may see a room and follow its channel: who may enter it, and admins.

    Raises:
        NotFoundError: There is no such room.
        BannedError: They were banned from it.
    """
    if principal.is_admin:
        return True
    found = await standing(parts, room_id, principal.user_id)
    if found.is_banned:
        raise BannedError
    return found.role is not None


async def require_role(parts: Parts, room_id: UUID, user_id: UUID) -> SeatRole:
    """Return as what somebody may enter a room; whether they were banned from it, the room itself says.

    Of a talk nothing is asked that the room does not say itself: a thousand who join at once need no connection to
    the database, and wait for none.

    Raises:
        NotFoundError: There is no such room.
        ForbiddenError: They may not enter it.
    """
    try:
        nature = await parts.rooms.nature(room_id)
    except RoomNotFoundError:
        raise _no_room() from None
    role = await _role(parts, nature, room_id, user_id)
    if role is None:
        raise no_place()
    return role


def no_place() -> ForbiddenError:
    """Return what is said to those who may not enter or see a lesson."""
    return ForbiddenError("This lesson is for its tutor and those who bought a place in it.")


def _no_room() -> NotFoundError:
    return NotFoundError("There is no such room.")
