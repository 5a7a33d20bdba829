"""What follows from committed events: what the parties see on their own channels, and what they are told."""

from datetime import timedelta
from typing import Any, get_args

import pytest

from billing import messages as billing_messages
from rooms import messages as room_messages
from server import checks, reactions
from server.context import Principal
from server.relay import Relay
from tests.server.stage import Connection, SoldLesson, Stage


async def told(stage: Stage, person: Principal) -> list[str]:
    items = (await stage.do("notification.list", person))["items"]
    return [one["type"] for one in reversed(items)]


def shown(stage: Stage, person: Principal) -> list[str]:
    return [one.ev for one in stage.seen(f"user:{person.user_id}") if one.ev != "notification.created"]


async def play(stage: Stage, *, minutes: int) -> SoldLesson:
    """Hold a lesson of 90 minutes in which the student stays so long."""
    clock = stage.parts.clock
    clock.pin(clock.now())
    lesson = await stage.sell_lesson()
    clock.pin(lesson.starts_at)
    for person in (lesson.tutor, *lesson.students):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    clock.pin(lesson.starts_at + timedelta(minutes=minutes))
    await stage.do("room.leave", lesson.students[0], room_id=lesson.room_id)
    clock.pin(lesson.starts_at + timedelta(minutes=90))
    await stage.do("room.leave", lesson.tutor, room_id=lesson.room_id)
    over = clock.now() + timedelta(minutes=10)
    await stage.parts.rooms.run_due(over)
    clock.pin(over)
    await stage.relay.flush()
    return lesson


async def test_purchase_is_shown_and_told_to_both_sides(stage: Stage) -> None:
    lesson = await stage.sell_lesson()

    await stage.relay.flush()

    student = lesson.students[0]
    assert await told(stage, lesson.tutor) == ["new_session_purchase"]
    assert await told(stage, student) == ["purchase_confirmed"]
    assert shown(stage, lesson.tutor) == ["hold.placed"]
    assert shown(stage, student)[-2:] == ["hold.placed", "wallet.updated"]
    wallet = stage.seen(f"user:{student.user_id}", "wallet.updated")[-1].data
    assert (wallet["balance"]["amount"], wallet["held"]["amount"]) == (40_000, 10_000)


async def test_full_course_is_told_once_however_many_holds_it_has(stage: Stage) -> None:
    [lesson] = [await stage.sell_lesson(students=0)]
    course = await stage.do(
        "course.create",
        lesson.tutor,
        title="Italian",
        description="All of it.",
        language="it",
        level="A1",
        category="travel",
        duration_hours=4.5,
        total_sessions=3,
        price_type="full_course",
        price_full_course={"amount": 1_000, "currency": "USD"},
    )
    for number in (1, 2, 3):
        await stage.do(
            "course.session.add",
            lesson.tutor,
            course_id=course["id"],
            number=number,
            title=f"Part {number}",
            starts_at=stage.parts.clock.now() + timedelta(days=number),
            duration_minutes=90,
        )
    await stage.do("course.publish", lesson.tutor, course_id=course["id"])
    [student] = await stage.people(1)
    money = {"amount": 5_000, "currency": "USD"}
    await stage.do(
        "wallet.adjust", lesson.admin, user_id=student.user_id, money=money, reason="money for the test"
    )
    quote = await stage.do("purchase.quote", student, course_id=course["id"])
    await stage.do("purchase.confirm", student, quote_token=quote["quote_token"])

    await stage.relay.flush()

    assert await told(stage, lesson.tutor) == ["new_course_enrollment"]
    assert await told(stage, student) == ["purchase_confirmed"]
    assert shown(stage, student).count("hold.placed") == 3


async def test_attended_lesson_pays_the_tutor_and_says_so(stage: Stage) -> None:
    lesson = await play(stage, minutes=80)

    student = lesson.students[0]
    assert await told(stage, lesson.tutor) == ["new_session_purchase", "payment_received"]
    assert await told(stage, student) == ["purchase_confirmed", "session_started"]
    [released] = stage.seen(f"user:{student.user_id}", "hold.released")
    assert released.data["tutor_share"]["amount"] == 3_000
    assert "attendance.updated" in shown(stage, student)


async def test_missed_lesson_gives_the_money_back_and_says_so(stage: Stage) -> None:
    lesson = await play(stage, minutes=10)

    student = lesson.students[0]
    assert await told(stage, student) == ["purchase_confirmed", "session_started", "refund_processed"]
    assert await told(stage, lesson.tutor) == ["new_session_purchase"]
    assert stage.seen(f"user:{student.user_id}", "wallet.updated")[-1].data["balance"]["amount"] == 50_000


