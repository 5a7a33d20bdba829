"""What we build on, shown by a real LiveKit server with real participants."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from livekit import rtc

from rooms import attendance, media
from rooms.media import LiveKitMedia, Webhook
from rooms.messages import Evidence, Identity
from server.integrations.livekit_server import LiveKitServer
from tests.livekit.ear import Ear
from tests.livekit.participant import Participant, child

U1, U2 = Identity("u1"), Identity("u2")
CAP = 4


@pytest.fixture
async def room(rooms: LiveKitMedia) -> AsyncIterator[str]:
    """A media room for four."""
    name = media.room_name(uuid.uuid4(), 1)
    await rooms.ensure_room(name, cap=CAP)
    yield name
    await rooms.delete_room(name)


@pytest.fixture
def ws_url(livekit: LiveKitServer) -> str:
    return livekit.url.replace("http", "ws", 1)


def ticket(rooms: LiveKitMedia, room: str, identity: Identity) -> str:
    return rooms.token(identity, name=f"Name of {identity}", room=room)


async def test_a_room_is_there_only_when_it_was_made(rooms: LiveKitMedia) -> None:
    name = media.room_name(uuid.uuid4(), 1)

    before = await rooms.poll(name)
    await rooms.ensure_room(name, cap=CAP)
    made = await rooms.poll(name)
    await rooms.ensure_room(name, cap=CAP)
    await rooms.delete_room(name)
    after = await rooms.poll(name)

    assert (before, made, after) == (None, (), None)


async def test_what_is_gone_already_can_be_deleted_and_removed(rooms: LiveKitMedia) -> None:
    name = media.room_name(uuid.uuid4(), 1)

    await rooms.delete_room(name)
    await rooms.remove(name, U1)


async def test_a_visit_is_told_from_beginning_to_end(
    rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear
) -> None:
    async with Participant(ws_url, ticket(rooms, room, U1)):
        joined = await ear.hear(room, "participant_joined")
        await ear.hear(room, "track_published")
        people = await rooms.poll(room)
    left = await ear.hear(room, "participant_left")

    assert [hook.type for hook in ear.of(room)][:3] == [
        "room_started",
        "participant_joined",
        "track_published",
    ]
    assert joined.identity == left.identity == U1
    assert joined.participant_sid == left.participant_sid
    assert joined.counted
    assert left.reason == "CLIENT_INITIATED"
    assert people is not None
    assert [(person.identity, person.sid, person.active, person.counted) for person in people] == [
        (U1, joined.participant_sid, True, True)
    ]
    assert "turnPassword" not in joined.body["room"]


async def test_a_fifth_person_is_refused(rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear) -> None:
    async with AsyncExitStack() as stack:
        for number in range(CAP):
            person = Participant(ws_url, ticket(rooms, room, Identity(f"u{number}")))
            await stack.enter_async_context(person)

        with pytest.raises(rtc.ConnectError):
            await Participant(ws_url, ticket(rooms, room, Identity("fifth"))).__aenter__()

        people = await rooms.poll(room)
        assert people is not None
        assert len(people) == CAP
    assert all(hook.identity != "fifth" for hook in ear.of(room))


async def test_nobody_joins_a_room_that_was_not_made(rooms: LiveKitMedia, ws_url: str) -> None:
    name = media.room_name(uuid.uuid4(), 1)

    with pytest.raises(rtc.ConnectError):
        await Participant(ws_url, ticket(rooms, name, U1)).__aenter__()

    assert await rooms.poll(name) is None


async def test_a_token_opens_its_own_room_only(rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear) -> None:
    other = media.room_name(uuid.uuid4(), 1)
    await rooms.ensure_room(other, cap=CAP)

    async with Participant(ws_url, ticket(rooms, room, U1)):
        await ear.hear(room, "participant_joined")

    assert ear.of(other, "participant_joined") == []


async def test_a_removed_person_is_gone_and_may_come_back(
    rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear
) -> None:
    token = ticket(rooms, room, U1)
    async with Participant(ws_url, token):
        await rooms.remove(room, U1)
        left = await ear.hear(room, "participant_left")
        # Why the actor removes who has no seat each time they show.
        async with Participant(ws_url, token):
            await ear.hear(room, "participant_joined", count=2)

    assert left.reason == "PARTICIPANT_REMOVED"


async def test_a_second_device_replaces_the_first(
    rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear
) -> None:
    async with Participant(ws_url, ticket(rooms, room, U1)):
        first = await ear.hear(room, "participant_joined")
        async with Participant(ws_url, ticket(rooms, room, U1)):
            left = await ear.hear(room, "participant_left")
            second = await ear.hear(room, "participant_joined", count=2)

    assert left.reason == "DUPLICATE_IDENTITY"
    assert left.participant_sid == first.participant_sid
    assert second.participant_sid != first.participant_sid


async def test_deleting_a_room_says_goodbye_to_everybody(
    rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear
) -> None:
    async with Participant(ws_url, ticket(rooms, room, U1)), Participant(ws_url, ticket(rooms, room, U2)):
        await ear.hear(room, "participant_joined", count=2)
        await rooms.delete_room(room)
        await ear.hear(room, "room_finished")

    assert [hook.reason for hook in ear.of(room, "participant_left")] == ["ROOM_DELETED"] * 2
    assert ear.of(room)[-1].type == "room_finished"


async def test_a_killed_person_is_noticed_late_and_paid_until_the_kill(
    rooms: LiveKitMedia, room: str, ws_url: str, ear: Ear
) -> None:
    async with child(ws_url, ticket(rooms, room, U1)) as process:
        joined = await ear.hear(room, "participant_joined")
        assert joined.created_at is not None
        await asyncio.sleep(3)
        process.kill()
        killed = time.time()
        left = await ear.hear(room, "participant_left", timeout_s=30)
        late_s = time.time() - killed

    assert left.reason == "CONNECTION_TIMEOUT"
    assert 18 <= late_s <= 23
    assert left.created_at is not None
    known = attendance.Known(evidence(hook) for hook in ear.of(room) if hook.type in media.EVIDENCE_KINDS)
    [visit] = known.attendance(
        provider="livekit",
        starts_at=joined.created_at,
        ends_at=left.created_at,
        until=left.created_at,
    ).values()
    # Present for 3 s; the rule knows the end to within the 2 s by which LiveKit's own patience varies, and the
    # whole seconds of its clock.
    assert abs(visit.attended_s - 3) <= 3


async def test_a_server_that_is_gone_tells_nothing(livekit: LiveKitServer, rooms: LiveKitMedia) -> None:
    livekit.kill()

    with pytest.raises(media.MediaUnavailableError):
        await rooms.poll("ft_any")


async def test_a_crashed_server_forgets_its_rooms_without_a_word(
    livekit: LiveKitServer, rooms: LiveKitMedia, room: str, ear: Ear
) -> None:
    await ear.hear(room, "room_started")

    livekit.kill()
    await asyncio.to_thread(livekit.start)

    assert await rooms.poll(room) is None
    assert ear.of(room, "room_finished") == []


def evidence(hook: Webhook) -> Evidence:
    assert hook.created_at is not None
    return Evidence(
        media.EVIDENCE_KINDS[hook.type],
        hook.created_at,
        hook.identity,
        hook.participant_sid or "",
        reason=hook.reason,
        joined_at=hook.joined_at,
    )
