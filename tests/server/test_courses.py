"""Courses and their sessions over HTTP, against the real database and real rooms."""

import asyncio
import base64
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from rooms.messages import LessonCancelled, LessonEnded, RoomKind
from server.context import Role
from server.features.courses import access
from tests.server.school import LESSON, START, Body, School, course_body, session_body

DAY = timedelta(days=1)


async def test_a_new_course_is_a_draft_with_link_and_qr(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())

    assert (course["status"], course["publication"]) == ("upcoming", "draft")
    assert course["share_link"].startswith(f"http://127.0.0.1:8000/courses/{course['id']}?ref=")
    assert course["qr_svg"].startswith("<svg")
    assert course["price_full_course"] == {"amount": 1_000, "currency": "USD"}
    assert (course["duration_hours"], course["seats_left"], course["sessions"]) == (4.5, 20, [])


async def test_only_an_approved_tutor_makes_courses(school: School) -> None:
    (student,) = await school.students(1)

    refused = await school.ask("POST", "/courses", student, course_body())

    assert refused.status_code == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"title": ""},
        {"title": "x" * 256},
        {"description": "x" * 5_001},
        {"level": "C3"},
        {"category": "x" * 101},
        {"duration_hours": 0},
        {"total_sessions": 0},
        {"total_sessions": 101},
        {"price_type": "free"},
        {"price_full_course": "10"},
        {"price_full_course": None},
        {"price_full_course": {"amount": 99}},
        {"price_per_session": {"amount": 99}},
        {"price_per_session": {"amount": 2**70}},
        {"price_per_session": {"amount": 1000, "currency": "EUR"}},
        {"max_students": 0},
        {"max_students": 1_001},
    ],
    ids=str,
)
async def test_a_course_with_a_wrong_field_is_refused(school: School, fields: Body) -> None:
    refused = await school.ask("POST", "/courses", school.tutor, course_body(**fields))

    assert refused.status_code == 400
    (wrong,) = {error["field"].split(".")[0] for error in refused.json()["errors"]}
    assert wrong == next(iter(fields))


async def test_a_course_needs_a_session_to_be_published(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())

    refused = await school.ask("POST", f"/courses/{course['id']}/publish", school.tutor)
    await school.add_session(course, 1)
    published = await school.do("POST", f"/courses/{course['id']}/publish", school.tutor)

    assert (refused.status_code, refused.json()["code"]) == (409, "no_sessions")
    assert published["publication"] == "published"


async def test_who_lost_the_approval_publishes_and_announces_nothing(school: School) -> None:
    course = await school.course(sessions=3, dated=1)
    path = f"/courses/{course['id']}"
    await school.do("POST", f"{path}/unpublish", school.tutor)
    await school.do(
        "POST", f"/admin/tutors/{school.tutor.id}/reject", school.admin, {"reason": "the papers are forged"}
    )

    published = await school.ask("POST", f"{path}/publish", school.tutor)
    added = await school.ask("POST", f"{path}/sessions", school.tutor, session_body(2, START + 2 * DAY))
    by_admin = await school.ask("POST", f"{path}/sessions", school.admin, session_body(3, START + 3 * DAY))

    assert [answer.status_code for answer in (published, added, by_admin)] == [403, 403, 201]
    assert (await school.course_now(course))["publication"] == "draft"


async def test_a_draft_is_seen_by_its_tutor_alone(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())
    (student,) = await school.students(1)
    path = f"/courses/{course['id']}"

    answers = [await school.ask("GET", path, who) for who in (None, student, school.tutor, school.admin)]

    assert [answer.status_code for answer in answers] == [404, 404, 200, 200]