async def test_what_an_administrator_decides_of_a_lesson_that_is_on_is_told_to_both(stage: Stage) -> None:
    clock = stage.parts.clock
    clock.pin(clock.now())
    lesson = await stage.sell_lesson(students=2)
    clock.pin(lesson.starts_at)
    for person in (lesson.tutor, *lesson.students):
        await stage.do("room.join", person, room_id=lesson.room_id, connection=Connection())
    await stage.relay.flush()
    paid, refunded = lesson.students
    clock.pin(lesson.starts_at + timedelta(minutes=5))

    why = "after a call with them"
    halved, returned = lesson.holds[paid.user_id], lesson.holds[refunded.user_id]
    await stage.do("hold.release", lesson.admin, hold_id=halved, percent=50, reason=why)
    await stage.do("hold.refund", lesson.admin, hold_id=returned, reason=why)
    await stage.relay.flush()

    assert (await told(stage, paid))[-1] == "hold_released"
    assert (await told(stage, refunded))[-1] == "refund_processed"
    assert sorted((await told(stage, lesson.tutor))[-2:]) == ["hold_given_back", "payment_received"]
    # Who has no place any more is put out; who was decided about stays.
    inside = (await stage.parts.rooms.snapshot(lesson.room_id)).participants
    assert {one.user_id for one in inside} == {str(one.user_id) for one in (lesson.tutor, paid)}
    # The end of the lesson changes nothing of it.
    over = lesson.starts_at + timedelta(minutes=100)
    # Each timer at its own time, before the rooms' own clock comes past them all.
    await stage.parts.rooms.run_due(over)
    clock.pin(over)
    await stage.relay.flush()
    [played] = (await stage.do("course.get", lesson.tutor, course_id=lesson.course["id"]))["sessions"]
    assert played["status"] == "completed"
    async with stage.parts.sessions() as session:
        assert await checks.run(session, every_room=True) == []


async def test_cancelled_session_is_told_with_its_refund(stage: Stage) -> None:
    lesson = await stage.sell_lesson()

    await stage.do(
        "course.session.cancel",
        lesson.tutor,
        course_id=lesson.course["id"],
        session_id=lesson.session["id"],
        reason="the tutor is ill",
    )
    await stage.relay.flush()

    assert sorted(await told(stage, lesson.students[0])) == [
        "purchase_confirmed",
        "refund_processed",
        "session_cancelled",
    ]


async def test_tutor_is_told_of_approval_and_rejection(stage: Stage) -> None:
    lesson = await stage.sell_lesson(students=0)

    await stage.do("admin.tutor.reject", lesson.admin, user_id=lesson.tutor.user_id, reason="no papers yet")
    await stage.do("admin.tutor.approve", lesson.admin, user_id=lesson.tutor.user_id)
    await stage.relay.flush()

    assert await told(stage, lesson.tutor) == ["profile_rejected", "profile_approved"]


async def test_reactions_that_run_again_tell_nobody_twice(stage: Stage) -> None:
    lesson = await stage.sell_lesson()
    events: list[Any] = []
    twice = {
        event: tuple(reaction for one in does for reaction in (one, one))
        for event, does in reactions.TABLE.items()
    }
    node = stage.parts.rooms.node_id
    relay = Relay(
        stage.parts.sessions,
        node=node,
        publish=lambda channel, _: events.append(channel),
        reactions=twice,
        together=reactions.TOGETHER,
        after={},
        wall=stage.parts.clock.wall,
    )

    await relay.flush()

    assert await told(stage, lesson.tutor) == ["new_session_purchase"]
    assert await told(stage, lesson.students[0]) == ["purchase_confirmed"]
    assert events


MONEY = list(get_args(billing_messages.Event))


@pytest.mark.parametrize("event", MONEY, ids=lambda event: str(event.__struct_config__.tag))
def test_every_event_of_money_is_told_to_somebody(event: type) -> None:
    assert reactions.TABLE.get(event) or reactions.TOGETHER.get(event)


def test_every_reaction_is_to_an_event() -> None:
    tags = [event.__struct_config__.tag for event in reactions.TABLE]

    assert len(set(tags)) == len(tags)
    assert room_messages.RoomPublished not in reactions.TABLE
