"""The tables behind `user:` channels: offsets without gaps, epochs that stay, order under concurrency."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from server.gateway import history
from server.gateway.history import Draft, TableHistory
from server.reads import Reads
from tests.gateway.harness import client, serving

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def reader(sessions: Sessions) -> AsyncIterator[TableHistory]:
    reads = Reads(sessions)
    async with reads.running():
        yield TableHistory(sessions, reads)


def draft(channel: str, number: int = 0, ts: int = 1) -> Draft:
    return Draft(channel, "notification.created", ts, b'{"n":%d}' % number)


async def test_offsets_count_from_one_per_channel(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        first = await history.append(session, [draft("user:b"), draft("user:a"), draft("user:b")])
    async with sessions.begin() as session:
        second = await history.append(session, [draft("user:b")])

    assert [(channel, event.off) for channel, event in first] == [("user:b", 1), ("user:a", 1), ("user:b", 2)]
    assert [(channel, event.off) for channel, event in second] == [("user:b", 3)]


async def test_rolled_back_events_leave_no_gap(sessions: Sessions, reader: TableHistory) -> None:
    async with sessions() as session:
        await history.append(session, [draft("user:a")])
        await session.rollback()
    async with sessions.begin() as session:
        stored = await history.append(session, [draft("user:a", 7)])

    assert [event.off for _, event in stored] == [1]
    assert await reader.read("user:a", after=0, limit=10) == [event for _, event in stored]


async def test_nothing_appended_is_nothing(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        assert await history.append(session, []) == []


async def test_concurrent_writers_of_the_same_channels_neither_block_each_other_nor_leave_gaps(
    sessions: Sessions, reader: TableHistory
) -> None:
    channels = [f"user:{number}" for number in range(5)]

    async def write(turn: int) -> None:
        for number in range(10):
            async with sessions.begin() as session:
                order = channels if turn % 2 else channels[::-1]
                await history.append(session, [draft(channel, number) for channel in order])

    async with asyncio.TaskGroup() as tasks:
        for turn in range(4):
            tasks.create_task(write(turn))

    for channel in channels:
        assert [event.off for event in await reader.read(channel, after=0, limit=100)] == list(range(1, 41))
    assert {position.off for position in (await reader.heads(channels)).values()} == {40}


async def test_epoch_is_fixed_from_the_first_look_on(sessions: Sessions, reader: TableHistory) -> None:

    before = (await reader.heads(["user:new"]))["user:new"]
    async with sessions.begin() as session:
        await history.append(session, [draft("user:new")])
    after = (await reader.heads(["user:new"]))["user:new"]

    assert before.epoch == after.epoch
    assert (before.off, after.off) == (0, 1)


async def test_reading_begins_after_the_offset(sessions: Sessions, reader: TableHistory) -> None:
    async with sessions.begin() as session:
        await history.append(session, [draft("user:a", number) for number in range(10)])

    page = await reader.read("user:a", after=3, limit=4)

    assert [(event.off, event.d) for event in page] == [
        (4, b'{"n":3}'),
        (5, b'{"n":4}'),
        (6, b'{"n":5}'),
        (7, b'{"n":6}'),
    ]


async def test_what_is_forgotten_cannot_be_recovered_but_offsets_go_on(
    sessions: Sessions, reader: TableHistory, redis_url: str
) -> None:
    user = str(uuid.uuid4())
    channel = f"user:{user}"
    now = time.time_ns() // 1_000_000
    async with sessions.begin() as session:
        await history.append(
            session, [draft(channel, number, ts=10 if number < 3 else now) for number in range(5)]
        )
    async with sessions.begin() as session:
        forgotten = await history.forget(session, before_ms=20, limit=100)
    epoch = (await reader.heads([channel]))[channel].epoch

    async with serving(redis_url, extra={"user:": reader}) as node:
        views = []
        for off in (1, 3):
            async with client(node, token=user, since=[{"ch": channel, "epoch": epoch, "off": off}]) as one:
                views.append(one.connected["subs"][channel])

    assert forgotten == 3
    assert [view["recovered"] for view in views] == [False, True]
    assert [event["off"] for event in views[1]["events"]] == [4, 5]