async def test_the_list_has_published_courses_newest_first_page_by_page(school: School) -> None:
    made = []
    for number in range(5):
        school.at(START + timedelta(minutes=number))
        draft = await school.do("POST", "/courses", school.tutor, course_body(title=f"Course {number}"))
        if number != 2:
            await school.add_session(draft, 1, starts_at=START + DAY * (number + 1))
            await school.do("POST", f"/courses/{draft['id']}/publish", school.tutor)
        made.append(draft["id"])

    first = await school.do("GET", "/courses?limit=3", None)
    second = await school.do("GET", f"/courses?limit=3&cursor={first['next_cursor']}", None)
    mine = await school.do("GET", "/courses?mine=true", school.tutor)

    listed = [course["id"] for course in first["items"] + second["items"]]
    assert listed == [made[number] for number in (4, 3, 1, 0)]
    assert second["next_cursor"] is None
    assert [course["id"] for course in mine["items"]] == made[::-1]


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("q=ZERO+journey", True),
        ("q=zero+italian", False),
        ("q=100%25", False),
        ("category=travel&level=A1&language=es&price_type=full_course", True),
        ("category=work", False),
        ("level=B1", False),
        ("language=en", False),
        ("price_type=per_session", False),
        ("status=upcoming", True),
        ("status=completed", False),
    ],
)
async def test_the_list_is_filtered(school: School, query: str, is_found: bool) -> None:
    await school.course(sessions=1)

    found = await school.do("GET", f"/courses?{query}", None)

    assert bool(found["items"]) is is_found


async def test_somebody_elses_cursor_or_course_is_refused(school: School) -> None:
    course = await school.course(sessions=1)
    other = await school.world.person(Role.TUTOR)
    path = f"/courses/{course['id']}"

    too_early = base64.urlsafe_b64encode(f'["0001-01-01T00:00:00+23:59","{course["id"]}"]'.encode()).decode()
    for cursor in ("nonsense", too_early):
        answer = await school.ask("GET", f"/courses?cursor={cursor}", None)
        assert answer.status_code == 400
    assert (await school.ask("GET", f"/courses/{uuid4()}", None)).status_code == 404
    assert (await school.ask("PATCH", path, other, {"title": "Mine"})).status_code == 403
    for deed in ("publish", "unpublish"):
        assert (await school.ask("POST", f"{path}/{deed}", other)).status_code == 403
    for page in ("students", "revenue"):
        assert (await school.ask("GET", f"{path}/{page}", other)).status_code == 403
    refused = await school.ask("POST", f"{path}/sessions", other, session_body(2, START + DAY))
    assert refused.status_code == 403


async def test_the_terms_of_a_sold_course_stay(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    path = f"/courses/{course['id']}"
    cheaper = {"price_full_course": {"amount": 900}}
    changed = await school.do("PATCH", path, school.tutor, cheaper)
    await school.buy(student, course)

    refused = await school.ask("PATCH", path, school.tutor, {"price_full_course": {"amount": 5_000}})
    renamed = await school.do("PATCH", path, school.tutor, {"title": "Spanish, slowly"})

    assert changed["price_full_course"]["amount"] == 900
    assert (refused.status_code, refused.json()["code"]) == (409, "course_sold")
    assert renamed["title"] == "Spanish, slowly"
    assert "course.changed" in await school.react_to_all()


async def test_the_leading_price_cannot_be_taken_away(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())

    refused = await school.ask("PATCH", f"/courses/{course['id']}", school.tutor, {"price_full_course": None})

    assert refused.status_code == 400


async def test_the_number_of_students_stays_once_there_are_rooms(school: School) -> None:
    course = await school.course(sessions=1)

    refused = await school.ask("PATCH", f"/courses/{course['id']}", school.tutor, {"max_students": 30})

    assert (refused.status_code, refused.json()["code"]) == (409, "sessions_exist")


async def test_a_session_has_a_room_of_its_own(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())

    session = await school.add_session(course, 1)

    assert session["status"] == "scheduled"
    assert datetime.fromisoformat(session["ends_at"]) - datetime.fromisoformat(session["starts_at"]) == LESSON
    async with school.world.parts.sessions() as db:
        row = (
            await db.execute(
                text("select kind, cap, starts_at from room where id = :id"), {"id": session["room_id"]}
            )
        ).one()
    assert tuple(row) == ("course_session", 21, START + DAY)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"number": 1}, 409),
        ({"number": 4}, 400),
        ({"number": 0}, 400),
        ({"title": ""}, 400),
        ({"duration_minutes": 14}, 400),
        ({"duration_minutes": 481}, 400),
        ({"starts_at": "2030-01-07T11:59:59Z"}, 400),
        ({"starts_at": "2030-01-09T12:00:00"}, 400),
        ({"starts_at": "9999-12-31T23:59:59Z"}, 400),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, 400),
        ({"title": " "}, 400),
    ],
    ids=str,
)
async def test_a_wrong_session_is_refused(school: School, fields: Body, status: int) -> None:
    course = await school.course(dated=1)
    body = session_body(2, START + 2 * DAY) | fields

    refused = await school.ask("POST", f"/courses/{course['id']}/sessions", school.tutor, body)

    assert refused.status_code == status
    assert len((await school.course_now(course))["sessions"]) == 1


