"""What follows for talks from what happens in their rooms."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from rooms.messages import RoomClosed, RoomKind, RoomUpdated
from server.features.talks import stays
from server.features.talks.models import Talk
from server.reaction import Occasion, Post, Reaction


async def tell_stays(occasion: Occasion, event: RoomUpdated | RoomClosed) -> Sequence[Post]:
    """Write down who came and went."""
    if event.kind is RoomKind.TALK:
        talk_id = await _talk_in(occasion.session, event.room_id)
        if talk_id is not None:
            await stays.tell(occasion.session, talk_id)
    return ()


async def close_listing(occasion: Occasion, event: RoomClosed) -> Sequence[Post]:
    """Take a closed talk out of the lists for good."""
    if event.kind is RoomKind.TALK:
        await occasion.session.execute(
            update(Talk)
            .where(Talk.room_id == event.room_id, Talk.closed_at.is_(None))
            .values(closed_at=occasion.at)
        )
    return ()


async def _talk_in(session: AsyncSession, room_id: UUID) -> UUID | None:
    return await session.scalar(select(Talk.id).where(Talk.room_id == room_id))


REACTIONS: dict[type[msgspec.Struct], tuple[Reaction, ...]] = {
    RoomUpdated: (tell_stays,),
    RoomClosed: (tell_stays, close_listing),
}
