"""The loopback room service behaves as the real server was measured to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp import web

from rooms.media import LiveKitMedia, room_name
from server.integrations.media_fake import Fate, MediaFake, MediaRefusedError, rough

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"
ROOM = room_name(UUID(int=7), 1)


class Ear:
    """Answers webhooks with the statuses it is given, 200 after them."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.tries: list[tuple[str, str, bytes]] = []

    @property
    def heard(self) -> list[str]:
        return [event for event, _, _ in self.tries]

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        event = msgspec.json.decode(body, type=dict[str, Any])["event"]
        self.tries.append((event, request.headers["Authorization"], body))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def world(
    *, retry_after_s: tuple[float, ...] = (0.01, 0.01)
) -> AsyncIterator[tuple[MediaFake, LiveKitMedia, Ear]]:
    ear, application = Ear(), web.Application()
    application.router.add_post("/", ear.receive)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        async with (
            MediaFake(key=KEY, secret=SECRET, webhook_url=ear.url, retry_after_s=retry_after_s) as fake,
            LiveKitMedia(fake.url, KEY, SECRET) as rooms,
        ):
            yield fake, rooms, ear
    finally:
        await runner.cleanup()


async def test_things_are_told_in_the_order_in_which_they_happened() -> None:
    async with world() as (fake, rooms, ear):
        await rooms.ensure_room(ROOM, cap=2)
        await rooms.ensure_room(ROOM, cap=9)
        fake.join(ROOM, "mai")
        fake.join(ROOM, "tom")
        fake.leave(ROOM, "mai")
        await rooms.delete_room(ROOM)
        await fake.settled()

    assert ear.heard == [
        "room_started",
        "participant_joined",
        "participant_joined",
        "participant_left",
        "participant_left",
        "room_finished",
    ]


async def test_nobody_joins_a_full_or_missing_room() -> None:
    async with world() as (fake, rooms, _):
        await rooms.ensure_room(ROOM, cap=1)
        fake.join(ROOM, "mai")

        with pytest.raises(MediaRefusedError):
            fake.join(ROOM, "tom")
        with pytest.raises(MediaRefusedError):
            fake.join(room_name(UUID(int=8), 1), "tom")
        fake.join(ROOM, "mai")

        assert fake.people(ROOM) == ["mai"]


@pytest.mark.parametrize(
    ("statuses", "tries"),
    [
        pytest.param([503, 500], 3, id="our trouble is tried again"),
        pytest.param([429], 2, id="too many is tried again"),
        pytest.param([401], 1, id="a refusal is a delivery"),
        pytest.param([501], 1, id="not implemented is a delivery"),
        pytest.param([503] * 9, 3, id="given up in the end"),
    ],
)
async def test_retries(statuses: list[int], tries: int) -> None:
    async with world() as (fake, rooms, ear):
        ear.statuses = statuses
        await rooms.ensure_room(ROOM, cap=2)
        await fake.settled()

    assert len(ear.tries) == tries
    # Repeats are the same to the byte.
    assert len(set(ear.tries)) == 1


async def test_a_slow_receiver_holds_up_its_own_room_only() -> None:
    other = room_name(UUID(int=8), 1)
    async with world(retry_after_s=(0.3,)) as (fake, rooms, ear):
        ear.statuses = [503]
        await rooms.ensure_room(ROOM, cap=2)
        fake.join(ROOM, "mai")
        await asyncio.sleep(0.1)
        await rooms.ensure_room(other, cap=2)
        await fake.settled()

    assert ear.heard == ["room_started", "room_started", "room_started", "participant_joined"]


@pytest.mark.parametrize(
    ("fate", "heard"),
    [
        pytest.param(lambda _: Fate(copies=0), [], id="lost"),
        pytest.param(
            lambda _: Fate(copies=2), ["room_started"] * 2 + ["participant_joined"] * 2, id="doubled"
        ),
        pytest.param(
            lambda hook: Fate(delay_s=0.1 if hook["event"] == "room_started" else 0.0),
            ["participant_joined", "room_started"],
            id="late",
        ),
    ],
)
async def test_what_the_network_does(fate: Callable[[Any], Fate], heard: list[str]) -> None:
    async with world() as (fake, rooms, ear):
        fake.fate = fate
        await rooms.ensure_room(ROOM, cap=2)
        fake.join(ROOM, "mai")
        await fake.settled()

    assert ear.heard == heard
    assert [hook["event"] for hook in fake.sent] == ["room_started", "participant_joined"]


async def test_a_crash_says_nothing() -> None:
    async with world() as (fake, rooms, ear):
        await rooms.ensure_room(ROOM, cap=2)
        await fake.settled()
        fake.join(ROOM, "mai")
        fake.crash()
        await fake.settled()

        assert await rooms.poll(ROOM) is None
    assert ear.heard == ["room_started"]


def test_the_same_seed_is_the_same_weather() -> None:
    first, second = (rough(7, lost=0.3, doubled=0.3, late=0.3) for _ in range(2))

    assert [first(None) for _ in range(50)] == [second(None) for _ in range(50)]