async def test_a_number_that_is_taken_is_said_to_be(school: School) -> None:
    course = await school.course(dated=1)

    refused = await school.ask(
        "POST", f"/courses/{course['id']}/sessions", school.tutor, session_body(1, START + 2 * DAY)
    )

    assert (refused.status_code, refused.json()["code"]) == (409, "number_taken")


async def test_a_tutor_teaches_one_lesson_at_a_time_in_all_courses(school: School) -> None:
    await school.course(dated=1)
    other = await school.do("POST", "/courses", school.tutor, course_body())
    path = f"/courses/{other['id']}/sessions"

    overlapping = session_body(1, START + DAY + LESSON - timedelta(seconds=1))
    refused = await school.ask("POST", path, school.tutor, overlapping)
    touching = await school.ask("POST", path, school.tutor, session_body(1, START + DAY + LESSON))

    assert (refused.status_code, refused.json()["code"]) == (409, "session_overlaps")
    assert touching.status_code == 201


async def test_of_two_overlapping_sessions_at_once_one_is_made(school: School) -> None:
    courses = [await school.do("POST", "/courses", school.tutor, course_body()) for _ in range(4)]
    body = session_body(1, START + DAY)

    answers = await asyncio.gather(
        *(school.ask("POST", f"/courses/{course['id']}/sessions", school.tutor, body) for course in courses)
    )

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_moving_a_session_moves_its_room(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=2)
    first, second = course["sessions"]
    path = f"/courses/{course['id']}/sessions"
    later = START + 3 * DAY
    in_hanoi = later.astimezone(timezone(timedelta(hours=7)))

    moved = await school.do("PATCH", f"{path}/{first['id']}", school.tutor, {"starts_at": in_hanoi})
    refused = await school.ask("PATCH", f"{path}/{second['id']}", school.tutor, {"starts_at": later})

    assert moved["starts_at"] == f"{later:%Y-%m-%dT%H:%M:%S}Z"
    snapshot = await school.world.parts.rooms.snapshot(UUID(first["room_id"]))
    assert (snapshot.starts_at, snapshot.ends_at) == (later, later + LESSON)
    assert (refused.status_code, refused.json()["code"]) == (409, "session_overlaps")


async def test_a_renamed_session_renames_its_room(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=1)
    (session,) = course["sessions"]

    await school.do(
        "PATCH",
        f"/courses/{course['id']}/sessions/{session['id']}",
        school.tutor,
        {"title": "At the station"},
    )

    assert (await school.course_now(course))["sessions"][0]["title"] == "At the station"
    snapshot = await school.world.parts.rooms.snapshot(UUID(session["room_id"]))
    assert snapshot.title == "At the station"


