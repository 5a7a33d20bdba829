"""The inbox of webhooks: what comes together is committed together, and nobody pays for another's trouble."""

import asyncio
import secrets
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from rooms.messages import InboxChanged
from rooms.models import MediaEvent
from server.clock import Clock
from server.errors import OverloadedError
from server.webhooks.inbox import Inbox, Row

Sessions = async_sessionmaker[AsyncSession]
ROOM = UUID(int=7)


class Told:
    """What an inbox told the rooms."""

    def __init__(self, sessions: Sessions) -> None:
        self.rooms: list[UUID] = []
        self.inbox = Inbox(sessions, tell=self._tell)

    def _tell(self, room_id: UUID, message: InboxChanged) -> None:
        self.rooms.append(room_id)


@pytest.fixture
def told(sessions: Sessions) -> Told:
    return Told(sessions)


def row(event_id: str = "", room_id: UUID | None = ROOM) -> Row:
    at = Clock().now()
    values: dict[str, Any] = dict.fromkeys(("room_sid", "identity", "participant_sid", "joined_at", "reason"))
    return values | {
        "event_id": event_id or f"EV_{uuid4().hex}",
        "room_id": room_id,
        "generation": 1,
        "room_name": "ft",
        "type": "room_started",
        "counted": True,
        "created_at": at,
        "body": '{"a": 1}',
        "received_at": at,
    }


async def stored(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(MediaEvent)) or 0


async def test_what_comes_together_is_committed_together_and_told_once(
    told: Told, sessions: Sessions, engine: AsyncEngine
) -> None:
    commits: list[object] = []
    event.listen(engine.sync_engine, "commit", commits.append)

    await asyncio.gather(*(told.inbox.store(row()) for _ in range(150)))

    # The first commits alone, the others wait for it.
    assert len(commits) == 2
    assert await stored(sessions) == 150
    assert told.rooms == [ROOM, ROOM]


async def test_the_same_event_twice_in_one_commit_is_stored_once(told: Told, sessions: Sessions) -> None:
    await asyncio.gather(*(told.inbox.store(row("EV_1")) for _ in range(10)))

    assert await stored(sessions) == 1


async def test_every_room_hears_of_its_own_and_foreign_ones_of_nothing(told: Told) -> None:
    rooms: list[UUID | None] = [UUID(int=n) for n in range(20)]

    await asyncio.gather(*(told.inbox.store(row(room_id=room_id)) for room_id in [*rooms, None]))

    assert set(told.rooms) == set(rooms)


async def test_an_event_that_cannot_be_stored_takes_no_other_with_it(told: Told, sessions: Sessions) -> None:
    # Longer than what an index takes, and not to be compressed.
    poison = row(secrets.token_hex(10_000))

    ended = await asyncio.gather(
        *(told.inbox.store(one) for one in (row(), row(), poison, row())), return_exceptions=True
    )

    assert [type(one) for one in ended] == [type(None), type(None), OverloadedError, type(None)]
    assert await stored(sessions) == 3


async def test_those_whose_commit_was_cut_off_are_told_to_send_again(told: Told, sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("lock table media_event in access exclusive mode"))
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(told.inbox.store(row()))
            await asyncio.sleep(0)
            leader, follower = (tasks.create_task(_ended(told, one)) for one in (row("EV_1"), row("EV_2")))
            await asyncio.sleep(0)
            leader.cancel()
            assert isinstance(await follower, OverloadedError)
            await session.rollback()
        assert first.exception() is None
    await told.inbox.store(row("EV_2"))

    assert await stored(sessions) == 2


async def _ended(told: Told, one: Row) -> Exception | None:
    try:
        await told.inbox.store(one)
    except OverloadedError as error:
        return error
    return None
