"""Webhooks from the row to the room: handed over or read, in any order and however often, the result is the same."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from rooms import inbox, journal, messages as m
from rooms.actor import Actor
from rooms.attendance import Known
from rooms.inbox import Stored
from rooms.media import room_name
from rooms.messages import Identity, SeatStatus
from rooms.ownership import Leases
from rooms.registry import Registry
from tests.rooms.kit import (
    ANN,
    BEN,
    HOST,
    MINUTE,
    SECOND,
    T0,
    Clock,
    create,
    doomed,
    lesson,
    outlived,
    registry,
)

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE


@pytest.fixture
def clock() -> Clock:
    return Clock(STARTS)


@pytest.fixture
async def room_id(sessions: Sessions, clock: Clock) -> UUID:
    return await create(sessions, lesson(evidence="livekit"), clock)


def webhook(room_id: UUID, kind: str, who: Identity, at: datetime, sid: str = "") -> Stored:
    return Stored(
        event_id=f"EV_{uuid4().hex}",
        room_id=room_id,
        generation=1,
        room_name=room_name(room_id, 1),
        room_sid="RM_1",
        type=kind,
        identity=who,
        participant_sid=sid or f"PA_{who}",
        counted=True,
        created_at=at,
        joined_at=None,
        reason="CLIENT_INITIATED" if kind == "participant_left" else None,
        received_at=at,
    )


async def store(engine: AsyncEngine, webhooks: Sequence[Stored]) -> set[str]:
    """Store webhooks as the edge does."""
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, asyncpg.Connection)
        return await inbox.store(raw, webhooks)


async def hand_over(rooms: Registry, room_id: UUID, *webhooks: Stored) -> None:
    """Tell the room what webhooks say, and wait until it has taken it in."""
    rooms.tell(room_id, m.InboxChanged(tuple(inbox.in_order(webhooks))))
    await settled(rooms, room_id)


async def settled(rooms: Registry, room_id: UUID) -> Actor:
    await rooms._open(room_id)
    actor = rooms._actors[room_id]
    await rooms._quiet(actor)
    return actor


async def rows(sessions: Sessions, query: str) -> list[tuple[object, ...]]:
    async with sessions() as session:
        return [tuple(row) for row in await session.execute(text(query))]


def join(who: Identity) -> m.Join:
    return m.Join(who, "Name", "tutor" if who == HOST else "student", None)


async def test_a_repeat_is_not_stored_again_and_only_what_is_new_is_told(
    engine: AsyncEngine, room_id: UUID
) -> None:
    first, second = (webhook(room_id, "participant_joined", who, STARTS) for who in (HOST, ANN))

    stored = [await store(engine, page) for page in ([first], [second, first, second])]

    assert stored == [{first.event_id}, {second.event_id}]


async def test_what_is_taken_in_is_marked_by_the_commit_that_keeps_it(
    engine: AsyncEngine, sessions: Sessions, clock: Clock, room_id: UUID
) -> None:
    webhooks = [webhook(room_id, "participant_joined", who, STARTS) for who in (HOST, ANN)]
    webhooks.append(webhook(room_id, "track_unpublished", HOST, STARTS))

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.ask(room_id, join(ANN))
        await store(engine, webhooks)
        await hand_over(rooms, room_id, *webhooks)
        seats = rooms._actors[room_id].state.seats

    assert {seat.status for seat in seats.values()} == {SeatStatus.CONNECTED}
    marked = await rows(sessions, "select distinct xmin::text from media_event where read_at is not null")
    assert marked == await rows(sessions, "select distinct xmin::text from evidence where ref is not null")
    assert await rows(sessions, "select count(*) from media_event where read_at is null") == [(0,)]


async def test_webhooks_of_many_rooms_share_a_commit(
    engine: AsyncEngine, sessions: Sessions, clock: Clock
) -> None:
    ids = [await create(sessions, lesson(evidence="livekit"), clock) for _ in range(5)]
    webhooks = [webhook(room_id, "participant_joined", HOST, STARTS, f"PA_{room_id}") for room_id in ids]

    async with registry(sessions, clock) as rooms:
        for room_id in ids:
            await rooms.ask(room_id, join(HOST))
            await settled(rooms, room_id)
        await store(engine, webhooks)
        for room_id, came in zip(ids, webhooks, strict=True):
            rooms.tell(room_id, m.InboxChanged((inbox.delivery(came),)))
        for room_id in ids:
            await settled(rooms, room_id)

    assert await rows(sessions, "select count(*), count(distinct xmin::text) from evidence") == [(5, 1)]


async def test_a_look_at_attendance_asks_the_database_nothing_from_the_second_on(
    engine: AsyncEngine, sessions: Sessions, clock: Clock, room_id: UUID
) -> None:
    came, track = (webhook(room_id, kind, HOST, STARTS) for kind in ("participant_joined", "track_published"))

    async with registry(sessions, clock, leases=Leases(scan_s=60.0, beat_s=60.0, pause_s=60.0)) as rooms:
        await rooms.ask(room_id, join(HOST))
        await store(engine, [came, track])
        await hand_over(rooms, room_id, came)
        await hand_over(rooms, room_id, track)
        asked: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        rooms.tell(room_id, m.TimerDue("look"))
        await settled(rooms, room_id)
        asked_by_look = list(asked)

    assert asked_by_look == []


async def test_what_was_taken_in_before_is_not_taken_in_again(
    engine: AsyncEngine, sessions: Sessions, clock: Clock, room_id: UUID
) -> None:
    came = webhook(room_id, "participant_joined", HOST, STARTS)
    went = webhook(room_id, "participant_left", HOST, STARTS + MINUTE)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await store(engine, [came, went])
        async with sessions.begin() as session:
            await inbox.give_up(session, [went.event_id])
        await hand_over(rooms, room_id, came, went)
        seats = rooms._actors[room_id].state.seats

    assert seats[HOST].status is SeatStatus.CONNECTED
    assert await rows(sessions, "select kind, ref from evidence") == [("joined", came.event_id)]


async def test_more_than_a_turn_takes_in_comes_with_the_next(
    engine: AsyncEngine, sessions: Sessions, clock: Clock, room_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PAGE", 2)
    tracks = [webhook(room_id, "track_published", HOST, STARTS + n * SECOND) for n in range(5)]

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await store(engine, tracks)
        for track in tracks:
            rooms.tell(room_id, m.InboxChanged((inbox.delivery(track),)))
        await settled(rooms, room_id)

    assert await rows(sessions, "select count(*), count(read_at) from media_event") == [(5, 5)]
    assert await rows(sessions, "select count(*) from evidence") == [(5,)]


def story(room_id: UUID, dice: random.Random) -> list[Stored]:
    """What a media server tells of three people who come and go, some of it twice and in any order."""
    told: list[Stored] = []
    for who in (HOST, ANN, BEN):
        clock = STARTS + dice.randrange(60) * SECOND
        for number in range(dice.randint(1, 4)):
            sid = f"PA_{who}_{number}"
            told.append(webhook(room_id, "participant_joined", who, clock, sid))
            told.append(webhook(room_id, "track_published", who, clock + 2 * SECOND, sid))
            clock += dice.randint(5, 300) * SECOND
            if dice.random() < 0.8:
                told.append(webhook(room_id, "participant_left", who, clock, sid))
            clock += dice.randint(1, 60) * SECOND
    told += dice.sample(told, len(told) // 3)
    dice.shuffle(told)
    return told


async def deliver(
    engine: AsyncEngine, rooms: Registry, room_id: UUID, told: Sequence[Stored], dice: random.Random
) -> None:
    """Store webhooks a few at a time; the room is handed them, sent to its rows, told twice or not at all."""
    left = list(told)
    while left:
        page, left = left[: (size := dice.randint(1, 5))], left[size:]
        new = await store(engine, page)
        handed = {one.event_id: one for one in page if one.event_id in new}
        word = m.InboxChanged(tuple(inbox.in_order(handed.values())))
        for signal in dice.choice([[word], [word, word], [m.InboxChanged(), word], [m.InboxChanged()], []]):
            rooms.tell(room_id, signal)
            if dice.random() < 0.3:
                rooms.tell(room_id, m.TimerDue("look"))
            if dice.random() < 0.5:
                await asyncio.sleep(0)
        if dice.random() < 0.3:
            await settled(rooms, room_id)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_order_repeats_and_crashes_what_is_known_equals_the_rows(
    engine: AsyncEngine, sessions: Sessions, clock: Clock, room_id: UUID, seed: int, full: bool
) -> None:
    for seed_ in range(seed, 100 if full else seed + 1, 3):
        await _live_through(engine, sessions, clock, random.Random(seed_))


async def _live_through(engine: AsyncEngine, sessions: Sessions, clock: Clock, dice: random.Random) -> None:
    clock.move_to(STARTS)
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    told = story(room_id, dice)
    first, second = sorted(dice.sample(range(len(told)), 2))

    async with doomed(registry(sessions, clock)) as rooms:
        for who in (HOST, ANN, BEN):
            await rooms.ask(room_id, join(who))
        await deliver(engine, rooms, room_id, told[:first], dice)
    await store(engine, told[first:second])
    await outlived(sessions)
    async with registry(sessions, clock) as rooms:
        await deliver(engine, rooms, room_id, told[second:], dice)
        await asyncio.sleep(0)
        rooms.tell(room_id, m.InboxChanged())
        rooms.tell(room_id, m.TimerDue("look"))
        actor = await settled(rooms, room_id)
        known, state = actor._known, actor.state

    async with sessions() as session:
        evidence = await journal.evidence_of(session, room_id)
        replayed = await journal.load(session, room_id)
    refs = Counter(fact.ref for fact in evidence if fact.ref is not None)
    assert refs == Counter({one.event_id for one in told})
    assert state == replayed
    assert known is not None
    assert attended(known) == attended(Known(evidence))


def attended(known: Known) -> object:
    ends_at = STARTS + 60 * MINUTE
    return known.attendance(provider="livekit", starts_at=STARTS, ends_at=ends_at, until=STARTS + 30 * MINUTE)