async def test_a_sold_session_moves_with_notice_and_its_buyers_are_told(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    (student,) = await school.students(1)
    await school.buy(student, course, session)
    path = f"/courses/{course['id']}/sessions/{session['id']}"

    soon = await school.ask("PATCH", path, school.tutor, {"starts_at": START + timedelta(hours=23)})
    await school.do("PATCH", path, school.tutor, {"starts_at": START + 5 * DAY})
    await school.react_to_all()

    assert (soon.status_code, soon.json()["code"]) == (409, "notice_too_short")
    notes = await school.do("GET", "/notifications", student)
    assert "session_moved" in [note["type"] for note in notes["items"]]


async def test_cancelling_a_session_closes_its_room_and_refunds_everybody(live_school: School) -> None:
    school = live_school
    course = await school.course()
    single, full = await school.students(2)
    await school.buy(full, course)
    bought = await school.buy(single, course, course["sessions"][0])
    path = f"/courses/{course['id']}/sessions/{course['sessions'][0]['id']}/cancel"

    cancelled = await school.do("POST", path, school.tutor)
    again = await school.ask("POST", path, school.tutor)

    assert (cancelled["status"], cancelled["seats_left"]) == ("cancelled", 20)
    assert again.status_code == 409
    assert await school.balance(single) == 100_000
    assert await school.balance(full) == 100_000 - 667
    snapshot = await school.world.parts.rooms.snapshot(UUID(cancelled["room_id"]))
    assert snapshot.state == "closed"
    await school.react_to_all()
    assert (await school.purchase_now(bought))["status"] == "cancelled"
    assert (await school.course_now(course))["status"] == "upcoming"
    assert await school.violations() == []


async def test_a_full_course_ends_with_its_last_place(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=2)
    (student,) = await school.students(1)
    bought = await school.buy(student, course)
    paths = [f"/courses/{course['id']}/sessions/{one['id']}/cancel" for one in course["sessions"]]

    statuses = []
    for path in paths:
        await school.do("POST", path, school.tutor)
        statuses.append((await school.purchase_now(bought))["status"])

    assert statuses == ["active", "cancelled"]
    assert (await school.course_now(course))["current_students"] == 0
    assert await school.balance(student) == 100_000
    assert await school.violations() == []


async def test_cancelling_a_course_gives_all_money_back_and_tells_all(live_school: School) -> None:
    """Story 5 of REQUIREMENTS F.4: three full and two single buyers."""
    school = live_school
    course = await school.course()
    students = await school.students(5)
    for student in students[:3]:
        await school.buy(student, course)
    for student in students[3:]:
        await school.buy(student, course, course["sessions"][0])

    path = f"/courses/{course['id']}/cancel"
    answers = await asyncio.gather(
        *(school.ask("POST", path, school.tutor, key="once") for _ in range(2)),
    )
    answer, again = sorted(answers, key=lambda one: "idempotent-replay" in one.headers)
    await school.react_to_all()

    cancelled = answer.json()
    assert (again.json(), again.headers["idempotent-replay"]) == (cancelled, "true")
    assert cancelled["status"] == "cancelled"
    assert {session["status"] for session in cancelled["sessions"]} == {"cancelled"}
    for student in students:
        assert await school.balance(student) == 100_000
        purchases = (await school.do("GET", "/purchases", student))["items"]
        assert {purchase["status"] for purchase in purchases} == {"cancelled"}
        notes = (await school.do("GET", "/notifications", student))["items"]
        assert "course_cancelled" in [note["type"] for note in notes]
    revenue = await school.do("GET", f"/courses/{course['id']}/revenue", school.tutor)
    assert revenue["refunded"] == revenue["sold"] == {"amount": 3 * 1_000 + 2 * 10_000, "currency": "USD"}
    assert await school.violations() == []


async def test_an_ongoing_course_is_not_cancelled_as_a_whole(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=2)
    await school.start(course["sessions"][0])

    refused = await school.ask("POST", f"/courses/{course['id']}/cancel", school.tutor)

    assert (refused.status_code, refused.json()["code"]) == (409, "course_ongoing")


async def test_an_administrator_cancels_with_a_reason(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=1)
    path = f"/courses/{course['id']}/cancel"

    without = await school.ask("POST", path, school.admin)
    await school.do("POST", path, school.admin, {"reason": "the tutor is ill for long"})

    assert without.status_code == 400
    async with school.world.parts.sessions() as db:
        audited = await db.execute(
            text("select action, reason from audit_log where target_id = :id"), {"id": course["id"]}
        )
        assert tuple(audited.one()) == ("course.cancel", "the tutor is ill for long")


async def test_what_an_administrator_changes_is_noted(live_school: School) -> None:
    school = live_school
    course = await school.course(sessions=2, dated=1)
    path = f"/courses/{course['id']}"
    session = course["sessions"][0]

    await school.do("PATCH", path, school.admin, {"title": "Better", "price_full_course": {"amount": 900}})
    await school.do("POST", f"{path}/unpublish", school.admin)
    await school.do("POST", f"{path}/sessions", school.admin, session_body(2, START + 2 * DAY))
    await school.do("PATCH", f"{path}/sessions/{session['id']}", school.admin, {"title": "First"})

    async with school.world.parts.sessions() as db:
        noted = await db.execute(text("select action, before, after from audit_log order by id"))
    rows = [tuple(row) for row in noted]
    assert [action for action, _, _ in rows] == [
        "course.update",
        "course.unpublish",
        "course.session.add",
        "course.session.update",
    ]
    assert rows[0][1:] == (
        {"title": "Spanish from zero", "price_full_course": 1_000},
        {"title": "Better", "price_full_course": 900},
    )


async def test_a_course_lives_with_its_sessions(school: School) -> None:
    course = await school.course(sessions=2)
    first, second = course["sessions"]
    seen = [course["status"]]

    for session in (first, second):
        await school.start(session)
        seen.append((await school.course_now(course))["status"])
        await school.hold_lesson(session, {})
        seen.append((await school.course_now(course))["status"])

    assert seen == ["upcoming", "ongoing", "ongoing", "ongoing", "completed"]
    refused = await school.ask(
        "POST", f"/courses/{course['id']}/sessions", school.tutor, session_body(2, START + 9 * DAY)
    )
    assert refused.json()["code"] == "course_over"


async def test_an_end_that_is_heard_before_its_start_counts(school: School) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    ends_at = datetime.fromisoformat(session["ends_at"])

    await school.react(ended(session, "completed", ends_at))

    after = await school.course_now(course)
    assert (after["status"], after["sessions"][0]["status"]) == ("completed", "completed")


@pytest.mark.parametrize("event", ["ended", "cancelled"])
async def test_a_session_that_nobody_opened_is_cancelled_and_refunded(school: School, event: str) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    (student,) = await school.students(1)
    await school.buy(student, course, session)
    ends_at = datetime.fromisoformat(session["ends_at"])
    happened: dict[str, Any] = {
        "ended": ended(session, "cancelled", ends_at),
        "cancelled": LessonCancelled(UUID(session["room_id"]), RoomKind.COURSE_SESSION, "unopened", ends_at),
    }

    await school.react(happened[event])

    assert (await school.course_now(course))["sessions"][0]["status"] == "cancelled"
    assert await school.balance(student) == 100_000
    assert await school.violations() == []


async def test_rooms_of_other_kinds_change_no_course(school: School) -> None:
    other = {"room_id": str(uuid4()), "starts_at": START.isoformat()}

    await school.start(other)
    await school.react(ended(other, "completed", START))

    assert (await school.do("GET", "/courses", None))["items"] == []


async def test_only_the_tutor_and_who_paid_may_enter(school: School) -> None:
    course = await school.course(sessions=2)
    first, second = (UUID(session["room_id"]) for session in course["sessions"])
    full, single, stranger = await school.students(3)
    await school.buy(full, course)
    purchase = await school.buy(single, course, course["sessions"][0])

    reads = school.world.parts.reads
    roles = [
        [await access.may_enter(reads, room, who.id) for room in (first, second)]
        for who in (school.tutor, full, single, stranger)
    ]
    await school.do("POST", f"/purchases/{purchase['id']}/cancel", single)
    after = await access.may_enter(reads, first, single.id)

    assert roles == [["tutor", "tutor"], ["student", "student"], ["student", None], [None, None]]
    assert after is None


async def test_the_tutor_sees_who_bought(school: School) -> None:
    course = await school.course()
    full, single = await school.students(2)
    await school.buy(full, course)
    school.at(START + timedelta(minutes=1))
    await school.buy(single, course, course["sessions"][0])

    buyers = await school.do("GET", f"/courses/{course['id']}/students", school.tutor)

    assert [(buyer["student_id"], buyer["kind"]) for buyer in buyers["items"]] == [
        (str(single.id), "session"),
        (str(full.id), "full_course"),
    ]
    assert (await school.course_now(course))["current_students"] == 2


STATEMENTS = [
    "update course set status = 'completed'",
    "update course set price_full_course = null",
    "update course set max_students = 0",
    "update course_session set status = 'completed'",
    "update course_session set ends_at = starts_at",
    "update course_session set number = 1",
    "update course_session set starts_at = '2030-01-08T12:00Z', ends_at = '2030-01-08T13:00Z'",
    "update purchase set amount = amount + 1",
    "update purchase set tutor_bps = 10000",
    "update purchase set status = 'attended', ended_at = now()",
    "update purchase set status = 'cancelled'",
    "update course_place set seat_no = max_students + 1",
    "insert into course_place select gen_random_uuid(), purchase_id, course_id, number, student_id, 2, 20 from course_place limit 1",
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement[:60])
async def test_the_database_refuses_what_must_not_be(school: School, statement: str) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    await school.buy(student, course)

    async with school.world.parts.sessions() as db:
        with pytest.raises(IntegrityError):
            await db.execute(text(statement))


def ended(session: Body, outcome: Any, at: datetime) -> LessonEnded:
    return LessonEnded(
        UUID(session["room_id"]),
        RoomKind.COURSE_SESSION,
        outcome,
        tutor_absent=outcome == "cancelled",
        started_at=None,
        ended_at=at,
        reason="ended",
    )
