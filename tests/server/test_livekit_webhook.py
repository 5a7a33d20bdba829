"""POST /webhooks/livekit: stored once, told once it is stored, and never lost to trouble of ours."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta

import httpx
import msgspec
import pytest
from aiohttp import web
from litestar import Litestar
from litestar.handlers import ASGIRouteHandler
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from rooms import media
from rooms.messages import InboxChanged
from rooms.models import MediaEvent
from server.clock import Clock
from server.http import problem
from server.integrations.media_fake import Fate, MediaFake, rough
from server.webhooks import livekit

# It changes tables, not only what is in them.
OWN_DATABASE = True

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"
ROOM_ID = uuid.UUID(int=7)
ROOM = media.room_name(ROOM_ID, 2)
Sessions = async_sessionmaker[AsyncSession]


class Door:
    """The route in an application of its own, and what it told the rooms."""

    def __init__(self, sessions: Sessions, clock: Clock, *, shift: timedelta = timedelta()) -> None:
        self.told: list[uuid.UUID] = []
        route = livekit.livekit_route(
            sessions, clock, keys={KEY: SECRET}, tell=self._tell, shift=lambda: shift
        )
        self.client = _client(route)
        # Signs as LiveKit does; never entered, so it sends nothing by itself.
        self._pen = MediaFake(key=KEY, secret=SECRET, webhook_url="")

    def _tell(self, room_id: uuid.UUID, message: InboxChanged) -> None:
        self.told.append(room_id)

    async def post(self, event: object, *, signature: str | None = None) -> int:
        body = event if isinstance(event, bytes) else msgspec.json.encode(event)
        headers = {"Authorization": self._pen.sign(body) if signature is None else signature}
        answer = await self.client.post("/webhooks/livekit", content=body, headers=headers)
        return answer.status_code


def _client(route: ASGIRouteHandler) -> httpx.AsyncClient:
    application = Litestar([route], exception_handlers={Exception: problem.answer}, openapi_config=None)
    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]  # Litestar types ASGI more narrowly
    return httpx.AsyncClient(transport=transport, base_url="http://fourtalk")


@pytest.fixture
async def door(sessions: Sessions, clock: Clock) -> AsyncIterator[Door]:
    door = Door(sessions, clock)
    async with door.client:
        yield door


def joined(at: datetime, *, event_id: str = "EV_1", room: str = ROOM) -> dict[str, object]:
    return {
        "event": "participant_joined",
        "id": event_id,
        "createdAt": str(int(at.timestamp())),
        "room": {"name": room, "sid": "RM_1", "turnPassword": "hush"},
        "participant": {
            "sid": "PA_1",
            "identity": "mai",
            "name": "M\x00ai",
            "joinedAtMs": str(int(at.timestamp() * 1000)),
        },
    }


async def stored(sessions: Sessions) -> list[MediaEvent]:
    async with sessions() as session:
        return list(await session.scalars(select(MediaEvent).order_by(MediaEvent.event_id)))


async def test_an_event_is_stored_and_told(door: Door, sessions: Sessions, clock: Clock) -> None:
    at = clock.now().replace(microsecond=0) - timedelta(seconds=5)

    status = await door.post(joined(at))

    [row] = await stored(sessions)
    assert status == 200
    assert (row.room_id, row.generation, row.type, row.identity, row.participant_sid) == (
        ROOM_ID,
        2,
        "participant_joined",
        "mai",
        "PA_1",
    )
    assert row.created_at == at
    assert row.read_at is None
    assert "hush" not in str(row.body)
    assert door.told == [ROOM_ID]


async def test_the_same_event_is_stored_once_and_told_again(
    door: Door, sessions: Sessions, clock: Clock
) -> None:
    statuses = [await door.post(joined(clock.now())) for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert len(await stored(sessions)) == 1
    assert door.told == [ROOM_ID] * 3


async def test_an_event_of_a_foreign_room_is_stored_and_told_to_nobody(
    door: Door, sessions: Sessions, clock: Clock
) -> None:
    status = await door.post(joined(clock.now(), room="lobby"))

    assert status == 200
    assert len(await stored(sessions)) == 1
    assert door.told == []


async def test_time_is_read_on_the_business_clock(sessions: Sessions) -> None:
    clock = Clock(timedelta(days=30))
    door = Door(sessions, clock)
    at = clock.now().replace(microsecond=0) - timedelta(hours=1)

    status = await door.post(joined(at))

    [row] = await stored(sessions)
    assert status == 200
    assert row.created_at == at


async def test_nothing_happened_in_the_future(door: Door, sessions: Sessions, clock: Clock) -> None:
    await door.post(joined(clock.now() + timedelta(hours=1)))

    [row] = await stored(sessions)
    assert row.created_at == row.received_at == row.joined_at


async def test_a_server_on_wall_time_is_shifted(sessions: Sessions) -> None:
    shift = timedelta(days=30)
    clock = Clock(shift)
    at = clock.wall().replace(microsecond=0) - timedelta(seconds=10)

    await Door(sessions, clock, shift=shift).post(joined(at))

    [row] = await stored(sessions)
    assert row.created_at == at + shift


@pytest.mark.parametrize("signature", ["", "Bearer", "a.b.c", "x" * 5000])
async def test_a_bad_signature_is_401_and_stores_nothing(
    door: Door, sessions: Sessions, clock: Clock, signature: str
) -> None:
    status = await door.post(joined(clock.now()), signature=signature)

    assert status == 401
    assert await stored(sessions) == []
    assert door.told == []


async def test_without_keys_every_delivery_is_401(sessions: Sessions, clock: Clock) -> None:
    route = livekit.livekit_route(sessions, clock, keys={}, tell=lambda *_: None)
    body = msgspec.json.encode(joined(clock.now()))
    signature = MediaFake(key=KEY, secret=SECRET, webhook_url="").sign(body)

    async with _client(route) as client:
        answer = await client.post("/webhooks/livekit", content=body, headers={"Authorization": signature})

    assert answer.status_code == 401


async def test_too_big_is_413(door: Door) -> None:
    assert await door.post(b"x" * (64 * 1024 + 1)) == 413


async def test_a_signed_body_that_is_no_webhook_is_400(door: Door) -> None:
    assert await door.post(b"\xff") == 400


async def test_a_database_that_is_away_is_503_and_told_to_nobody(
    door: Door, sessions: Sessions, clock: Clock
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("alter table media_event rename to media_event_away"))

    away = await door.post(joined(clock.now()))
    async with sessions.begin() as session:
        await session.execute(text("alter table media_event_away rename to media_event"))
    back = await door.post(joined(clock.now()))

    assert (away, back) == (503, 200)
    assert door.told == [ROOM_ID]


async def test_a_database_that_is_locked_is_503_in_time(door: Door, sessions: Sessions, clock: Clock) -> None:
    async with sessions.begin() as session:
        await session.execute(text("lock table media_event in access exclusive mode"))
        status = await door.post(joined(clock.now()))
    # The connection that was cut off is used again.
    later = [await door.post(joined(clock.now(), event_id=f"EV_{n}")) for n in range(3)]

    assert (status, *later) == (503, 200, 200, 200)


async def test_the_fake_media_server_is_believed_whatever_the_network_does(
    sessions: Sessions, clock: Clock
) -> None:
    door = Door(sessions, clock)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(door.client)
        hook = await stack.enter_async_context(_listening(door))
        fake = await stack.enter_async_context(
            MediaFake(key=KEY, secret=SECRET, webhook_url=hook, retry_after_s=(0.01,))
        )
        rooms = await stack.enter_async_context(media.LiveKitMedia(fake.url, KEY, SECRET))
        fake.fate = rough(7, doubled=0.5, late=0.5)
        await rooms.ensure_room(ROOM, cap=4)
        fake.join(ROOM, "mai")
        fake.publish(ROOM, "mai")
        fake.join(ROOM, "mai")
        fake.abort(ROOM, "eve")
        fake.fate = lambda _: Fate()
        await rooms.delete_room(ROOM)
        await fake.settled()

    rows = await stored(sessions)
    assert sorted(row.event_id for row in rows) == sorted(str(hook["id"]) for hook in fake.sent)
    assert [hook["event"] for hook in fake.sent] == [
        "room_started",
        "participant_joined",
        "track_published",
        "participant_left",
        "participant_joined",
        "participant_connection_aborted",
        "participant_left",
        "room_finished",
    ]


@asynccontextmanager
async def _listening(door: Door) -> AsyncIterator[str]:
    """Let the door be reached over a real socket."""

    async def forward(request: web.Request) -> web.Response:
        signature = request.headers["Authorization"]
        return web.Response(status=await door.post(await request.read(), signature=signature))

    application = web.Application()
    application.router.add_post("/webhooks/livekit", forward)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/livekit"
    finally:
        await runner.cleanup()
