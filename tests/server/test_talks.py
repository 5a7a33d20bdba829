"""Free talks: opened by anybody, shared by link and picture, found nearby, closed when empty."""

import asyncio
import re
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select

from billing.models import Outbox
from rooms.errors import NotAllowedError, RoomClosedError, RoomFullError
from rooms.models import RoomSeat
from server.context import Principal, Role
from server.errors import BadRequestError, ForbiddenError, NotFoundError
from server.features.talks import stays
from server.features.talks.models import TalkStay
from tests.server.stage import AMERICA, NOWHERE, VIETNAM, Connection, Stage

TALK: dict[str, Any] = {"title": "Coffee and verbs", "language": "en"}


async def titles(stage: Stage, person: Principal | None = None, **fields: Any) -> list[str]:
    page = await stage.do("talk.list", person, **fields)
    return [talk["title"] for talk in page["items"]]


async def test_host_of_a_new_talk_holds_a_seat_and_gets_link_and_picture(stage: Stage) -> None:
    [host] = await stage.people(1)

    talk = await stage.do("talk.create", host, **TALK, level="B1", topic="food")

    async with stage.parts.sessions() as session:
        seated = (await session.scalars(select(RoomSeat.identity))).all()
    assert list(seated) == [str(host.user_id)]
    assert talk["seats"] == {"total": 4, "taken": 1}
    assert talk["host"]["user_id"] == str(host.user_id)
    assert re.fullmatch(r"[a-z2-9]{10}", talk["code"])
    assert talk["share_link"] == f"{stage.parts.settings.public_url}/t/{talk['code']}"
    assert talk["qr_svg"].startswith("<svg")


async def test_four_may_come_and_the_fifth_is_refused_until_one_leaves(stage: Stage) -> None:
    host, *others = await stage.people(5)
    talk = await stage.do("talk.create", host, **TALK)
    sockets = {person.user_id: Connection() for person in (host, *others)}
    for person in (host, *others[:3]):
        await stage.do("room.join", person, room_id=talk["room_id"], connection=sockets[person.user_id])

    with pytest.raises(RoomFullError):
        await stage.do("room.join", others[3], room_id=talk["room_id"])
    free, full = await titles(stage), await titles(stage, full=True)
    await stage.do("room.leave", others[0], room_id=talk["room_id"])
    joined = await stage.do("room.join", others[3], room_id=talk["room_id"])

    assert (free, full) == ([], [TALK["title"]])
    assert await titles(stage, full=True, level="C2") == []
    assert joined["seat"]["no"] == 2


async def test_closed_talk_is_not_listed_and_not_joined_and_stays_readable(stage: Stage) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK)

    with pytest.raises(NotAllowedError):
        await stage.do("talk.close", guest, talk_id=talk["id"])
    closed = await stage.do("talk.close", host, talk_id=talk["id"])
    again = await stage.do("talk.close", host, talk_id=talk["id"])

    with pytest.raises(RoomClosedError):
        await stage.do("room.join", guest, room_id=talk["room_id"])
    assert closed["state"] == again["state"] == "closed"
    assert await titles(stage) == []
    for name in ("id", "room_id", "code"):
        assert (await stage.do("talk.get", None, talk_id=talk[name]))["state"] == "closed"
    assert (await stage.do("room.get", guest, room_id=talk["room_id"]))["state"] == "closed"


async def test_nearby_shows_talks_of_the_callers_country_newest_first(stage: Stage) -> None:
    [host] = await stage.people(1)
    await stage.do("talk.create", host, **TALK | {"title": "Hanoi one"}, address=VIETNAM)
    stage.parts.clock.offset += timedelta(minutes=1)
    await stage.do("talk.create", host, **TALK | {"title": "Hanoi two"}, address=f"::ffff:{VIETNAM}")
    await stage.do("talk.create", host, **TALK | {"title": "Boston"}, address=AMERICA)

    assert await titles(stage, nearby=True, address=VIETNAM) == ["Hanoi two", "Hanoi one"]
    assert await titles(stage, nearby=True, address=AMERICA) == ["Boston"]
    assert await titles(stage, nearby=True, region="vn", address=AMERICA) == ["Hanoi two", "Hanoi one"]
    assert len(await titles(stage)) == 3


async def test_unknown_region_is_near_nobody(stage: Stage) -> None:
    [host] = await stage.people(1)
    await stage.do("talk.create", host, **TALK, address=NOWHERE)

    assert await titles(stage, nearby=True, address=NOWHERE) == []
    assert await titles(stage, nearby=True) == []
    assert await titles(stage, nearby=True, address=VIETNAM) == []
    assert (await stage.do("talk.list", None, nearby=True, address=NOWHERE))["region"] is None
    assert (await stage.do("talk.list", None, nearby=True, address=VIETNAM))["region"] == "VN"


