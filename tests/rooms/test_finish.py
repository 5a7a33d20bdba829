"""The end of a lesson: one transaction for everything that is known, one settlement, whatever dies in between."""

from collections.abc import Iterator, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from billing.policy import Changes
from rooms import errors, finish, inbox, journal, messages as m, room
from rooms.media import room_name
from rooms.messages import Identity, Presence, RoomStatus
from rooms.models import MediaEvent
from rooms.ownership import Leases
from rooms.registry import Registry
from tests.billing.seller import enact
from tests.billing.world import violations
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
    socket,
)

Sessions = async_sessionmaker[AsyncSession]
STARTS = T0 + 60 * MINUTE
ENDS = STARTS + 60 * MINUTE
AFTER = ENDS + timedelta(minutes=10)


@pytest.fixture
def clock() -> Clock:
    return Clock(STARTS)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged. Rendering a traceback takes so long that rooms would miss their deadlines."""
    with capture_logs() as logs:
        yield logs


class LiveKit:
    """A media server that answers at once and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    async def ensure_room(self, name: str, *, cap: int) -> None:
        self.calls.append(("ensure", name))

    async def poll(self, name: str) -> tuple[Presence, ...] | None:
        return ()

    async def remove(self, name: str, identity: Identity) -> None:
        self.calls.append(("remove", identity))

    async def delete_room(self, name: str) -> None:
        self.calls.append(("delete", name))

    def token(self, identity: Identity, *, name: str, room: str, ttl: timedelta = MINUTE) -> str:
        return f"{identity} {room}"


def join(who: Identity) -> m.Join:
    return m.Join(who, "Name", "tutor" if who == HOST else "student", socket(f"{who}/1"))


async def rows(sessions: Sessions, query: str) -> Sequence[tuple[object, ...]]:
    async with sessions() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def webhook(
    sessions: Sessions, rooms: Registry, room_id: UUID, kind: str, who: Identity, at: datetime
) -> None:
    """A webhook as the edge stores it: a row, then a word to the room."""
    await store(sessions, [row_of(room_id, kind, who, at)])
    rooms.tell(room_id, m.InboxChanged())


async def store(sessions: Sessions, webhooks: list[dict[str, object]]) -> None:
    async with sessions.begin() as session:
        await session.execute(insert(MediaEvent), webhooks)


def row_of(room_id: UUID, kind: str, who: Identity, at: datetime) -> dict[str, object]:
    return {
        "event_id": f"EV_{uuid4()}",
        "room_id": room_id,
        "generation": 1,
        "room_name": room_name(room_id, 1),
        "type": kind,
        "identity": who,
        "participant_sid": f"PA_{who}",
        "counted": True,
        "created_at": at,
        "reason": "CLIENT_INITIATED" if kind == "participant_left" else None,
        "body": {},
        "received_at": at,
    }


