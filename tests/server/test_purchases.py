"""Buying, giving back and being paid, over HTTP against the real database."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest

from rooms.messages import LessonStarted, RoomKind
from server.context import Role
from server.features.courses import quotes
from tests.server.school import LESSON, START, Body, School, course_body
from tests.server.world import Person

DAY = timedelta(days=1)
ATTENDED = timedelta(minutes=80)
MISSED = timedelta(minutes=15)
WHY = {"reason": "after a call with them"}


async def test_a_quote_says_everything_and_charges_nothing(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1, cents=9_999)

    quote = await school.quote(student, course, course["sessions"][0])

    assert {name: quote[name]["amount"] for name in ("price", "balance", "shortfall")} == {
        "price": 10_000,
        "balance": 9_999,
        "shortfall": 1,
    }
    assert quote["split"] == {
        "tutor_bps": 3_000,
        "platform_bps": 7_000,
        "attribution": "platform",
        "policy_version": 1,
    }
    assert (quote["seats_left"], quote["sessions"], quote["kind"]) == (20, 1, "session")
    assert "until the session starts" in quote["refund_rule"]
    assert await school.balance(student) == 9_999


async def test_too_little_credit_is_refused_with_the_exact_gap(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1, cents=9_990)
    quote = await school.quote(student, course, course["sessions"][0])

    refused = await school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})

    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_funds")
    assert refused.json()["facts"]["shortfall"] == {"amount": 10, "currency": "USD"}
    assert (await school.do("GET", "/purchases", student))["items"] == []


async def test_a_purchase_holds_the_price_of_each_session(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)

    bought = await school.buy(student, course)

    assert (bought["kind"], bought["status"], bought["payment"]) == ("full_course", "active", "held")
    assert [hold["amount"]["amount"] for hold in bought["holds"]] == [333, 333, 334]
    assert [hold["lesson_id"] for hold in bought["holds"]] == [row["room_id"] for row in course["sessions"]]
    assert bought["balance"]["amount"] == 99_000
    wallet = await school.do("GET", "/wallet", student)
    assert (wallet["balance"]["amount"], wallet["held"]["amount"]) == (99_000, 1_000)


async def test_a_platform_student_pays_the_tutor_thirty(school: School) -> None:
    """Story 1 of REQUIREMENTS F.4."""
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])

    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    hold = await school.do("GET", f"/holds/{bought['holds'][0]['id']}", student)
    assert (hold["tutor_share"]["amount"], hold["platform_share"]["amount"]) == (3_000, 7_000)
    assert (await school.purchase_now(bought))["status"] == "attended"


async def test_a_referred_student_pays_the_tutor_seventy(school: School) -> None:
    """Story 2 of REQUIREMENTS F.4."""
    course = await school.course(sessions=1)
    (student,) = await school.students(1, referred=True)
    bought = await school.buy(student, course, course["sessions"][0])

    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    earnings = (await school.do("GET", "/wallet", school.tutor))["earnings"]
    assert earnings["available"]["amount"] == 7_000
    assert bought["split"]["attribution"] == "referral"


async def test_who_misses_the_session_gets_everything_back(school: School) -> None:
    """Story 3 of REQUIREMENTS F.4."""
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])

    await school.hold_lesson(course["sessions"][0], {student.id: MISSED})

    after = await school.purchase_now(bought)
    assert (after["status"], after["payment"], after["refunded"]["amount"]) == ("missed", "settled", 10_000)
    assert await school.balance(student) == 100_000


async def test_a_full_course_is_settled_session_by_session(live_school: School) -> None:
    """Story 4 of REQUIREMENTS F.4: one attended, one missed, one cancelled."""
    school = live_school
    course = await school.course()
    (student,) = await school.students(1)
    bought = await school.buy(student, course)
    first, second, third = course["sessions"]
    await school.do("POST", f"/courses/{course['id']}/sessions/{third['id']}/cancel", school.tutor)

    await school.hold_lesson(first, {student.id: ATTENDED})
    halfway = await school.purchase_now(bought)
    await school.hold_lesson(second, {student.id: MISSED})

    after = await school.purchase_now(bought)
    assert (halfway["status"], halfway["payment"]) == ("active", "partly_settled")
    assert (after["status"], after["payment"], after["refunded"]["amount"]) == ("completed", "settled", 667)
    assert await school.balance(student) == 100_000 - 333
    revenue = await school.do("GET", f"/courses/{course['id']}/revenue", school.tutor)
    assert {name: money["amount"] for name, money in revenue.items() if "amount" in money} == {
        "sold": 1_000,
        "earned": 99,
        "platform": 234,
        "held": 0,
        "expected": 0,
        "refunded": 667,
    }
    assert await school.violations() == []


async def test_slices_that_were_never_dated_go_back_when_the_course_completes(school: School) -> None:
    course = await school.course(sessions=3, dated=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course)

    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    after = await school.purchase_now(bought)
    assert [hold["lesson_id"] is None for hold in bought["holds"]] == [False, True, True]
    assert (after["status"], after["refunded"]["amount"]) == ("completed", 667)


async def test_who_buys_a_course_reads_when_it_ends(school: School) -> None:
    course = await school.course(sessions=3, dated=1)
    (student,) = await school.students(1)

    english = await school.quote(student, course)
    await school.do("PATCH", "/me", student, {"locale": "vi"})
    vietnamese = await school.quote(student, course)

    assert "over when all its sessions with a date are" in english["refund_rule"]
    assert "kết thúc khi mọi buổi đã có ngày" in vietnamese["refund_rule"]


async def test_a_slice_gets_its_session_when_the_tutor_dates_it(school: School) -> None:
    course = await school.course(sessions=2, dated=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course)

    added = await school.add_session(course, 2)

    holds = (await school.purchase_now(bought))["holds"]
    assert [hold["lesson_id"] for hold in holds] == [course["sessions"][0]["room_id"], added["room_id"]]
    assert added["seats_left"] == 19


async def test_a_late_entry_pays_for_what_is_left(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    await school.hold_lesson(course["sessions"][0], {})

    bought = await school.buy(student, course)

    assert bought["price"]["amount"] == 666
    assert [(hold["number"], hold["amount"]["amount"]) for hold in bought["holds"]] == [(2, 333), (3, 333)]


async def test_the_last_part_of_a_cheap_course_costs_a_dollar(school: School) -> None:
    course = await school.course(price_full_course={"amount": 100})
    for session in course["sessions"][:2]:
        await school.hold_lesson(session, {})
    (student,) = await school.students(1)

    assert (await school.buy(student, course))["price"]["amount"] == 100


async def test_the_full_course_replaces_single_sessions_that_are_ahead(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1, cents=20_500)
    first = await school.buy(student, course, course["sessions"][0])
    second = await school.buy(student, course, course["sessions"][1])
    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    quote = await school.quote(student, course)
    bought = await school.do("POST", "/purchases", student, {"quote_token": quote["quote_token"]})

    assert (quote["returned_first"]["amount"], quote["shortfall"]["amount"]) == (10_000, 0)
    assert (await school.purchase_now(first))["status"] == "attended"
    assert (await school.purchase_now(second))["status"] == "cancelled"
    assert bought["balance"]["amount"] == 20_500 - 10_000 - 666
    assert (await school.course_now(course))["current_students"] == 1
    assert await school.violations() == []


async def test_what_one_has_is_not_sold_again(school: School) -> None:
    course = await school.course()
    full, single = await school.students(2)
    await school.buy(full, course)
    await school.buy(single, course, course["sessions"][0])

    async def refusal(person: Person, session: Body | None) -> str:
        body = {"course_id": course["id"], "session_id": session["id"] if session else None}
        answer = await school.ask("POST", "/purchases/quote", person, body)
        assert answer.status_code == 409
        return str(answer.json()["code"])

    assert await refusal(full, None) == "already_enrolled"
    assert await refusal(full, course["sessions"][1]) == "already_enrolled"
    assert await refusal(single, course["sessions"][0]) == "already_bought"
    assert await refusal(school.tutor, None) == "own_course"


async def test_what_is_not_for_sale_is_refused(school: School) -> None:
    whole = await school.course(sessions=2, price_per_session=None)
    prices = {"price_type": "per_session", "price_full_course": None}
    single = await school.do("POST", "/courses", school.tutor, course_body(**prices))
    (student,) = await school.students(1)

    async def refusal(course: Body, session_id: object = None) -> tuple[int, str]:
        body = {"course_id": course["id"], "session_id": session_id}
        answer = await school.ask("POST", "/purchases/quote", student, body)
        return answer.status_code, answer.json()["code"]

    assert await refusal(single) == (404, "not_found")
    await school.add_session(single, 1, starts_at=START + 9 * DAY)
    await school.do("POST", f"/courses/{single['id']}/publish", school.tutor)
    assert await refusal(single) == (409, "not_sold_whole")
    assert await refusal(whole, whole["sessions"][0]["id"]) == (409, "not_sold_singly")
    assert await refusal(whole, str(uuid4())) == (404, "not_found")
    assert await refusal({"id": str(uuid4())}) == (404, "not_found")


async def test_a_session_is_sold_until_its_start(school: School) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    early, late = await school.students(2)

    school.at(START + DAY - timedelta(seconds=1))
    await school.buy(early, course, session)
    school.at(START + DAY)
    body = {"course_id": course["id"], "session_id": session["id"]}
    refused = await school.ask("POST", "/purchases/quote", late, body)
    whole = await school.ask("POST", "/purchases/quote", late, {"course_id": course["id"]})

    assert refused.json()["code"] == "session_not_open"
    assert whole.json()["code"] == "nothing_left"


async def test_a_session_whose_tutor_came_early_is_sold_and_given_back_until_its_start(
    school: School,
) -> None:
    course = await school.course(sessions=1)
    (session,) = course["sessions"]
    early, late = await school.students(2)
    starts_at = START + DAY
    school.at(starts_at - timedelta(minutes=8))
    await school.react(
        LessonStarted(UUID(session["room_id"]), RoomKind.COURSE_SESSION, starts_at - timedelta(minutes=8))
    )

    bought = await school.buy(early, course, session)
    given_back = await school.do("POST", f"/purchases/{bought['id']}/cancel", early)
    kept = await school.buy(late, course, session)
    school.at(starts_at)
    refused = await school.ask("POST", f"/purchases/{kept['id']}/cancel", late)

    assert (given_back["status"], given_back["balance"]["amount"]) == ("cancelled", 100_000)
    assert refused.json()["code"] == "session_not_open"
    assert await school.violations() == []


async def test_the_seats_of_a_session_are_full_and_single_buyers_together(school: School) -> None:
    course = await school.course(sessions=2, max_students=2)
    full, single, third = await school.students(3)
    first, second = course["sessions"]
    await school.buy(full, course)
    given_back = await school.buy(single, course, first)

    body = {"course_id": course["id"]}
    refused = [
        await school.ask("POST", "/purchases/quote", third, body),
        await school.ask("POST", "/purchases/quote", third, body | {"session_id": first["id"]}),
    ]
    other = await school.quote(third, course, second)
    await school.do("POST", f"/purchases/{given_back['id']}/cancel", single)
    after = await school.quote(third, course)

    assert [answer.json()["code"] for answer in refused] == ["course_full", "session_full"]
    assert (other["seats_left"], after["seats_left"]) == (1, 1)


async def test_a_stale_quote_is_refused(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    quote = await school.quote(student, course)
    await school.do(
        "PATCH", f"/courses/{course['id']}", school.tutor, {"price_full_course": {"amount": 2_000}}
    )

    refused = await school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})

    assert (refused.status_code, refused.json()["code"]) == (409, "quote_changed")
    assert refused.json()["facts"]["price"]["amount"] == 2_000


async def test_a_quote_is_used_once(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    quote = await school.quote(student, course)
    body = {"quote_token": quote["quote_token"]}
    bought = await school.do("POST", "/purchases", student, body)
    await school.do("POST", f"/purchases/{bought['id']}/cancel", student)

    refused = await school.ask("POST", "/purchases", student, body)

    assert (refused.status_code, refused.json()["code"]) == (409, "quote_used")


async def test_a_quote_is_nobody_elses(school: School) -> None:
    course = await school.course()
    student, thief = await school.students(2)
    quote = await school.quote(student, course)

    refused = await school.ask("POST", "/purchases", thief, {"quote_token": quote["quote_token"]})

    assert (refused.status_code, refused.json()["code"]) == (409, "quote_foreign")


async def test_a_quote_expires_on_the_wall_clock(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    settings, clock = school.world.parts.settings, school.world.parts.clock
    token = quotes.sign(
        settings.secret_key,
        user_id=student.id,
        course_id=UUID(course["id"]),
        session_id=None,
        terms="",
        wall=clock.wall() - quotes.LIFETIME - timedelta(seconds=1),
    )

    refused = await school.ask("POST", "/purchases", student, {"quote_token": token})

    assert (refused.status_code, refused.json()["code"]) == (409, "quote_expired")


def test_a_quote_of_a_node_whose_clock_is_ahead_holds() -> None:
    secret, user_id, wall = "s" * 32, uuid4(), datetime.now(UTC)
    ahead = wall + timedelta(seconds=5)
    token = quotes.sign(secret, user_id=user_id, course_id=uuid4(), session_id=None, terms="", wall=ahead)

    assert quotes.read(secret, token, user_id=user_id, wall=wall).sub == user_id


@pytest.mark.parametrize("kind", ["words", "forged", "access_token", "without_claims"])
async def test_a_token_that_is_no_quote_is_refused(school: School, kind: str) -> None:
    (student,) = await school.students(1, cents=0)
    secret = school.world.parts.settings.secret_key
    claims = {"aud": "quote", "exp": 2**40, "sub": str(student.id), "jti": str(uuid4())}
    tokens = {
        "words": "not.a.token",
        "forged": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "access_token": student.token,
        "without_claims": jwt.encode(claims, secret, algorithm="HS256"),
    }

    refused = await school.ask("POST", "/purchases", student, {"quote_token": tokens[kind]})

    assert (refused.status_code, refused.json()["code"]) == (400, "quote_invalid")


async def test_a_purchase_needs_a_key(school: School) -> None:
    (student,) = await school.students(1, cents=0)

    refused = await school.world.client.post(
        "/api/v1/purchases", json={"quote_token": "x"}, headers=student.headers
    )

    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_required")


async def test_a_single_session_is_given_back_until_its_start(school: School) -> None:
    course = await school.course(sessions=1)
    early, late = await school.students(2)
    first, second = [await school.buy(who, course, course["sessions"][0]) for who in (early, late)]

    school.at(START + DAY - timedelta(seconds=1))
    given_back = await school.do("POST", f"/purchases/{first['id']}/cancel", early)
    school.at(START + DAY)
    refused = await school.ask("POST", f"/purchases/{second['id']}/cancel", late)

    assert (given_back["status"], given_back["balance"]["amount"]) == ("cancelled", 100_000)
    assert (refused.status_code, refused.json()["code"]) == (409, "session_not_open")


async def test_a_full_course_gives_back_what_has_not_begun(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)
    bought = await school.buy(student, course)
    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    given_back = await school.do("POST", f"/purchases/{bought['id']}/cancel", student)

    assert given_back["refunded"]["amount"] == 667
    assert [hold["status"] for hold in given_back["holds"]] == ["released", "refunded", "refunded"]
    again = await school.buy(student, course)
    assert again["price"]["amount"] == 666
    assert await school.violations() == []


async def test_a_hold_that_an_administrator_gives_back_ends_its_place(school: School) -> None:
    course = await school.course(sessions=2, max_students=1)
    student, other = await school.students(2)
    bought = await school.buy(student, course)
    first, second = [f"/admin/holds/{hold['id']}/refund" for hold in bought["holds"]]

    await school.do("POST", first, school.admin, WHY)
    half = await school.purchase_now(bought)
    await school.do("POST", second, school.admin, WHY)
    whole = await school.purchase_now(bought)
    again = await school.ask("POST", second, school.admin, WHY)

    assert (half["status"], half["payment"]) == ("active", "partly_settled")
    assert (whole["status"], whole["refunded"]["amount"]) == ("cancelled", 1_000)
    assert (again.status_code, again.json()["code"]) == (409, "refund_too_large")
    assert await school.violations() == []
    # Who is inside is put out, and the seat is free for somebody else.
    assert (await school.react_to_all()).count("course.places_ended") == 2
    single = await school.buy(other, course, course["sessions"][0])

    # The same while the session is on.
    await school.start(course["sessions"][0])
    await school.do("POST", f"/admin/holds/{single['holds'][0]['id']}/refund", school.admin, WHY)
    await school.hold_lesson(course["sessions"][0], {other.id: ATTENDED})

    assert (await school.purchase_now(single))["status"] == "cancelled"
    assert [await school.balance(who) for who in (student, other)] == [100_000, 100_000]
    assert await school.violations() == []


async def test_an_administrator_pays_a_part_out_by_hand_once_the_session_has_begun(school: School) -> None:
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])
    path = f"/admin/holds/{bought['holds'][0]['id']}/release"
    body = {"percent": 65} | WHY

    early = await school.ask("POST", path, school.admin, body)
    await school.start(course["sessions"][0])
    refused = [
        await school.ask("POST", path, who, body | more)
        for who, more in (
            (school.tutor, {}),
            (school.admin, {"percent": 0}),
            (school.admin, {"percent": 101}),
            (school.admin, {"reason": " " * 12}),
        )
    ]
    done = await school.do("POST", path, school.admin, body)
    again = await school.ask("POST", path, school.admin, body)
    await school.hold_lesson(course["sessions"][0], {student.id: MISSED})

    assert (early.status_code, early.json()["code"]) == (409, "session_not_begun")
    assert [answer.status_code for answer in refused] == [403, 400, 400, 400]
    # 30 % of 6,500 are the tutor's.
    assert [done[name]["amount"] for name in ("tutor_share", "platform_share", "refunded")] == [
        1_950,
        4_550,
        3_500,
    ]
    assert (again.status_code, again.json()["code"]) == (409, "hold_not_held")
    hold = await school.do("GET", f"/holds/{bought['holds'][0]['id']}", student)
    assert (hold["status"], hold["cause"], hold["settled_by"]) == ("released", "admin", "admin")
    assert (await school.purchase_now(bought))["status"] == "attended"
    assert await school.balance(student) == 93_500
    assert await school.violations() == []


async def test_a_key_that_a_client_made_up_keeps_nobody_from_a_refund(school: School) -> None:
    course = await school.course(sessions=1)
    first, second = [await school.buy(who, course, course["sessions"][0]) for who in await school.students(2)]
    [hold], [victim] = first["holds"], second["holds"]

    asked = f"/admin/holds/{hold['id']}/refund"
    await school.ask("POST", asked, school.admin, WHY, key=f"place:{victim['id']}")
    cancelled = await school.do("POST", f"/purchases/{second['id']}/cancel", school.admin, WHY)

    assert (cancelled["status"], (await school.purchase_now(first))["status"]) == ("cancelled", "cancelled")


async def test_an_attended_session_is_not_given_back(school: School) -> None:
    course = await school.course(sessions=1)
    (student,) = await school.students(1)
    bought = await school.buy(student, course, course["sessions"][0])
    await school.hold_lesson(course["sessions"][0], {student.id: ATTENDED})

    refused = await school.ask("POST", f"/purchases/{bought['id']}/cancel", student)

    assert (refused.status_code, refused.json()["code"]) == (409, "status_forbids")


async def test_a_purchase_is_its_buyers_and_the_administrators(school: School) -> None:
    course = await school.course()
    student, stranger = await school.students(2)
    bought = await school.buy(student, course)
    path = f"/purchases/{bought['id']}"

    assert (await school.ask("GET", path, stranger)).status_code == 404
    assert (await school.ask("POST", f"{path}/cancel", stranger)).status_code == 404
    assert (await school.ask("POST", f"{path}/cancel", school.admin)).status_code == 403
    assert (await school.ask("POST", f"{path}/cancel", school.admin, {"reason": "short"})).status_code == 400
    cancelled = await school.do("POST", f"{path}/cancel", school.admin, {"reason": "paid by mistake"})
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "paid by mistake")
    assert await school.balance(student) == 100_000


async def test_purchases_are_listed_newest_first_by_status(school: School) -> None:
    course = await school.course()
    student, other = await school.students(2)
    bought = []
    for number, session in enumerate(course["sessions"]):
        school.at(START + timedelta(minutes=number))
        bought.append((await school.buy(student, course, session))["id"])
    await school.buy(other, course)
    await school.do("POST", f"/purchases/{bought[0]}/cancel", student)

    first = await school.do("GET", "/purchases?limit=2", student)
    second = await school.do("GET", f"/purchases?limit=2&cursor={first['next_cursor']}", student)
    active = await school.do("GET", "/purchases?status=active", student)
    everybodys = await school.do("GET", "/purchases", school.admin)

    assert [row["id"] for row in first["items"] + second["items"]] == bought[::-1]
    assert [row["id"] for row in active["items"]] == [bought[2], bought[1]]
    assert len(everybodys["items"]) == 4


@pytest.mark.parametrize("seed", range(5))
async def test_any_course_ends_with_every_cent_in_its_place(live_school: School, seed: int) -> None:
    """Random prices, buyers, attendance, cancellations: the revenue always adds up, and nothing stays held."""
    school, chance = live_school, random.Random(seed)
    course = await school.course(
        sessions=4,
        dated=3,
        price_full_course={"amount": chance.randrange(100, 9_999)},
        price_per_session={"amount": chance.randrange(100, 9_999)},
    )
    students = await school.students(3) + await school.students(2, referred=True)
    bought = []
    for student in students:
        session = chance.choice([None, *course["sessions"]])
        bought.append((student, await school.buy(student, course, session)))
    if chance.random() < 0.5:
        student, purchase = chance.choice(bought)
        await school.do("POST", f"/purchases/{purchase['id']}/cancel", student)
    first, *others = course["sessions"]
    if chance.random() < 0.5:
        cancelled = others.pop()
        await school.do("POST", f"/courses/{course['id']}/sessions/{cancelled['id']}/cancel", school.tutor)

    for session in (first, *others):
        attended = {
            student.id: chance.uniform(0, 1) * LESSON for student in students if chance.random() < 0.7
        }
        await school.hold_lesson(session, attended)

    revenue = await school.do("GET", f"/courses/{course['id']}/revenue", school.tutor)
    amounts = {name: money["amount"] for name, money in revenue.items() if "amount" in money}
    after = await school.course_now(course)
    assert after["status"] == "completed"
    assert amounts["held"] == 0
    assert amounts["sold"] == amounts["earned"] + amounts["platform"] + amounts["refunded"]
    for parts in (revenue["sessions"], revenue["sources"]):
        assert {name: sum(part[name]["amount"] for part in parts) for name in amounts} == amounts
    assert (
        sum([await school.balance(who) for who in students])
        == 500_000 - amounts["sold"] + amounts["refunded"]
    )
    assert await school.violations() == []


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
async def test_who_runs_the_platform_does_not_buy(school: School, role: Role) -> None:
    """C-28."""
    course = await school.course()
    official = await school.world.person(role)

    refused = await school.ask("POST", "/purchases/quote", official, {"course_id": course["id"]})

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


async def test_who_lost_the_approval_sells_nothing_more(school: School) -> None:
    course = await school.course(sessions=2, dated=1)
    (student,) = await school.students(1)
    quote = await school.quote(student, course)
    wanted = {"course_id": course["id"]}

    await school.do(
        "POST", f"/admin/tutors/{school.tutor.id}/reject", school.admin, {"reason": "the papers are forged"}
    )
    quoted = await school.ask("POST", "/purchases/quote", student, wanted)
    confirmed = await school.ask("POST", "/purchases", student, {"quote_token": quote["quote_token"]})

    assert (quoted.status_code, quoted.json()["code"]) == (409, "not_on_sale")
    assert (confirmed.status_code, confirmed.json()["code"]) == (409, "not_on_sale")
    await school.do("POST", f"/admin/tutors/{school.tutor.id}/approve", school.admin)
    assert (await school.ask("POST", "/purchases/quote", student, wanted)).status_code == 200


async def test_who_is_blocked_sells_nothing_more(school: School) -> None:
    course = await school.course()
    (student,) = await school.students(1)

    await school.do(
        "POST", f"/admin/users/{school.tutor.id}/block", school.admin, {"reason": "complaints of students"}
    )
    quoted = await school.ask("POST", "/purchases/quote", student, {"course_id": course["id"]})

    assert (quoted.status_code, quoted.json()["code"]) == (409, "not_on_sale")


async def test_tutors_buy_from_each_other(school: School) -> None:
    course = await school.course()
    colleague = await school.world.person(Role.TUTOR)
    await school.pay_in(colleague, 1_000)

    assert (await school.buy(colleague, course))["status"] == "active"
