"""The inbox of webhooks: what comes together is committed together, and nobody pays for another's trouble."""

import asyncio
import secrets
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import inbox
from rooms.inbox import Stored
from rooms.messages import Delivery, InboxChanged
from rooms.models import MediaEvent
from server.clock import Clock
from server.errors import OverloadedError
from server.webhooks.inbox import Inbox

Sessions = async_sessionmaker[AsyncSession]
ROOM = UUID(int=7)


class Told:
    """What an inbox told the rooms."""

    def __init__(self, sessions: Sessions) -> None:
        self.rooms: list[UUID] = []
        self.deliveries: list[tuple[Delivery, ...]] = []
        self.inbox = Inbox(sessions, tell=self._tell)

    def _tell(self, room_id: UUID, message: InboxChanged) -> None:
        self.rooms.append(room_id)
        self.deliveries.append(message.deliveries)


@pytest.fixture
def told(sessions: Sessions) -> Told:
    return Told(sessions)


def row(event_id: str = "", room_id: UUID | None = ROOM) -> Stored:
    at = Clock().now()
    return Stored(
        event_id=event_id or f"EV_{uuid4().hex}",
        room_id=room_id,
        generation=1,
        room_name="ft",
        room_sid=None,
        type="room_started",
        identity=None,
        participant_sid=None,
        counted=True,
        created_at=at,
        joined_at=None,
        reason=None,
        received_at=at,
        body=msgspec.Raw(b'{"a": 1}'),
    )


async def stored(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(MediaEvent)) or 0


async def test_what_comes_together_is_committed_together_and_told_once(
    told: Told, sessions: Sessions
) -> None:
    await asyncio.gather(*(told.inbox.store(row()) for _ in range(150)))

    async with sessions() as session:
        commits = await session.scalar(text("select count(distinct xmin::text) from media_event"))
    # The first commits alone, the others wait for it.
    assert commits == 2
    assert await stored(sessions) == 150
    assert told.rooms == [ROOM, ROOM]


async def test_a_room_is_told_what_is_new_in_the_order_in_which_it_happened(told: Told) -> None:
    first, second = row("EV_1"), row("EV_2")
    earlier = msgspec.structs.replace(row("EV_3"), created_at=second.created_at - timedelta(seconds=5))

    await asyncio.gather(*(told.inbox.store(one) for one in (first, second, earlier)))

    ids = [[delivery.event_id for delivery in deliveries] for deliveries in told.deliveries]
    assert ids == [["EV_1"], ["EV_3", "EV_2"]]


async def test_more_than_a_turn_takes_in_is_told_in_pages(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PAGE", 2)

    await asyncio.gather(*(told.inbox.store(row()) for _ in range(6)))

    assert [len(deliveries) for deliveries in told.deliveries] == [1, 2, 2, 1]


async def test_a_repeat_sends_the_room_to_its_rows(told: Told) -> None:
    await asyncio.gather(*(told.inbox.store(row(event_id)) for event_id in ("EV_1", "EV_2", "EV_1")))

    assert [len(deliveries) for deliveries in told.deliveries] == [1, 0]


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


async def _ended(told: Told, one: Stored) -> Exception | None:
    try:
        await told.inbox.store(one)
    except OverloadedError as error:
        return error
    return None
