"""POST /webhooks/stripe: verified, stored once with its job, and never lost to trouble of ours."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from billing import stripe_webhooks
from billing.models import JobRow, StripeEvent
from server import jobs
from server.clock import Clock
from server.http import problem
from server.integrations.stripe_fake.fake import StripeFake
from server.job import Means
from server.webhooks.stripe import stripe_route

# It changes tables, not only what is in them.
OWN_DATABASE = True

Sessions = async_sessionmaker[AsyncSession]
SECRET, OLD = "whsec_of_this_server", "whsec_before_it"


def event(number: int = 1, **fields: Any) -> bytes:
    said = {
        "id": f"evt_{number}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "created": 1_772_366_400,
        "livemode": False,
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "receipt_email": "ann@example.org"}},
    }
    return msgspec.json.encode(said | fields)


class Door:
    """The route in an application of its own."""

    def __init__(self, sessions: Sessions, clock: Clock, *, is_live: bool = False) -> None:
        route = stripe_route(sessions, clock, secrets=(SECRET, OLD), is_live=is_live)
        application = Litestar([route], exception_handlers={Exception: problem.answer}, openapi_config=None)
        transport = httpx.ASGITransport(application)  # type: ignore[arg-type]  # Litestar types ASGI more narrowly
        self.client = httpx.AsyncClient(transport=transport, base_url="http://fourtalk")
        # Signs as Stripe does; never entered, so it sends nothing by itself.
        self.pen = StripeFake(key="sk_test_x", secret=SECRET, wall=clock.wall)

    async def post(self, body: bytes, signature: str | bytes | None = None) -> int:
        headers = {"Stripe-Signature": self.pen.sign(body) if signature is None else signature}
        answer = await self.client.post("/webhooks/stripe", content=body, headers=headers)  # type: ignore[arg-type]
        return answer.status_code


@pytest.fixture
async def door(sessions: Sessions, clock: Clock) -> AsyncIterator[Door]:
    door = Door(sessions, clock)
    async with door.client:
        yield door


async def stored(sessions: Sessions) -> list[StripeEvent]:
    async with sessions() as session:
        return list(await session.scalars(select(StripeEvent).order_by(StripeEvent.id)))


async def waiting(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return list(await session.scalars(select(JobRow.key).order_by(JobRow.key)))


async def test_an_event_is_stored_with_its_job_and_without_its_names(door: Door, sessions: Sessions) -> None:
    body = event()

    status = await door.post(body)

    [row] = await stored(sessions)
    assert status == 200
    assert (row.id, row.type, row.object_id) == ("evt_1", "payment_intent.succeeded", "pi_1")
    assert row.digest == hashlib.sha256(body).digest()
    assert await waiting(sessions) == ["evt_1"]


async def test_the_same_event_is_stored_once(door: Door, sessions: Sessions) -> None:
    statuses = [await door.post(event()) for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert len(await stored(sessions)) == 1
    assert await waiting(sessions) == ["evt_1"]


async def test_an_event_that_was_handled_asks_for_nothing_again(door: Door, sessions: Sessions) -> None:
    await door.post(event())
    async with sessions.begin() as session:
        await session.execute(text("update stripe_event set handled_at = now()"))
        await session.execute(text("delete from job"))

    status = await door.post(event())

    assert status == 200
    assert await waiting(sessions) == []


async def test_what_was_told_long_ago_is_forgotten_once_it_is_handled(door: Door, sessions: Sessions) -> None:
    for number in range(3):
        await door.post(event(number))
    async with sessions.begin() as session:
        await session.execute(text("update stripe_event set handled_at = now() where id <> 'evt_0'"))
        await session.execute(
            text("update stripe_event set received_at = now() - interval '32 days' where id <> 'evt_2'")
        )

    await jobs.purge_stripe_events(Means(sessions, cast(Any, None)), datetime.now(UTC))

    assert [row.id for row in await stored(sessions)] == ["evt_0", "evt_2"]


async def test_work_that_was_given_up_is_armed_again(door: Door, sessions: Sessions) -> None:
    await door.post(event())
    async with sessions.begin() as session:
        await session.execute(text("update job set dead_at = now(), error = 'gave up', tries = 6"))

    await door.post(event())

    async with sessions() as session:
        [job] = (await session.scalars(select(JobRow))).all()
    assert (job.dead_at, job.tries) == (None, 0)


async def test_both_secrets_of_a_rotation_are_believed(door: Door) -> None:
    statuses = [
        await door.post(event(number), door.pen.sign(event(number), secret=secret))
        for number, secret in enumerate((SECRET, OLD, "whsec_of_somebody"))
    ]

    assert statuses == [200, 200, 401]


@pytest.mark.parametrize(("seconds", "status"), [(-310, 401), (310, 401), (-290, 200), (290, 200)])
async def test_the_window_is_five_minutes_both_ways(
    door: Door, clock: Clock, sessions: Sessions, seconds: int, status: int
) -> None:
    at = clock.wall() + timedelta(seconds=seconds)

    assert await door.post(event(), door.pen.sign(event(), at=at)) == status
    assert len(await stored(sessions)) == (status == 200)


@pytest.mark.parametrize(
    "signature", ["", "t=1", "t=1,v1=00", "x" * 5_000, "t=1,v1=é".encode(), b"t=1,v1=\xff"]
)
async def test_a_bad_header_stores_nothing(door: Door, sessions: Sessions, signature: str | bytes) -> None:
    assert await door.post(event(), signature) == 401
    assert await stored(sessions) == []


async def test_without_a_header_it_is_401(door: Door) -> None:
    assert (await door.client.post("/webhooks/stripe", content=event())).status_code == 401


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b"\xff", b'{"id": "evt_1"}'])
async def test_a_signed_body_that_is_no_event_is_400(door: Door, sessions: Sessions, body: bytes) -> None:
    assert await door.post(body) == 400
    assert await stored(sessions) == []


async def test_what_could_never_be_handled_is_not_kept(door: Door, sessions: Sessions) -> None:
    nothing: dict[str, Any] = {"data": {"object": {"object": "dispute"}}}
    nameless = [
        await door.post(event(number, type=kind, **fields))
        for number, (kind, fields) in enumerate(
            [
                ("charge.dispute.created", nothing),
                ("charge.dispute.created", {"data": {"object": {"id": ""}}}),
                ("payout.paid", {"account": "acct_of_somebody"}),
                ("of.no.interest", nothing),
            ]
        )
    ]

    assert nameless == [400, 400, 200, 200]
    assert [row.type for row in await stored(sessions)] == ["of.no.interest"]


async def test_the_largest_body_is_read_and_a_larger_one_is_413(door: Door) -> None:
    most = stripe_webhooks.BYTES_MAX
    largest = event(pad="x" * (most - len(event(pad=""))))
    assert len(largest) == most

    assert [await door.post(largest), await door.post(largest + b" ")] == [200, 413]


async def test_an_event_of_the_other_mode_is_refused(sessions: Sessions, clock: Clock) -> None:
    for is_live in (True, False):
        door = Door(sessions, clock, is_live=is_live)
        async with door.client:
            assert await door.post(event(livemode=not is_live)) == 400

    assert await stored(sessions) == []


async def test_a_database_that_is_away_is_503_and_sent_again(door: Door, sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("alter table job rename to job_away"))

    away = await door.post(event())
    assert await stored(sessions) == []
    async with sessions.begin() as session:
        await session.execute(text("alter table job_away rename to job"))
    back = await door.post(event())

    assert (away, back) == (503, 200)
    assert len(await stored(sessions)) == 1


async def test_a_database_that_is_locked_is_503_in_time(door: Door, sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("lock table stripe_event in access exclusive mode"))
        status = await door.post(event())

    assert status == 503
