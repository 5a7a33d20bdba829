"""Rooms at work, on a real database."""

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing.models import Outbox
from rooms import errors, journal, messages as m
from rooms.messages import PublicEvent, SeatStatus
from rooms.models import Room as RoomRow, RoomEvent, RoomSeat, RoomSnapshot, RoomTimer
from tests.rooms.kit import ANN, BEN, HOST, T0, Clock, create, lesson, person, registry, socket, talk

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


def join(who: m.Identity, *, queue: bool = False) -> m.Join:
    return m.Join(who, "Name", "member", socket(f"{who}/1"), queue)


async def count(sessions: Sessions, table: type, room_id: UUID) -> int:
    async with sessions() as session:
        found = await session.scalar(select(func.count()).where(table.room_id == room_id))  # type: ignore[attr-defined]
        return found or 0


async def test_join_is_committed_published_and_answered(sessions: Sessions, clock: Clock) -> None:
    published: list[PublicEvent] = []
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock, published=published) as rooms:
        reply = await rooms.ask(room_id, join(ANN))

    assert isinstance(reply, m.Joined)
    assert reply.seat.state is SeatStatus.CONNECTED
    assert [p.user_id for p in reply.room.participants] == [HOST, ANN]
    assert [(e.off, e.ev) for e in published[:2]] == [(3, "participant.joined"), (4, "room.updated")]
    async with sessions() as session:
        assert await journal.public_events(session, room_id, 2, 2) == published[:2]
        row = await session.get_one(RoomRow, room_id)
        assert (row.state, row.seated) == ("live", 2)
        types = list(await session.scalars(select(Outbox.type).order_by(Outbox.id)))
    assert types == ["room.published", "room.opened", "room.published", "room.updated"]
