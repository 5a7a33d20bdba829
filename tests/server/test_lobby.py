"""The channel of open talks: what comes into the list, changes in it and leaves it is told, and nothing private."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from rooms.messages import Identity, RoomClosed, RoomKind, RoomOpened
from server.context import Principal
from server.features.talks.lobby import CHANNEL, Lobby
from server.gateway.protocol import Publication
from server.reaction import Happened, Occasion
from server.relay import Relay
from tests.server.stage import Connection, Stage

TALK: dict[str, Any] = {"title": "Coffee and verbs", "language": "en"}


class Ears:
    """What was told on the channel."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def publish(self, channel: str, publications: Sequence[Publication]) -> None:
        assert channel == CHANNEL
        assert all(one.off is None for one in publications), "nothing is stored of it"
        self.told += [(one.ev, msgspec.json.decode(one.d)) for one in publications]

    def take(self) -> list[tuple[str, Any]]:
        told, self.told = self.told, []
        return told


class Floor:
    """A lobby that hears what a stage's relay relays."""

    def __init__(self, stage: Stage) -> None:
        self.ears = Ears()
        parts = stage.parts
        self.lobby = Lobby(parts.sessions, parts.settings, self.ears.publish, parts.clock.wall)
        self._relay = Relay(
            parts.sessions,
            node=stage.parts.rooms.node_id,
            publish=lambda *_: None,
            reactions={},
            together=self.lobby.hears,
            after={},
            wall=parts.clock.wall,
        )

    async def told(self) -> list[tuple[str, Any]]:
        await self._relay.flush()
        await self.lobby.tell()
        return self.ears.take()


@pytest.fixture
def floor(stage: Stage) -> Floor:
    return Floor(stage)


async def join(stage: Stage, talk: Any, *people: Principal) -> None:
    for person in people:
        await stage.do("room.join", person, room_id=talk["room_id"], connection=Connection())


async def test_talk_is_told_as_the_list_has_it_from_its_opening_to_its_end(
    stage: Stage, floor: Floor
) -> None:
    host, guest = await stage.people(2)

    talk = await stage.do("talk.create", host, **TALK)
    opened = await floor.told()
    await join(stage, talk, host, guest)
    joined = await floor.told()
    listed = (await stage.do("talk.list", None))["items"]
    await stage.do("talk.close", host, talk_id=talk["id"])
    closed = await floor.told()

    assert [(ev, one["id"], one["seats"]["taken"]) for ev, one in opened] == [("talk.listed", talk["id"], 1)]
    assert joined == [("talk.listed", listed[0])]
    assert closed == [("talk.unlisted", {"id": talk["id"]})]


async def test_full_talk_leaves_the_list_and_comes_back_with_a_seat(stage: Stage, floor: Floor) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK, max_participants=2)
    await join(stage, talk, host, guest)
    full = await floor.told()

    await stage.do("room.leave", guest, room_id=talk["room_id"])

    assert full == [("talk.unlisted", {"id": talk["id"]})]
    assert [ev for ev, _ in await floor.told()] == ["talk.listed"]


async def test_nobody_hears_of_a_private_talk(stage: Stage, floor: Floor) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK, public=False)
    await join(stage, talk, host, guest)
    await stage.do("talk.update", host, talk_id=talk["id"], topic="secrets")

    assert await floor.told() == []


async def test_talk_that_becomes_private_leaves_the_list(stage: Stage, floor: Floor) -> None:
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)
    await join(stage, talk, host)
    await floor.told()

    await stage.do("talk.update", host, talk_id=talk["id"], topic="tea")
    changed = await floor.told()
    await stage.do("talk.update", host, talk_id=talk["id"], public=False)
    hidden = await floor.told()
    await stage.do("talk.update", host, talk_id=talk["id"], topic="secrets")

    assert [(ev, one["topic"]) for ev, one in changed] == [("talk.listed", "tea")]
    assert hidden == [("talk.unlisted", {"id": talk["id"]})]
    assert await floor.told() == []


async def test_lessons_and_unknown_rooms_are_no_talks(stage: Stage, floor: Floor) -> None:
    lesson = await stage.sell_lesson()
    async with stage.parts.sessions() as session:
        occasion = Occasion(session, "1", stage.parts.clock.now())
        events = (
            RoomOpened(lesson.room_id, RoomKind.COURSE_SESSION, Identity(str(lesson.tutor.user_id))),
            RoomClosed(lesson.room_id, RoomKind.TALK, "empty"),
        )

        await floor.lobby.note(session, [Happened(occasion, event) for event in events])

    assert await floor.told() == []


async def test_what_could_not_be_read_is_told_later(stage: Stage, floor: Floor) -> None:
    [host] = await stage.people(1)
    talk = await stage.do("talk.create", host, **TALK)
    await floor.told()
    await stage.do("talk.update", host, talk_id=talk["id"], topic="tea")
    sessions = floor.lobby._sessions

    def away() -> Any:
        raise ConnectionRefusedError

    floor.lobby._sessions = away  # type: ignore[assignment] # the database is away
    with pytest.raises(ConnectionRefusedError):
        await floor.told()
    floor.lobby._sessions = sessions

    assert [ev for ev, _ in await floor.told()] == ["talk.listed"]
