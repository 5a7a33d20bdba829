"""Each check of rooms finds the fault it is there for: the guards are switched off and the fault is planted."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import checks as money, policy
from billing.checks import ROWS_MOST, Violation
from billing.policy import Changes
from rooms import checks, journal, messages as m
from rooms.media import room_name
from rooms.messages import Identity
from rooms.models import MediaEvent
from rooms.registry import Registry
from tests.rooms.kit import ANN, BEN, HOST, MINUTE, SECOND, T0, Clock, create, lesson, registry, socket, talk

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE


class World(msgspec.Struct, frozen=True):
    """Four rooms at different points of their lives."""

    talk: UUID
    """Two are in it."""
    empty: UUID
    """All have left, it waits for its close."""
    held: UUID
    """A lesson that is over and settled."""
    coming: UUID
    """A lesson of another day."""


class Fault(msgspec.Struct, frozen=True):
    """What is planted, in which room, and what else it breaks."""

    room: str
    statement: str
    also: frozenset[str] = frozenset()


FAULTS: dict[str, Fault] = {
    "room_seats": Fault("talk", "update room_seat set cap = 9 where room_id = :room"),
    "closed_room_is_empty": Fault(
        "held", "update room set seated = 1 where id = :room", frozenset({"room_is_retraced"})
    ),
    "empty_talk_closes": Fault(
        "empty", "delete from room_timer where room_id = :room", frozenset({"timers_are_retraced"})
    ),
    "lesson_goes_on": Fault(
        "coming",
        "delete from room_timer where room_id = :room and name = 'overrun'",
        frozenset({"timers_are_retraced"}),
    ),
    "journal_is_whole": Fault("talk", "update room_event set fence = 99 where room_id = :room and seq = 1"),
    "room_has_one_owner": Fault("talk", "update room_owner set fence = 0 where room_id = :room"),
    "closed_lesson_has_facts": Fault("held", "delete from lesson_facts where lesson_id = :room"),
    "absence_by_policy": Fault("held", "update policy set attendance_percent = 21 where :room is not null"),
    "webhook_is_evidence": Fault(
        "held",
        "update media_event set event_id = 'lost_' || event_id where room_id = :room and identity = :ann",
    ),
    "dead_letter": Fault(
        "talk", "insert into room_dead_letter (room_id, message, error) values (:room, '{}', 'it broke')"
    ),
    "journal_retraces": Fault(
        "talk", 'update room_event set data = \'{"type": "x"}\' where room_id = :room and seq = 3'
    ),
    "snapshot_is_retraced": Fault("talk", "update room_snapshot set off = off + 1 where room_id = :room"),
    "room_is_retraced": Fault("coming", "update room set title = 'Another' where id = :room"),
    "seats_are_retraced": Fault(
        "talk", "update room_seat set seat_no = 4 where room_id = :room and identity = :ann"
    ),
    "timers_are_retraced": Fault(
        "coming", "update room_timer set due_at = due_at + interval '1 minute' where room_id = :room"
    ),
    "facts_by_evidence": Fault(
        "held", "update lesson_presence set attended_s = attended_s + 1 where lesson_id = :room"
    ),
    "attendance_by_evidence": Fault(
        "held", "update attendance set attended_s = 1 where room_id = :room and identity = :ann"
    ),
}
# What else can be wrong with history, and what finds it.
GAPS: dict[str, tuple[str, set[str]]] = {
    "an event is missing": (
        "delete from room_event where room_id = :room and seq = 3",
        {"journal_is_whole", "journal_retraces"},
    ),
    "an event was hidden": (
        "update room_event set off = null where room_id = :room and seq = 2",
        {"journal_is_whole", "journal_retraces"},
    ),
    "a snapshot runs ahead": (
        "update room_snapshot set seq = seq + 1 where room_id = :room",
        {"snapshot_is_retraced"},
    ),
    "a snapshot cannot be read": (
        "update room_snapshot set state = 'x' where room_id = :room",
        {"snapshot_is_retraced"},
    ),
    "the evidence says otherwise": (
        "update evidence set at = at - interval '1 minute' where kind = 'left'",
        {"facts_by_evidence", "attendance_by_evidence"},
    ),
    "late evidence was not judged": (
        """
        insert into evidence (room_id, kind, at, identity, session, generation, source)
        select room_id, kind, at - interval '9 minutes', identity, session, generation, source
        from evidence where kind = 'left'
        """,
        {"facts_by_evidence"},
    ),
    "there is no evidence": (
        "delete from evidence",
        {"facts_by_evidence", "attendance_by_evidence", "webhook_is_evidence"},
    ),
}


@pytest.fixture
def clock() -> Clock:
    return Clock(STARTS)


@pytest.fixture
async def world(sessions: Sessions, clock: Clock) -> World:
    held = await create(sessions, lesson(evidence="livekit"), clock)
    coming = await create(sessions, tomorrow(lesson()), clock)
    async with registry(sessions, clock) as rooms:
        for who in (HOST, ANN):
            await rooms.ask(held, join(who))
            await webhook(sessions, rooms, held, "participant_joined", who, STARTS)
        clock.move_to(STARTS + 20 * MINUTE)
        for who in (HOST, ANN):
            await webhook(sessions, rooms, held, "participant_left", who, STARTS + 20 * MINUTE)
        await rooms.ask(held, m.EndLesson(HOST))
        await rooms.run_due(STARTS + 30 * MINUTE)
        await rooms._quiet(rooms._actors[held])
        clock.move_to(STARTS + 30 * MINUTE)
        live, empty = await create(sessions, talk(), clock), await create(sessions, talk(), clock)
        for who in (HOST, ANN):
            await rooms.ask(live, join(who))
        await rooms.ask(live, m.SendChat(ANN, "Hello", "key"))
        await rooms.ask(empty, join(HOST))
        await rooms.ask(empty, m.Leave(HOST))
    async with sessions.begin() as session:
        await journal.save_snapshots(session, [await journal.load(session, live)])
    return World(live, empty, held, coming)


def tomorrow(spec: m.RoomSpec) -> m.RoomSpec:
    starts_at = STARTS + timedelta(days=1)
    return msgspec.structs.replace(spec, starts_at=starts_at, ends_at=starts_at + 60 * MINUTE)


def join(who: Identity) -> m.Join:
    return m.Join(who, "Name", "tutor" if who == HOST else "student", socket(f"{who}/1"))


async def webhook(
    sessions: Sessions, rooms: Registry, room_id: UUID, kind: str, who: Identity, at: datetime
) -> None:
    """A webhook as the edge stores it, and as the room reads it."""
    row = {
        "event_id": f"EV_{uuid4()}",
        "room_id": room_id,
        "generation": 1,
        "room_name": room_name(room_id, 1),
        "type": kind,
        "identity": who,
        "participant_sid": f"PA_{who}",
        "counted": True,
        "created_at": at,
        "body": {},
        "received_at": at,
    }
    async with sessions.begin() as session:
        await session.execute(insert(MediaEvent), [row])
    rooms.tell(room_id, m.InboxChanged())
    await rooms._quiet(rooms._actors[room_id])


async def plant(session: AsyncSession, statement: str, room_id: UUID) -> None:
    """Write a fault; neither triggers nor foreign keys see it."""
    await session.execute(text("set local session_replication_role = replica"))
    names = {"room": room_id, "ann": ANN}
    planted = text(statement)
    await session.execute(planted.bindparams(**{name: names[name] for name in planted._bindparams}))


async def found(session: AsyncSession, *, every_room: bool = True) -> dict[str, Violation]:
    broken = [
        *await money.run(session, checks.CHECKS),
        *await checks.retrace(session, every_room=every_room),
    ]
    return {violation.name: violation for violation in broken}


def test_every_check_has_its_fault() -> None:
    assert [*(check.name for check in checks.CHECKS), *checks.RETRACED] == list(FAULTS)


async def test_good_rooms_break_nothing(sessions: Sessions, world: World) -> None:
    async with sessions() as session:
        assert await found(session) == {}
        assert await found(session, every_room=False) == {}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_planted_fault_is_found_and_named(sessions: Sessions, world: World, name: str) -> None:
    fault = FAULTS[name]
    room_id: UUID = getattr(world, fault.room)

    async with sessions() as session:
        await plant(session, fault.statement, room_id)
        broken = await found(session)

    assert broken.keys() == {name, *fault.also}
    assert str(room_id) in repr(broken[name].rows)
    assert 1 <= len(broken[name].rows) <= ROWS_MOST


@pytest.mark.parametrize("fault", GAPS)
async def test_history_is_proven_in_every_way(sessions: Sessions, world: World, fault: str) -> None:
    statement, names = GAPS[fault]

    async with sessions() as session:
        await plant(session, statement, world.talk if ":room" in statement else world.held)
        broken = await found(session)

    assert broken.keys() == names


async def test_late_evidence_that_was_judged_breaks_nothing(
    sessions: Sessions, clock: Clock, world: World
) -> None:
    async with registry(sessions, clock) as rooms:
        await rooms.ask(world.held, m.ReadAttendance())
        await webhook(sessions, rooms, world.held, "participant_joined", BEN, STARTS + MINUTE)
        await webhook(sessions, rooms, world.held, "participant_left", BEN, STARTS + 9 * MINUTE)

    async with sessions() as session:
        versions = await session.scalar(text("select max(version) from lesson_facts"))
        broken = await found(session)

    assert (versions, broken) == (3, {})


async def test_terms_that_change_after_the_end_measure_nobody(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)
    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        clock.move_to(STARTS + 20 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        async with sessions.begin() as session:
            await policy.enact(
                session,
                Changes(attendance_percent=90),
                base_version=1,
                effective_from=clock.now() + SECOND,
                actor="system",
                reason="a stricter year",
                now=clock.now(),
            )

        await rooms.run_due(STARTS + 30 * MINUTE)

    async with sessions() as session:
        absent = await session.scalar(text("select tutor_absent from lesson_facts"))
        broken = [*await money.run(session), *(await found(session)).values()]

    assert (absent, broken) == (False, [])


async def test_a_room_that_is_long_over_is_left_to_the_full_form(sessions: Sessions, world: World) -> None:
    async with sessions() as session:
        await plant(session, "update room set title = 'X', updated_at = 'epoch' where id = :room", world.held)
        lately = await found(session, every_room=False)
        ever = await found(session)

    assert (list(lately), list(ever)) == ([], ["room_is_retraced"])
