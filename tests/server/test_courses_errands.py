"""Rooms follow what the database decided about courses, whoever dies on the way."""

from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from rooms.errors import RoomNotFoundError
from rooms.journal import Nature
from rooms.messages import CancelLesson, Command, Join, Reply, RoomStatus
from rooms.registry import Registry
from rooms.state import State
from server import checks, errand
from server.context import Principal, Role
from server.errors import ConflictError, ForbiddenError
from server.gateway.protocol import error_body
from tests.server.stage import COURSE, Connection, Killed, SoldLesson, Stage, dying

DAY = timedelta(days=1)


async def whole_course(stage: Stage, *, dated: int = 2) -> tuple[Principal, Principal, dict[str, Any]]:
    """Have a tutor sell a course of three sessions, of which some have a date, to a student."""
    [tutor], [student], [admin] = [
        await stage.people(1, role) for role in (Role.TUTOR, Role.STUDENT, Role.ADMIN)
    ]
    terms = {"price_type": "full_course", "price_full_course": {"amount": 1_000, "currency": "USD"}}
    course = await stage.do("course.create", tutor, **COURSE | terms | {"total_sessions": 3})
    starts_at = stage.parts.clock.now() + timedelta(hours=1)
    for number in range(1, dated + 1):
        await stage.do(
            "course.session.add",
            tutor,
            course_id=course["id"],
            number=number,
            title=f"Lesson {number}",
            starts_at=starts_at + (number - 1) * DAY,
            duration_minutes=90,
        )
    course = await stage.do("course.publish", tutor, course_id=course["id"])
    money = {"amount": 50_000, "currency": "USD"}
    await stage.do("wallet.adjust", admin, user_id=student.user_id, money=money, reason="money for the test")
    quote = await stage.do("purchase.quote", student, course_id=course["id"])
    await stage.do("purchase.confirm", student, quote_token=quote["quote_token"])
    return tutor, student, course


async def room_states(stage: Stage, course: dict[str, Any]) -> list[RoomStatus]:
    return [(await stage.parts.rooms.snapshot(UUID(one["room_id"]))).state for one in course["sessions"]]


async def types_told(stage: Stage, person: Principal) -> list[str]:
    return [one["type"] for one in (await stage.do("notification.list", person))["items"]]


async def test_a_course_is_cancelled_whole_when_the_server_dies_half_way(stage: Stage) -> None:
    tutor, student, course = await whole_course(stage)

    with pytest.raises(Killed):
        await dying(stage).do("course.cancel", tutor, course_id=course["id"], key="once")
    between = await room_states(stage, course)
    balance = (await stage.do("wallet.get", student))["balance"]["amount"]
    again = await stage.do("course.cancel", tutor, course_id=course["id"], key="once")
    await stage.relay.flush()

    assert again["status"] == "cancelled", "the answer was kept with what it says"
    assert between == [RoomStatus.OPEN, RoomStatus.OPEN]
    assert balance == 50_000, "all money is back already, that of the session without a date too"
    assert await room_states(stage, course) == [RoomStatus.CLOSED, RoomStatus.CLOSED]
    async with stage.parts.sessions() as session:
        assert await checks.run(session) == []


