"""Free talks by their link: stories 6 and 7 of the acceptance list, hosts, bans, devices, the queue."""

import asyncio
import uuid

import pytest

from tests.journeys.people import Body, Person, Town, eventually, story
from tests.journeys.product import AMERICA, NOWHERE, VIETNAM, Product

pytestmark = pytest.mark.journey


async def open_talk(host: Person, **more: object) -> Body:
    """Open a talk that nobody else's test finds."""
    body = {"title": "Coffee and verbs", "language": "en", "topic": uuid.uuid4().hex}
    made: Body = await host.call("POST", "/api/v1/talks", body | more)
    return made


async def gather(town: Town, count: int) -> tuple[list[Person], str]:
    """Return people who sit in a talk, in order of coming; the first is its host."""
    people = await town.mint(count)
    made = await open_talk(people[0])
    for person in people:
        await person.connect()
        await person.join(made["room_id"])
    return people, made["room_id"]


async def state_of(person: Person, room_id: str) -> Body:
    room: Body = await person.call("GET", f"/api/v1/rooms/{room_id}")
    return room


async def test_four_meet_by_the_link_a_fifth_is_refused_and_the_empty_talk_closes(product: Product) -> None:
    """Story 6."""
    async with story(product) as town:
        people = await town.mint(5)
        host, fifth = people[0], people[4]
        made = await open_talk(host)
        assert made["share_link"] == f"{product.base}/t/{made['code']}"
        assert made["qr_svg"].startswith("<svg")
        picture = await town.send("GET", f"/api/v1/talks/{made['code']}/qr.svg")
        assert picture.headers["Content-Type"].startswith("image/svg+xml")
        page = await town.send("GET", f"/t/{made['code']}")
        assert page.status == 200
        assert "Coffee and verbs" in page.content.decode()

        for number, person in enumerate(people[:4], 1):
            await person.connect()
            found = await person.call("GET", f"/api/v1/talks/{made['code']}")
            joined = await person.join(found["room_id"])
            assert joined["seat"] == {
                "no": number,
                "state": "connected",
                "generation": joined["seat"]["generation"],
            }
            assert joined["media"]["provider"] == "peer"
            assert len(joined["room"]["participants"]) == number
        room_id = made["room_id"]
        for number, person in enumerate(people[1:4], 2):
            assert (await host.saw("participant.joined", user_id=person.id))["d"]["seat_no"] == number
        await fifth.connect()
        refusal = await fifth.refused("room.join", {"room_id": room_id})
        assert (refusal["code"], refusal["name"], refusal["retryable"]) == (120, "room_full", True)
        assert refusal["retry_after_ms"] > 0

        for person in people[:4]:
            await person.leave(room_id)
        await town.advance(seconds=15)
        assert (await state_of(host, room_id))["state"] == "live"
        await town.advance(seconds=10)

        room = await state_of(host, room_id)
        assert (room["state"], room["reason"], room["participants"]) == ("closed", "empty", [])
        assert (await fifth.refused("room.join", {"room_id": room_id}))["code"] == 121
        listed = await town.send("GET", f"/api/v1/talks?topic={made['topic']}")
        assert listed.body["items"] == []
        history = await people[2].call("GET", "/api/v1/talks/history")
        assert [one["id"] for one in history["items"]] == [made["id"]]
        assert "over" in (await town.send("GET", f"/t/{made['code']}")).content.decode()


