"""Turns of many rooms in one commit: shared by all who fit, felt by nobody else when one does not."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from billing.models import Outbox
from rooms import checks, errors, journal, messages as m
from rooms.journal import Claim, Write
from rooms.messages import PublicEvent
from rooms.models import RoomEvent, RoomSeat
from rooms.registry import Registry
from tests.rooms.kit import ANN, BEN, HOST, T0, Clock, create, registry, socket, talk

Sessions = async_sessionmaker[AsyncSession]

TAG = m.RoomPublished.__struct_config__.tag


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged. Rendering a traceback takes so long that rooms would miss their deadlines."""
    with capture_logs() as logs:
        yield logs


@asynccontextmanager
async def talking(sessions: Sessions, clock: Clock, count: int) -> AsyncIterator[tuple[Registry, list[UUID]]]:
    """A registry and so many talks in which Ann has a seat; nothing waits in the outbox."""
    rooms_ids = [await create(sessions, talk(), clock) for _ in range(count)]
    async with registry(sessions, clock) as rooms:
        for room_id in rooms_ids:
            await rooms.ask(room_id, m.Join(ANN, "Ann", "member", socket("ann/1")))
        async with sessions.begin() as session:
            await session.execute(text("delete from outbox"))
        yield rooms, rooms_ids


async def say(rooms: Registry, room_ids: Sequence[UUID], key: str | None = None) -> list[object]:
    """Say something in every room at once; return the answers, also those that are errors."""
    said = [rooms.ask(room_id, m.SendChat(ANN, "hello", key)) for room_id in room_ids]
    return list(await asyncio.gather(*said, return_exceptions=True))


async def messages(sessions: Sessions) -> dict[UUID, list[str]]:
    """What was said in each room, in order."""
    query = (
        select(RoomEvent.room_id, RoomEvent.data["text"].astext)
        .where(RoomEvent.type == "message_created")
        .order_by(RoomEvent.seq)
    )
    found = defaultdict(list)
    async with sessions() as session:
        for room_id, said in await session.execute(query):
            found[room_id].append(said)
    return dict(found)


async def spans(sessions: Sessions) -> list[list[UUID]]:
    """The rooms that each row of the outbox tells of."""
    async with sessions() as session:
        rows = await session.scalars(select(Outbox.data).where(Outbox.type == TAG).order_by(Outbox.id))
        events = [msgspec.convert(row, m.RoomPublished) for row in rows]
    return [[span.room_id for span in event.spans] for event in events]


async def seated(sessions: Sessions) -> set[tuple[UUID, m.Identity]]:
    """Everybody's seat but the hosts' and Ann's."""
    async with sessions() as session:
        query = select(RoomSeat.room_id, RoomSeat.identity).where(RoomSeat.identity.not_in([HOST, ANN]))
        return {(room_id, m.Identity(who)) for room_id, who in await session.execute(query)}


async def test_rooms_share_a_commit_and_a_row_of_the_outbox(sessions: Sessions, clock: Clock) -> None:
    async with talking(sessions, clock, 12) as (rooms, room_ids):
        answers = await say(rooms, room_ids)
        told = await spans(sessions)

    assert all(isinstance(answer, m.ChatMessage) for answer in answers)
    async with sessions() as session:
        moments = select(func.count(func.distinct(RoomEvent.recorded_at)))
        commits = await session.scalar(moments.where(RoomEvent.type == "message_created"))
    assert commits == len(told)
    assert len(told) <= 2
    assert sorted(room_id for rooms_told in told for room_id in rooms_told) == sorted(room_ids)


async def test_seats_timers_and_lists_share_a_commit_too(sessions: Sessions, clock: Clock) -> None:
    """Ben comes into every talk and leaves again; what the rows say is what the journal says."""
    ben = m.Join(BEN, "Ben", "member", socket("ben/1"))
    async with talking(sessions, clock, 6) as (rooms, room_ids):
        joined = await asyncio.gather(*(rooms.ask(room_id, ben) for room_id in room_ids))
        inside = await seated(sessions)
        await asyncio.gather(*(rooms.ask(room_id, m.Leave(BEN)) for room_id in room_ids[:3]))
        await asyncio.gather(*(rooms.ask(room_id, ben) for room_id in room_ids[:3]))
        await asyncio.gather(*(rooms.ask(room_id, m.Leave(BEN)) for room_id in room_ids[3:]))
        after = await seated(sessions)
        async with sessions() as session:
            found = await checks.retrace(session, every_room=True)

    assert all(isinstance(answer, m.Joined) for answer in joined)
    assert inside == {(room_id, BEN) for room_id in room_ids}
    assert after == {(room_id, BEN) for room_id in room_ids[:3]}
    assert list(found) == []


async def test_a_fenced_room_writes_nothing_and_keeps_nobody(sessions: Sessions, clock: Clock) -> None:
    async with talking(sessions, clock, 5) as (rooms, room_ids), registry(sessions, clock) as other:
        lost = room_ids[2]
        async with sessions.begin() as session:
            moved = text("update room_owner set node_id = :node, fence = fence + 1 where room_id = :room")
            await session.execute(moved, {"node": other.node_id, "room": lost})

        answers = await say(rooms, room_ids)
        told = await spans(sessions)

    assert isinstance(answers.pop(2), errors.OverloadedError)
    assert all(isinstance(answer, m.ChatMessage) for answer in answers)
    assert lost not in await messages(sessions)
    assert lost not in {room_id for rooms_told in told for room_id in rooms_told}