async def test_a_session_is_cancelled_when_the_server_dies_half_way(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    path = {"course_id": lesson.course["id"], "session_id": lesson.session["id"]}

    with pytest.raises(Killed):
        await dying(stage).do("course.session.cancel", lesson.tutor, **path, reason="the tutor is ill")
    await stage.relay.flush()

    assert (await stage.parts.rooms.snapshot(lesson.room_id)).state is RoomStatus.CLOSED
    hold = await stage.do("hold.get", lesson.students[0], hold_id=lesson.holds[lesson.students[0].user_id])
    assert (hold["cause"], hold["settled_by"], hold["reason"]) == ("cancelled", "tutor", "the tutor is ill")


@pytest.mark.parametrize("failure", [PoolTimeout(), OSError(), RoomNotFoundError(uuid4())])
async def test_what_was_done_does_not_fail_with_what_follows_it(failure: Exception) -> None:
    async def follows() -> None:
        raise failure

    await errand.at_once(follows())


async def test_a_session_is_moved_when_the_server_dies_half_way(stage: Stage) -> None:
    tutor, _, course = await whole_course(stage)
    first = course["sessions"][0]
    later = datetime.fromisoformat(first["starts_at"]) + 5 * DAY
    path = {"course_id": course["id"], "session_id": course["sessions"][1]["id"]}

    with pytest.raises(Killed):
        await dying(stage).do("course.session.update", tutor, **path, starts_at=later, title="Elsewhere")
    await stage.relay.flush()

    room = await stage.parts.rooms.snapshot(UUID(course["sessions"][1]["room_id"]))
    assert (room.starts_at, room.title) == (later, "Elsewhere")


@pytest.mark.parametrize("by_admin", [False, True])
@pytest.mark.parametrize("room_first", [False, True])
async def test_a_hold_says_who_cancelled_and_why_in_either_order(
    stage: Stage, room_first: bool, by_admin: bool
) -> None:
    lesson = await stage.sell_lesson()
    person = lesson.admin if by_admin else lesson.tutor
    reason = "the tutor is ill for long"

    if room_first:
        who = f"{'admin' if by_admin else 'user'}:{person.user_id}"
        await stage.parts.rooms.ask(lesson.room_id, CancelLesson(reason, who))
        await settled(stage, lesson)
    else:
        path = {"course_id": lesson.course["id"], "session_id": lesson.session["id"]}
        await stage.do("course.session.cancel", person, **path, reason=reason)
    await stage.relay.flush()

    [student] = lesson.students
    hold = await stage.do("hold.get", student, hold_id=lesson.holds[student.user_id])
    by = "admin" if by_admin else "tutor"
    assert (hold["cause"], hold["settled_by"], hold["reason"]) == ("cancelled", by, reason)
    assert hold["explanation"].endswith(f"Reason: {reason}")
    purchase = (await stage.do("purchase.list", student))["items"][0]
    assert (purchase["status"], purchase["reason"]) == ("cancelled", reason)
    assert ("session_cancelled" in await types_told(stage, lesson.tutor)) == by_admin
    assert "session_cancelled" in await types_told(stage, student)


async def settled(stage: Stage, lesson: SoldLesson) -> None:
    """Wait until the room has settled its lesson."""
    query = text("select status from hold where lesson_id = :id")
    while True:
        async with stage.parts.sessions() as session:
            if await session.scalar(query, {"id": lesson.room_id}) != "held":
                return


async def test_the_tutor_hears_of_a_session_that_nobody_opened(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    over = lesson.starts_at + timedelta(minutes=95)

    await stage.parts.rooms.run_due(over)
    stage.parts.clock.pin(over)
    await stage.relay.flush()

    assert "session_cancelled" in await types_told(stage, lesson.tutor)
    hold = await stage.do("hold.get", lesson.tutor, hold_id=lesson.holds[lesson.students[0].user_id])
    assert (hold["settled_by"], hold["reason"]) == ("system", "expired")
    assert hold["explanation"].startswith("The lesson was not held")


async def test_the_tutor_hears_of_a_course_that_an_administrator_cancelled(stage: Stage) -> None:
    tutor, _, course = await whole_course(stage)
    [admin] = await stage.people(1, Role.ADMIN)

    await stage.do("course.cancel", admin, course_id=course["id"], reason="the tutor is ill for long")
    await stage.relay.flush()

    assert "course_cancelled" in await types_told(stage, tutor)


async def test_what_has_just_begun_is_neither_cancelled_nor_moved(stage: Stage) -> None:
    """The room knows it first; its news are still on the way."""
    tutor, _, course = await whole_course(stage)
    first = course["sessions"][0]
    path = {"course_id": course["id"], "session_id": first["id"]}
    stage.parts.clock.pin(datetime.fromisoformat(first["starts_at"]) - timedelta(minutes=5))
    await stage.do("room.join", tutor, room_id=first["room_id"], connection=Connection())

    for op, fields in (
        ("course.cancel", {"course_id": course["id"]}),
        ("course.session.cancel", path),
        ("course.session.update", {**path, "duration_minutes": 60}),
    ):
        with pytest.raises(ConflictError):
            await stage.do(op, tutor, **fields)

    assert (await stage.do("course.get", tutor, course_id=course["id"]))["status"] == "upcoming"


async def test_a_lesson_that_begins_while_it_is_cancelled_ends_with_everybody_refunded(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    path = {"course_id": lesson.course["id"], "session_id": lesson.session["id"]}
    stage.parts.clock.pin(lesson.starts_at - timedelta(minutes=5))

    with pytest.raises(Killed):
        await dying(stage).do("course.session.cancel", lesson.tutor, **path)
    await stage.do("room.join", lesson.tutor, room_id=lesson.room_id, connection=Connection())
    await stage.relay.flush()

    assert (await stage.parts.rooms.snapshot(lesson.room_id)).state is RoomStatus.CLOSING
    hold = await stage.do("hold.get", lesson.tutor, hold_id=lesson.holds[lesson.students[0].user_id])
    assert hold["status"] == "refunded"


async def test_who_gave_the_place_back_is_put_out_of_the_room(stage: Stage) -> None:
    lesson = await stage.sell_lesson(students=2)
    leaver, stayer = lesson.students
    stage.parts.clock.pin(lesson.starts_at - timedelta(minutes=5))
    for person in (lesson.tutor, leaver, stayer):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    [purchase] = (await stage.do("purchase.list", leaver))["items"]

    await stage.do("purchase.cancel", leaver, purchase_id=purchase["id"])
    await stage.relay.flush()

    assert await seated(stage, lesson) == {lesson.tutor.user_id, stayer.user_id}
    # Which takes the channel away, see tests/gateway/test_socket.py.
    evicted = stage.seen(f"room:{lesson.room_id}", "participant.evicted")
    assert [one.data for one in evicted] == [{"user_id": str(leaver.user_id)}]
    with pytest.raises(ForbiddenError) as refused:
        await stage.do("room.join", leaver, room_id=lesson.room_id, connection=Connection())
    assert error_body(refused.value).code == 103


async def test_who_buys_the_full_course_instead_stays_in_the_room(stage: Stage) -> None:
    lesson = await stage.sell_lesson(price_full_course={"amount": 1_000, "currency": "USD"})
    [student] = lesson.students
    stage.parts.clock.pin(lesson.starts_at - timedelta(minutes=5))
    await stage.do("room.join", student, room_id=lesson.room_id, connection=Connection())

    quote = await stage.do("purchase.quote", student, course_id=lesson.course["id"])
    await stage.do("purchase.confirm", student, quote_token=quote["quote_token"])
    await stage.relay.flush()

    assert [one["status"] for one in (await stage.do("purchase.list", student))["items"]] == [
        "active",
        "cancelled",
    ]
    assert await seated(stage, lesson) == {student.user_id}


async def test_who_gives_the_place_back_while_joining_is_not_let_in(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    [student] = lesson.students
    stage.parts.clock.pin(lesson.starts_at - timedelta(minutes=5))
    [purchase] = (await stage.do("purchase.list", student))["items"]

    class SlowRooms:
        """Rooms that are asked to seat somebody who gives the place back meanwhile, and is put out before."""

        async def ask(self, room_id: UUID, command: Command) -> Reply:
            if isinstance(command, Join):
                await stage.do("purchase.cancel", student, purchase_id=purchase["id"])
                await stage.relay.flush()
            return await stage.parts.rooms.ask(room_id, command)

        async def nature(self, room_id: UUID) -> Nature:
            return await stage.parts.rooms.nature(room_id)

        def here(self, room_id: UUID) -> State | None:
            return stage.parts.rooms.here(room_id)

    rooms = cast(Registry, SlowRooms())
    slow = Stage(msgspec.structs.replace(stage.parts, rooms=rooms), stage.relay, stage.shown)
    with pytest.raises(ForbiddenError):
        await slow.do("room.join", student, room_id=lesson.room_id, connection=Connection())

    assert await seated(stage, lesson) == set()


async def seated(stage: Stage, lesson: SoldLesson) -> set[UUID]:
    room = await stage.parts.rooms.snapshot(lesson.room_id)
    return {UUID(one.user_id) for one in room.participants}


async def test_a_move_that_came_with_the_beginning_came_too_late(stage: Stage) -> None:
    tutor, _, course = await whole_course(stage)
    second = course["sessions"][1]
    path = {"course_id": course["id"], "session_id": second["id"]}
    starts_at = datetime.fromisoformat(second["starts_at"])

    with pytest.raises(Killed):
        await dying(stage).do("course.session.update", tutor, **path, starts_at=starts_at + 5 * DAY)
    stage.parts.clock.pin(starts_at - timedelta(minutes=5))
    await stage.do("room.join", tutor, room_id=second["room_id"], connection=Connection())
    await stage.relay.flush()

    now = (await stage.do("course.get", tutor, course_id=course["id"]))["sessions"][1]
    assert (now["status"], datetime.fromisoformat(now["starts_at"])) == ("in_progress", starts_at)