async def test_nearby_shows_the_talks_of_the_own_country_that_are_not_full(product: Product) -> None:
    """Story 7."""
    async with story(product) as town:
        hosts = await town.mint(4)
        topic = uuid.uuid4().hex
        for host, address in zip(hosts, (VIETNAM, VIETNAM, AMERICA, NOWHERE), strict=True):
            host.address = address
            await host.connect()
        first, second, american, nowhere = [await open_talk(host, topic=topic) for host in hosts]
        full = await open_talk(hosts[0], topic=topic, max_participants=2)
        for host in hosts[:2]:
            await host.join(full["room_id"])

        async def nearby(address: str, **headers: str) -> list[str]:
            answer = await town.send(
                "GET", f"/api/v1/talks?nearby=true&topic={topic}", **{"X-Forwarded-For": address}, **headers
            )
            return [one["id"] for one in answer.body["items"]]

        async def is_full() -> bool:
            return full["id"] not in await nearby(VIETNAM)

        await eventually(is_full, "a full talk is not listed")
        assert [first["region"], american["region"], nowhere["region"]] == ["VN", "US", None]
        assert await nearby(VIETNAM) == [second["id"], first["id"]]
        assert await nearby(AMERICA) == [american["id"]]
        assert await nearby(NOWHERE) == []
        assert await nearby(f"{VIETNAM}, {AMERICA}") == [american["id"]]
        everywhere = await town.send("GET", f"/api/v1/talks?topic={topic}")
        assert [one["id"] for one in everywhere.body["items"]] == [
            nowhere["id"], american["id"], second["id"], first["id"],
        ]  # fmt: skip
        by_region = await town.send("GET", f"/api/v1/talks?nearby=true&region=vn&topic={topic}")
        assert [one["id"] for one in by_region.body["items"]] == [second["id"], first["id"]]


async def test_ten_at_once_never_fill_more_than_four_seats(product: Product) -> None:
    async with story(product) as town:
        people = await town.mint(10)
        made = await open_talk(people[0])
        for person in people:
            await person.connect()

        async def come(person: Person) -> int:
            try:
                return int((await person.join(made["room_id"]))["seat"]["no"])
            except Exception as error:  # noqa: BLE001 - looked at below
                return -int(getattr(error, "code", 0))

        seats = await asyncio.gather(*(come(person) for person in people))

        assert sorted(seats) == [-120] * 6 + [1, 2, 3, 4]
        assert len((await state_of(people[0], made["room_id"]))["participants"]) == 4


async def test_talk_that_nobody_joins_stays_while_the_hosts_seat_is_kept(product: Product) -> None:
    """The seat is kept for two minutes of wall time, however far business time has moved."""
    async with story(product) as town:
        host = (await town.mint())[0]
        made = await open_talk(host)

        await town.advance(days=1)

        room = await state_of(host, made["room_id"])
        assert (room["state"], [one["state"] for one in room["participants"]]) == ("open", ["joining"])


async def test_host_who_leaves_passes_the_role_on(product: Product) -> None:
    async with story(product) as town:
        (host, heir, third), room_id = await gather(town, 3)
        assert (await heir.refused("room.kick", {"room_id": room_id, "user_id": third.id}))["code"] == 103

        await host.leave(room_id)

        await third.saw("room.updated", host=heir.id)
        room = await state_of(third, room_id)
        roles = {one["user_id"]: one["role"] for one in room["participants"]}
        assert roles == {heir.id: "host", third.id: "member"}
        assert (await host.refused("room.kick", {"room_id": room_id, "user_id": third.id}))["code"] == 103
        await heir.ask("room.kick", {"room_id": room_id, "user_id": third.id})
        await heir.saw("participant.kicked", user_id=third.id)


async def test_kicked_may_come_back_and_banned_may_not(product: Product) -> None:
    async with story(product) as town:
        (host, noisy, guest), room_id = await gather(town, 3)

        await host.ask("room.kick", {"room_id": room_id, "user_id": noisy.id})
        left = await guest.saw("participant.left", user_id=noisy.id)
        assert left["d"]["reason"] == "kicked"
        again = (await noisy.join(room_id))["seat"]
        assert again["generation"] > left["d"]["seat_generation"]

        await host.ask("room.kick", {"room_id": room_id, "user_id": noisy.id, "ban": True})
        await guest.saw("participant.kicked", user_id=noisy.id, banned=True)
        for _ in range(2):
            refusal = await noisy.refused("room.join", {"room_id": room_id})
            assert (refusal["code"], refusal["name"]) == (122, "banned")
        elsewhere = await noisy.connect()
        assert (await elsewhere.refused("room.join", {"room_id": room_id}))["code"] == 122
        over_http = await noisy.send("POST", f"/api/v1/rooms/{room_id}/join", {})
        assert (over_http.status, over_http.body["code"]) == (403, "banned")
        assert (await noisy.refused("chat.send", {"text": "hello"}, ch=f"room:{room_id}"))["code"] == 123
        assert len((await state_of(host, room_id))["participants"]) == 2