async def test_a_lesson_leaves_its_attendance_and_what_is_due(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.ask(room_id, join(ANN))
        await rooms.run_due(AFTER)
        clock.move_to(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())
        snapshot = await rooms.snapshot(room_id)

    assert (snapshot.state, snapshot.reason) == (RoomStatus.CLOSED, "ended")
    assert snapshot.ended_at is not None
    assert snapshot.ends_at is not None
    assert snapshot.ended_at >= snapshot.ends_at, "nobody has ended it before its time"
    assert isinstance(view, m.AttendanceView)
    assert view.frozen
    assert {p.user_id for p in view.people} == {HOST, ANN}
    assert all(3598 <= p.attended_s <= 3600 and p.reached for p in view.people)
    ended = await rows(
        sessions, "select data->>'outcome', data->'tutor_absent' from outbox where type = 'lesson.ended'"
    )
    assert ended == [("completed", False)]
    settled = await rows(sessions, "select count(*) from room_event where type = 'settled'")
    assert settled == [(1,)]


async def test_killed_between_closing_and_settling_it_settles_once(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await create(sessions, lesson(), clock)
    settle = finish.settle
    monkeypatch.setattr(finish, "settle", killed)
    async with doomed(registry(sessions, clock)) as first:
        await first.ask(room_id, join(HOST))
        await first.run_due(AFTER)
    closed = await rows(sessions, "select state from room")
    monkeypatch.setattr(finish, "settle", settle)

    await outlived(sessions)
    async with registry(sessions, clock) as second:
        await second.ask(room_id, m.ReadAttendance())
        await second.catch_up(AFTER)
        await second._quiet(second._actors[room_id])

    assert closed == [("closed",)]
    assert await rows(sessions, "select count(*) from room_event where type = 'settled'") == [(1,)]
    assert await rows(sessions, "select count(*) from room_event where type = 'room_closed'") == [(1,)]


async def test_a_finish_that_fails_leaves_nothing_behind(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    room_id = await create(sessions, lesson(), clock)
    record = finish.record
    monkeypatch.setattr(finish, "record", broken)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        with pytest.raises(errors.OverloadedError, match="finish"):
            await rooms.run_due(AFTER)
        between = await rows(sessions, "select state from room")
        monkeypatch.setattr(finish, "record", record)
        await rooms.run_due(AFTER)

    assert between == [("closing",)]
    assert await rows(sessions, "select state from room") == [("closed",)]
    assert await rows(sessions, "select count(*) from attendance") == [(1,)]


async def test_a_cancelled_lesson_is_due_for_refund(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, m.CancelLesson("course_cancelled", "admin:somebody"))

    kinds = await rows(sessions, "select type, data->>'actor' from outbox where type like 'lesson.%'")
    assert kinds == [("lesson.cancelled", "admin:somebody")]
    known = await rows(sessions, "select cancelled, actor, reason from lesson_facts")
    assert known == [(True, "admin:somebody", "course_cancelled")]
    assert await rows(sessions, "select state, reason from room") == [("closed", "course_cancelled")]


async def test_an_early_end_shortens_what_is_required(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.ask(room_id, join(ANN))
        await rooms.run_due(STARTS + 30 * MINUTE)
        clock.move_to(STARTS + 30 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    required = {p.user_id: p.required_s for p in view.people}
    assert required == {HOST: 720, ANN: 360}


@pytest.mark.parametrize("threshold_percent", [20, 0])
async def test_a_lesson_that_ends_before_it_begins_is_attended_by_nobody(
    sessions: Sessions, clock: Clock, threshold_percent: int
) -> None:
    """Its tutor gave nothing, even where nothing is asked for."""
    if threshold_percent != 20:
        await enact(sessions, Changes(attendance_percent=threshold_percent), at=T0)
    room_id = await create(sessions, lesson(), clock)
    clock.move_to(STARTS - 5 * MINUTE)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.ask(room_id, join(ANN))
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert view.frozen
    assert [(p.attended_s, p.reached) for p in view.people] == [(0, False), (0, False)]
    assert await rows(sessions, "select tutor_absent from lesson_facts") == [(True,)]
    assert await violations(sessions) == []


async def test_terms_are_those_of_the_lessons_end(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into policy select (jsonb_populate_record(p, jsonb_build_object("
                "'version', p.version + 1, 'attendance_percent', 90, 'effective_from', cast(:at as text)"
                "))).* from policy p order by p.version desc limit 1"
            ),
            {"at": (ENDS + 30 * SECOND).isoformat()},
        )

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await rooms.ask(room_id, join(ANN))
        await rooms.run_due(ENDS)
        clock.move_to(ENDS)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await rooms.run_due(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert view.frozen
    assert {p.required_s for p in view.people} == {720}


async def test_webhooks_make_attendance_and_seats(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    livekit = LiveKit()

    async with registry(sessions, clock, media=livekit) as rooms:
        for who in (HOST, ANN):
            await rooms.ask(room_id, join(who))
        assert await rooms.media_ready(room_id)
        await webhook(sessions, rooms, room_id, "participant_joined", HOST, STARTS)
        await webhook(sessions, rooms, room_id, "participant_joined", ANN, STARTS)
        await rooms.run_due(STARTS + 20 * MINUTE)
        clock.move_to(STARTS + 20 * MINUTE)
        await webhook(sessions, rooms, room_id, "participant_left", ANN, STARTS + 15 * MINUTE)
        await rooms.ask(room_id, m.EndLesson(HOST))
        await webhook(sessions, rooms, room_id, "participant_left", HOST, STARTS + 20 * MINUTE)
        await rooms.run_due(AFTER)
        clock.move_to(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert {p.user_id: p.attended_s for p in view.people} == {HOST: 1200, ANN: 900}
    assert livekit.calls == [("ensure", room_name(room_id, 1)), ("delete", room_name(room_id, 1))]


async def test_a_stranger_in_the_media_room_is_removed(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    livekit = LiveKit()

    async with registry(sessions, clock, media=livekit) as rooms:
        await rooms.ask(room_id, join(HOST))
        await webhook(sessions, rooms, room_id, "participant_joined", BEN, STARTS)
        await rooms._quiet(rooms._actors[room_id])

    assert ("remove", BEN) in livekit.calls


async def test_somebody_who_is_no_user_harms_no_settlement(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)

    async with registry(sessions, clock, media=LiveKit()) as rooms:
        await rooms.ask(room_id, join(HOST))
        await webhook(sessions, rooms, room_id, "participant_joined", Identity("bot"), STARTS)
        await rooms.run_due(AFTER)

    assert await rows(sessions, "select state from room") == [("closed",)]


async def test_a_repeated_webhook_is_one_fact(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    fact = m.Evidence("joined", STARTS, ANN, "PA_1", ref="EV_1")

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        for _ in range(2):
            rooms.tell(room_id, m.MediaChanged(fact))
            await rooms._quiet(rooms._actors[room_id])

    assert await rows(sessions, "select ref from evidence") == [("EV_1",)]


async def test_evidence_after_the_end_is_judged_again(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)

    async with registry(sessions, clock, media=LiveKit()) as rooms:
        await rooms.ask(room_id, join(HOST))
        await webhook(sessions, rooms, room_id, "participant_joined", HOST, STARTS)
        await rooms.run_due(AFTER)
        clock.move_to(AFTER)
        await webhook(sessions, rooms, room_id, "participant_joined", ANN, STARTS + SECOND)
        await rooms._quiet(rooms._actors[room_id])
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert [p.user_id for p in view.people] == [HOST]
    assert await rows(sessions, "select count(*) from media_event where read_at is null") == [(0,)]
    assert await rows(sessions, "select count(*) from room_dead_letter") == [(0,)]


async def test_however_much_is_unread_counts_at_the_end(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    monkeypatch.setattr(inbox, "PAGE", 2)

    async with registry(sessions, clock, media=LiveKit(), leases=Leases(scan_s=60)) as rooms:
        await rooms.ask(room_id, join(HOST))
        await webhook(sessions, rooms, room_id, "participant_joined", HOST, STARTS)
        await rooms._quiet(rooms._actors[room_id])
        many = [row_of(room_id, "track_published", HOST, STARTS + n * SECOND) for n in range(1, 6)]
        late = row_of(room_id, "participant_joined", ANN, STARTS + 30 * MINUTE)
        await store(sessions, [*many, late])
        await rooms.run_due(AFTER)
        view = await rooms.ask(room_id, m.ReadAttendance())

    assert isinstance(view, m.AttendanceView)
    assert view.frozen
    assert {p.user_id for p in view.people} == {HOST, ANN}


async def test_one_webhook_that_cannot_be_read_costs_no_other(
    sessions: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    room_id = await create(sessions, lesson(evidence="livekit"), clock)
    changed = room.RULES[m.MediaChanged]

    def broken_for_ben(turn: object, signal: m.MediaChanged) -> m.Reply | None:
        if signal.evidence.identity == BEN:
            raise ZeroDivisionError("poison")
        return changed(turn, signal)  # type: ignore[arg-type]  # as the table holds it

    monkeypatch.setitem(room.RULES, m.MediaChanged, broken_for_ben)
    webhooks = [row_of(room_id, "participant_joined", who, STARTS) for who in (HOST, BEN, ANN)]

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        await store(sessions, webhooks)
        rooms.tell(room_id, m.InboxChanged())
        await rooms._quiet(rooms._actors[room_id])

    evidence = await rows(sessions, "select identity from evidence")
    assert {identity for (identity,) in evidence} == {HOST, ANN}
    letters = await rows(sessions, "select message->'webhooks'->>0 from room_dead_letter")
    assert letters == [(webhooks[1]["event_id"],)]
    assert await rows(sessions, "select count(*) from media_event where read_at is null") == [(0,)]


async def test_evidence_is_read_as_it_was_written(sessions: Sessions, clock: Clock) -> None:
    room_id = await create(sessions, lesson(), clock)

    async with registry(sessions, clock) as rooms:
        await rooms.ask(room_id, join(HOST))
        clock.move_to(STARTS + MINUTE)
        await rooms.ask(room_id, m.Leave(HOST))
    async with sessions() as session:
        (stay,) = await journal.evidence_of(session, room_id)

    assert (stay.kind, stay.identity, stay.session, stay.source, stay.reason) == (
        "stay",
        HOST,
        "1",
        "socket",
        "left",
    )
    assert stay.until is not None
    assert MINUTE - SECOND <= stay.until - stay.at <= MINUTE + SECOND


async def killed(*_: object, **__: object) -> None:
    raise ConnectionResetError


async def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError


async def test_terms_are_remembered_until_others_come_into_force(sessions: Sessions) -> None:
    terms, change = finish.Terms(), STARTS + 10 * MINUTE
    async with sessions.begin() as session:
        await session.execute(
            text("insert into policy values (2, :at, 4000, 8000, 25, 200, 1, 8, 'admin:1', 'Better terms.')"),
            {"at": change},
        )

        unread = terms.percent(STARTS)
        read = await terms.read(session, STARTS)
        remembered = [terms.percent(at) for at in (STARTS, change - SECOND, change, STARTS - SECOND)]
        later = await terms.read(session, change)

    assert (unread, read, later) == (None, 20, 25)
    assert remembered == [20, 20, None, None]
    assert terms.percent(change + 60 * MINUTE) == 25
