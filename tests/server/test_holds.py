"""Holds as their parties see them, over HTTP."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from server import cli
from server.features.accounts.models import User
from tests.server.school import School


async def test_a_held_hold_says_what_will_decide_it(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])

    hold = await school.do("GET", f"/holds/{bought['holds'][0]['id']}", student)

    nothing = {"amount": 0, "currency": "USD"}
    assert (hold["status"], hold["amount"]["amount"], hold["cause"]) == ("held", 10_000, None)
    assert hold["tutor_share"] == hold["platform_share"] == hold["refunded"] == nothing
    assert (hold["adjustments"], hold["attendance"]) == ([], None)
    assert hold["policy"]["version"] == 1
    assert hold["lesson_id"] == course["sessions"][0]["room_id"]
    assert "100.00 USD are held" in hold["explanation"]


@pytest.mark.parametrize(
    ("minutes", "status", "percent", "moved"),
    [(80, "released", 88, (3_000, 7_000, 0)), (15, "refunded", 16, (0, 0, 10_000))],
)
async def test_a_settled_hold_names_its_attendance(
    school: School, minutes: int, status: str, percent: int, moved: tuple[int, int, int]
) -> None:
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])

    await school.hold_lesson(course["sessions"][0], {student.id: timedelta(minutes=minutes)})

    hold = await school.do("GET", f"/holds/{bought['holds'][0]['id']}", school.tutor)
    assert (hold["status"], hold["cause"]) == (status, "attendance")
    assert tuple(hold[part]["amount"] for part in ("tutor_share", "platform_share", "refunded")) == moved
    attendance = hold["attendance"]
    assert (attendance["scheduled_s"], attendance["attended_s"]) == (5_400, minutes * 60)
    assert attendance["percent"] == percent


async def test_the_explanation_speaks_the_callers_language(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])
    async with school.world.parts.sessions.begin() as session:
        await session.execute(update(User).where(User.id == student.id).values(locale="vi"))

    hold = await school.do("GET", f"/holds/{bought['holds'][0]['id']}", student)
    quote = await school.quote(student, course)

    assert "được giữ" in hold["explanation"]
    assert "hoàn" in quote["refund_rule"]


async def test_a_hold_is_seen_by_its_parties_and_administrators(school: School) -> None:
    course = await school.course()
    student, stranger = await school.students(2)
    bought = await school.buy(student, course)
    path = f"/holds/{bought['holds'][0]['id']}"

    answers = [
        await school.ask("GET", path, who) for who in (student, school.tutor, school.admin, stranger, None)
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 401]
    nothing = await school.ask("GET", f"/holds/{uuid4()}", student)
    assert (nothing.status_code, nothing.json()["code"]) == (404, answers[3].json()["code"])
    assert (await school.ask("GET", "/holds/first", student)).status_code == 400


async def test_holds_are_listed_for_both_sides_by_status(school: School) -> None:
    course = await school.course()
    student, other = await school.students(2)
    full = await school.buy(student, course)
    single = await school.buy(other, course, course["sessions"][0])
    await school.do("POST", f"/purchases/{single['id']}/cancel", other)
    own = {hold["id"] for hold in full["holds"]}

    first = await school.do("GET", "/holds?limit=2", student)
    second = await school.do("GET", f"/holds?limit=2&cursor={first['next_cursor']}", student)
    taught = await school.do("GET", "/holds", school.tutor)
    refunded = await school.do("GET", "/holds?status=refunded", school.tutor)
    everybodys = await school.do("GET", "/holds", school.admin)

    assert {hold["id"] for hold in first["items"] + second["items"]} == own
    assert second["next_cursor"] is None
    assert {hold["title"] for hold in first["items"] + second["items"]} == {
        session["title"] for session in course["sessions"]
    }
    assert len(taught["items"]) == len(everybodys["items"]) == 4
    assert [hold["id"] for hold in refunded["items"]] == [single["holds"][0]["id"]]


async def test_a_receipt_is_for_the_parties_of_a_settled_hold(school: School, tmp_path: Path) -> None:
    course = await school.course()
    student, stranger = await school.students(2)
    bought = await school.buy(student, course, course["sessions"][0])
    path = f"/holds/{bought['holds'][0]['id']}/receipt"
    early, foreign = [await school.ask("GET", path, who) for who in (student, stranger)]
    nothing = await school.ask("GET", f"/holds/{uuid4()}/receipt", stranger)
    await school.do("POST", f"/purchases/{bought['id']}/cancel", student)

    answers = [
        await school.ask("GET", path, who) for who in (student, school.tutor, school.admin, stranger, None)
    ]

    assert (early.status_code, early.json()["code"]) == (409, "not_settled")
    # Strangers learn neither that it is there nor what became of it.
    assert {(one.status_code, one.json()["code"]) for one in (foreign, nothing, answers[3])} == {
        (404, "hold_not_found")
    }
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 401]
    file = tmp_path / "receipt.json"
    file.write_bytes(answers[0].content)
    key = (await school.do("GET", "/receipts/key", None))["key"]
    assert cli.main(["receipt", "verify", str(file), "--key", key]) == 0
    file.write_bytes(answers[0].content.replace(b'"to_student":10000', b'"to_student":10001'))
    assert cli.main(["receipt", "verify", str(file), "--key", key]) == 1
