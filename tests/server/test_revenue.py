"""What a period brought the platform: the same to the cent as what the ledger's accounts say."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from billing.models import Account, AccountKind
from server.context import Role
from tests.server.school import START, School
from tests.server.world import Person


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def revenue(school: School, owner: Person, **query: object) -> Any:
    path = "/admin/revenue?" + "&".join(f"{name}={value}" for name, value in query.items())
    return await school.do("GET", path, owner)


async def of_platform(school: School) -> int:
    kinds = (AccountKind.PLATFORM_REVENUE, AccountKind.PLATFORM_EXPENSE)
    async with school.world.parts.sessions() as session:
        return int(
            await session.scalar(select(func.sum(Account.balance)).where(Account.kind.in_(kinds))) or 0
        )


async def test_lessons_refunds_and_gifts_add_up_to_what_the_accounts_have(school: School) -> None:
    owner = await school.world.person(Role.OWNER)
    before = await of_platform(school)
    there, absent = await school.students(2)
    course = await school.course(sessions=1, price_type="per_session", price_full_course=None)
    [session] = (await school.do("GET", f"/courses/{course['id']}/sessions", school.tutor))["items"]
    for student in (there, absent):
        await school.buy(student, course, session)
    await school.hold_lesson(session, {there.id: timedelta(minutes=90), absent.id: timedelta()})

    day = (START + timedelta(days=1)).date()
    today, whole = (
        await revenue(school, owner, since=day, until=day),
        await revenue(school, owner, since=START.date(), until=day, by="month"),
    )

    # The school's course splits 30 : 70; the student who was away has all of it back.
    parts = {name: money["amount"] for name, money in today["total"].items()}
    assert parts == {"to_tutors": 3_000, "to_platform": 7_000, "to_students": 10_000}
    assert [one["source_kind"] for one in today["sources"]] == ["course_session"]
    assert (today["costs"], today["net"]["amount"]) == ([], 7_000)
    # The day before, administrators filled both wallets from the platform's pocket.
    assert [(one["kind"], one["amount"]["amount"]) for one in whole["costs"]] == [
        ("admin_adjustment", -200_000)
    ]
    assert whole["net"]["amount"] == await of_platform(school) - before
    [month] = whole["periods"]
    assert (month["begins"], month["net"]) == ("2030-01-01", whole["net"])


async def test_period_in_which_nothing_moved_is_empty(school: School) -> None:
    owner = await school.world.person(Role.OWNER)

    empty = await revenue(school, owner, since="2020-01-01", until="2020-01-31")

    assert (empty["sources"], empty["costs"], empty["periods"]) == ([], [], [])
    assert empty["net"]["amount"] == 0


@pytest.mark.parametrize(
    ("since", "until", "by"), [("2030-01-02", "2030-01-01", "day"), ("2028-01-01", "2030-01-01", "day")]
)
async def test_span_that_no_screen_shows_is_refused(school: School, since: str, until: str, by: str) -> None:
    owner = await school.world.person(Role.OWNER)

    refused = await school.ask("GET", f"/admin/revenue?since={since}&until={until}&by={by}", owner)

    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert [one["field"] for one in refused.json()["errors"]] == ["since"]


@pytest.mark.parametrize(("field", "day"), [("since", "9999-12-31"), ("until", "0001-01-05")])
async def test_day_that_cannot_be_moved_is_refused(school: School, field: str, day: str) -> None:
    owner = await school.world.person(Role.OWNER)

    refused = await school.ask("GET", f"/admin/revenue?{field}={day}", owner)

    assert (refused.status_code, [one["field"] for one in refused.json()["errors"]]) == (400, [field])
