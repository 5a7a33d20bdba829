"""A hundred thousand open rooms in one process: what each costs, and that none is walked over."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from rooms import journal, messages as m, wishes
from rooms.actor import Actor
from rooms.errors import RoomNotFoundError
from rooms.journal import Claim
from rooms.memory import Memory, fold, unfold
from rooms.messages import Identity, RoomKind
from rooms.ownership import Leases
from rooms.registry import Registry
from rooms.room import open_room
from rooms.state import State
from tests.conftest import FIGURES
from tests.rooms.kit import (
    ANN,
    BEN,
    CY,
    DEE,
    EVE,
    HOST,
    MINUTE,
    T0,
    Clock,
    Room,
    create,
    lesson,
    registry,
    talk,
)

Sessions = async_sessionmaker[AsyncSession]
KIB = 1024


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


@pytest.fixture
async def rooms(sessions: Sessions, clock: Clock) -> AsyncIterator[Registry]:
    async with registry(sessions, clock) as rooms:
        yield rooms


@contextmanager
def asked(engine: AsyncEngine, word: str) -> Iterator[list[str]]:
    """Write down the statements that have a word in them."""
    found: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if word in statement:
            found.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


def idle_state(clock: Clock) -> State:
    """A talk that everybody has left, as it is after loading: nothing in it is shared with another."""
    host = Identity(str(uuid4()))
    spec = m.RoomSpec(
        uuid4(), RoomKind.TALK, f"Coffee and verbs {host[:4]}", 4, host, f"Mai {host[:6]}", "socket"
    )
    opened = open_room(spec, epoch=uuid4().hex[:8], now=clock.now(), wall=clock.wall())
    room = Room(spec)
    room.state = opened.state
    room.now, room.wall = clock.now(), clock.wall()
    room.leave(host)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(room.state), type=State)


def keep_idle(rooms: Registry, clock: Clock, count: int) -> None:
    """Put rooms into a registry that have not been used for a while, and look after each as it does itself."""
    for _ in range(count):
        state = idle_state(clock)
        armed = wishes.timers(state, now=clock.now(), wall=clock.wall())
        claim = Claim(state.spec.id, rooms.node_id, 1)
        actor = rooms._actors[state.spec.id] = Actor(claim, state, armed, rooms._around)
        actor.used_at -= 60
        rooms._changed(actor)
        actor.fold()


@pytest.mark.timeout(600)
async def test_an_idle_room_has_no_task_and_less_than_one_kib(
    rooms: Registry, clock: Clock, full: bool, record_property: Callable[[str, object], None]
) -> None:
    keep_idle(rooms, clock, 10)
    tasks = len(asyncio.all_tasks())
    figures = []

    for count in (10_000, 40_000, 50_000) if full else (500, 500):
        gc.collect()
        tracemalloc.start()
        before, resident = tracemalloc.get_traced_memory()[0], _resident()
        keep_idle(rooms, clock, count)
        gc.collect()
        traced = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        figures.append((len(rooms._actors) - 10, traced, (_resident() - resident) / count))

    record_property(
        FIGURES,
        "; ".join(
            f"{n:,} rooms: {traced:.0f} B each (resident, with tracing: {rss:.0f} B)"
            for n, traced, rss in figures
        ),
    )
    assert all(traced < KIB for _, traced, _ in figures)
    assert len(asyncio.all_tasks()) == tasks
    assert all(actor.is_folded for actor in rooms._actors.values())


@pytest.mark.timeout(600)
async def test_a_message_costs_the_same_among_many_idle_rooms(
    sessions: Sessions, clock: Clock, full: bool, record_property: Callable[[str, object], None]
) -> None:
    counts, messages, idle_for_s = ((100, 1_000, 10_000, 100_000), 100, 5) if full else ((100, 500), 20, 0.3)
    # Looks as far apart as in production: those of a test come so often that they, not messages, would be measured.
    async with (
        registry(sessions, clock, leases=Leases()) as lonely,
        registry(sessions, clock, leases=Leases()) as rooms,
    ):
        made = {node: await create(sessions, talk(), clock) for node in (lonely, rooms)}
        for node, room_id in made.items():
            await node.ask(room_id, m.Join(ANN, "Ann", "member"))

        async def say(node: Registry) -> float:
            began = time.process_time()
            for n in range(messages):
                await node.ask(made[node], m.SendChat(ANN, f"Message {n}"))
            return (time.process_time() - began) / messages * 1e6

        for node in made:
            await say(node)
        figures = []
        tasks = len(asyncio.all_tasks())
        for count in counts:
            keep_idle(rooms, clock, count - len(rooms._actors) + 1)
            gc.collect()
            await asyncio.sleep(idle_for_s)  # what the messages before led to is done
            began = time.process_time()
            await asyncio.sleep(idle_for_s)
            idle = (time.process_time() - began) / idle_for_s
            # In turn with a node that has one room only: what neighbours do to the machine, both of them feel.
            rounds = [(await say(lonely), await say(rooms)) for _ in range(7)]
            said_us = median(among for _, among in rounds)
            ratio = median(among / alone for alone, among in rounds)
            figures.append(
                f"{count:,} rooms: idle {100 * idle:.2f} % of a core, message {said_us:.0f} us, "
                f"{ratio:.2f} of what it costs without them"
            )

        assert len(rooms._actors) > counts[-1]
        assert len(asyncio.all_tasks()) == tasks
    record_property(FIGURES, "; ".join(figures))


async def test_only_the_rooms_that_are_due_are_looked_after(rooms: Registry, clock: Clock) -> None:
    keep_idle(rooms, clock, 200)
    visited: list[UUID] = []
    rooms._look_after = lambda actor: not visited.append(actor.room_id)  # type: ignore[method-assign,func-returns-value]
    due = next(iter(rooms._actors.values()))
    rooms._agenda.visit(due, 0)

    await rooms._tick()

    assert visited == [due.room_id]


async def test_what_is_out_of_date_is_sorted_out_of_the_order(rooms: Registry, clock: Clock) -> None:
    keep_idle(rooms, clock, 1)
    [actor] = rooms._actors.values()
    visits = rooms._agenda._visits

    for n in range(10_000):
        rooms._agenda.visit(actor, -n)

    assert len(visits._heap) < 2_000
    assert rooms._agenda.visits() == [actor]


async def test_many_rooms_are_let_go_of_in_one_transaction(
    sessions: Sessions, engine: AsyncEngine, clock: Clock
) -> None:
    made = [await create(sessions, lesson(), clock) for _ in range(12)]

    async with registry(sessions, clock, rest_after_s=3600) as rooms:
        for room_id in made:
            await rooms.ask(room_id, m.UpdateRoom(HOST, "Other"))
        actors = list(rooms._actors.values())
        for actor in actors:
            await rooms._quiet(actor)
        with asked(engine, "set node_id = null") as released:
            rooms._send_to_rest(actors)
            await asyncio.sleep(0)
            # Who asks meanwhile waits for the end of it.
            opened_again = await rooms._open(made[0])
        awake = list(rooms._actors.values())
        snapshot = await rooms.snapshot(made[5])

    assert len(released) == 1
    assert awake == [opened_again]
    assert snapshot.title == "Other"


async def test_a_folded_room_goes_on_as_if_nothing_were(
    sessions: Sessions, rooms: Registry, clock: Clock
) -> None:
    room_id = await create(sessions, talk(), clock)
    await rooms.ask(room_id, m.Join(HOST, "Host", "host"))
    await rooms.ask(room_id, m.Join(ANN, "Ann", "member"))
    said = await rooms.ask(room_id, m.SendChat(ANN, "Hello", "key"))
    for who in (HOST, ANN):
        await rooms.ask(room_id, m.Leave(who))
    actor = rooms._actors[room_id]
    await rooms._quiet(actor)
    before = actor.state
    actor.used_at -= 60

    actor.fold()
    was_folded = actor.is_folded
    again = await rooms.ask(room_id, m.Join(ANN, "Ann", "member"))
    repeated = await rooms.ask(room_id, m.SendChat(ANN, "Hello", "key"))

    async with sessions() as session:
        stored = await journal.load(session, room_id)
    assert was_folded
    assert isinstance(again, m.Joined)
    assert repeated == said
    assert actor.state == stored
    assert before.lines == actor.state.lines


def test_whatever_a_room_knows_is_folded_and_unfolded_without_loss() -> None:
    room = Room(talk())
    for who in (HOST, ANN, BEN, CY):
        room.join(who)
    room.join(DEE, queue=True)
    room.send(m.SendChat(ANN, "Grüß dich, 你好", "key"))
    room.send(m.Kick(HOST, BEN, ban=True))
    room.join(EVE, queue=True)
    room.lose(ANN)
    room.wait(MINUTE)
    armed = wishes.timers(room.state, now=room.now, wall=room.wall)

    memory = Memory(room.state, armed, room.now)

    assert unfold(fold(memory)) == memory
    assert armed


async def test_a_room_with_people_in_it_is_not_folded(
    sessions: Sessions, rooms: Registry, clock: Clock
) -> None:
    room_id = await create(sessions, talk(), clock)
    await rooms.ask(room_id, m.Join(ANN, "Ann", "member"))
    actor = rooms._actors[room_id]
    actor.used_at -= 60

    actor.fold()

    assert not actor.is_folded


async def test_however_many_ask_what_a_room_is_the_database_is_asked_once(
    sessions: Sessions, engine: AsyncEngine, rooms: Registry, clock: Clock
) -> None:
    room_id = await create(sessions, talk(), clock)

    with asked(engine, "room.owner") as questions:
        found = await asyncio.gather(*(rooms.nature(room_id) for _ in range(200)))
        later = await rooms.nature(room_id)

    assert {*found, later} == {journal.Nature(RoomKind.TALK, HOST)}
    assert len(questions) == 1
    with pytest.raises(RoomNotFoundError):
        await rooms.nature(uuid4())


async def test_news_that_is_told_often_is_read_once(
    sessions: Sessions, engine: AsyncEngine, rooms: Registry, clock: Clock
) -> None:
    room_id = await create(sessions, talk(), clock)
    await rooms.ask(room_id, m.Join(ANN, "Ann", "member"))
    actor = rooms._actors[room_id]
    await rooms._quiet(actor)

    with asked(engine, "ORDER BY media_event.created_at") as reads:
        for _ in range(100):
            rooms.tell(room_id, m.InboxChanged())
        await rooms._quiet(actor)

    assert len(reads) == 1


def _resident() -> int:
    fields: list[Any] = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096
