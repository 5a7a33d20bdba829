"""Rooms survive their node: adoption, restarts, timers, the order of time."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import errors, messages as m, ownership
from rooms.messages import SeatStatus
from rooms.models import RoomEvent
from rooms.ownership import Leases
from rooms.registry import Registry
from tests.rooms.kit import (
    ANN,
    FAST,
    HOST,
    MINUTE,
    T0,
    Clock,
    create,
    doomed,
    eventually,
    lesson,
    outlived,
    registry,
    socket,
    talk,
)

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


def join(who: m.Identity) -> m.Join:
    return m.Join(who, "Name", "tutor" if who == HOST else "student", socket(f"{who}/1"))


def host_in_grace(snapshot: m.Snapshot) -> bool:
    return snapshot.participants[0].state is SeatStatus.GRACE


def host_connected(snapshot: m.Snapshot) -> bool:
    return snapshot.participants[0].state is SeatStatus.CONNECTED


async def test_a_killed_nodes_room_is_adopted(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    async with doomed(registry(sessions, clock, leases=FAST)) as first:
        await first.ask(room_id, join(HOST))
        said = await first.ask(room_id, m.SendChat(HOST, "hello", "key"))

    async with registry(sessions, clock) as second:
        took_s = await eventually(second, room_id, host_in_grace)
        second.tell(room_id, m.SocketsSeen("g", {HOST: (socket("new"),)}, clock.now()))
        await eventually(second, room_id, host_connected)
        again = await second.ask(room_id, m.SendChat(HOST, "hello", "key"))

    # Lease 2 s and look 0.1 s: the same arithmetic as 10 s and 2 s in production.
    assert took_s < 4
    assert again == said


async def test_two_nodes_that_claim_at_once_agree_on_one_owner(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    here, there = uuid4(), uuid4()
    async with sessions.begin() as session:
        for node_id in (here, there):
            await ownership.beat(session, node_id, "", ttl_s=10)

    async with sessions() as first, sessions() as second, asyncio.TaskGroup() as tasks:
        taken = await ownership.claim(first, room_id, here)
        waiting = tasks.create_task(ownership.claim(second, room_id, there))
        await blocked(sessions)
        await first.commit()

    assert isinstance(taken, ownership.Taken)
    assert waiting.result() == ownership.Elsewhere(here)


async def blocked(sessions: Sessions) -> None:
    """Wait until some transaction of this database waits for another."""
    waits = text(
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    async with asyncio.timeout(5), sessions() as session:
        while await session.scalar(waits) is None:
            await session.rollback()


async def test_a_living_nodes_room_stays_where_it_is(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    async with (
        registry(sessions, clock, leases=FAST) as first,
        registry(sessions, clock, leases=FAST) as second,
    ):
        await first.ask(room_id, join(HOST))

        await asyncio.sleep(FAST.ttl_s + 0.5)

        with pytest.raises(errors.OverloadedError):
            await second.ask(room_id, join(ANN))
        assert (await first.snapshot(room_id)).participants[0].state is SeatStatus.CONNECTED


async def test_a_restart_takes_its_rooms_over_at_once(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    async with doomed(registry(sessions, clock)) as first:
        await first.ask(room_id, join(HOST))

    await outlived(sessions)
    async with registry(sessions, clock) as second:
        reply = await second.ask(room_id, join(ANN))

    assert isinstance(reply, m.Joined)
    assert reply.room.participants[0].state is SeatStatus.GRACE


async def test_draining_hands_rooms_over(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    async with registry(sessions, clock) as first:
        await first.ask(room_id, join(HOST))

    async with registry(sessions, clock) as second:
        took_s = await eventually(second, room_id, host_in_grace)
    async with sessions() as session:
        nodes = await session.scalar(text("select count(*) from room_node"))

    assert took_s < 2
    assert nodes == 0


async def test_rooms_answer_all_the_while_their_node_drains(sessions: Sessions, clock: Clock) -> None:
    rooms = [await create(sessions, talk(), clock) for _ in range(10)]
    nodes: dict[UUID, Registry] = {}

    async def forward(node_id: UUID, room_id: UUID, payload: bytes) -> bytes:
        return await nodes[node_id].handle_forwarded(payload)

    async def talk_on(other: Registry, room_id: UUID, first: Registry) -> int:
        number = 0
        while first._actors or number == 0:
            await other.ask(room_id, m.SendChat(HOST, "on and on", f"key {number}"))
            number += 1
            await asyncio.sleep(0.01)
        return number

    async with registry(sessions, clock, forward=forward, leases=Leases(scan_s=3600)) as other:
        async with registry(sessions, clock) as first:
            nodes[first.node_id] = first
            for room_id in rooms:
                await first.ask(room_id, join(HOST))
            talkers = [asyncio.get_running_loop().create_task(talk_on(other, one, first)) for one in rooms]
            await asyncio.sleep(0)

        said = await asyncio.gather(*talkers)

        for room_id in rooms:
            await other.ask(room_id, m.SendChat(HOST, "here", "last"))
    assert min(said) >= 1
    async with sessions() as session:
        fences = await session.scalars(text("select fence from room_owner"))
        heard = await session.scalar(text("select count(*) from room_event where type = 'message_created'"))
    assert max(fences) == 2, "each room moved once"
    assert heard == sum(said) + len(rooms)


async def test_a_dead_nodes_rooms_are_adopted_page_after_page(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rooms.ownership.ADOPT_PAGE", 4)
    rooms = [await create(sessions, talk(), clock) for _ in range(11)]
    async with doomed(registry(sessions, clock)) as first:
        for room_id in rooms:
            await first.ask(room_id, join(HOST))
    await outlived(sessions)

    async with registry(sessions, clock, leases=Leases(scan_s=3600)) as second:
        await second._watch()

        assert second._actors.keys() == set(rooms)


async def test_only_the_predecessors_rooms_are_free_at_once(sessions: Sessions, clock: Clock) -> None:
    of_dead, of_living = [await create(sessions, talk(), clock) for _ in range(2)]
    async with registry(sessions, clock, leases=Leases(scan_s=3600)) as living:
        await living.ask(of_living, join(HOST))
        async with doomed(registry(sessions, clock)) as dead:
            await dead.ask(of_dead, join(HOST))

        async with registry(sessions, clock, predecessor=dead.node_id) as heir:
            assert isinstance(await heir.ask(of_dead, join(ANN)), m.Joined)
            with pytest.raises(errors.OverloadedError):
                await heir.ask(of_living, join(ANN))


async def test_a_node_without_lease_does_nothing(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock, leases=FAST) as rooms:
        await rooms.ask(room_id, join(HOST))
        monkeypatch.setattr("rooms.ownership.beat", refuse)
        await asyncio.sleep(FAST.pause_s + 0.5)

        with pytest.raises(errors.OverloadedError):
            await rooms.ask(room_id, join(ANN))


async def test_timers_go_on_after_a_restart(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(minutes=1), clock)
    clock.move_to(STARTS)
    async with doomed(registry(sessions, clock)) as first:
        await first.ask(room_id, join(HOST))
    clock.move_to(STARTS + 7 * MINUTE)

    await outlived(sessions)
    async with registry(sessions, clock) as second:
        await eventually(second, room_id, lambda snapshot: snapshot.state == "closing")
        snapshot = await second.snapshot(room_id)

    assert (snapshot.state, snapshot.reason) == ("closing", "ended")


async def test_an_advance_runs_what_is_due_in_order(sessions: Sessions, clock: Clock) -> None:
    late = await create(sessions, lesson(minutes=30), clock)
    early = await create(sessions, lesson(minutes=20), clock)
    clock.move_to(STARTS - MINUTE)
    until = STARTS + 60 * MINUTE

    async with registry(sessions, clock) as rooms:
        for room_id in (late, early):
            await rooms.ask(room_id, join(HOST))
        await rooms.run_due(until)
        assert await rooms.next_due(until) is None
    async with sessions() as session:
        query = select(RoomEvent.room_id, RoomEvent.type, RoomEvent.at).order_by(RoomEvent.recorded_at)
        kinds = RoomEvent.type.in_(["lesson_over", "room_closed"])
        happened = [tuple(row) for row in await session.execute(query.where(kinds))]

    over, freeze = timedelta(minutes=5), timedelta(seconds=90)
    assert happened == [
        (early, "lesson_over", STARTS + 20 * MINUTE + over),
        (early, "room_closed", STARTS + 20 * MINUTE + over + freeze),
        (late, "lesson_over", STARTS + 30 * MINUTE + over),
        (late, "room_closed", STARTS + 30 * MINUTE + over + freeze),
    ]


async def test_an_advance_leaves_the_wall_clock_alone(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        rooms.tell(room_id, m.SocketGone(ANN, socket(f"{ANN}/1")))
        await rooms.ask(room_id, m.UpdateRoom(HOST, "Later"))
        await rooms.run_due(T0 + timedelta(hours=2))
        snapshot = await rooms.snapshot(room_id)

    assert [p.state for p in snapshot.participants] == [SeatStatus.JOINING, SeatStatus.GRACE]


async def test_an_advance_counts_for_whoever_is_connected(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)
    clock.move_to(STARTS)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.run_due(STARTS + 30 * MINUTE)
        clock.move_to(STARTS + 30 * MINUTE)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert (view.scheduled_s, view.frozen) == (3600, False)
    (tutor,) = view.people
    assert 1795 <= tutor.attended_s <= 1800


async def refuse(*_: object) -> None:
    raise ConnectionResetError
