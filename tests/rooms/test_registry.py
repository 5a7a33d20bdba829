"""Rooms at work, on a real database."""

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from billing.models import Outbox
from rooms import errors, journal, messages as m
from rooms.actor import rest
from rooms.messages import PublicEvent, SeatStatus
from rooms.models import Room as RoomRow, RoomEvent, RoomSeat, RoomSnapshot, RoomTimer
from rooms.registry import Registry
from tests.rooms.kit import (
    ANN,
    BEN,
    HOST,
    T0,
    Clock,
    create,
    eventually,
    lesson,
    person,
    registry,
    socket,
    talk,
)

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged. Rendering a traceback takes so long that rooms would miss their deadlines."""
    with capture_logs() as logs:
        yield logs


def join(who: m.Identity, *, queue: bool = False) -> m.Join:
    return m.Join(who, "Name", "member", socket(f"{who}/1"), queue)


async def count(sessions: Sessions, table: type[RoomEvent | RoomSeat | RoomTimer], room_id: UUID) -> int:
    async with sessions() as session:
        query = select(func.count()).select_from(table).where(table.room_id == room_id)
        return await session.scalar(query) or 0


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


async def test_an_unknown_room_is_not_found(sessions: Sessions, clock: Clock) -> None:
    async with registry(sessions, clock) as rooms:
        with pytest.raises(errors.RoomNotFoundError):
            await rooms.ask(uuid4(), join(ANN))
        with pytest.raises(errors.RoomNotFoundError):
            await rooms.snapshot(uuid4())


async def test_a_hundred_at_once_never_exceed_the_cap(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        asked = [rooms.ask(room_id, join(person(n))) for n in range(2, 102)]
        answers = await asyncio.gather(*asked, return_exceptions=True)

    seated = [a for a in answers if isinstance(a, m.Joined)]
    assert len(seated) == 3
    assert sum(isinstance(a, errors.RoomFullError) for a in answers) == 97
    assert await count(sessions, RoomSeat, room_id) == 4


async def test_waiting_messages_share_a_transaction(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        said = [rooms.ask(room_id, m.SendChat(ANN, str(n), f"k{n}")) for n in range(50)]
        replies = await asyncio.gather(*said)

    assert [r.text for r in replies if isinstance(r, m.ChatMessage)] == [str(n) for n in range(50)]
    async with sessions() as session:
        said_at = select(func.count(func.distinct(RoomEvent.recorded_at)))
        query = said_at.where(RoomEvent.room_id == room_id, RoomEvent.type == "message_created")
        transactions = await session.scalar(query)
    assert transactions is not None
    assert transactions <= 3


async def test_a_full_lane_refuses_at_once(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        said = [rooms.ask(room_id, m.SendChat(ANN, str(n))) for n in range(400)]
        answers = await asyncio.gather(*said, return_exceptions=True)

    refused = [a for a in answers if isinstance(a, errors.OverloadedError)]
    accepted = [a for a in answers if isinstance(a, m.ChatMessage)]
    assert len(accepted) == 256
    assert len(refused) == 144
    async with sessions() as session:
        _, off = await journal.head(session, room_id)
    assert off == 4 + 256


async def test_offsets_have_no_gaps(sessions: Sessions, clock: Clock) -> None:
    published: list[PublicEvent] = []
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock, published=published) as rooms:
        for who in (ANN, BEN):
            await rooms.ask(room_id, join(who))
            rooms.tell(room_id, m.SocketGone(who, socket(f"{who}/1")))
        await rooms.ask(room_id, m.Leave(BEN))
        async with sessions() as session:
            stored = await journal.public_events(session, room_id, 0, 100)

    assert [e.off for e in stored] == list(range(1, len(stored) + 1))
    assert stored[2:] == published


async def test_a_long_journal_is_read_from_its_snapshot(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        for start in range(0, 250, 50):
            said = [rooms.ask(room_id, m.SendChat(ANN, str(n))) for n in range(start, start + 50)]
            await asyncio.gather(*said)
        seq = None
        async with asyncio.timeout(5):
            while seq is None:  # it is written after everybody was answered
                await asyncio.sleep(0.01)
                async with sessions() as session:
                    seq = await session.scalar(select(RoomSnapshot.seq))
        async with sessions() as session:
            # It is written after everybody was answered.
            while (seq := await session.scalar(select(RoomSnapshot.seq))) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            from_snapshot = await journal.load(session, room_id)
            await session.execute(text("delete from room_snapshot"))
            from_events = await journal.load(session, room_id)

    assert 200 <= seq < from_events.seq
    assert from_snapshot == from_events


async def test_a_stale_owner_writes_nothing(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as stale, registry(sessions, clock) as owner:
        await stale.ask(room_id, join(ANN))
        async with sessions.begin() as session:
            moved = text("update room_owner set node_id = :node, fence = fence + 1 where room_id = :room")
            await session.execute(moved, {"node": owner.node_id, "room": room_id})
        await owner.ask(room_id, join(BEN))
        before = await count(sessions, RoomEvent, room_id)

        with pytest.raises(errors.OverloadedError):
            await stale.ask(room_id, m.SendChat(ANN, "from the past"))

        assert await count(sessions, RoomEvent, room_id) == before


async def test_a_room_of_another_node_is_asked_there(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(cap=2), clock)
    nodes: dict[UUID, Registry] = {}

    async def forward(node_id: UUID, room_id: UUID, payload: bytes) -> bytes:
        return await nodes[node_id].handle_forwarded(payload)

    async with registry(sessions, clock) as owner, registry(sessions, clock, forward=forward) as other:
        nodes[owner.node_id] = owner
        await owner.ask(room_id, join(HOST))

        reply = await other.ask(room_id, join(ANN))
        with pytest.raises(errors.RoomFullError) as refused:
            await other.ask(room_id, join(BEN))
        other.tell(room_id, m.SocketGone(ANN, socket(f"{ANN}/1")))
        await eventually(other, room_id, lambda shown: shown.participants[1].state is SeatStatus.GRACE)
        snapshot = await other.snapshot(room_id)

    assert isinstance(reply, m.Joined)
    assert refused.value.facts == {"cap": 2}
    assert snapshot.participants[1].state is SeatStatus.GRACE


async def test_a_node_nobody_can_reach_is_overloaded(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async def forward(node_id: UUID, room_id: UUID, payload: bytes) -> bytes:
        raise ConnectionRefusedError

    async with registry(sessions, clock) as owner, registry(sessions, clock, forward=forward) as other:
        await owner.ask(room_id, join(HOST))

        with pytest.raises(errors.OverloadedError):
            await other.ask(room_id, join(ANN))


async def test_a_poisonous_message_harms_nobody_else(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    room_id = await create(sessions, talk(), clock)
    poison(monkeypatch)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        said = [rooms.ask(room_id, m.SendChat(ANN, text)) for text in ("one", "poison", "two")]
        answers = await asyncio.gather(*said, return_exceptions=True)

    assert [a.text for a in answers if isinstance(a, m.ChatMessage)] == ["one", "two"]
    assert isinstance(answers[1], ZeroDivisionError)
    async with sessions() as session:
        letters = (await session.execute(text("select message->>'text', error from room_dead_letter"))).all()
    assert letters == [("poison", "ZeroDivisionError: poison")]


async def test_a_room_that_keeps_failing_is_quarantined(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    room_id = await create(sessions, talk(), clock)
    poison(monkeypatch)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await rooms.ask(room_id, m.SendChat(ANN, "poison"))

        with pytest.raises(errors.OverloadedError):
            await rooms.ask(room_id, m.SendChat(ANN, "one"))
        snapshot = await rooms.snapshot(room_id)

    assert len(snapshot.participants) == 2
    assert "room_quarantined" in {entry["event"] for entry in logs}


@pytest.mark.parametrize("command", [m.SendChat(ANN, "once"), m.Kick(HOST, ANN, ban=True)])
async def test_without_database_nothing_is_applied(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, command: m.Command
) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        with monkeypatch.context() as patch:
            patch.setattr(journal, "append", refuse)
            patch.setattr("rooms.held.HeldConnection.open", refuse)
            with pytest.raises(errors.OverloadedError):
                await rooms.ask(room_id, command)
            rooms.tell(room_id, m.SocketGone(ANN, socket(f"{ANN}/1")))

        reply = await rooms.ask(room_id, m.SendChat(ANN, "kept"))
        snapshot = await rooms.snapshot(room_id)

    assert isinstance(reply, m.ChatMessage)
    assert snapshot.participants[1].state is SeatStatus.GRACE
    assert snapshot.off == 6


async def test_a_commit_without_answer_may_have_happened(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a turn with a commit of its own; those that share one are in `test_commits`."""
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        commit = AsyncSession.commit

        async def commit_unheard(session: AsyncSession) -> None:
            await commit(session)
            raise ConnectionResetError

        monkeypatch.setattr(AsyncSession, "commit", commit_unheard)
        with pytest.raises(errors.UnknownOutcomeError):
            await rooms.ask(room_id, m.Kick(HOST, ANN, ban=True))
        monkeypatch.setattr(AsyncSession, "commit", commit)
        with pytest.raises(errors.BannedError):
            await rooms.ask(room_id, join(ANN))

    kicked = "select count(*) from room_event where type = 'kicked'"
    async with sessions() as session:
        assert await session.scalar(text(kicked)) == 1


