"""What follows for talks from what happens in their rooms."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from rooms.messages import RoomClosed, RoomKind, RoomUpdated
from server.features.talks import stays
from server.features.talks.models import Talk
from server.reaction import Happened, Occasion, Post, Reaction, Together


async def tell_stays(session: AsyncSession, happened: Sequence[Happened]) -> Sequence[Sequence[Post]]:
    """Write down who came and went."""
    await stays.tell(session, {event.room_id for _, event in happened if event.kind is RoomKind.TALK})
    return [()] * len(happened)


async def close_listing(occasion: Occasion, event: RoomClosed) -> Sequence[Post]:
    """Take a closed talk out of the lists for good."""
    if event.kind is RoomKind.TALK:
        await occasion.session.execute(
            update(Talk)
            .where(Talk.room_id == event.room_id, Talk.closed_at.is_(None))
            .values(closed_at=occasion.at)
        )
    return ()


TOGETHER: dict[type[msgspec.Struct], tuple[Together, ...]] = {
    RoomUpdated: (tell_stays,),
    RoomClosed: (tell_stays,),
}

REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {RoomClosed: (close_listing,)}
