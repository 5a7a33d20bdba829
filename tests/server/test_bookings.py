"""Lessons that are asked for, agreed, held and cancelled, by everybody who should and by everybody who should not."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select

from server.audit import AuditEntry
from server.context import Principal, Role
from server.errors import BadRequestError
from tests.server.desk import (
    DAY,
    FUNDS,
    HOUR,
    MINUTE,
    NOON,
    PRICE,
    SECOND,
    WHY,
    Body,
    Desk,
    moment,
)
from tests.server.stage import COURSE, Stage

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def desk(stage: Stage) -> Desk:
    return await Desk.open(stage)


def short(booking: Body) -> tuple[str, str | None, str | None, str | None]:
    """Return what became of a booking, and of its payment."""
    paid = booking["payment"]
    return (
        booking["status"],
        booking["outcome"],
        booking["cancelled_by"],
        None if paid is None else paid["state"],
    )


# Asking ---------------------------------------------------------------------------------------------------------------


async def test_a_request_holds_its_price_and_says_what_was_agreed(desk: Desk) -> None:
    asked = await desk.ask(minutes=25, topic="  The past tense ", notes=" Slowly. ", price={"amount": 2_500})
    await desk.do("tutor_profile.update", desk.tutor, hourly_rate={"amount": 50_000, "currency": "USD"})
    agreed = await desk.accept(asked)

    assert (asked["status"], asked["room_id"], asked["version"]) == ("requested", None, 1)
    assert (asked["topic"], asked["notes"], asked["minutes"]) == ("The past tense", "Slowly.", 25)
    assert moment(asked["answer_by"]) == NOON + DAY
    assert moment(asked["free_cancel_until"]) == NOON + 2 * DAY + 5 * MINUTE
    # Whatever the tutor asks for now.
    assert (agreed["price"]["amount"], agreed["hourly_rate"]["amount"]) == (2_500, 6_000)
    assert (agreed["payment"]["state"], agreed["room_id"], agreed["version"]) == (
        "AUTHORIZED",
        asked["id"],
        2,
    )
    assert await desk.balance() == FUNDS - 2_500
    quote = await desk.do("booking.quote", desk.student, tutor_id=desk.tutor.user_id, minutes=25)
    assert (quote["price"]["amount"], quote["shortfall"]["amount"]) == (20_833, 0)
    assert "24 h" in quote["cancel_rule"]


TIMES: tuple[tuple[Any, str | None], ...] = (
    (NOON - SECOND, "bad_request"),
    (NOON, "bad_request"),
    (NOON + MICROSECOND, None),
    (NOON + 366 * DAY, None),
    (NOON + 366 * DAY + MICROSECOND, "bad_request"),
    ("2030-01-09T12:00:00", "bad_request"),
    # Both are the same moment, in one place and in the other.
    ("2030-01-10T02:00:00+14:00", None),
    ("2030-01-09T12:00:00Z", "student_is_busy"),
    # The hour that Europe has twice in the autumn: an hour apart, and no overlap.
    ("2030-10-27T02:30:00+02:00", None),
    ("2030-10-27T02:30:00+01:00", None),
)


async def test_a_lesson_begins_in_the_future_within_a_year_wherever_its_clock_stands(desk: Desk) -> None:
    for starts_at, code in TIMES:
        wanted = desk.wanted(starts_at, minutes=60)
        if code is None:
            made = await desk.do("booking.request", desk.student, **wanted)
            assert moment(made["starts_at"]).utcoffset() == timedelta(), starts_at
        else:
            assert await desk.refused("booking.request", desk.student, **wanted) == code, starts_at


IMPOSSIBLE: tuple[Body, ...] = (
    *({"minutes": minutes} for minutes in (-1, 0, 24, 26, 59, 61, 121, 480, "60", 60.5, True, None)),
    *({"price": {"amount": amount}} for amount in (-1, 0, 10_000_001, 1.5, "6000", None)),
    {"price": {"amount": PRICE, "currency": "EUR"}},
    *({"pay_with": way} for way in ("cash", "", None, 1)),
    *(
        {"pay_with": "card", "card": card}
        for card in ("4242424242424242", "pm_", "pm_1\n", "pm_1 or 1=1", "x" * 256, 1)
    ),
    {"card": "pm_1"},
    {"topic": "x" * 256},
    {"topic": "nul\0"},
    {"notes": "x" * 2_001},
    {"notes": None},
    {"tutor_id": "somebody"},
    {"starts_at": "tomorrow"},
    {"starts_at": 1_900_000_000},
)


async def test_what_cannot_be_asked_for_takes_nothing(desk: Desk) -> None:
    for fields in IMPOSSIBLE:
        with pytest.raises((msgspec.ValidationError, BadRequestError)):
            await desk.ask(**fields)

    assert await desk.balance() == FUNDS
    assert (await desk.do("booking.list", desk.admin))["items"] == []


async def test_nobody_asks_for_what_nobody_gives(desk: Desk) -> None:
    [poor, other] = await desk.stage.people(2)
    [unpriced] = await desk.stage.people(1, Role.TUTOR)
    rejected, blocked = await desk.new_tutor(), await desk.new_tutor()
    await desk.do("admin.tutor.reject", desk.admin, user_id=rejected.user_id, reason=WHY)
    await desk.do("admin.user.block", desk.admin, user_id=blocked.user_id, reason=WHY)

    async def refused(person: Principal, tutor_id: UUID) -> str:
        body = desk.wanted(tutor_id=tutor_id)
        code = await desk.refused("booking.request", person, **body)
        if person.role is Role.STUDENT and code != "insufficient_funds":
            assert await desk.refused("booking.quote", person, tutor_id=tutor_id) == code
        return code

    for tutor_id in (
        *(who.user_id for who in (desk.student, other, desk.admin, unpriced, rejected, blocked)),
        uuid4(),
    ):
        assert await refused(desk.student, tutor_id) == "not_found"
    assert await refused(desk.tutor, desk.tutor.user_id) == "permission_denied"
    assert await refused(desk.admin, desk.tutor.user_id) == "permission_denied"
    assert await refused(poor, desk.tutor.user_id) == "insufficient_funds"
    stale = await desk.refused("booking.request", desk.student, **desk.wanted(price={"amount": PRICE - 1}))
    assert stale == "price_changed"
    # None of them has taken the time.
    await desk.ask()


async def test_a_repeated_key_is_one_request_and_another_request_under_it_none(desk: Desk) -> None:
    wanted = desk.wanted()
    first = await desk.stage.do("booking.request", desk.student, key="once", **wanted)
    again = await desk.stage.do("booking.request", desk.student, key="once", **wanted)

    assert again == first
    assert await desk.balance() == FUNDS - PRICE
    other = wanted | {"minutes": 30}
    assert await desk.refused("booking.request", desk.student, key="once", **other) == "idempotency_mismatch"


async def test_lessons_touch_and_never_overlap(desk: Desk) -> None:
    [other] = await desk.new_students()
    colleague, noon = await desk.new_tutor(), NOON + 3 * DAY
    middle = await desk.ask(noon)

    for starts_at in (noon - HOUR + MICROSECOND, noon, noon + HOUR - MICROSECOND):
        mine = desk.wanted(starts_at, colleague)
        theirs = desk.wanted(starts_at)
        assert await desk.refused("booking.request", desk.student, **mine) == "student_is_busy"
        assert await desk.refused("booking.request", other, **theirs) == "slot_no_longer_available"
    for starts_at in (noon - HOUR, noon + HOUR):
        await desk.ask(starts_at)
    await desk.ask(noon, student=other, tutor=colleague)

    # Who withdraws gives the time back to both.
    await desk.cancel(middle)
    await desk.ask(noon, student=(await desk.new_students())[0])
    await desk.checked()


async def test_courses_and_bookings_of_a_tutor_never_overlap(desk: Desk) -> None:
    course = await desk.do("course.create", desk.tutor, **COURSE | {"total_sessions": 3})
    about: Body = {"course_id": course["id"], "title": "Greetings", "duration_minutes": 60}
    lesson = await desk.ask(NOON + DAY)
    session = await desk.do("course.session.add", desk.tutor, number=1, starts_at=NOON + 2 * DAY, **about)

    busy = desk.wanted(NOON + 2 * DAY + 59 * MINUTE)
    assert await desk.refused("booking.request", desk.student, **busy) == "slot_no_longer_available"
    announced = about | {"number": 2, "starts_at": NOON + DAY - 59 * MINUTE}
    assert await desk.refused("course.session.add", desk.tutor, **announced) == "session_overlaps"
    moved = {"course_id": course["id"], "session_id": session["id"], "starts_at": NOON + DAY}
    assert await desk.refused("course.session.update", desk.tutor, **moved) == "session_overlaps"

    await desk.do("course.session.add", desk.tutor, **about | {"number": 2, "starts_at": NOON + DAY + HOUR})
    await desk.do("booking.decline", desk.tutor, booking_id=lesson["id"])
    await desk.do("course.session.update", desk.tutor, **moved)
    await desk.ask(NOON + 2 * DAY)
    await desk.checked()


# Answering ------------------------------------------------------------------------------------------------------------


async def test_only_its_parties_know_of_a_booking_and_only_its_tutor_answers(desk: Desk) -> None:
    [stranger] = await desk.new_students()
    colleague = await desk.new_tutor()
    asked = await desk.ask()
    by_id = {"booking_id": asked["id"]}

    for op in ("booking.get", "booking.cancel"):
        for person in (stranger, colleague):
            assert await desk.refused(op, person, **by_id) == "not_found"
    for op in ("booking.accept", "booking.decline"):
        assert await desk.refused(op, colleague, **by_id) == "not_found"
        for person in (stranger, desk.student, desk.admin):
            assert await desk.refused(op, person, **by_id) == "permission_denied"
    assert await desk.refused("booking.pay", stranger, **by_id) == "not_found"
    assert await desk.refused("booking.pay", desk.student, **by_id) == "not_by_card"
    for person in (desk.tutor, desk.admin, colleague):
        assert await desk.refused("booking.pay", person, **by_id) == "permission_denied"
    lift = by_id | {"reason": WHY}
    for person in (desk.tutor, desk.student):
        assert await desk.refused("admin.strike.lift", person, **lift) == "permission_denied"
    assert await desk.refused("admin.strike.lift", desk.admin, **lift) == "not_found"
    for person in (desk.student, desk.tutor, desk.admin):
        assert await desk.get(asked, person) == asked
        listed = await desk.do("booking.list", person)
        assert [one["id"] for one in listed["items"]] == [asked["id"]]
    for person in (stranger, colleague):
        assert (await desk.do("booking.list", person))["items"] == []
    unknown = {"booking_id": uuid4()}
    for op in ("booking.get", "booking.cancel", "booking.pay"):
        assert await desk.refused(op, desk.student, **unknown) == "not_found"


async def test_a_list_is_turned_page_by_page(desk: Desk) -> None:
    made = [await desk.ask(NOON + number * DAY) for number in (1, 2, 3)]
    await desk.accept(made[1])

    first = await desk.do("booking.list", desk.student, limit=2)
    rest = await desk.do("booking.list", desk.student, limit=2, cursor=first["next_cursor"])
    agreed = await desk.do("booking.list", desk.tutor, status="scheduled")

    assert [one["id"] for one in first["items"]] == [made[2]["id"], made[1]["id"]]
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == ([made[0]["id"]], None)
    assert [one["id"] for one in agreed["items"]] == [made[1]["id"]]


async def test_a_request_is_answered_before_its_time_is_over_or_not_at_all(desk: Desk) -> None:
    for starts_at in (NOON + 3 * DAY, NOON + HOUR):
        desk.at(NOON)
        late = await desk.ask(starts_at)
        answer_by = moment(late["answer_by"])
        assert answer_by == min(NOON + DAY, starts_at)
        await desk.go_to(answer_by - SECOND)
        assert short(await desk.get(late)) == ("requested", None, None, "PENDING")

        desk.at(answer_by)
        assert await desk.refused("booking.accept", desk.tutor, booking_id=late["id"]) == "request_expired"
        await desk.run()

        assert short(await desk.get(late)) == ("expired", "not_held", None, "VOIDED")
        for op, person in (
            ("booking.accept", desk.tutor),
            ("booking.decline", desk.tutor),
            ("booking.cancel", desk.student),
        ):
            assert await desk.refused(op, person, booking_id=late["id"]) == "status_forbids"
        assert await desk.balance() == FUNDS
    desk.at(NOON)
    asked = await desk.ask()
    desk.at(moment(asked["answer_by"]) - SECOND)
    await desk.accept(asked)
    await desk.go_to(moment(asked["answer_by"]) + HOUR)
    assert (await desk.get(asked))["status"] == "scheduled"
    await desk.checked()


async def test_answers_are_harmless_to_repeat_and_tied_to_what_was_seen(desk: Desk) -> None:
    asked = await desk.ask()
    for version in (0, 2, -1, 2**63 - 1):
        for op, person in (("booking.accept", desk.tutor), ("booking.cancel", desk.student)):
            stale = {"booking_id": asked["id"], "version": version}
            assert await desk.refused(op, person, **stale) == "booking_changed"

    agreed = await desk.do("booking.accept", desk.tutor, booking_id=asked["id"], version=1)
    again = await desk.do("booking.accept", desk.tutor, booking_id=asked["id"], version=1)
    assert again == agreed
    assert await desk.refused("booking.decline", desk.tutor, booking_id=asked["id"]) == "status_forbids"

    other = await desk.ask(NOON + 5 * DAY)
    declined = await desk.do("booking.decline", desk.tutor, booking_id=other["id"], reason="I am away.")
    assert declined == await desk.do("booking.decline", desk.tutor, booking_id=other["id"])
    assert (short(declined), declined["reason"]) == (
        ("cancelled", "not_held", "tutor", "VOIDED"),
        "I am away.",
    )
    assert await desk.refused("booking.accept", desk.tutor, booking_id=other["id"]) == "status_forbids"
    # No room was made for it.
    assert await desk.refused("room.get", desk.student, room_id=other["id"]) == "not_found"
    assert await desk.refused("room.join", desk.tutor, room_id=other["id"]) == "not_found"
    await desk.run()
    assert sorted(await desk.told(desk.student)) == ["booking_accepted", "booking_declined"]


async def test_a_tutor_who_may_not_teach_any_more_only_says_no(desk: Desk) -> None:
    asked, agreed = await desk.ask(), await desk.agreed(NOON + 5 * DAY)
    await desk.do("admin.tutor.reject", desk.admin, user_id=desk.tutor.user_id, reason=WHY)

    assert await desk.refused("booking.accept", desk.tutor, booking_id=asked["id"]) == "permission_denied"
    await desk.do("booking.decline", desk.tutor, booking_id=asked["id"])
    await desk.cancel(agreed, desk.tutor)

    assert await desk.balance() == FUNDS
    await desk.checked()


# Cancelling -----------------------------------------------------------------------------------------------------------

EARLY, IN_TIME, LATE, LAST = -DAY, 0 * SECOND, SECOND, DAY - 5 * MINUTE - SECOND
CANCELS: dict[str, dict[timedelta, str]] = {
    "student": {EARLY: "VOIDED", IN_TIME: "VOIDED", LATE: "CAPTURED", LAST: "CAPTURED"},
    "tutor": {IN_TIME: "VOIDED", LATE: "VOIDED", LAST: "VOIDED"},
    "admin": {IN_TIME: "VOIDED", LATE: "VOIDED", LAST: "VOIDED"},
}


@pytest.mark.parametrize("who", CANCELS)
async def test_who_cancels_when_decides_whose_the_money_is(desk: Desk, who: str) -> None:
    person: Principal = getattr(desk, who)
    left = FUNDS
    for since, paid in CANCELS[who].items():
        agreed = await desk.agreed()
        desk.at(moment(agreed["free_cancel_until"]) + since)

        cancelled = await desk.cancel(agreed, person)

        assert short(cancelled) == ("cancelled", "not_held", who, paid)
        assert cancelled["has_strike"] is (who == "tutor" and since > IN_TIME)
        left -= PRICE if paid == "CAPTURED" else 0
        assert await desk.balance() == left
        # Again is harmless, and nobody else cancels what is cancelled.
        assert await desk.cancel(agreed, person) == cancelled
        for other in CANCELS.keys() - {who}:
            fields = {"booking_id": agreed["id"], "reason": WHY}
            assert await desk.refused("booking.cancel", getattr(desk, other), **fields) == "status_forbids"
    await desk.checked()


async def test_nobody_but_an_administrator_cancels_what_has_begun(desk: Desk) -> None:
    agreed = await desk.agreed()
    desk.at(moment(agreed["starts_at"]))
    by_id = {"booking_id": agreed["id"]}

    for person in (desk.student, desk.tutor):
        assert await desk.refused("booking.cancel", person, **by_id) == "already_started"
    for unsaid in (None, "short", "   short   "):
        words = {} if unsaid is None else {"reason": unsaid}
        assert await desk.refused("booking.cancel", desk.admin, **by_id, **words) == "bad_request"
    await desk.join(agreed, desk.tutor)
    await desk.join(agreed, desk.student)
    await desk.run()
    assert (await desk.get(agreed))["status"] == "active"
    cancelled = await desk.cancel(agreed, desk.admin)
    await desk.run()

    assert short(cancelled) == ("cancelled", "not_held", "admin", "VOIDED")
    assert await desk.balance() == FUNDS
    assert await desk.refused("room.join", desk.student, room_id=agreed["id"]) == "room_closed"
    async with desk.stage.parts.sessions() as session:
        entries = await session.scalars(select(AuditEntry).where(AuditEntry.action == "booking.cancel"))
        [entry] = entries.all()
    assert (entry.before, entry.after, entry.reason) == ({"status": "active"}, {"status": "cancelled"}, WHY)
    await desk.go_to(moment(agreed["ends_at"]) + 10 * MINUTE)
    assert short(await desk.get(agreed)) == ("cancelled", "not_held", "admin", "VOIDED")
    await desk.checked()


@pytest.mark.parametrize("way", ["wallet", "card"])
async def test_the_terms_may_leave_a_part_of_a_late_cancellation_to_the_student(desk: Desk, way: str) -> None:
    [owner] = await desk.stage.people(1, Role.OWNER)
    await desk.do("policy.set", owner, base_version=1, changes={"late_cancel_percent": 25}, reason=WHY)
    paying: Body = {} if way == "wallet" else {"pay_with": "card", "card": await desk.save_card()}
    asked = await desk.ask(NOON + HOUR, **paying)
    if way == "card":
        await desk.do("booking.pay", desk.student, booking_id=asked["id"])
    await desk.accept(asked)

    await desk.cancel(asked)
    await desk.run()

    paid = (await desk.get(asked))["payment"]
    assert (paid["state"], paid["captured"]["amount"], paid["refunded"]["amount"]) == (
        "PARTIALLY_REFUNDED",
        PRICE,
        PRICE // 4,
    )
    assert await desk.balance() == FUNDS - (PRICE * 3 // 4 if way == "wallet" else 0)
    assert set(await desk.told(desk.tutor)) == {"booking_requested", "booking_cancelled_late"}
    await desk.checked()


# Holding --------------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[tuple[str, ...], str, str, int]] = {
    "both": (("tutor", "student"), "completed", "CAPTURED", PRICE),
    "tutor": (("tutor",), "no_show_student", "CAPTURED", PRICE),
    "student": (("student",), "no_show_tutor", "REFUNDED", 0),
    "nobody": ((), "not_held", "VOIDED", 0),
}


@pytest.mark.parametrize("who", ENDS)
async def test_who_comes_decides_what_became_of_a_lesson_and_of_its_money(desk: Desk, who: str) -> None:
    people, outcome, paid, cost = ENDS[who]
    agreed = await desk.agreed()

    ended = await desk.held(agreed, *(getattr(desk, name) for name in people))

    assert short(ended) == ("ended", outcome, None, paid)
    assert ended["has_strike"] is (outcome == "no_show_tutor")
    assert await desk.balance() == FUNDS - cost
    told = [] if outcome == "completed" else [f"booking_{outcome}"]
    started = ["booking_started"] if people else []
    assert await desk.told(desk.tutor) == ["booking_requested", *started, *told]
    assert await desk.told(desk.student) == ["booking_accepted", *started, *told]
    for op, person in (
        ("booking.cancel", desk.student),
        ("booking.decline", desk.tutor),
        ("booking.accept", desk.tutor),
    ):
        assert await desk.refused(op, person, booking_id=agreed["id"]) == "status_forbids"
    await desk.checked()


async def test_its_room_is_for_its_two_people(desk: Desk) -> None:
    [stranger] = await desk.new_students()
    colleague = await desk.new_tutor()
    agreed = await desk.agreed()
    room = {"room_id": agreed["id"]}
    desk.at(moment(agreed["starts_at"]) - 11 * MINUTE)
    assert await desk.refused("room.join", desk.tutor, **room) == "not_available"
    desk.at(moment(agreed["starts_at"]))
    for person in (desk.tutor, desk.student):
        await desk.join(agreed, person)
        await desk.do("chat.send", person, text="Hello", **room)
        assert (await desk.do("room.get", person, **room))["cap"] == 2

    for person in (stranger, colleague):
        for op in ("room.get", "room.join", "room.attendance", "room.end_preview"):
            assert await desk.refused(op, person, **room) == "permission_denied"
        assert await desk.refused("chat.send", person, text="Hello", **room) == "seat_expired"
    # An administrator looks on, and sits nowhere.
    await desk.do("room.get", desk.admin, **room)
    assert await desk.refused("room.join", desk.admin, **room) == "permission_denied"
    seen = [(await desk.do("room.attendance", who, **room))["people"] for who in (desk.student, desk.tutor)]
    assert [len(one) for one in seen] == [1, 2]


async def test_a_tutor_does_not_earn_by_keeping_the_student_out(desk: Desk) -> None:
    agreed = await desk.agreed()
    starts_at, room = moment(agreed["starts_at"]), {"room_id": agreed["id"]}
    ban = room | {"user_id": desk.student.user_id, "ban": True}
    assert await desk.refused("room.kick", desk.tutor, **ban) == "permission_denied"
    await desk.go_to(starts_at - 5 * MINUTE)
    await desk.join(agreed, desk.tutor)
    for at in (starts_at - MINUTE, starts_at + SECOND, starts_at + 10 * MINUTE - SECOND):
        await desk.go_to(at)
        assert await desk.refused("room.close", desk.tutor, **room) == "conflict"
    await desk.go_to(starts_at + 10 * MINUTE)
    await desk.do("room.close", desk.tutor, **room)
    await desk.go_to(starts_at + 15 * MINUTE)

    assert short(await desk.get(agreed)) == ("ended", "no_show_student", None, "CAPTURED")


async def test_administrators_hear_of_many_strikes_and_lift_them(desk: Desk) -> None:
    bookings = [await desk.agreed(NOON + DAY - HOUR * number) for number in (1, 2, 3)]
    for booking in bookings:
        assert (await desk.cancel(booking, desk.tutor))["has_strike"]
    await desk.run()
    assert (await desk.told(desk.admin)).count("tutor_strikes") == 1

    for _ in range(2):
        lifted = await desk.do("admin.strike.lift", desk.admin, booking_id=bookings[0]["id"], reason=WHY)
        assert not lifted["has_strike"]
    again = await desk.agreed(NOON + HOUR)
    await desk.cancel(again, desk.tutor)
    await desk.run()
    assert (await desk.told(desk.admin)).count("tutor_strikes") == 2
    # Ninety days later the first ones count no more.
    desk.at(NOON + 90 * DAY)
    await desk.cancel(await desk.agreed(desk.now + HOUR), desk.tutor)
    await desk.run()
    assert (await desk.told(desk.admin)).count("tutor_strikes") == 2


# Administrators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["requested", "scheduled", "active"])
async def test_money_that_an_administrator_gives_back_takes_the_lesson_with_it(
    desk: Desk, status: str
) -> None:
    booking = await desk.ask()
    if status != "requested":
        await desk.accept(booking)
    if status == "active":
        desk.at(moment(booking["starts_at"]))
        await desk.join(booking, desk.tutor)
        await desk.run()
    hold = {"hold_id": booking["hold_id"], "reason": WHY}
    assert await desk.refused("hold.release", desk.admin, percent=50, **hold) == "not_of_a_course"
    part = {"money": {"amount": 1, "currency": "USD"}}
    assert await desk.refused("hold.refund", desk.admin, **hold, **part) == "hold_not_settled"

    await desk.do("hold.refund", desk.admin, **hold)
    if status == "requested":
        # Before anything has followed from it.
        assert await desk.refused("booking.accept", desk.tutor, booking_id=booking["id"]) == "payment_state"
    await desk.run()

    given_back = await desk.get(booking)
    assert (given_back["status"], given_back["cancelled_by"], given_back["reason"]) == (
        "cancelled",
        "system",
        WHY,
    )
    assert await desk.balance() == FUNDS
    for person in (desk.student, desk.tutor):
        assert (await desk.told(person)).count("booking_cancelled") == 1
    await desk.checked()


# Packages -------------------------------------------------------------------------------------------------------------


async def test_a_package_pays_for_lessons_of_its_own_length_with_its_own_tutor(desk: Desk) -> None:
    colleague, [thief] = await desk.new_tutor(), await desk.new_students()
    package = await desk.package(minutes=7, sessions=2)
    by_package = {"package_id": package["id"]}
    quote = await desk.do("booking.quote", desk.student, tutor_id=desk.tutor.user_id)
    assert [(one["id"], one["minutes"], one["remaining"]) for one in quote["packages"]] == [
        (package["id"], 7, 2)
    ]
    assert (await desk.do("booking.quote", thief, tutor_id=desk.tutor.user_id))["packages"] == []

    for fields in (
        {"minutes": 25},
        {"minutes": 60},
        {"price": {"amount": 1}},
        {"pay_with": "card"},
        {"pay_with": "card", "card": "pm_1"},
    ):
        assert (
            await desk.refused("booking.request", desk.student, **desk.wanted(**by_package, **fields))
            == "bad_request"
        )
    foreign = desk.wanted(tutor=colleague, **by_package)
    assert await desk.refused("booking.request", desk.student, **foreign) == "package_not_found"
    assert await desk.refused("booking.request", thief, **desk.wanted(**by_package)) == "package_not_found"
    unknown = desk.wanted(package_id=uuid4())
    assert await desk.refused("booking.request", desk.student, **unknown) == "package_not_found"
    asked = await desk.ask(**by_package)
    assert (asked["minutes"], asked["price"]["amount"], asked["payment"], asked["hourly_rate"]) == (
        7,
        0,
        None,
        None,
    )
    ended = await desk.held(await desk.accept(asked), desk.tutor, desk.student)
    assert short(ended) == ("ended", "completed", None, None)
    await desk.do("admin.tutor.reject", desk.admin, user_id=desk.tutor.user_id, reason=WHY)
    assert (
        await desk.refused("booking.request", desk.student, **desk.wanted(**by_package))
        == "permission_denied"
    )
    await desk.checked()


async def test_a_lesson_that_is_let_go_is_back_in_its_package(desk: Desk) -> None:
    package = await desk.package(sessions=1)

    async def remaining() -> int:
        return int((await desk.do("package.get", desk.student, package_id=package["id"]))["remaining"])

    async def ask() -> Body:
        asked = await desk.ask(package_id=package["id"])
        assert await remaining() == 0
        more = desk.wanted(desk.now + 9 * DAY, package_id=package["id"])
        assert await desk.refused("booking.request", desk.student, **more) == "package_exhausted"
        return asked

    for op, person in (("booking.cancel", desk.student), ("booking.decline", desk.tutor)):
        await desk.do(op, person, booking_id=(await ask())["id"])
        assert await remaining() == 1
    for person in (desk.student, desk.tutor, desk.admin):
        await desk.cancel(await desk.accept(await ask()), person)
        assert await remaining() == 1
    await ask()
    await desk.go_to(desk.now + DAY)
    assert await remaining() == 1
    assert await desk.balance() == FUNDS - 10_000
    await desk.checked()


async def test_a_lesson_of_a_package_that_is_cancelled_late_is_the_tutors(desk: Desk) -> None:
    package = await desk.package(sessions=2)
    agreed = await desk.agreed(NOON + 4 * DAY, package_id=package["id"])
    await desk.go_to(NOON + 3 * DAY + HOUR)

    cancelled = await desk.cancel(agreed, desk.student)

    hold = await desk.do("hold.get", desk.student, hold_id=cancelled["hold_id"])
    shares = [hold[part]["amount"] for part in ("tutor_share", "platform_share", "refunded")]
    assert (hold["status"], hold["cause"], shares) == ("released", "forfeited", [4_000, 1_000, 0])
    left = await desk.do("package.get", desk.student, package_id=package["id"])
    assert (left["used"], left["remaining"]) == (1, 1)
    assert await desk.cancel(agreed, desk.student) == cancelled
    await desk.checked()


async def test_a_lesson_of_a_package_that_is_over_is_held_or_its_money_given_back(desk: Desk) -> None:
    package = await desk.package(sessions=4, validity_days=30)
    [held, left] = [await desk.agreed(NOON + number * DAY, package_id=package["id"]) for number in (4, 5)]
    await desk.do("package.refund", desk.student, package_id=package["id"])
    await desk.go_to(NOON + 3 * DAY)
    for one in (held, left):
        assert (await desk.get(one))["status"] == "scheduled"
    late = desk.wanted(NOON + 6 * DAY, package_id=package["id"])
    assert await desk.refused("booking.request", desk.student, **late) == "package_over"

    await desk.cancel(left, desk.tutor)

    assert await desk.balance() == FUNDS - 10_000 + 5_000 + 2_500
    assert short(await desk.held(held, desk.tutor, desk.student))[:2] == ("ended", "completed")
    assert await desk.balance() == FUNDS - 10_000 + 5_000 + 2_500
    await desk.checked()


async def test_an_administrator_cancels_no_lesson_whose_end_is_on_its_way(desk: Desk) -> None:
    """Its money went by who came; the booking hears of the end a moment later."""
    package = await desk.package(sessions=1)
    agreed = await desk.agreed(NOON + 4 * DAY, package_id=package["id"])
    starts_at, ends_at = (datetime.fromisoformat(agreed[name]) for name in ("starts_at", "ends_at"))
    await desk.go_to(starts_at)
    for person in (desk.tutor, desk.student):
        await desk.join(agreed, person)
    await desk.stage.parts.rooms.run_due(ends_at + 10 * MINUTE)
    desk.at(ends_at + 10 * MINUTE)

    refused = await desk.refused("booking.cancel", desk.admin, booking_id=agreed["id"], reason=WHY)

    assert refused == "status_forbids"
    await desk.run()
    assert (await desk.get(agreed))["status"] == "ended"
    await desk.checked()


async def test_a_package_pays_for_no_lesson_after_its_end(desk: Desk) -> None:
    """Whose the rest is then would be put off by who asks for lessons far ahead, and cancels them."""
    package = await desk.package(sessions=4, validity_days=30)
    rolling = await desk.package(sessions=4, validity_days=30, is_rolling=True)
    await desk.go_to(NOON + 10 * DAY)

    late = desk.wanted(NOON + 30 * DAY, package_id=package["id"])
    assert await desk.refused("booking.request", desk.student, **late) == "package_ends_before"
    far = desk.wanted(NOON + 40 * DAY, package_id=rolling["id"])
    assert await desk.refused("booking.request", desk.student, **far) == "package_ends_before"
    await desk.ask(NOON + 30 * DAY - MINUTE, package_id=package["id"])
    await desk.ask(NOON + 39 * DAY, package_id=rolling["id"])
    await desk.checked()


async def test_a_taken_lesson_that_an_administrator_gives_back_is_cancelled(desk: Desk) -> None:
    package = await desk.package(sessions=4)
    agreed = await desk.agreed(package_id=package["id"])

    await desk.do("hold.refund", desk.admin, hold_id=agreed["hold_id"], reason=WHY)
    await desk.run()

    given_back = await desk.get(agreed)
    assert (short(given_back), given_back["reason"]) == (("cancelled", "not_held", "system", None), WHY)
    # The money is in the wallet, so the package does not have the lesson back too.
    assert (await desk.do("package.get", desk.student, package_id=package["id"]))["remaining"] == 3
    assert await desk.balance() == FUNDS - 7_500
    await desk.checked()


# Cards ----------------------------------------------------------------------------------------------------------------


async def by_card(desk: Desk, starts_at: datetime, card: str | None = "4242") -> Body:
    """Ask for a lesson that a card pays for, and bring the card as far as it goes."""
    saved: Body = {} if card is None else {"card": await desk.save_card(card)}
    asked = await desk.ask(starts_at, pay_with="card", **saved)
    paying = await desk.do("booking.pay", desk.student, booking_id=asked["id"])
    assert await desk.do("booking.pay", desk.student, booking_id=asked["id"]) == paying
    return asked | {"paying": paying}


@pytest.mark.parametrize("who", ["both", "student", "nobody"])
async def test_a_card_is_authorised_now_and_captured_by_what_became_of_the_lesson(
    desk: Desk, who: str
) -> None:
    people, outcome, paid, _ = ENDS[who]
    asked = await by_card(desk, NOON + 2 * DAY)
    assert (asked["paying"]["client_secret"], asked["paying"]["failure"]) == (None, None)

    agreed = await desk.accept(asked)
    assert short(agreed) == ("scheduled", None, None, "AUTHORIZED")
    await desk.held(agreed, *(getattr(desk, name) for name in people))
    await desk.run()

    assert short(await desk.get(agreed)) == ("ended", outcome, None, paid)
    assert await desk.balance() == FUNDS
    [intent] = desk.at_stripe("payment_intent")
    assert intent["status"] == ("canceled" if paid == "VOIDED" else "succeeded")
    assert [one["amount"] for one in desk.at_stripe("refund")] == ([PRICE] if paid == "REFUNDED" else [])
    again = await desk.do("booking.pay", desk.student, booking_id=asked["id"])
    assert (again["state"], again["client_secret"]) == (paid, None)
    await desk.checked()


async def test_a_card_for_a_far_lesson_is_made_ready_and_authorised_two_days_before(desk: Desk) -> None:
    asked = await by_card(desk, NOON + 20 * DAY)
    assert desk.at_stripe("payment_intent") == []
    await desk.accept(asked)
    await desk.go_to(NOON + 18 * DAY - SECOND)
    assert short(await desk.get(asked)) == ("scheduled", None, None, "PENDING")

    await desk.go_to(NOON + 18 * DAY)
    assert short(await desk.get(asked)) == ("scheduled", None, None, "AUTHORIZED")
    desk.at(NOON + 20 * DAY - HOUR)
    await desk.cancel(asked)
    await desk.run()

    assert short(await desk.get(asked)) == ("cancelled", "not_held", "student", "CAPTURED")
    assert await desk.balance() == FUNDS
    await desk.checked()


async def test_without_a_saved_card_one_is_asked_for(desk: Desk) -> None:
    far, near = await by_card(desk, NOON + 20 * DAY, card=None), await by_card(desk, NOON + DAY, card=None)

    assert [one["paying"]["is_setup"] for one in (far, near)] == [True, False]
    assert all(one["paying"]["client_secret"] for one in (far, near))
    await desk.accept(near)
    [intent] = desk.at_stripe("payment_intent")
    await desk.stage.stripe.act(f"/payments/{intent['id']}/confirm", card="3220")
    asked = await desk.do("booking.pay", desk.student, booking_id=near["id"])
    assert (asked["state"], asked["client_secret"]) == ("PENDING", near["paying"]["client_secret"])
    await desk.stage.stripe.act(f"/payments/{intent['id']}/authenticate")
    answered = await desk.do("booking.pay", desk.student, booking_id=near["id"])
    assert (answered["state"], answered["client_secret"]) == ("AUTHORIZED", None)
    await desk.checked()


@pytest.mark.parametrize("card", ["0002", None], ids=["declined", "never given"])
async def test_a_card_that_brings_nothing_cancels_the_lesson_and_both_are_told(
    desk: Desk, card: str | None
) -> None:
    asked = await by_card(desk, NOON + DAY, card=card)
    assert asked["paying"]["failure"] == (None if card is None else "generic_decline")
    await desk.accept(asked)

    await desk.go_to(NOON + DAY)

    lost = await desk.get(asked)
    assert (short(lost), lost["reason"]) == (("cancelled", "not_held", "system", "VOIDED"), None)
    for person in (desk.student, desk.tutor):
        assert (await desk.told(person))[-1] == "booking_cancelled"
    assert await desk.refused("room.join", desk.tutor, room_id=asked["id"]) == "room_closed"
    await desk.checked()


async def test_a_card_that_is_somebody_elses_pays_nothing(desk: Desk) -> None:
    [other] = await desk.new_students()
    stolen = await desk.save_card(person=other)
    asked = await desk.ask(NOON + DAY, pay_with="card", card=stolen)

    paying = await desk.do("booking.pay", desk.student, booking_id=asked["id"])

    assert (paying["state"], paying["failure"]) == ("PENDING", "payment_method_invalid")


async def test_who_gives_no_card_takes_little_of_the_tutors_time(desk: Desk) -> None:
    for number in range(2):
        await desk.do(
            "booking.request", desk.student, **desk.wanted(NOON + (2 + number) * DAY, pay_with="card")
        )
    third = desk.wanted(NOON + 5 * DAY, pay_with="card")

    assert await desk.refused("booking.request", desk.student, **third) == "card_missing"
    await desk.ask(NOON + 6 * DAY)


async def test_a_late_cancellation_costs_nothing_while_no_card_is_authorised(desk: Desk) -> None:
    asked = await by_card(desk, NOON + HOUR, card=None)
    await desk.accept(asked)

    await desk.cancel(asked)
    await desk.run()

    assert short(await desk.get(asked)) == ("cancelled", "not_held", "student", "VOIDED")
    assert set(await desk.told(desk.tutor)) == {"booking_requested", "booking_cancelled"}
    assert [one["status"] for one in desk.at_stripe("payment_intent")] == ["canceled"]
    await desk.checked()