async def test_host_may_choose_the_region(stage: Stage) -> None:
    [host] = await stage.people(1)

    talk = await stage.do("talk.create", host, **TALK, region="us", address=VIETNAM)

    assert talk["region"] == "US"
    assert await titles(stage, nearby=True, address=AMERICA) == [TALK["title"]]


async def test_private_talk_is_reached_by_its_code_only(stage: Stage) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK, public=False, address=VIETNAM)

    found = await stage.do("talk.get", guest, talk_id=talk["code"])
    joined = await stage.do("room.join", guest, room_id=found["room_id"])

    assert await titles(stage) == await titles(stage, nearby=True, address=VIETNAM) == []
    assert joined["seat"]["no"] == 2


async def test_lists_are_filtered_and_paged(stage: Stage) -> None:
    [host] = await stage.people(1)
    for number, (language, level) in enumerate((("en", "A1"), ("vi", "A1"), ("en", "C1"), ("en", "C1"))):
        stage.parts.clock.offset += timedelta(minutes=1)
        await stage.do(
            "talk.create", host, title=f"talk {number}", language=language, level=level, topic="Food"
        )

    first = await stage.do("talk.list", None, limit=3)
    second = await stage.do("talk.list", None, limit=3, cursor=first["next_cursor"])

    assert [talk["title"] for talk in first["items"]] == ["talk 3", "talk 2", "talk 1"]
    assert [talk["title"] for talk in second["items"]] == ["talk 0"]
    assert second["next_cursor"] is None
    assert await titles(stage, language="EN", level="C1") == ["talk 3", "talk 2"]
    assert await titles(stage, topic="food", language="vi") == ["talk 1"]


async def test_announced_talk_starts_in_the_future(stage: Stage) -> None:
    [host] = await stage.people(1)
    now = stage.parts.clock.now()

    with pytest.raises(BadRequestError):
        await stage.do("talk.create", host, **TALK, starts_at=now - timedelta(minutes=1))
    talk = await stage.do("talk.create", host, **TALK, starts_at=now + timedelta(hours=1))

    assert talk["state"] == "open"
    assert talk["starts_at"] is not None


async def test_only_the_host_changes_a_talk(stage: Stage) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK, topic="food")

    with pytest.raises(ForbiddenError):
        await stage.do("talk.update", guest, talk_id=talk["id"], title="Mine")
    changed = await stage.do("talk.update", host, talk_id=talk["id"], title="Tea and nouns", topic=None)

    assert (changed["title"], changed["topic"], changed["language"]) == ("Tea and nouns", None, "en")


@pytest.mark.parametrize("talk_id", ["aaaaaaaaaa", "00000000-0000-0000-0000-000000000000", "no such thing"])
async def test_unknown_talk_is_not_found(stage: Stage, talk_id: str) -> None:
    with pytest.raises(NotFoundError):
        await stage.do("talk.get", None, talk_id=talk_id)


async def test_history_tells_who_was_there_how_long(stage: Stage) -> None:
    clock = stage.parts.clock
    host, guest, passer = await stage.people(3)
    clock.pin(clock.now())
    talk = await stage.do("talk.create", host, **TALK)
    for person in (host, guest):
        await stage.do("room.join", person, room_id=talk["room_id"], connection=Connection())
    await stage.relay.flush()
    clock.pin(clock.now() + timedelta(minutes=5, seconds=30))
    await stage.do("room.leave", guest, room_id=talk["room_id"])
    await stage.do("room.join", guest, room_id=talk["room_id"], connection=Connection())
    clock.pin(clock.now() + timedelta(minutes=2, seconds=30))
    await stage.do("room.leave", guest, room_id=talk["room_id"])

    [of_host] = (await stage.do("talk.history", host))["items"]
    [of_guest] = (await stage.do("talk.history", guest))["items"]

    assert (of_host["hosted"], of_host["minutes"], of_host["left_at"]) == (True, 8, None)
    assert (of_guest["hosted"], of_guest["minutes"]) == (False, 8)
    assert of_guest["left_at"] is not None
    assert (await stage.do("talk.history", passer))["items"] == []


async def test_administrators_see_the_history_of_all_by_status(stage: Stage) -> None:
    hosts = await stage.people(2)
    [admin] = await stage.people(1, Role.ADMIN)
    talks = [await stage.do("talk.create", host, **TALK) for host in hosts]
    await stage.do("talk.close", hosts[0], talk_id=talks[0]["id"])

    def ids(page: Any) -> list[str]:
        return [one["id"] for one in page["items"]]

    newest_first = [talks[1]["id"], talks[0]["id"]]
    assert ids(await stage.do("talk.history", admin)) == newest_first
    assert ids(await stage.do("talk.history", admin, status="closed")) == [talks[0]["id"]]
    assert ids(await stage.do("talk.history", admin, status="open")) == [talks[1]["id"]]
    assert ids(await stage.do("talk.history", hosts[0], status="open")) == []


