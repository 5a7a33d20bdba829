"""Who was in a talk and when, told from its room's journal."""

from uuid import UUID

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from rooms.messages import SeatChanged, SeatFreed, SeatStatus, SeatTaken
from rooms.models import RoomEvent
from server.features.talks.models import Talk, TalkStay

SeatEvent = SeatTaken | SeatChanged | SeatFreed
_TYPES = tuple(str(event.__struct_config__.tag) for event in (SeatTaken, SeatChanged, SeatFreed))


async def tell(session: AsyncSession, talk_id: UUID) -> None:
    """Bring the stays of a talk up to date with what its room's journal says; repeating it changes nothing."""
    talk = await session.scalar(
        select(Talk)
        .where(Talk.id == talk_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if talk is None:
        return
    events = await session.scalars(
        select(RoomEvent)
        .where(RoomEvent.room_id == talk.room_id, RoomEvent.seq > talk.read_to, RoomEvent.type.in_(_TYPES))
        .order_by(RoomEvent.seq)
    )
    for event in events:
        await _apply(session, talk.id, event)
        talk.read_to = event.seq


async def tell_open(session: AsyncSession, user_id: UUID) -> None:
    """Bring the talks in which somebody has a seat up to date."""
    open_talks = await session.scalars(
        select(TalkStay.talk_id).where(TalkStay.user_id == user_id, TalkStay.left_at.is_(None)).distinct()
    )
    for talk_id in sorted(open_talks):
        await tell(session, talk_id)


async def _apply(session: AsyncSession, talk_id: UUID, row: RoomEvent) -> None:
    event: SeatEvent = msgspec.convert(row.data, SeatEvent)
    stay = (TalkStay.talk_id == talk_id, TalkStay.seat_generation == event.generation)
    is_inside = not isinstance(event, SeatFreed) and event.status is SeatStatus.CONNECTED
    match event:
        case SeatTaken():
            values = {
                "talk_id": talk_id,
                "seat_generation": event.generation,
                "user_id": UUID(event.identity),
                "taken_at": row.at,
                "joined_at": row.at if is_inside else None,
            }
            await session.execute(insert(TalkStay).values(values).on_conflict_do_nothing())
        case SeatChanged() if is_inside:
            first = (*stay, TalkStay.joined_at.is_(None))
            await session.execute(update(TalkStay).where(*first).values(joined_at=row.at))
        case SeatFreed():
            await session.execute(update(TalkStay).where(*stay).values(left_at=row.at))
        case SeatChanged():
            pass
