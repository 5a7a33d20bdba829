"""PROTOCOL 2, row by row: status, main fields, their names and types."""

import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.contract import shapes
from tests.contract.shapes import (
    MONEY,
    Shape,
    anything,
    at,
    fits,
    integer,
    maybe,
    number,
    one_of,
    page,
    svg,
    text,
    truth,
)
from tests.journeys import school
from tests.journeys.people import PASSWORD, Body, Person, Town, eventually, town, usd
from tests.journeys.product import Product
from tests.journeys.school import Lesson

pytestmark = pytest.mark.journey

API = "/api/v1"
REASON = "because the contract says so"

ACCOUNT: Shape = {
    "id": shapes.uuid,
    "email": text,
    "first_name": text,
    "last_name": text,
    "role": one_of("student", "tutor", "admin", "owner"),
    "timezone": text,
    "locale": one_of("en", "vi"),
    "created_at": at,
}
TOKENS: Shape = {"user": ACCOUNT, "access_token": text, "expires_in_s": integer, "refresh_token": text}
SESSION: Shape = {
    "id": shapes.uuid,
    "course_id": shapes.uuid,
    "room_id": shapes.uuid,
    "number": integer,
    "title": text,
    "starts_at": at,
    "ends_at": at,
    "duration_minutes": integer,
    "status": one_of("scheduled", "in_progress", "completed", "cancelled"),
    "seats_left": integer,
}
LISTED_COURSE: Shape = {
    "id": shapes.uuid,
    "title": text,
    "description": text,
    "language": text,
    "level": one_of("A1", "A2", "B1", "B2", "C1", "C2"),
    "category": text,
    "duration_hours": number,
    "total_sessions": integer,
    "price_type": one_of("per_session", "full_course"),
    "max_students": integer,
    "status": one_of("upcoming", "ongoing", "completed", "cancelled"),
    "tutor": {"id": shapes.uuid, "name": text},
    "share_link": text,
    "created_at": at,
}
COURSE: Shape = {**LISTED_COURSE, "qr_svg": svg, "seats_left": integer, "sessions": [SESSION]}
SPLIT: Shape = {"tutor_bps": integer, "platform_bps": integer, "attribution": text, "policy_version": integer}
PURCHASE: Shape = {
    "id": shapes.uuid,
    "kind": one_of("session", "full_course"),
    "status": text,
    "course_id": shapes.uuid,
    "price": MONEY,
    "refunded": MONEY,
    "split": SPLIT,
    "holds": [{"id": shapes.uuid, "amount": MONEY, "status": one_of("held", "released", "refunded")}],
    "created_at": at,
}
HOLD: Shape = {
    "id": shapes.uuid,
    "student_id": shapes.uuid,
    "tutor_id": shapes.uuid,
    "status": one_of("held", "released", "refunded"),
    "amount": MONEY,
    "tutor_share": MONEY,
    "platform_share": MONEY,
    "refunded": MONEY,
    "cause": maybe(
        one_of(
            "attendance", "tutor_absent", "cancelled", "outcome", "forfeited", "admin", "adjustment", "refund"
        )
    ),
    "adjustments": [anything],
    "policy": {"version": integer},
    "explanation": text,
}
ATTENDANCE: Shape = {
    "scheduled_s": integer,
    "attended_s": integer,
    "percent": integer,
    "intervals": [{"from": at, "to": at, "sources": [text]}],
    "confidence": text,
}
TALK: Shape = {
    "id": shapes.uuid,
    "room_id": shapes.uuid,
    "code": text,
    "share_link": text,
    "title": text,
    "language": text,
    "max_participants": integer,
    "public": truth,
    "region": maybe(text),
    "state": one_of("open", "live", "closing", "closed"),
    "created_at": at,
}
PARTICIPANT: Shape = {
    "user_id": shapes.uuid,
    "name": text,
    "role": one_of("host", "member", "tutor", "student"),
    "seat_no": integer,
    "seat_generation": integer,
    "state": one_of("joining", "connected", "grace"),
    "joined_at": at,
}
SNAPSHOT: Shape = {
    "id": shapes.uuid,
    "kind": one_of("talk", "course_session", "booking"),
    "title": text,
    "state": one_of("open", "live", "closing", "closed"),
    "cap": integer,
    "generation": integer,
    "participants": [PARTICIPANT],
}
WALLET: Shape = {"balance": MONEY, "held": MONEY, "earnings": {"pending": MONEY, "available": MONEY}}
NOTIFICATION: Shape = {
    "id": shapes.uuid,
    "type": text,
    "title": text,
    "text": text,
    "data": shapes.mapping,
    "link": maybe(text),
    "created_at": at,
    "read_at": maybe(at),
}
PROBLEM: Shape = {"status": integer, "title": text, "detail": text, "code": text, "trace_id": text}


