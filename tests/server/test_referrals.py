"""Who came by whose code, that it never changes, and what it brought."""

import asyncio
import itertools
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from httpx import Response
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from server.context import Role
from server.features.accounts.models import ReferralCode, User
from server.features.accounts.rules import new_course_code
from tests.server.school import Body, School, course_body
from tests.server.stage import Stage
from tests.server.world import PASSWORD, Person


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def code_of(school: School, course: Body) -> str:
    return str(course["share_link"]).partition("?ref=")[2]


async def registered(school: School, **fields: object) -> Response:
    """Register somebody new."""
    return await school.world.register(f"{uuid4().hex}@example.org", **fields)


async def person_of(answer: Response) -> Person:
    assert answer.status_code == 201, answer.text
    body = answer.json()
    return Person(UUID(body["user"]["id"]), body["user"]["email"], body["access_token"])


async def test_a_code_says_whose_it_is(school: School) -> None:
    course = await school.do("POST", "/courses", school.tutor, course_body())
    own = (await school.do("GET", "/me", school.tutor))["referral_code"]
    of_course = await code_of(school, course)

    first = await school.do("GET", f"/referrals/codes/{own.lower()}", None)
    second = await school.do("GET", f"/referrals/codes/{of_course}", None)
    nobody = await school.ask("GET", "/referrals/codes/TEACHNOBODY1", None)

    assert of_course.startswith("COURSE_")
    assert (first["code"], first["tutor_id"], first["course_id"]) == (own, str(school.tutor.id), None)
    assert (second["course_id"], second["course_title"]) == (course["id"], "Spanish from zero")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")


async def test_who_registers_by_a_code_of_a_course_is_its_tutors_student(school: School) -> None:
    course = await school.course(sessions=1)
    student = await person_of(await registered(school, referral_code=await code_of(school, course)))
    await school.pay_in(student, 10_000)

    bought = await school.buy(student, course, course["sessions"][0])

    assert (bought["split"]["attribution"], bought["split"]["tutor_bps"]) == ("referral", 7_000)


async def test_the_dashboard_says_who_came_and_what_the_ledger_has_of_it(school: School) -> None:
    course = await school.course(sessions=2)
    code = await code_of(school, course)
    own = (await school.do("GET", "/me", school.tutor))["referral_code"]
    buyer = await person_of(await registered(school, referral_code=code))
    await registered(school, referral_code=own, first_name="Bob")
    (stranger,) = await school.students(1)
    await school.pay_in(buyer, 20_000)
    for person in (buyer, stranger):
        for session in course["sessions"]:
            await school.buy(person, course, session)
    await school.hold_lesson(
        course["sessions"][0], {buyer.id: timedelta(minutes=90), stranger.id: timedelta(minutes=90)}
    )

    summary = await school.do("GET", "/referrals/summary", school.tutor)
    people = (await school.do("GET", "/referrals", school.tutor))["items"]

    amounts = {name: money["amount"] for name, money in summary["brought"].items()}
    assert amounts == {"sold": 20_000, "earned": 7_000, "platform": 3_000, "held": 10_000, "refunded": 0}
    assert (summary["code"], summary["referred"], summary["buyers"]) == (own, 2, 1)
    assert summary["share_link"].endswith(f"/r/{own}")
    assert summary["qr_svg"].startswith("<svg")
    assert [(one["code"], one["registered"]) for one in summary["codes"]] == [(own, 1), (code, 1)]
    assert [(one["name"], one["course_title"], one["brought"]["earned"]["amount"]) for one in people] == [
        ("Bob Lee", None, 0),
        ("Ann Lee", "Spanish from zero", 7_000),
    ]
    assert all(one.keys() == {"name", "registered_at", "code", "course_title", "brought"} for one in people)
    assert "example.org" not in str(people)
    assert str(buyer.id) not in str(people)


async def test_the_list_of_people_has_pages(school: School) -> None:
    await school.students(3, cents=0, referred=True)

    first = await school.do("GET", "/referrals?limit=2", school.tutor)
    second = await school.do("GET", f"/referrals?limit=2&cursor={first['next_cursor']}", school.tutor)

    assert [len(page["items"]) for page in (first, second)] == [2, 1]
    assert second["next_cursor"] is None


async def test_only_tutors_have_a_dashboard_and_each_their_own(school: School) -> None:
    await school.students(1, cents=0, referred=True)
    colleague = await school.world.person(Role.TUTOR)
    student = await school.world.person(Role.STUDENT)

    for path in ("/referrals", "/referrals/summary"):
        assert (await school.ask("GET", path, student)).status_code == 403
    assert (await school.do("GET", "/referrals", colleague))["items"] == []
    assert (await school.do("GET", "/referrals/summary", colleague))["referred"] == 0


async def test_a_tutor_who_was_never_approved_has_no_code_yet(school: School) -> None:
    tutor = await person_of(await registered(school, role="tutor"))

    summary = await school.do("GET", "/referrals/summary", tutor)

    assert (summary["code"], summary["share_link"], summary["qr_svg"], summary["codes"]) == (
        None,
        None,
        None,
        [],
    )


