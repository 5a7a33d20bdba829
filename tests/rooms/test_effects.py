"""What rooms have done outside, by a media server that fails."""

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import messages as m
from rooms.media import MediaUnavailableError
from rooms.messages import Identity, Presence
from rooms.models import EvidenceRow
from tests.rooms.kit import HOST, MINUTE, T0, Clock, create, lesson, registry, socket

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE


@pytest.fixture
def clock() -> Clock:
    return Clock(STARTS)


class Dying:
    """A media server that makes its rooms and then answers nothing any more."""

    async def ensure_room(self, name: str, *, cap: int) -> None:
        return

    async def poll(self, name: str) -> tuple[Presence, ...] | None:
        raise MediaUnavailableError("ListRooms", "dead")

    async def remove(self, name: str, identity: Identity) -> None:
        raise MediaUnavailableError("RemoveParticipant", "dead")

    async def delete_room(self, name: str) -> None:
        raise MediaUnavailableError("DeleteRoom", "dead")


async def test_nobody_is_paid_for_the_time_after_the_media_server_died(
    sessions: Sessions, clock: Clock
) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    joined = m.Evidence("joined", STARTS, HOST, "PA_1", ref="EV_1")

    async with registry(sessions, clock, media=Dying()) as rooms:
        await rooms.ask(room_id, m.Join(HOST, "Name", "tutor", socket("1")))
        assert await rooms.media_ready(room_id)
        rooms.tell(room_id, m.MediaChanged(joined))
        await rooms.run_due(STARTS + 10 * MINUTE)
        clock.move_to(STARTS + 10 * MINUTE)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert {p.user_id: p.attended_s for p in view.people} == {HOST: 0}
    async with sessions() as session:
        query = select(EvidenceRow).where(EvidenceRow.kind == "outage")
        outages = list(await session.scalars(query))
    assert outages
    assert all(row.source == "media" and row.at == row.until for row in outages)