async def test_host_and_administrators_see_who_was_there(stage: Stage) -> None:
    """F4-56."""
    clock = stage.parts.clock
    host, guest, passer = await stage.people(3)
    [admin] = await stage.people(1, Role.ADMIN)
    clock.pin(clock.now())
    talk = await stage.do("talk.create", host, **TALK)
    await stage.do("room.join", host, room_id=talk["room_id"], connection=Connection())
    began = clock.now()
    for _ in range(2):
        clock.pin(clock.now() + timedelta(minutes=1))
        await stage.do("room.join", guest, room_id=talk["room_id"], connection=Connection())
        clock.pin(clock.now() + timedelta(minutes=2, seconds=30))
        await stage.do("room.leave", guest, room_id=talk["room_id"])

    seen = await stage.do("talk.participants", host, talk_id=talk["id"])
    of_admin = await stage.do("talk.participants", admin, talk_id=talk["id"])
    with pytest.raises(ForbiddenError):
        await stage.do("talk.participants", passer, talk_id=talk["id"])

    told = [(one["user_id"], one["name"], one["host"], one["minutes"]) for one in seen["items"]]
    assert told == [(str(host.user_id), ANY, True, 7), (str(guest.user_id), ANY, False, 5)]
    first, second = ((one["joined_at"], one["left_at"]) for one in seen["items"])
    assert first == (told_as(began), None)
    assert second == (told_as(began + timedelta(minutes=1)), told_as(clock.now()))
    assert of_admin == seen


def told_as(moment: datetime) -> str:
    return str(msgspec.to_builtins(moment))


async def test_stays_told_again_stay_the_same(stage: Stage) -> None:
    host, guest = await stage.people(2)
    talk = await stage.do("talk.create", host, **TALK)
    for _ in range(2):
        await stage.do("room.join", guest, room_id=talk["room_id"], connection=Connection())
        await stage.do("room.leave", guest, room_id=talk["room_id"])
        await stage.relay.flush()

    await stage.do("talk.history", guest)
    async with stage.parts.sessions() as session:
        stays = (await session.scalars(select(TalkStay).where(TalkStay.user_id == guest.user_id))).all()
        left = await session.scalar(
            select(func.count()).select_from(Outbox).where(Outbox.type != "room.published")
        )

    assert len(stays) == 2
    assert all(stay.left_at is not None and stay.joined_at is not None for stay in stays)
    assert left == 0


async def test_stays_of_many_talks_are_told_together_and_by_two_at_once(stage: Stage) -> None:
    hosts, guests = await stage.people(6), await stage.people(6)
    talks = [await stage.do("talk.create", host, **TALK) for host in hosts]
    for talk, guest in zip(talks, guests, strict=True):
        for op in ("room.join", "room.leave", "room.join"):
            await stage.do(op, guest, room_id=talk["room_id"], connection=Connection())
    room_ids = [UUID(talk["room_id"]) for talk in talks]

    async def tell(order: list[UUID]) -> None:
        async with stage.parts.sessions.begin() as session:
            await stays.tell(session, order)

    await asyncio.gather(tell(room_ids), stage.relay.flush(), tell(room_ids[::-1]))

    async with stage.parts.sessions() as session:
        found = await session.execute(
            select(TalkStay.talk_id, TalkStay.user_id, TalkStay.joined_at, TalkStay.left_at)
            .where(TalkStay.joined_at.is_not(None))
            .order_by(TalkStay.seat_generation)
        )
    told: dict[tuple[UUID, UUID], list[bool]] = {}
    for talk_id, user_id, _, left_at in found:
        told.setdefault((talk_id, user_id), []).append(left_at is not None)
    assert told == {
        (UUID(talk["id"]), guest.user_id): [True, False] for talk, guest in zip(talks, guests, strict=True)
    }


async def test_empty_talk_closes_after_twenty_seconds_and_leaves_the_lists(stage: Stage) -> None:
    clock = stage.parts.clock
    [host] = await stage.people(1)
    clock.pin(clock.now())
    talk = await stage.do("talk.create", host, **TALK)
    await stage.do("room.join", host, room_id=talk["room_id"], connection=Connection())
    await stage.do("room.leave", host, room_id=talk["room_id"])

    clock.pin(clock.now() + timedelta(seconds=21))
    await stage.parts.rooms.run_due(clock.now())
    await stage.relay.flush()

    found = await stage.do("talk.get", None, talk_id=talk["id"])
    assert found["state"] == "closed"
    assert found["closed_at"] is not None
    assert await titles(stage) == []
