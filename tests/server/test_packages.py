"""Packages as tutors offer and students buy them."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from billing import packages
from billing.models import OwnerId
from server import jobs
from server.audit import AuditEntry
from server.context import Principal, Role
from server.features.packages import handlers
from server.job import Once
from tests.billing.world import end, facts
from tests.server.school import START, Body, School
from tests.server.stage import Stage
from tests.server.world import Person

OPTION: Body = {
    "title": "Five lessons",
    "description": "One a week.",
    "minutes": 60,
    "sessions": 5,
    "price": {"amount": 10_001},
    "validity_days": 90,
}


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def option(school: School, **fields: Any) -> Body:
    return await school.do("POST", "/package-options", school.tutor, OPTION | fields)


async def buy(school: School, student: Person, offered: Body) -> Body:
    quote = await school.do("POST", "/packages/quote", student, {"option_id": offered["id"]})
    return await school.do(
        "POST", "/packages", student, {"option_id": offered["id"], "terms": quote["terms"]}
    )


async def refusal(school: School, method: str, path: str, person: Person | None, body: object = None) -> Any:
    answer = await school.ask(method, path, person, body)
    return answer.status_code, answer.json()["code"]


async def test_an_offer_is_made_changed_hidden_and_listed(school: School) -> None:
    first = await option(school, position=2)
    second = await option(school, title="Ten lessons", sessions=10, is_popular=True, position=1)
    tutor_path = f"/tutors/{school.tutor.id}/package-options"

    changed = await school.do(
        "PATCH",
        f"/package-options/{first['id']}",
        school.tutor,
        {"price": {"amount": 9_000}, "validity_days": None},
    )
    hidden = await school.do("POST", f"/package-options/{second['id']}/hide", school.tutor)

    assert first["per_session"]["amount"] == 2_000
    assert (changed["price"]["amount"], changed["validity_days"], changed["title"]) == (
        9_000,
        None,
        "Five lessons",
    )
    assert hidden["is_hidden"]
    for person, seen in ((None, [first]), (school.tutor, [second, first])):
        items = (await school.do("GET", tutor_path, person))["items"]
        assert [one["id"] for one in items] == [one["id"] for one in seen]
    shown = await school.do("POST", f"/package-options/{second['id']}/hide", school.tutor, {"hidden": False})
    assert not shown["is_hidden"]


async def test_what_approved_tutors_offer_is_browsed_newest_first(school: School) -> None:
    first = await option(school, title="The older one")
    school.at(START + timedelta(minutes=1))
    second = await option(school, title="The newer one")
    hidden = await option(school, title="Not for sale")
    await school.do("POST", f"/package-options/{hidden['id']}/hide", school.tutor)

    page = await school.do("GET", "/package-options?limit=1", None)
    rest = await school.do("GET", f"/package-options?limit=100&cursor={page['next_cursor']}", None)
    await school.do(
        "POST", f"/admin/tutors/{school.tutor.id}/reject", school.admin, {"reason": "for the test"}
    )
    without = await school.do("GET", "/package-options?limit=100", None)

    [newest] = page["items"]
    assert {name: newest[name] for name in second} == second
    assert newest["tutor_name"].startswith("Minted")
    assert first["id"] in {one["id"] for one in rest["items"]}
    assert {first["id"], second["id"]}.isdisjoint({one["id"] for one in without["items"]})


IMPOSSIBLE: tuple[Body, ...] = (
    {"title": "ab"},
    {"minutes": 0},
    {"minutes": 601},
    {"sessions": 0},
    {"sessions": 101},
    {"price": {"amount": 0}},
    {"price": {"amount": 99}},
    {"validity_days": 0},
    {"validity_days": None, "is_rolling": True},
)


async def test_an_offer_that_cannot_be_is_refused(school: School) -> None:
    for fields in IMPOSSIBLE:
        refused = await refusal(school, "POST", "/package-options", school.tutor, OPTION | fields)
        assert refused == (400, "bad_request")


async def test_offers_have_an_end(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    await option(school)
    monkeypatch.setattr(handlers, "OPTIONS_MOST", 1)

    refused = await refusal(school, "POST", "/package-options", school.tutor, OPTION)

    assert refused == (409, "too_many_options")


async def test_only_approved_tutors_offer_and_only_their_own(school: School) -> None:
    (student,) = await school.students(1)
    colleague = await school.world.person(Role.TUTOR)
    offered = await option(school)

    assert await refusal(school, "POST", "/package-options", student, OPTION) == (403, "permission_denied")
    for method, path in (("PATCH", ""), ("POST", "/hide")):
        where = f"/package-options/{offered['id']}{path}"
        assert await refusal(school, method, where, colleague, {}) == (404, "option_not_found")


async def test_a_package_is_quoted_and_bought(school: School) -> None:
    offered = await option(school)
    (student,) = await school.students(1, cents=10_000)
    quote = await school.do("POST", "/packages/quote", student, {"option_id": offered["id"]})
    wanted = {"option_id": offered["id"], "terms": quote["terms"]}
    short = await school.ask("POST", "/packages", student, wanted)
    await school.pay_in(student, 1)

    first = await school.ask("POST", "/packages", student, wanted, key="once")
    again = await school.ask("POST", "/packages", student, wanted, key="once")

    assert (quote["price"]["amount"], quote["shortfall"]["amount"]) == (10_001, 1)
    assert (quote["on_expiry"], quote["refund_days"]) == ("release", 14)
    assert "For 14 days" in quote["refund_rule"]
    assert (short.status_code, short.json()["code"]) == (409, "insufficient_funds")
    assert (first.status_code, again.json()) == (201, first.json())
    package = first.json()
    assert [one["amount"]["amount"] for one in package["slices"]] == [2_000, 2_000, 2_000, 2_000, 2_001]
    assert (package["purchased"], package["used"], package["remaining"], package["status"]) == (
        5,
        0,
        5,
        "active",
    )
    assert package["tutor_bps"] == 8_000
    assert await school.balance(student) == 0
    for person in (student, school.tutor, school.admin):
        assert (await school.do("GET", f"/packages/{package['id']}", person)) == package
        listed = (await school.do("GET", "/packages?status=active", person))["items"]
        assert package["id"] in {one["id"] for one in listed}
        assert person is school.admin or len(listed) == 1
    assert (await school.do("GET", "/packages?status=expired", student))["items"] == []
    assert await school.violations() == []


async def test_what_changed_since_the_quote_is_not_bought(school: School) -> None:
    offered = await option(school)
    (student,) = await school.students(1)
    quote = await school.do("POST", "/packages/quote", student, {"option_id": offered["id"]})
    await school.do("PATCH", f"/package-options/{offered['id']}", school.tutor, {"price": {"amount": 9_999}})

    wanted = {"option_id": offered["id"], "terms": quote["terms"]}

    assert await refusal(school, "POST", "/packages", student, wanted) == (409, "quote_changed")


async def test_a_sold_package_keeps_what_it_was_sold_with(school: School) -> None:
    offered = await option(school)
    (student,) = await school.students(1)
    before = await buy(school, student, offered)

    await school.do(
        "PATCH",
        f"/package-options/{offered['id']}",
        school.tutor,
        {"title": "Six", "sessions": 6, "minutes": 30},
    )

    assert await school.do("GET", f"/packages/{before['id']}", student) == before


async def test_who_may_not_buy_is_told_why(school: School) -> None:
    offered = await option(school)
    (student,) = await school.students(1)
    body = {"option_id": offered["id"]}

    assert await refusal(school, "POST", "/packages/quote", school.tutor, body) == (409, "own_package")
    assert await refusal(school, "POST", "/packages/quote", school.admin, body) == (403, "permission_denied")
    unknown = {"option_id": uuid4()}
    assert await refusal(school, "POST", "/packages/quote", student, unknown) == (404, "option_not_found")
    await school.do(
        "POST", f"/admin/tutors/{school.tutor.id}/reject", school.admin, {"reason": "the papers are forged"}
    )
    assert await refusal(school, "POST", "/packages/quote", student, body) == (409, "not_on_sale")


async def test_strangers_know_nothing_of_a_package(school: School) -> None:
    (student, stranger) = await school.students(2)
    package = await buy(school, student, await option(school))

    for method, path in (("GET", ""), ("POST", "/refund")):
        found = await refusal(school, method, f"/packages/{package['id']}{path}", stranger, {})
        assert found == (404, "package_not_found")
    assert (await school.do("GET", "/packages", stranger))["items"] == []


async def test_the_rest_is_given_back_by_the_student_in_time_and_by_an_administrator_with_a_reason(
    school: School,
) -> None:
    offered = await option(school)
    (student,) = await school.students(1)
    first, second = await buy(school, student, offered), await buy(school, student, offered)
    path = f"/packages/{second['id']}/refund"

    refunded = await school.do("POST", f"/packages/{first['id']}/refund", student)
    school.at(START + timedelta(days=15))

    assert (refunded["status"], {one["status"] for one in refunded["slices"]}) == ("refunded", {"refunded"})
    assert await refusal(school, "POST", path, student) == (409, "package_refund_over")
    assert await refusal(school, "POST", path, school.tutor) == (403, "permission_denied")
    assert await refusal(school, "POST", path, school.admin) == (403, "permission_denied")
    reason = "The tutor moved away."
    await school.do("POST", path, school.admin, {"reason": reason})
    assert await school.balance(student) == 100_000
    async with school.world.parts.sessions() as session:
        [entry] = (
            await session.scalars(select(AuditEntry).where(AuditEntry.target_id == second["id"]))
        ).all()
    assert (entry.action, entry.reason) == ("package.refund", reason)
    assert await school.violations() == []


async def test_an_administrator_gives_a_lesson_back_that_was_taken_and_the_others_with_their_package(
    school: School,
) -> None:
    (student,) = await school.students(1)
    package = await buy(school, student, await option(school))
    now = school.world.parts.clock.now()
    async with school.world.parts.sessions.begin() as session:
        taken = await packages.use(session, UUID(package["id"]), uuid4(), opened_at=now, now=now)
    free = next(one["hold_id"] for one in package["slices"] if one["hold_id"] != str(taken))
    why = {"reason": "after a call with them"}

    refused = await school.ask("POST", f"/admin/holds/{free}/refund", school.admin, why)
    by_hand = {"percent": 50} | why
    paid = await school.ask("POST", f"/admin/holds/{taken}/release", school.admin, by_hand)
    given = await school.do("POST", f"/admin/holds/{taken}/refund", school.admin, why)
    after = await school.do("GET", f"/packages/{package['id']}", student)
    rest = await school.do("POST", f"/packages/{package['id']}/refund", student)

    assert (refused.status_code, refused.json()["code"]) == (409, "lesson_not_taken")
    assert refused.json()["facts"]["package_id"] == package["id"]
    assert (paid.status_code, paid.json()["code"]) == (409, "not_of_a_course")
    assert given["refunded"] == next(
        one["amount"] for one in package["slices"] if one["hold_id"] == str(taken)
    )
    assert (after["status"], after["used"]) == ("active", 1)
    assert (rest["status"], {one["status"] for one in rest["slices"]}) == ("refunded", {"refunded"})
    assert await school.balance(student) == 100_000
    assert await school.violations() == []


async def sold(stage: Stage) -> tuple[Principal, Principal, Body]:
    """Have a package of one lesson sold; return its tutor, its student, and the package."""
    [tutor] = await stage.people(1, Role.TUTOR)
    [admin] = await stage.people(1, Role.ADMIN)
    [student] = await stage.people(1)
    stage.parts.clock.pin(START)
    money = {"amount": 50_000, "currency": "USD"}
    await stage.do("wallet.adjust", admin, user_id=student.user_id, money=money, reason="money for the test")
    offered = await stage.do("package_option.create", tutor, **OPTION | {"sessions": 1})
    quote = await stage.do("package.quote", student, option_id=offered["id"])
    package = await stage.do("package.buy", student, option_id=offered["id"], terms=quote["terms"])
    return tutor, student, package


async def test_the_tutor_is_told_of_a_lesson_that_is_cancelled_too_late(stage: Stage) -> None:
    tutor, student, package = await sold(stage)
    lesson, now = uuid4(), stage.parts.clock.now()
    async with stage.parts.sessions.begin() as session:
        await packages.use(session, UUID(package["id"]), lesson, opened_at=now, now=now)
        hold_id = await packages.forfeit(
            session, UUID(package["id"]), lesson, actor=f"user:{student.user_id}", reason="I am ill.", now=now
        )
    await stage.relay.flush()

    notices = (await stage.do("notification.list", tutor))["items"]
    shown = await stage.do("hold.get", student, hold_id=hold_id)

    assert sorted(one["type"] for one in notices) == ["new_package_purchase", "payment_received"]
    assert (shown["status"], shown["cause"], shown["settled_by"], shown["reason"]) == (
        "released",
        "forfeited",
        "student",
        "I am ill.",
    )
    assert (await stage.do("package.get", student, package_id=package["id"]))["status"] == "exhausted"


async def test_both_are_told_of_a_package_and_of_its_end(stage: Stage) -> None:
    tutor, student, package = await sold(stage)

    # What is told at one moment is listed in any order.
    stage.parts.clock.pin(START + timedelta(hours=1))
    lesson, now = uuid4(), stage.parts.clock.now()
    async with stage.parts.sessions.begin() as session:
        await packages.use(session, UUID(package["id"]), lesson, opened_at=now, now=now)
    nobody = facts(lesson, {}, tutor_id=OwnerId(tutor.user_id), tutor_attended_s=0, ended_at=now)
    await end(stage.parts.sessions, nobody, now=now)
    for days in (83, 91):
        stage.parts.clock.pin(START + timedelta(days=days))
        async with stage.parts.sessions.begin() as session:
            await packages.due(session, UUID(package["id"]), now=stage.parts.clock.now())
        [seen] = (await stage.do("package.list", student))["items"]
        assert (seen["status"], seen["ends_soon"]) == (("active", True) if days == 83 else ("expired", False))
    await stage.relay.flush()

    def kinds(items: list[Body]) -> list[str]:
        return [one["type"] for one in reversed(items)]

    told = {
        person.user_id: kinds((await stage.do("notification.list", person))["items"])
        for person in (student, tutor)
    }
    assert told[student.user_id] == [
        "package_confirmed",
        "package_lesson_returned",
        "package_ending",
        "package_expired",
    ]
    assert sorted(told[tutor.user_id]) == ["new_package_purchase", "package_expired", "payment_received"]
    shown = [one.ev for one in stage.seen(f"user:{student.user_id}") if one.ev.startswith("package.")]
    assert shown == ["package.bought", "package.lesson_returned", "package.ending", "package.expired"]
    assert (await stage.do("package.get", student, package_id=package["id"]))["status"] == "expired"


async def test_the_tier_and_the_way_to_the_next_are_shown_with_the_earnings(school: School) -> None:
    shown = await school.do("GET", "/earnings", school.tutor)

    assert shown["tier"] == {
        "earned": {"amount": 0, "currency": "USD"},
        "fee_bps": 2_000,
        "next_from": {"amount": 100_000, "currency": "USD"},
        "missing": {"amount": 100_000, "currency": "USD"},
        "next_fee_bps": 1_500,
    }


def test_the_end_of_a_package_is_a_job() -> None:
    [row] = [job for job in jobs.TABLE if job.kind == packages.JOB]

    assert isinstance(row, Once)
    assert row.clock == "business"
