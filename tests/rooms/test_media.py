"""What LiveKit's answers are taken for, against the loopback room service; the real one is in tests/livekit."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import jwt
import pytest

from rooms import media
from rooms.media import LiveKitMedia, MediaUnavailableError
from rooms.messages import Identity
from server.integrations.media_fake import MediaFake

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"
MAI = Identity("mai")
ROOM = media.room_name(uuid.UUID(int=7), 1)


@pytest.fixture
async def fake() -> AsyncIterator[MediaFake]:
    # Nobody listens to the webhooks here.
    fake = MediaFake(key=KEY, secret=SECRET, webhook_url="http://127.0.0.1:9/", retry_after_s=())
    async with fake:
        yield fake


@pytest.fixture
async def rooms(fake: MediaFake) -> AsyncIterator[LiveKitMedia]:
    async with LiveKitMedia(fake.url, KEY, SECRET) as rooms:
        yield rooms


async def test_a_poll_tells_missing_from_empty_from_occupied(rooms: LiveKitMedia, fake: MediaFake) -> None:
    missing = await rooms.poll(ROOM)
    await rooms.ensure_room(ROOM, cap=4)
    empty = await rooms.poll(ROOM)
    sid = fake.join(ROOM, MAI)
    occupied = await rooms.poll(ROOM)

    assert missing is None
    assert empty == ()
    assert occupied is not None
    assert [(person.identity, person.sid, person.active) for person in occupied] == [(MAI, sid, True)]


async def test_a_poll_is_read_on_business_time(fake: MediaFake) -> None:
    shift = timedelta(days=3)
    async with (
        LiveKitMedia(fake.url, KEY, SECRET) as wall,
        LiveKitMedia(fake.url, KEY, SECRET, shift=lambda: shift) as business,
    ):
        await wall.ensure_room(ROOM, cap=4)
        fake.join(ROOM, MAI)
        [on_wall], [on_business] = await wall.poll(ROOM) or (), await business.poll(ROOM) or ()

    assert on_business.joined_at - on_wall.joined_at == shift


async def test_what_is_so_already_is_done(rooms: LiveKitMedia) -> None:
    await rooms.remove(ROOM, MAI)
    await rooms.delete_room(ROOM)


async def test_remove_and_delete_take_people_out(rooms: LiveKitMedia, fake: MediaFake) -> None:
    await rooms.ensure_room(ROOM, cap=4)
    fake.join(ROOM, MAI)

    await rooms.remove(ROOM, MAI)
    alone = fake.people(ROOM)
    await rooms.delete_room(ROOM)

    assert alone == []
    assert await rooms.poll(ROOM) is None


async def test_a_server_in_trouble_tells_nothing(rooms: LiveKitMedia, fake: MediaFake) -> None:
    fake.calls = "fail"

    for call in (
        rooms.poll(ROOM),
        rooms.remove(ROOM, MAI),
        rooms.delete_room(ROOM),
        rooms.ensure_room(ROOM, cap=4),
    ):
        with pytest.raises(MediaUnavailableError):
            await call


async def test_a_server_that_hangs_is_given_up(
    rooms: LiveKitMedia, fake: MediaFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "CALL_TIMEOUT_S", 0.2)
    fake.calls = "hang"

    async with asyncio.timeout(2):
        with pytest.raises(MediaUnavailableError):
            await rooms.poll(ROOM)


async def test_a_wrong_secret_tells_nothing(fake: MediaFake) -> None:
    async with LiveKitMedia(fake.url, KEY, SECRET[::-1]) as stranger:
        with pytest.raises(MediaUnavailableError):
            await stranger.poll(ROOM)


async def test_nobody_listening_tells_nothing() -> None:
    async with LiveKitMedia("http://127.0.0.1:9", KEY, SECRET) as rooms:
        with pytest.raises(MediaUnavailableError):
            await rooms.poll(ROOM)


async def test_a_token_lets_one_person_into_one_room_and_nothing_else(rooms: LiveKitMedia) -> None:
    token = rooms.token(MAI, name="Mai", room=ROOM)

    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["name"], claims["iss"]) == (MAI, "Mai", KEY)
    assert claims["exp"] - claims["nbf"] == 60
    assert claims["video"] == {
        "roomJoin": True,
        "room": ROOM,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
    }


def test_room_names_are_read_back() -> None:
    room_id = uuid.uuid4()

    assert media.parse_room_name(media.room_name(room_id, 12)) == (room_id, 12)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ft_",
        "lobby",
        f"ft_{uuid.UUID(int=7)}",
        f"ft_{uuid.UUID(int=7)}_0",
        f"ft_{uuid.UUID(int=7)}_1x",
        f"ft_{uuid.UUID(int=7)}_1\n",
        f"ft_{uuid.UUID(int=7)}_-1",
        f"ft_{uuid.UUID(int=7)}_٣",
        f"ft_{uuid.UUID(int=7).hex}_1",
        f"ft_{uuid.UUID(int=7)}_9999999999",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert media.parse_room_name(name) is None