async def test_an_asker_hears_from_wherever_the_room_is(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)
    nodes: dict[UUID, Registry] = {}

    async def forward(node_id: UUID, room_id: UUID, payload: bytes) -> bytes:
        return await nodes[node_id].handle_forwarded(payload)

    # Both can forward: whichever looks first after the rest takes the room.
    async with (
        registry(sessions, clock, forward=forward) as owner,
        registry(sessions, clock, forward=forward) as other,
    ):
        nodes |= {owner.node_id: owner, other.node_id: other}
        first = await put(owner, room_id, join(ANN))
        second = await put(owner, room_id, m.SendChat(ANN, "here"))
        third = await put(other, room_id, m.SendChat(ANN, "from elsewhere"))
        await rest([owner._actors[room_id]])
        fourth = await put(owner, room_id, m.SendChat(ANN, "after a rest"))
        with pytest.raises(errors.SeatExpiredError):
            await put(owner, room_id, m.SendChat(BEN, "from outside"))

    assert isinstance(first, m.Joined)
    texts = [reply.text for reply in (second, third, fourth) if isinstance(reply, m.ChatMessage)]
    assert texts == ["here", "from elsewhere", "after a rest"]


async def test_history_keeps_no_text_of_a_deleted_message(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        await rooms.ask(room_id, m.SendChat(ANN, "stays"))
        said = await rooms.ask(room_id, m.SendChat(ANN, "goes"))
        assert isinstance(said, m.ChatMessage)
        await rooms.ask(room_id, m.EditChat(ANN, said.id, "goes too"))
        await rooms.ask(room_id, m.DeleteChat(ANN, said.id))
        snapshot = await rooms.snapshot(room_id)
    async with sessions() as session:
        events = await journal.public_events(session, room_id, 0, 100)

    assert [event.off for event in events] == list(range(1, snapshot.off + 1))
    chat = [(e.ev, msgspec.json.decode(e.data).get("text")) for e in events if e.ev.startswith("message.")]
    assert chat == [
        ("message.created", "stays"),
        ("message.created", ""),
        ("message.updated", ""),
        ("message.deleted", None),
    ]


async def test_a_command_nobody_waits_for_any_more_is_not_begun(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, talk(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        async with asyncio.TaskGroup() as tasks:
            said = [tasks.create_task(rooms.ask(room_id, m.SendChat(ANN, f"{n}"))) for n in range(3)]
            await asyncio.sleep(0)
            late = tasks.create_task(rooms.ask(room_id, join(BEN)))
            await asyncio.sleep(0)
            late.cancel()
        await rooms._quiet(rooms._actors[room_id])
        snapshot = await rooms.snapshot(room_id)

    assert all(isinstance(task.result(), m.ChatMessage) for task in said)
    assert BEN not in {person.user_id for person in snapshot.participants}


async def test_a_resting_room_has_no_task_and_wakes_again(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock, rest_after_s=0.2) as rooms:
        await rooms.ask(room_id, m.UpdateRoom(HOST, "Other"))
        awake = len(rooms._actors)
        await asyncio.sleep(0)
        working = [task for task in asyncio.all_tasks() if "_guarded" in repr(task.get_coro())]
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not rooms._actors:
                break
        resting = len(rooms._actors)
        async with sessions() as session:
            owner = await session.scalar(text("select node_id from room_owner"))
        await rooms.ask(room_id, m.UpdateRoom(HOST, "Another"))
        snapshot = await rooms.snapshot(room_id)

    assert (awake, resting, owner) == (1, 0, None)
    assert working == []
    assert snapshot.title == "Another"


async def test_a_timer_wakes_a_resting_room(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock) as rooms:
        spec = lesson()
        assert spec.ends_at is not None
        clock.move_to(spec.ends_at.replace(hour=13))
        await eventually(rooms, room_id, lambda snapshot: snapshot.state == "closed")
        snapshot = await rooms.snapshot(room_id)

    assert (snapshot.state, snapshot.reason) == ("closed", "expired")
    assert await count(sessions, RoomTimer, room_id) == 0


async def test_sockets_nobody_speaks_of_are_gone(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await create(sessions, talk(), clock)
    monkeypatch.setattr("rooms.actor.SOCKET_SILENT_S", 0.3)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(ANN))
        await rooms.ask(room_id, join(BEN))
        for _ in range(6):
            rooms.tell(room_id, m.SocketsSeen("gateway", {BEN: (socket(f"{BEN}/1"),)}, clock.now()))
            await asyncio.sleep(0.1)
        snapshot = await rooms.snapshot(room_id)

    assert [p.state for p in snapshot.participants[1:]] == [SeatStatus.GRACE, SeatStatus.CONNECTED]


async def put(rooms: Registry, room_id: UUID, command: m.Command) -> m.Reply:
    answer: asyncio.Future[m.Reply] = asyncio.get_running_loop().create_future()
    rooms.put(room_id, command, answer)
    return await answer


async def refuse(*_: object) -> None:
    raise ConnectionResetError


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule with a bug: one text makes it fail."""
    from rooms import room

    send = room.RULES[m.SendChat]

    def broken(turn: object, command: m.SendChat) -> m.Reply | None:
        if command.text == "poison":
            raise ZeroDivisionError("poison")
        return send(turn, command)  # type: ignore[arg-type]  # as the table holds it

    monkeypatch.setitem(room.RULES, m.SendChat, broken)
