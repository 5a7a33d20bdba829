"""Who was in a talk and when, told from its room's journal."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from server.features.talks.models import Talk, TalkStay

# Any number of talks at once. Their rows are locked in sorted order, so that two who tell of the same talks cannot wait
# for each other; whoever waits finds `read_to` where the other has left it, and adds what is new, if anything is.
_TELL = text("""
    with told as materialized (
        select id, room_id, read_to from talk
        where room_id = any(cast(:room_ids as uuid[]))
        order by id for no key update
    ), news as materialized (
        select t.id as talk_id, e.seq, e.type, e.at, cast(e.data ->> 'generation' as bigint) as generation,
            cast(e.data ->> 'identity' as uuid) as user_id,
            e.type <> 'seat_freed' and e.data ->> 'status' = 'connected' as is_inside
        from told t
        join room_event e on e.room_id = t.room_id and e.seq > t.read_to
            and e.type in ('seat_taken', 'seat_changed', 'seat_freed')
    ), kept as (
        insert into talk_stay as stay (talk_id, seat_generation, user_id, taken_at, joined_at, left_at)
        select talk_id, generation, user_id, min(at), min(at) filter (where is_inside),
            max(at) filter (where type = 'seat_freed')
        from news
        group by talk_id, generation, user_id
        on conflict (talk_id, seat_generation) do update
        set joined_at = coalesce(stay.joined_at, excluded.joined_at), left_at = excluded.left_at
    )
    update talk set read_to = newest.seq
    from (select talk_id, max(seq) as seq from news group by talk_id) newest
    where talk.id = newest.talk_id
""")


async def tell(session: AsyncSession, room_ids: Collection[UUID]) -> None:
    """Bring the stays of talks up to date with what their rooms' journals say; repeating it changes nothing."""
    if room_ids:
        await session.execute(_TELL, {"room_ids": list(room_ids)})


async def tell_open(session: AsyncSession, user_id: UUID) -> None:
    """Bring the talks in which somebody has a seat up to date."""
    open_talks = (
        select(Talk.room_id)
        .join(TalkStay, TalkStay.talk_id == Talk.id)
        .where(TalkStay.user_id == user_id, TalkStay.left_at.is_(None))
        .distinct()
    )
    await tell(session, (await session.scalars(open_talks)).all())