async def answers(
    person: Person,
    method: str,
    path: str,
    shape: Shape,
    *,
    body: object = None,
    status: int = 200,
    **headers: str,
) -> Any:
    """Ask, and check status, shape and conventions of the answer."""
    answer = await person.send(method, API + path, body, **headers)
    assert answer.status == status, f"{method} {path}: {answer.status} {answer.content!r}"
    assert answer.headers["Content-Type"] == "application/json"
    fits(answer.body, shape)
    shapes.keeps_conventions(answer.body)
    return answer.body


async def refuses(
    person: Person, method: str, path: str, status: int, code: str, *, body: object = None, **headers: str
) -> Body:
    """Ask, and check that it is refused with a problem."""
    answer = await person.send(method, API + path, body, **headers)
    assert (answer.status, answer.body["code"]) == (status, code), answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    fits(answer.body, PROBLEM)
    assert answer.body["status"] == status
    assert answer.headers["X-Trace-Id"] == answer.body["trace_id"]
    found: Body = answer.body
    return found


async def lesson_held(people: Town, admin: Person, student: Person) -> tuple[Lesson, Body]:
    """Return a lesson that the student has attended, and the purchase."""
    lesson = await school.offer(people, admin)
    bought = await school.sell(lesson, admin, student)
    await people.go_to(lesson.minute(-5))
    for person in (lesson.tutor, student):
        await person.connect()
        await person.join(lesson.room_id)
    await people.go_to(lesson.ends_at + timedelta(minutes=8))
    return lesson, bought


async def test_accounts(product: Product) -> None:
    async with town(product) as people:
        email = f"{uuid.uuid4().hex}@contract.example"
        new = {
            "email": email,
            "password": PASSWORD,
            "first_name": "Ann",
            "last_name": "Lee",
            "role": "student",
        }
        nobody = (await people.mint())[0]

        made = await answers(nobody, "POST", "/auth/register", TOKENS, body=new, status=201)
        logged_in = await answers(
            nobody, "POST", "/auth/login", TOKENS, body={"email": email, "password": PASSWORD}
        )
        refreshed = await answers(
            nobody, "POST", "/auth/refresh", TOKENS, body={"refresh_token": logged_in["refresh_token"]}
        )
        person = Person(people, user_id=made["user"]["id"], token=refreshed["access_token"], email=email)
        assert (await answers(person, "GET", "/me", ACCOUNT))["id"] == person.id
        changed = await answers(person, "PATCH", "/me", ACCOUNT, body={"first_name": "Anh", "locale": "vi"})
        assert (changed["first_name"], changed["locale"]) == ("Anh", "vi")
        await answers(person, "POST", "/auth/ws-ticket", {"ticket": text, "expires_in_s": 30})
        await answers(person, "POST", "/auth/logout", {}, body={"refresh_token": refreshed["refresh_token"]})
        body = {"refresh_token": refreshed["refresh_token"]}
        await refuses(nobody, "POST", "/auth/refresh", 401, "unauthorized", body=body)
        await refuses(nobody, "POST", "/auth/register", 409, "registration_refused", body=new)
        wrong = {"email": email, "password": "Wrong-horse-1"}
        await refuses(nobody, "POST", "/auth/login", 401, "login_failed", body=wrong)


