"""What the journal writes, on one connection and often."""

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import journal
from rooms.journal import Claim, Write
from rooms.messages import Evidence, Identity, RoomKind, RoomSpec
from rooms.models import EvidenceRow
from rooms.turn import Decision
from server.clock import Clock


async def test_stay_is_extended_any_number_of_times_on_one_connection(
    sessions: async_sessionmaker[AsyncSession], clock: Clock
) -> None:
    """PostgreSQL plans a prepared statement anew, without its parameters, after the fifth time."""
    start = clock.now()
    room_id, guest = uuid4(), Identity("guest")
    talk = RoomSpec(
        id=room_id,
        kind=RoomKind.TALK,
        title="Talk",
        cap=4,
        owner=guest,
        owner_name="Guest",
        evidence="socket",
    )
    async with sessions.begin() as session:
        state = await journal.create(session, talk, now=start, wall=start)

        for minute in range(20):
            until = start + timedelta(minutes=minute)
            stay = Evidence(kind="stay", at=start, identity=guest, session="1", until=until, source="socket")
            beat = (start, Decision(state, evidence=(stay,)))
            await journal.append(session, Claim(room_id, None, 0), Write(state, state, [beat], {}, {}))

        rows = await session.scalars(select(EvidenceRow).where(EvidenceRow.room_id == room_id))
        assert [row.until for row in rows] == [start + timedelta(minutes=19)]