async def test_second_device_shares_the_seat(product: Product) -> None:
    async with story(product) as town:
        (host, guest), room_id = await gather(town, 2)
        seat = next(
            one for one in (await state_of(host, room_id))["participants"] if one["user_id"] == guest.id
        )

        phone = await guest.connect()
        joined = await phone.ask("room.join", {"room_id": room_id})

        assert joined["seat"]["no"] == seat["seat_no"]
        assert joined["seat"]["generation"] == seat["seat_generation"]
        assert len(joined["room"]["participants"]) == 2
        await guest.device.socket.close()
        await phone.ask("chat.send", {"text": "still here"}, ch=f"room:{room_id}")
        await host.saw("message.created", text="still here", user_id=guest.id)
        assert host.device.seen("participant.left") == []
        assert {one["state"] for one in (await state_of(host, room_id))["participants"]} == {"connected"}
        await phone.socket.close()
        await host.saw("participant.updated", user_id=guest.id, state="grace")
        assert host.device.seen("participant.left") == []


async def test_offer_that_nobody_takes_goes_to_the_next(product: Product) -> None:
    async with story(product) as town:
        people, room_id = await gather(town, 4)
        slow, quick, latecomer = await town.mint(3)
        for position, person in enumerate((slow, quick), 1):
            await person.connect()
            assert (await person.join(room_id, queue=True))["queue"]["position"] == position
        await latecomer.connect()

        await people[1].leave(room_id)

        offer = await slow.saw("seat.offered", room_id=room_id)
        assert offer["ch"] == f"user:{slow.id}"
        # The seat is kept for who was offered it.
        assert (await latecomer.refused("room.join", {"room_id": room_id}))["code"] == 120
        await quick.device.saw("seat.offered", room_id=room_id, within_s=30)
        await quick.saw("queue.updated", room_id=room_id, position=1)
        await slow.saw("queue.updated", room_id=room_id, position=None)
        joined = await quick.join(room_id)
        assert joined["seat"]["no"] == 2
        assert len(joined["room"]["participants"]) == 4


async def test_chat_reaches_everybody_and_looks_the_same_when_recovered(product: Product) -> None:
    async with story(product) as town:
        (host, guest), room_id = await gather(town, 2)
        channel = f"room:{room_id}"
        before = (await guest.join(room_id))["sub"]
        key = str(uuid.uuid4())

        sent = await host.ask("chat.send", {"text": "xin chào"}, ch=channel, key=key)
        again = await host.ask("chat.send", {"text": "xin chào"}, ch=channel, key=key)
        mismatch = await host.refused("chat.send", {"text": "other"}, ch=channel, key=key)

        assert again == sent
        assert mismatch["code"] == 125
        message_id = sent["message"]["id"]
        shown = await guest.saw("message.created", id=message_id)
        await host.saw("message.created", id=message_id)
        edited = {"message_id": message_id, "text": "chào"}
        assert (await guest.refused("chat.edit", edited, ch=channel))["code"] == 103
        await host.ask("chat.edit", edited, ch=channel)
        await guest.saw("message.updated", id=message_id, text="chào")
        await guest.ask("chat.read", {"message_id": message_id}, ch=channel)
        await host.saw("message.read", id=message_id, user_id=guest.id)
        page = await guest.ask("history", {"since": before, "limit": 100}, ch=channel)
        live = [event for event in guest.device.events if event["ch"] == channel and "off" in event]
        assert page["events"] == [event for event in live if event["off"] > before["off"]]
        assert shown in page["events"]
        assert len([one for one in page["events"] if one["ev"] == "message.created"]) == 1

        await host.ask("chat.delete", {"message_id": message_id}, ch=channel)
        await guest.saw("message.deleted", id=message_id, by=host.id)
        after = await guest.ask("history", {"since": before, "limit": 100}, ch=channel)
        assert [one["off"] for one in after["events"][:-1]] == [one["off"] for one in page["events"]]
        assert {one["d"]["text"] for one in after["events"] if "text" in one["d"]} == {""}
