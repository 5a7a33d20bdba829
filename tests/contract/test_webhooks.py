"""What the outside may send to webhooks: believed only with a signature, stored once, never our fault."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import msgspec
import pytest

from tests.contract.shapes import fits
from tests.contract.test_http import PROBLEM
from tests.journeys.people import Answer, Town, story
from tests.journeys.product import MEDIA_KEY, MEDIA_SECRET, Product

pytestmark = pytest.mark.journey

PATH = "/webhooks/livekit"


def signature(body: bytes, *, secret: str = MEDIA_SECRET, age: timedelta = timedelta(), **claims: Any) -> str:
    """Return the Authorization header that LiveKit would send."""
    at = datetime.now(UTC) - age
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    whole = {"iss": MEDIA_KEY, "nbf": at, "exp": at + timedelta(minutes=5), "sha256": digest} | claims
    return jwt.encode(whole, secret, algorithm="HS256")


async def deliver(people: Town, body: bytes, **headers: str) -> Answer:
    given = {"Authorization": signature(body), "Content-Type": "application/webhook+json"} | headers
    return await people.send("POST", PATH, body, **given)


def joined(name: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {
            "event": "participant_joined",
            "id": f"EV_{uuid4().hex[:12]}",
            "createdAt": "1700000000",
            "room": {"name": name, "sid": "RM_1"},
            "participant": {
                "sid": "PA_1",
                "identity": str(uuid4()),
                "state": "ACTIVE",
                "joinedAt": "1700000000",
            },
        }
        | more
    )


async def test_signed_event_is_stored_once(product: Product) -> None:
    async with story(product) as people:
        body = joined(f"ft_{uuid4()}_1")

        answers = [await deliver(people, body) for _ in range(3)]

        assert [answer.status for answer in answers] == [200, 200, 200]


async def test_whoever_cannot_sign_is_refused(product: Product) -> None:
    async with story(product) as people:
        body = joined(f"ft_{uuid4()}_1")
        wrong = {
            "none": "",
            "no token": "Bearer x",
            "another secret": signature(body, secret="x" * 40),
            "another body": signature(body + b" "),
            "too old": signature(body, age=timedelta(hours=2)),
            "another key": signature(body, iss="somebody"),
            "no digest": signature(body, sha256=None),
            "not signed at all": jwt.encode({"iss": MEDIA_KEY, "sha256": "x"}, "", algorithm="none"),
            "not ASCII": "é💩",
        }
        for name, header in wrong.items():
            answer = await deliver(people, body, Authorization=header)

            assert answer.status == 401, f"{name}: {answer.status} {answer.content!r}"
            fits(answer.body, PROBLEM, at=name)


async def test_signed_nonsense_is_never_our_fault(product: Product) -> None:
    """LiveKit takes any 4xx for delivered, so what we cannot read is not sent again either."""
    async with story(product) as people:
        room = f"ft_{uuid4()}_1"
        bodies = {
            "empty": b"",
            "not JSON": b"hello",
            "a list": b"[]",
            "null": b"null",
            "no event": b"{}",
            "deep": b'{"room":' * 5_000 + b"1" + b"}" * 5_000,
            "not UTF-8": b'{"event":"\xff"}',
            "NUL": joined(room, event="a\0b"),
            "NUL in the identity": joined(room, participant={"sid": "PA", "identity": "a\0b"}),
            "event is a number": joined(room, event=7),
            "id is a list": joined(room, id=[]),
            "id is giant": joined(room, id="x" * 20_000),
            "giant time": joined(room, createdAt="9" * 30),
            "time before time": joined(room, createdAt="-99999999999999"),
            "time is no number": joined(room, createdAt="soon"),
            "room is text": joined(room, room="x"),
            "room of others": joined("somebody-elses-room"),
            "generation is giant": joined(f"ft_{uuid4()}_{'9' * 30}"),
            "identity is no user": joined(room, participant={"sid": "PA", "identity": "💩" * 500}),
            "unknown event": joined(room, event="moon_landed"),
            "unknown reason": joined(
                room, participant={"sid": "PA", "identity": "x", "disconnectReason": "BORED"}
            ),
        }
        for name, body in bodies.items():
            answer = await deliver(people, body)

            assert answer.status < 500, f"{name}: {answer.content!r}"
            if answer.status >= 400:
                fits(answer.body, PROBLEM, at=name)


async def test_what_is_too_big_is_not_read(product: Product) -> None:
    async with story(product) as people:
        answer = await deliver(people, joined("ft", padding="x" * 2_000_000))

        assert answer.status == 413
        assert (await people.send("GET", "/health/live")).status == 200


async def test_other_methods_and_addresses_are_told_apart(product: Product) -> None:
    async with story(product) as people:
        for method, path, status in (
            ("GET", PATH, 405),
            ("PUT", "/api/v1/talks", 405),
            ("POST", "/webhooks/nobody", 404),
            ("GET", "/schema/nothing.json", 404),
            ("GET", "/api/v1/talks/%00", 400),
            ("GET", "/t/%00%ff", 404),
            ("GET", "/courses/%F0%9F%92%A9", 404),
            ("GET", "/api/v1/talks/x/qr.svg", 404),
        ):
            answer = await people.send(method, path)

            assert answer.status == status, f"{method} {path}: {answer.status} {answer.content!r}"


async def test_headers_and_query_strings_that_no_client_sends(product: Product) -> None:
    async with story(product) as people:
        for query in (
            "limit=1&limit=2",
            "&&==",
            "%",
            "%zz=1",
            "a" * 6_000,
            "nearby=true&region=%00",
            "cursor=" + "A" * 4_000,
        ):
            answer = await people.send("GET", f"/api/v1/talks?{query}")
            assert answer.status < 500, f"{query[:40]}: {answer.content!r}"
        for headers in (
            {"X-Forwarded-For": "nonsense"},
            {"X-Forwarded-For": ", ,,"},
            {"X-Forwarded-For": "::1%eth0"},
            {"Authorization": "Bearer " + "a" * 6_000},
            {"Authorization": "Basic eDp5"},
            {"Accept-Language": ";;;,q=" * 200},
            {"Cookie": "=;;=é"},
            {"Origin": "null"},
        ):
            for path in ("/api/v1/talks", "/api/v1/me", "/t/nothinghere"):
                answer = await people.send("GET", path, **headers)
                assert answer.status in (200, 400, 401, 404), f"{headers}: {answer.status} {answer.content!r}"
