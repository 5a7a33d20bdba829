"""Two people, or one person twice, at the same moment: real parallelism over HTTP and PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text

from billing import settlement
from billing.facts import LessonFacts
from billing.models import OwnerId
from server.audit import AuditEntry
from server.context import Role
from tests.billing.booker import Booker
from tests.billing.seller import Seller
from tests.billing.world import blocked
from tests.server.school import LESSON, Body, School, was_there
from tests.server.world import Person

WHY = {"reason": "after a call with them"}


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


async def test_the_last_seat_goes_to_one_of_many(school: School) -> None:
    course = await school.course(sessions=2, max_students=1)
    students = await school.students(8)
    quotes = [await school.quote(student, course) for student in students[:4]]
    quotes += [await school.quote(student, course, course["sessions"][0]) for student in students[4:]]

    answers = await asyncio.gather(
        *(
            school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})
            for student, quote in zip(students, quotes, strict=True)
        )
    )

    assert statuses(answers) == [201] + [409] * 7
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"course_full", "session_full"}
    balances = [await school.balance(student) for student in students]
    assert sum(balance < 100_000 for balance in balances) == 1
    assert await school.violations() == []


async def test_a_double_click_buys_once(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    body = {"quote_token": (await school.quote(student, course))["quote_token"]}

    answers = await asyncio.gather(
        *(school.ask("POST", "/purchases", student, body, key="one click") for _ in range(4))
    )

    assert statuses(answers) == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    assert await school.balance(student) == 99_000


async def test_one_quote_under_two_keys_buys_once(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    body = {"quote_token": (await school.quote(student, course))["quote_token"]}

    answers = await asyncio.gather(*(school.ask("POST", "/purchases", student, body) for _ in range(4)))

    assert statuses(answers) == [201, 409, 409, 409]
    assert await school.balance(student) == 99_000


async def test_two_who_take_the_whole_of_two_courses_wait_in_no_ring(school: School) -> None:
    """Their single lessons go back in the same purchase; one begins with this course, the other with that."""
    other = School(school.world, await school.world.person(Role.TUTOR), school.admin)
    courses = [await school.course(), await other.course()]
    students = await school.students(2)
    for student in students:
        for course in courses:
            for session in course["sessions"][:2]:
                await school.buy(student, course, session)
    orders = zip(students, (courses, courses[::-1]), strict=True)
    wanted = [(student, course) for student, order in orders for course in order]
    quotes = [await school.quote(student, course) for student, course in wanted]

    answers = await asyncio.gather(
        *(
            school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})
            for (student, _), quote in zip(wanted, quotes, strict=True)
        )
    )

    assert statuses(answers) == [201] * 4
    assert [await school.balance(student) for student in students] == [98_000] * 2
    assert await school.violations() == []


async def test_fifty_purchases_at_once_never_overdraw(school: School) -> None:
    course = await school.course(sessions=50, price_per_session={"amount": 100})
    (student,) = await school.students(1, cents=1_050)
    quotes = [await school.quote(student, course, session) for session in course["sessions"]]

    answers = await asyncio.gather(
        *(
            school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})
            for quote in quotes
        )
    )

    assert statuses(answers) == [201] * 10 + [409] * 40
    assert await school.balance(student) == 50
    assert await school.violations() == []


@pytest.mark.parametrize("attempt", range(3))
async def test_nobody_keeps_a_place_in_a_course_that_is_cancelled_meanwhile(
    live_school: School, attempt: int
) -> None:
    school = live_school
    course = await school.course()
    students = await school.students(4)
    quotes = [await school.quote(student, course) for student in students]

    async def buy(number: int) -> httpx.Response:
        await asyncio.sleep(0.02 * number * attempt)
        body = {"quote_token": quotes[number]["quote_token"]}
        return await school.ask("POST", "/purchases", students[number], body)

    cancelled, *answers = await asyncio.gather(
        school.ask("POST", f"/courses/{course['id']}/cancel", school.tutor), *map(buy, range(4))
    )
    await school.react_to_all()

    assert cancelled.status_code == 200
    assert set(statuses(answers)) <= {201, 409}
    for student in students:
        assert await school.balance(student) == 100_000
        purchases = (await school.do("GET", "/purchases", student))["items"]
        assert {purchase["status"] for purchase in purchases} <= {"cancelled"}
    assert await school.violations() == []


async def over(school: School, session: Body, student: Person) -> None:
    """A lesson to which both came is over, and its money is due."""
    ends_at = datetime.fromisoformat(session["ends_at"])
    facts = LessonFacts(
        lesson_id=UUID(session["room_id"]),
        tutor_id=OwnerId(school.tutor.id),
        planned_s=5_400,
        total_s=5_400,
        tutor_attended_s=5_400,
        tutor_absent=False,
        ended_at=ends_at,
        students={OwnerId(student.id): was_there(datetime.fromisoformat(session["starts_at"]), LESSON)},
    )
    async with school.world.parts.sessions.begin() as db:
        await settlement.due(db, facts, now=school.world.parts.clock.now())


async def settle(school: School, session: Body) -> settlement.Settled | None:
    async with school.world.parts.sessions.begin() as db:
        return await settlement.settle(db, UUID(session["room_id"]), now=school.world.parts.clock.now())


@pytest.mark.parametrize("attempt", range(3))
async def test_a_purchase_is_given_back_or_settled_never_both(school: School, attempt: int) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    (student,) = await school.students(1)
    bought = await school.buy(student, course, session)
    await over(school, session, student)

    async def settle_later() -> None:
        await asyncio.sleep(timedelta(milliseconds=5).total_seconds() * attempt)
        await settle(school, session)

    answer, _ = await asyncio.gather(
        school.ask("POST", f"/purchases/{bought['id']}/cancel", student), settle_later()
    )
    await school.react_to_all()

    after = await school.purchase_now(bought)
    was_given_back = answer.status_code == 200
    assert answer.status_code in (200, 409)
    assert after["status"] == ("cancelled" if was_given_back else "attended")
    assert after["holds"][0]["status"] == ("refunded" if was_given_back else "released")
    assert await school.balance(student) == (100_000 if was_given_back else 90_000)
    # A lesson that is over had begun.
    await school.start(session)
    assert await school.violations() == []


@pytest.mark.parametrize("attempt", range(3))
async def test_an_administrator_decides_what_becomes_of_a_hold_or_its_lesson_does(
    school: School, attempt: int
) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    (student,) = await school.students(1)
    hold = (await school.buy(student, course, session))["holds"][0]
    await school.start(session)
    await over(school, session, student)
    path = f"/admin/holds/{hold['id']}"
    deeds: list[Callable[[], Awaitable[object]]] = [
        lambda: school.ask("POST", f"{path}/release", school.admin, WHY | {"percent": 50}),
        lambda: school.ask("POST", f"{path}/refund", school.admin, WHY),
        lambda: settle(school, session),
    ]

    # Each of them comes first once.
    found = await asyncio.gather(*(deed() for deed in deeds[attempt:] + deeds[:attempt]))
    await school.react_to_all()

    answers = [one for one in found if isinstance(one, httpx.Response)]
    done = [answer for answer in answers if answer.status_code == 200]
    refused = [answer.json()["code"] for answer in answers if answer.status_code == 409]
    shown = await school.do("GET", f"/holds/{hold['id']}", student)
    # What is released whole can be given back afterwards, and after that nothing is left.
    assert len(done) + len(refused) == 2
    assert set(refused) <= {"hold_not_held", "refund_too_large"}
    spent = 100_000 - await school.balance(student)
    assert (shown["status"], spent) in (
        ("released", 10_000),
        ("released", 5_000),
        ("released", 0),
        ("refunded", 0),
    )
    assert (spent == 10_000) is (done == [])
    assert await school.violations() == []


async def test_of_two_who_give_the_same_hold_back_one_does(school: School) -> None:
    """Both saw it held; the second one waits for the first, and is told that it is settled, with the same words too."""
    for table, (hold_id, row_id) in {
        "course": await a_place(school),
        "package": await a_lesson_of_a_package(school),
        "payment": await a_booking(school),
    }.items():
        async with school.world.parts.sessions() as first, asyncio.TaskGroup() as tasks:
            await first.execute(text(f"select 1 from {table} where id = :id for update"), {"id": row_id})
            path = f"/admin/holds/{hold_id}/refund"
            asked = [tasks.create_task(school.ask("POST", path, school.admin, WHY)) for _ in range(2)]
            await blocked(school.world.parts.sessions, by=2)
            await first.rollback()

        answers = [task.result() for task in asked]
        assert statuses(answers) == [200, 409], table
        [refused] = [answer.json()["code"] for answer in answers if answer.status_code == 409]
        assert refused in ("hold_not_held", "payment_state"), table
        async with school.world.parts.sessions() as session:
            audited = select(AuditEntry.id).where(AuditEntry.target_id == UUID(str(hold_id)))
            assert len((await session.scalars(audited)).all()) == 1, table
    assert await school.violations() == []


async def a_place(school: School) -> tuple[object, object]:
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])
    return bought["holds"][0]["id"], course["id"]


async def a_lesson_of_a_package(school: School) -> tuple[object, object]:
    seller = Seller(school.world.parts.sessions)
    seller.now = school.world.parts.clock.now()
    package = await seller.sell(lessons=2)
    return await seller.use(package), package


async def a_booking(school: School) -> tuple[object, object]:
    booker = Booker(school.world.parts.sessions)
    booker.now = school.world.parts.clock.now()
    payment = await booker.by_wallet()
    return await booker.hold(payment), payment