async def test_nobody_waits_for_the_fence_of_another_room(sessions: Sessions, clock: Clock) -> None:
    async with (
        talking(sessions, clock, 3) as (rooms, (first, locked, last)),
        asyncio.TaskGroup() as tasks,
        sessions.begin() as session,
    ):
        lock = text("select 1 from room_owner where room_id = :room for update")
        await session.execute(lock, {"room": locked})
        held_up = tasks.create_task(say(rooms, [locked]))
        answers = await say(rooms, [first, last])

        assert not held_up.done()

    assert all(isinstance(answer, m.ChatMessage) for answer in answers)
    assert isinstance(held_up.result()[0], m.ChatMessage)
    assert await messages(sessions) == {room_id: ["hello"] for room_id in (first, locked, last)}


@pytest.mark.parametrize("poison", [m.SendChat(ANN, "\ud800"), m.SendChat(ANN, "nul", key="\0")])
async def test_what_cannot_be_written_harms_no_other_room(
    sessions: Sessions, clock: Clock, poison: m.SendChat
) -> None:
    """One breaks while the statement is made, the other is refused by the database."""
    async with talking(sessions, clock, 4) as (rooms, (broken, *whole)):
        async with asyncio.TaskGroup() as tasks:
            failing = tasks.create_task(say_one(rooms, broken, poison))
            answers = await say(rooms, whole)
        after = await say(rooms, [broken])

    assert isinstance(failing.result(), Exception)
    assert all(isinstance(answer, m.ChatMessage) for answer in [*answers, *after])
    assert await messages(sessions) == {room_id: ["hello"] for room_id in [broken, *whole]}


async def say_one(rooms: Registry, room_id: UUID, command: m.SendChat) -> object:
    try:
        return await rooms.ask(room_id, command)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error


@pytest.mark.parametrize("was_made", [True, False])
async def test_a_commit_without_answer_is_found_out_by_the_next_try(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, was_made: bool
) -> None:
    append = journal.append_together

    async def unheard(connection: Any, node_id: UUID, writes: Sequence[tuple[Claim, Write]]) -> set[UUID]:
        if was_made:
            await append(connection, node_id, writes)
        raise ConnectionResetError

    async with talking(sessions, clock, 3) as (rooms, room_ids):
        monkeypatch.setattr(journal, "append_together", unheard)
        lost = await say(rooms, room_ids, key="k")
        certain = [rooms.here(room_id) for room_id in room_ids]
        monkeypatch.setattr(journal, "append_together", append)
        answers = await say(rooms, room_ids, key="k")

    assert {type(answer) for answer in lost} == {errors.UnknownOutcomeError}
    assert certain == [None] * 3  # only the database can say
    assert all(isinstance(answer, m.ChatMessage) for answer in answers)
    assert await messages(sessions) == {room_id: ["hello"] for room_id in room_ids}


async def test_rooms_in_hundreds_keep_their_order_whatever_happens_to_connections(
    sessions: Sessions, clock: Clock, *, full: bool
) -> None:
    """Connections are cut all the while. Everybody repeats with the same key what got no answer."""
    count, each = (100, 50) if full else (30, 12)
    shown: dict[UUID, list[PublicEvent]] = defaultdict(list)

    async with talking(sessions, clock, count) as (rooms, room_ids):
        for actor in rooms._actors.values():
            actor._around = msgspec.structs.replace(
                actor._around, publish=lambda room_id, events: shown[room_id].extend(events)
            )
        async with asyncio.TaskGroup() as tasks:
            cutting = tasks.create_task(cut_connections(sessions))
            async with asyncio.TaskGroup() as talkers:
                for room_id in room_ids:
                    talkers.create_task(talk_on(rooms, room_id, each))
            cutting.cancel()
        states = {room_id: rooms._actors[room_id].state for room_id in room_ids}

    assert await messages(sessions) == {room_id: [str(n) for n in range(each)] for room_id in room_ids}
    async with sessions() as session:
        await session.execute(text("delete from room_snapshot"))
        for room_id in room_ids:
            stored = await journal.public_events(session, room_id, 0, 10_000)
            assert [event.off for event in stored] == list(range(1, len(stored) + 1))
            assert await journal.load(session, room_id) == states[room_id]
            offs = [event.off for event in shown[room_id]]
            assert offs == sorted(set(offs))


async def talk_on(rooms: Registry, room_id: UUID, count: int) -> None:
    for n in range(count):
        for _ in range(100):
            try:
                await rooms.ask(room_id, m.SendChat(ANN, str(n), f"key {n}"))
                break
            except (errors.OverloadedError, errors.UnknownOutcomeError):
                await asyncio.sleep(0.01)
        else:
            raise AssertionError("nothing was answered")


async def cut_connections(sessions: Sessions) -> None:
    """End a random connection of the database, again and again."""
    others = text(
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    chance = random.Random(1)
    while True:
        try:
            async with sessions() as session:
                pids = list(await session.scalars(others))
                if pids:
                    end = text("select pg_terminate_backend(:pid)")
                    await session.execute(end, {"pid": chance.choice(pids)})
        except (SQLAlchemyError, OSError):
            pass  # its own connection was cut before
        await asyncio.sleep(0.05)