async def test_refresh_token_is_an_http_only_cookie_too(product: Product) -> None:
    async with town(product) as people:
        person = await people.register("Cookie")
        login = await people.send("POST", f"{API}/auth/login", {"email": person.email, "password": PASSWORD})

        cookie = login.headers["Set-Cookie"]

        assert "HttpOnly" in cookie
        assert "SameSite" in cookie
        pair = cookie.split(";")[0]
        refreshed = await people.send("POST", f"{API}/auth/refresh", {}, Cookie=pair)
        assert refreshed.status == 200
        fits(refreshed.body, TOKENS)


async def test_administration(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        tutor = await people.register("Tu", role="tutor")
        managed: Shape = {"id": shapes.uuid, "email": text, "tutor_status": "approved", "referral_code": text}

        await answers(admin, "POST", f"/admin/tutors/{tutor.id}/approve", managed)
        own = await answers(tutor, "GET", "/me", {**ACCOUNT, "referral_code": text})
        assert "referral_code" not in await answers(student, "GET", "/me", ACCOUNT)
        assert own["tutor_status"] == "approved"
        rejected = {"tutor_status": "rejected"}
        why = {"reason": REASON}
        await answers(admin, "POST", f"/admin/tutors/{tutor.id}/reject", rejected, body=why)
        problem = await refuses(
            admin, "POST", f"/admin/tutors/{tutor.id}/reject", 400, "bad_request", body={}
        )
        fits(problem["errors"], [{"field": "reason", "message": text}])
        await refuses(student, "POST", f"/admin/tutors/{tutor.id}/approve", 403, "permission_denied")
        body = {"user_id": student.id, "money": usd(500), "reason": REASON}
        adjusted: Shape = {"user_id": student.id, "money": usd(500), "reason": REASON, "balance": usd(500)}
        await answers(admin, "POST", "/admin/wallet-adjustments", adjusted, body=body)
        short = body | {"reason": "too short"}
        await refuses(admin, "POST", "/admin/wallet-adjustments", 400, "bad_request", body=short)


async def test_courses_and_purchases(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        tutor = await school.tutor_of(people, admin)
        body = {
            "title": "Contract law",
            "description": "What was agreed.",
            "language": "en",
            "level": "C2",
            "category": "law",
            "duration_hours": 3,
            "total_sessions": 3,
            "price_type": "full_course",
            "price_full_course": usd(1_000),
            "price_per_session": usd(400),
            "max_students": 5,
        }

        made = await answers(tutor, "POST", "/courses", COURSE, body=body, status=201)
        assert made["publication"] == "draft"
        assert made["share_link"].startswith(f"{product.base}/courses/{made['id']}")
        await refuses(tutor, "POST", f"/courses/{made['id']}/publish", 409, "no_sessions")
        starts_at = await people.now() + timedelta(days=1)
        announced = {
            "number": 1, "title": "Offer", "starts_at": starts_at.isoformat(), "duration_minutes": 60,
        }  # fmt: skip
        session = await answers(
            tutor, "POST", f"/courses/{made['id']}/sessions", SESSION, body=announced, status=201
        )
        await answers(tutor, "POST", f"/courses/{made['id']}/publish", COURSE)
        await answers(student, "GET", "/courses", page(LISTED_COURSE))
        await answers(student, "GET", f"/courses/{made['id']}", COURSE)
        await answers(student, "GET", f"/courses/{made['id']}/sessions", page(SESSION))
        quote: Shape = {
            "quote_token": text, "price": usd(1_000), "balance": usd(0), "shortfall": usd(1_000),
            "seats_left": 5, "refund_rule": text, "split": SPLIT,
        }  # fmt: skip
        quoted = await answers(student, "POST", "/purchases/quote", quote, body={"course_id": made["id"]})
        confirm = {"quote_token": quoted["quote_token"]}
        poor = await refuses(student, "POST", "/purchases", 409, "insufficient_funds", body=confirm)
        assert poor["facts"]
        await school.credit(admin, student, 1_000)
        quoted = await answers(
            student,
            "POST",
            "/purchases/quote",
            quote | {"balance": usd(1_000), "shortfall": usd(0)},
            body={"course_id": made["id"]},
        )
        confirm = {"quote_token": quoted["quote_token"]}
        bought = await answers(student, "POST", "/purchases", PURCHASE, body=confirm, status=201)
        assert bought["status"] == "active"
        assert [one["amount"]["amount"] for one in bought["holds"]] == [333, 333, 334]
        await refuses(student, "POST", "/purchases", 409, "quote_used", body=confirm)
        await answers(student, "GET", "/purchases", page(PURCHASE))
        assert (await answers(student, "GET", "/purchases?status=cancelled", page(PURCHASE)))["items"] == []
        buyer: Shape = {"student_id": student.id, "name": text, "status": "active", "price": MONEY}
        await answers(tutor, "GET", f"/courses/{made['id']}/students", page(buyer))
        assert (await answers(tutor, "GET", f"/courses/{made['id']}/students?status=cancelled", page(buyer)))[
            "items"
        ] == []
        revenue = {"earned": usd(0), "held": usd(1_000), "refunded": usd(0)}
        await answers(tutor, "GET", f"/courses/{made['id']}/revenue", revenue)
        await refuses(student, "GET", f"/courses/{made['id']}/revenue", 403, "permission_denied")
        held = await answers(student, "GET", f"/holds/{bought['holds'][0]['id']}", HOLD)
        assert [held[name]["amount"] for name in ("tutor_share", "platform_share", "refunded")] == [0, 0, 0]
        assert held["status"] == "held"
        cancelled = await answers(student, "POST", f"/purchases/{bought['id']}/cancel", PURCHASE)
        assert (cancelled["status"], cancelled["refunded"]) == ("cancelled", usd(1_000))
        assert session["room_id"]
        after = await answers(tutor, "POST", f"/courses/{made['id']}/cancel", COURSE)
        assert after["status"] == "cancelled"


async def test_wallet_holds_and_attendance_of_a_lesson_that_was_held(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        lesson, bought = await lesson_held(people, admin, student)
        path = f"/holds/{bought['holds'][0]['id']}"

        for party in (student, lesson.tutor, admin):
            hold = await answers(party, "GET", path, {**HOLD, "attendance": ATTENDANCE})
            assert hold["status"] == "released"
            assert hold["attendance"]["intervals"]
        await refuses((await people.mint())[0], "GET", path, 404, "hold_not_found")
        await answers(student, "GET", "/holds", page(HOLD))
        released = await answers(student, "GET", "/holds?status=released", page(HOLD))
        assert [one["id"] for one in released["items"]] == [bought["holds"][0]["id"]]
        assert len((await answers(admin, "GET", "/holds", page(HOLD)))["items"]) > 0
        await answers(lesson.tutor, "GET", "/wallet", WALLET)
        entry: Shape = {
            "id": text,
            "amount": MONEY,
            "reason": text,
            "reference": {"type": text, "id": shapes.uuid},
            "at": at,
        }
        entries = await answers(student, "GET", "/wallet/entries", page(entry))
        moments = [one["at"] for one in entries["items"]]
        assert moments == sorted(moments, reverse=True)
        row: Shape = {
            "user_id": shapes.uuid,
            "attended_s": integer,
            "percent": integer,
            "intervals": anything,
        }
        shown: Shape = {"scheduled_s": 5_400, "people": [row]}
        everybody = await answers(lesson.tutor, "GET", f"/rooms/{lesson.room_id}/attendance", shown)
        assert len(everybody["people"]) == 2
        own = await answers(student, "GET", f"/rooms/{lesson.room_id}/attendance", shown)
        assert [one["user_id"] for one in own["people"]] == [student.id]
        room = await answers(student, "GET", f"/rooms/{lesson.room_id}", SNAPSHOT)
        assert (room["state"], room["kind"]) == ("closed", "course_session")
        assert room["starts_at"] < room["ends_at"]
        listed = await answers(student, "GET", "/notifications", page(NOTIFICATION))
        moments = [one["created_at"] for one in listed["items"]]
        assert moments == sorted(moments, reverse=True)


async def test_talks_and_rooms(product: Product) -> None:
    async with town(product) as people:
        host, guest = await people.mint(2)
        body = {
            "title": "Contract talk", "language": "en", "level": "B2", "topic": uuid.uuid4().hex,
            "max_participants": 3, "public": True, "region": "vn",
        }  # fmt: skip

        made = await answers(host, "POST", "/talks", {**TALK, "qr_svg": svg}, body=body, status=201)
        assert (made["region"], made["max_participants"]) == ("VN", 3)
        for query in ("nearby=true&region=VN", "language=en", "level=B2", f"topic={body['topic']}"):
            listed = await answers(guest, "GET", f"/talks?{query}&limit=100", page(TALK))
            assert made["id"] in [one["id"] for one in listed["items"]]
        await answers(guest, "GET", f"/talks/{made['id']}", TALK)
        await answers(guest, "GET", f"/talks/{made['code']}", TALK)
        await answers(host, "GET", "/talks/history", page(TALK))
        await answers(host, "GET", f"/talks/history?status={made['state']}", page(TALK))
        assert (await answers(host, "GET", "/talks/history?status=closed", page(TALK)))["items"] == []
        everybodys = await answers(await people.admin(), "GET", "/talks/history", page(TALK))
        assert made["id"] in [one["id"] for one in everybodys["items"]]
        await answers(guest, "GET", f"/rooms/{made['room_id']}", SNAPSHOT)
        joined: Shape = {
            "room": SNAPSHOT,
            "seat": {"no": 2, "state": "joining"},
            "media": {"provider": "peer"},
        }
        await answers(guest, "POST", f"/rooms/{made['room_id']}/join", joined, body={})
        for path, content_type in (
            (f"/t/{made['code']}", "text/html"),
            (f"{API}/talks/{made['id']}/qr.svg", "image/svg"),
        ):
            answer = await people.send("GET", path)
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith(content_type)
        assert (await people.send("GET", "/t/nothinghere")).status == 404
        await answers(host, "POST", f"/talks/{made['id']}/close", {"state": "closed"})
        room = await answers(guest, "GET", f"/rooms/{made['room_id']}", SNAPSHOT)
        assert room["state"] == "closed"


async def test_lists_go_on_where_the_cursor_says(product: Product) -> None:
    async with town(product) as people:
        host = (await people.mint())[0]
        topic = uuid.uuid4().hex
        for number in range(5):
            await school_talk(host, topic, number)

        seen, cursor = [], None
        while True:
            path = f"/talks?topic={topic}&limit=2" + (f"&cursor={cursor}" if cursor else "")
            found = await answers(host, "GET", path, page(TALK))
            seen += [one["title"] for one in found["items"]]
            cursor = found["next_cursor"]
            if cursor is None:
                break

        assert seen == [f"Talk {number}" for number in reversed(range(5))]
        for limit in ("0", "101", "-1", "many"):
            problem = await refuses(host, "GET", f"/talks?limit={limit}", 400, "bad_request")
            assert problem["errors"][0]["field"] == "limit"
        for path in ("/talks", "/courses", "/holds", "/purchases", "/notifications", "/wallet/entries"):
            await answers(host, "GET", f"{path}?limit=100", page(anything))
            await refuses(host, "GET", f"{path}?cursor=nonsense", 400, "bad_request")


async def school_talk(host: Person, topic: str, number: int) -> None:
    await host.call("POST", f"{API}/talks", {"title": f"Talk {number}", "language": "en", "topic": topic})


async def test_key_makes_moving_money_safe_to_repeat(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        body = {"user_id": student.id, "money": usd(700), "reason": REASON}
        path, key = f"{API}/admin/wallet-adjustments", uuid.uuid4().hex

        first = await admin.send("POST", path, body, **{"Idempotency-Key": key})
        again = await admin.send("POST", path, body, **{"Idempotency-Key": key})

        assert "Idempotent-Replay" not in first.headers
        assert again.headers["Idempotent-Replay"] == "true"
        assert (again.status, again.content) == (first.status, first.content)
        assert (await student.wallet())[0] == 700
        other = body | {"money": usd(800)}
        keyed = {"Idempotency-Key": key}
        await refuses(
            admin, "POST", "/admin/wallet-adjustments", 422, "idempotency_mismatch", body=other, **keyed
        )
        for wrong, code in (("", "idempotency_key_required"), ("x" * 256, "bad_request")):
            keyed = {"Idempotency-Key": wrong}
            await refuses(admin, "POST", "/admin/wallet-adjustments", 400, code, body=body, **keyed)
        assert (await student.wallet())[0] == 700


async def test_every_answer_is_safe_to_show(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        for path, status in (
            ("/api/v1/me", 200),
            ("/api/v1/nothing", 404),
            ("/health/live", 200),
            ("/t/x", 404),
        ):
            answer = await person.send("GET", path)

            assert answer.status == status
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Referrer-Policy"]
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert len(answer.headers.getall("X-Trace-Id")) == 1  # type: ignore[attr-defined]  # it is a CIMultiDict
            assert "Server" not in answer.headers


async def test_browsers_of_other_origins_are_not_allowed(product: Product) -> None:
    async with town(product) as people:
        ask = {"Access-Control-Request-Method": "POST"}

        ours = await people.send("OPTIONS", f"{API}/talks", Origin=product.base, **ask)
        foreign = await people.send("OPTIONS", f"{API}/talks", Origin="https://evil.example", **ask)

        assert ours.headers["Access-Control-Allow-Origin"] == product.base
        assert "Idempotency-Key" in ours.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_who_is_not_logged_in_is_told_so(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        forged = person.token[:-4] + ("aaaa" if person.token[-4:] != "aaaa" else "bbbb")
        for token in (forged, "", "x.y.z"):
            person.token = token
            problem = await refuses(person, "GET", "/me", 401, "unauthorized")
            assert "Bearer" not in problem["detail"] or token not in problem["detail"] or not token
        answer = await people.send("GET", f"{API}/me")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        expired = people.product.command("user", "mint", "--count", "1", "--ttl-s", "1").stdout
        person.token = msgspec.json.decode(expired)["access_token"]

        async def is_expired() -> bool:
            return (await person.send("GET", f"{API}/me")).status == 401

        await eventually(is_expired, "the token expires")
        await refuses(person, "GET", "/me", 401, "token_expired")


async def test_health_and_metrics(product: Product) -> None:
    async with town(product) as people:
        live = await people.send("GET", "/health/live")
        ready = await people.send("GET", "/health/ready")
        integrity = await people.send("GET", "/health/integrity")
        metrics = await people.send("GET", "/metrics")

        assert (live.status, live.body["status"]) == (200, "ok")
        assert (ready.status, ready.body["checks"]["database"], ready.body["checks"]["redis"]) == (
            200,
            "ok",
            "ok",
        )
        assert any("RATE_LIMITS" in warning for warning in ready.body["warnings"])
        assert "RATE_LIMITS is off" in (product.folder / "serve.log").read_text()
        assert (integrity.status, integrity.body["violations"]) == (200, [])
        assert b"fourtalk_http_seconds" in metrics.content


async def test_clock_moves_forward_only_and_says_where_it_is(product: Product) -> None:
    async with town(product) as people:
        before = await people.now()
        after = await people.advance(seconds=1.5)
        assert timedelta(seconds=1.5) <= after - before < timedelta(seconds=10)
        moves: tuple[object, ...] = (
            {},
            {"advance_s": -1},
            {"advance_s": "1"},
            {"advance_s": 1e300},
            {"advance_s": 1, "set": "2050-01-01T00:00:00Z"},
            {"set": "2020-01-01T00:00:00Z"},
            {"set": "2050-01-01T00:00:00"},
            {"set": "soon"},
            [],
            7,
        )
        for move in moves:
            answer = await people.send("POST", f"{API}/dev/clock", move)
            assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json"), move
            fits(answer.body, PROBLEM)
        assert await people.now() - after < timedelta(seconds=10)


async def test_too_many_requests_say_when_to_come_back(limited: Product) -> None:
    async with town(limited) as people:
        seen = [await people.send("GET", f"{API}/talks") for _ in range(62)]

        refused = [answer for answer in seen if answer.status == 429]
        assert len(refused) == 2
        answer = refused[0]
        assert answer.headers["Content-Type"] == "application/problem+json"
        fits(answer.body, {**PROBLEM, "status": 429, "code": "too_many_requests"})
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert (await people.send("GET", "/health/live")).status == 200
        assert (await people.send("GET", "/health/ready")).body["warnings"] == []