async def test_the_tutor_is_told_who_came(stage: Stage) -> None:
    [tutor] = await stage.people(1, Role.TUTOR)
    code = (await stage.do("me.get", tutor))["referral_code"]
    await stage.do(
        "auth.register",
        None,
        email=f"{uuid4().hex}@example.org",
        password=PASSWORD,
        first_name="Ann",
        last_name="Lee",
        role="student",
        referral_code=code,
    )

    await stage.relay.flush()

    [notice] = (await stage.do("notification.list", tutor))["items"]
    assert (notice["type"], notice["text"]) == ("new_referral", f"Ann Lee registered with your code {code}.")


# --- Remembered by the browser --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cookie", "body_code", "counts"),
    [("own", None, True), ("own", "other", False), ("TEACHNOBODY!", None, False), ("x" * 300, None, False)],
)
async def test_a_code_that_was_visited_is_remembered_until_the_registration(
    school: School, cookie: str, body_code: str | None, counts: bool
) -> None:
    colleague = await school.world.person(Role.TUTOR)
    codes = {
        "own": (await school.do("GET", "/me", school.tutor))["referral_code"],
        "other": (await school.do("GET", "/me", colleague))["referral_code"],
    }
    school.world.client.cookies.set("fourtalk_referral", codes.get(cookie, cookie))

    fields = {} if body_code is None else {"referral_code": codes[body_code]}
    answer = await registered(school, **fields)

    assert answer.status_code == 201
    async with school.world.parts.sessions() as session:
        mine = User.id == UUID(answer.json()["user"]["id"])
        referrer = await session.scalar(select(User.referred_by).where(mine))
    assert (referrer == school.tutor.id) is counts
    assert referrer == (None if not counts and body_code is None else referrer)


# --- What the database guarantees -----------------------------------------------------------------------------------


async def refer(school: School, whom: UUID, by: UUID | None) -> None:
    async with school.world.parts.sessions.begin() as session:
        await session.execute(
            text("update users set referred_by = :by where id = :whom"), {"by": by, "whom": whom}
        )


async def test_a_referrer_is_set_once(school: School) -> None:
    student, first, second = (one.id for one in await school.world.people(Role.TUTOR, 3))
    await refer(school, student, first)

    for other in (second, None):
        with pytest.raises(DBAPIError, match="REFERRER_KEPT"):
            await refer(school, student, other)
    with pytest.raises(DBAPIError, match="REFERRER_KEPT"):
        async with school.world.parts.sessions.begin() as session:
            await session.execute(
                text("update users set referred_code = 'X' where id = :id"), {"id": student}
            )
    await refer(school, student, first)


async def test_nobody_refers_themself_however_long_the_way(school: School) -> None:
    people = [one.id for one in await school.world.people(Role.TUTOR, 4)]
    for lower, upper in itertools.pairwise(people):
        await refer(school, lower, upper)

    with pytest.raises(DBAPIError, match=r"nobody_refers_themself|REFERRER_CIRCLE"):
        await refer(school, people[-1], people[-1])
    with pytest.raises(DBAPIError, match="REFERRER_CIRCLE"):
        await refer(school, people[-1], people[0])


async def test_two_who_refer_each_other_at_once_make_no_circle(school: School) -> None:
    ann, bob = (one.id for one in await school.world.people(Role.TUTOR, 2))

    outcomes = await asyncio.gather(refer(school, ann, bob), refer(school, bob, ann), return_exceptions=True)

    assert sum(outcome is None for outcome in outcomes) == 1


REFUSED = (
    ("code_has_referrer", "update users set referred_code = 'TEACH00000000' where referred_by is null"),
    ("ck_referral_code_code_form", "update referral_code set code = 'course_1'"),
    (
        "uq_referral_code_course_id",
        "insert into referral_code select 'COURSE_00000000', owner_id, course_id from referral_code limit 1",
    ),
    (
        "pk_referral_code",
        "insert into referral_code select code, owner_id, gen_random_uuid() from referral_code limit 1",
    ),
    ("fk_referral_code_owner_id", "update referral_code set owner_id = gen_random_uuid()"),
)


async def test_bad_codes_are_refused_by_their_constraint(school: School) -> None:
    await school.do("POST", "/courses", school.tutor, course_body())

    for refusal, statement in REFUSED:
        with pytest.raises(DBAPIError, match=refusal):
            async with school.world.parts.sessions.begin() as session:
                await session.execute(text(statement))


async def test_every_course_has_one_code_of_its_own(school: School) -> None:
    courses = [await school.do("POST", "/courses", school.tutor, course_body()) for _ in range(3)]

    async with school.world.parts.sessions() as session:
        rows = (await session.scalars(select(ReferralCode))).all()
    assert {course["id"] for course in courses} <= {str(row.course_id) for row in rows}
    assert len({await code_of(school, course) for course in courses}) == 3
    assert new_course_code() != new_course_code()
