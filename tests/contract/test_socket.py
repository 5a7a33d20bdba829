"""PROTOCOL 3: the handshake, every operation, every error number that can be provoked, close codes and events."""

import asyncio
import uuid
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.contract import shapes
from tests.contract.shapes import MONEY, Shape, anything, fits, integer, maybe, number, one_of, text, truth
from tests.contract.test_http import NOTIFICATION, PARTICIPANT, SNAPSHOT, WALLET, lesson_held
from tests.journeys import school
from tests.journeys.people import Body, Device, Person, Town, town, usd
from tests.journeys.product import Product

pytestmark = pytest.mark.journey

POSITION: Shape = {"epoch": text, "off": integer}
SUB: Shape = {"epoch": text, "off": integer, "recovered": truth, "events": [shapes.mapping], "more": truth}
ERROR: Shape = {"code": integer, "name": text, "message": text, "retryable": truth}
NAMES = {
    101: "unauthorized", 102: "unknown_channel", 103: "permission_denied", 104: "unknown_op", 105: "already_subscribed",
    106: "limit_exceeded", 107: "bad_request", 108: "not_available", 109: "token_expired", 111: "too_many_requests",
    112: "unrecoverable_position", 120: "room_full", 121: "room_closed", 122: "banned", 123: "seat_expired", 124: "conflict",
    125: "idempotency_mismatch",
}  # fmt: skip
RETRYABLE = {111, 120, 123}

# What an event says, field by field: nothing less, and nothing that is not written down here.
MESSAGE: Shape = {
    "id": shapes.uuid,
    "user_id": shapes.uuid,
    "text": text,
    "sent_at": shapes.at,
    "edited_at": maybe(shapes.at),
}
HOLD_EVENT: Shape = {
    "hold_id": shapes.uuid, "student_id": shapes.uuid, "tutor_id": shapes.uuid, "lesson_id": maybe(shapes.uuid),
    "source_kind": text, "source_id": shapes.uuid, "amount": MONEY,
}  # fmt: skip
EVENTS: dict[str, Shape] = {
    "participant.joined": PARTICIPANT,
    "participant.updated": {
        "user_id": shapes.uuid, "seat_no": integer, "seat_generation": integer,
        "state": one_of("joining", "connected", "grace"),
    },
    "participant.left": {
        "user_id": shapes.uuid, "seat_no": integer, "seat_generation": integer,
        "reason": one_of("left", "expired", "kicked", "closed"),
    },
    "participant.kicked": {"user_id": shapes.uuid, "by": shapes.uuid, "banned": truth},
    "room.opened": {"id": shapes.uuid, "kind": text, "title": text, "cap": integer},
    "room.closing": {"reason": text},
    "room.closed": {"reason": text},
    "room.message": {"from": shapes.uuid, "kind": text, "data": anything},
    "room.signal": {"room_id": shapes.uuid, "from": shapes.uuid, "data": anything},
    "typing": {"user_id": shapes.uuid, "typing": truth},
    "message.created": MESSAGE,
    "message.updated": MESSAGE,
    "message.deleted": {"id": shapes.uuid, "by": shapes.uuid},
    "message.read": {"id": shapes.uuid, "user_id": shapes.uuid},
    "seat.offered": {"room_id": shapes.uuid, "expires_in_s": 20},
    "queue.updated": {"room_id": shapes.uuid, "position": maybe(integer)},
    "attendance.updated": {
        "room_id": shapes.uuid, "user_id": shapes.uuid, "attended_s": integer, "required_s": integer, "reached": truth,
    },
    "wallet.updated": WALLET,
    "notification.created": NOTIFICATION,
    "session.started": {"at": shapes.at},
    "session.ended": {"at": shapes.at, "reason": text},
}  # fmt: skip
# These say more where there is more to say.
OPEN_EVENTS: dict[str, Shape] = {
    "room.updated": {},
    "hold.placed": HOLD_EVENT,
    "hold.released": {**HOLD_EVENT, "tutor_share": MONEY, "platform_share": MONEY, "cause": text},
    "hold.refunded": {**HOLD_EVENT, "cause": text},
    "participant.media": {"user_id": shapes.uuid, "state": anything},
    "presence.diff": {
        "people": [{"user_id": shapes.uuid, "state": one_of("online", "away", "busy")}],
        "gone": [shapes.uuid],
    },
    "talk.listed": {"id": shapes.uuid, "title": text, "seats": {"total": integer, "taken": integer}},
    "talk.unlisted": {"id": shapes.uuid},
}
VOLATILE = {
    "room.message", "room.signal", "typing", "participant.media", "presence.diff", "talk.listed", "talk.unlisted",
}  # fmt: skip


def is_error(err: Body, code: int) -> None:
    """Fail unless an error is this row of the table."""
    fits(err, ERROR)
    assert (err["code"], err["name"], err["retryable"]) == (code, NAMES[code], code in RETRYABLE), err


def are_events(devices: list[Device]) -> set[str]:
    """Fail unless everything that came is as the protocol says; return the names."""
    names: set[str] = set()
    for device in devices:
        last: dict[str, int] = {}
        for event in device.events:
            name, where = event["ev"], f"{event['ev']} on {event['ch']}"
            assert event.keys() - {"off"} == {"ch", "ev", "ts", "d"}, where
            assert ("off" in event) is (name not in VOLATILE), where
            assert 1_600_000_000_000 < event["ts"] < 5_000_000_000_000, where
            fits(event["d"], EVENTS.get(name, OPEN_EVENTS.get(name, {})), at=where, exactly=name in EVENTS)
            assert name in EVENTS or name in OPEN_EVENTS, where
            shapes.keeps_conventions(event["d"], where=where)
            if "off" in event:
                before = last.get(event["ch"], event["off"] - 1)
                assert event["off"] == before + 1, f"{where}: a gap"
                last[event["ch"]] = event["off"]
            names.add(name)
    return names


async def talk(host: Person, **more: Any) -> str:
    """Open a talk and return its room."""
    made = await host.call("POST", "/api/v1/talks", {"title": "Contract talk", "language": "en", **more})
    return str(made["room_id"])


async def connected(people: Town, count: int) -> list[Person]:
    found = await people.mint(count)
    for person in found:
        await person.connect()
    return found


# --- Handshake and life -----------------------------------------------------------------------


async def test_connect_says_everything_in_one_round_trip(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        device = await people.open_socket()
        assert device.socket.protocol == "fourtalk.v1.json"

        ok = await device.connect(person.token)

        shape: Shape = {
            "conn": text, "user": {"id": person.id, "role": "student"}, "server_time": integer, "ping_s": number,
            "pong_s": number, "limits": shapes.mapping, "subs": {f"user:{person.id}": SUB},
        }  # fmt: skip
        fits(ok, shape, exactly=True)
        assert (ok["ping_s"], ok["pong_s"]) == (25, 10)
        limits = ok["limits"]
        assert (limits["frame_bytes"], limits["channels"], limits["connections"]) == (32_768, 100, 8)
        assert limits["rates"]["chat.send"] == {"per_s": 5, "burst": 10}
        fits(await device.ask("ping"), {"server_time": integer}, exactly=True)
        is_error(await device.refused("connect", {"token": person.token}), 107)


async def test_msgpack_means_the_same(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{product.base}/ws", protocols=("fourtalk.v1.msgpack",)) as socket,
        ):
            requests = [
                {"id": 1, "op": "connect", "d": {"token": person.token}},
                {"id": 2, "op": "wallet.get", "d": {}},
            ]
            for request in requests:
                await socket.send_bytes(msgspec.msgpack.encode(request))
            answers = [msgspec.msgpack.decode((await socket.receive(5)).data) for _ in requests]

        assert answers[0]["ok"]["user"]["id"] == person.id
        fits(answers[1]["ok"], WALLET)


@pytest.mark.parametrize(
    ("d", "error", "close"),
    [
        ({"token": "nonsense"}, 101, 4001),
        ({"ticket": "nonsense"}, 101, 4001),
        ({}, 101, 4001),
        ({"token": 7}, 107, 4000),
        ({"token": "a", "since": [{"ch": "x"}]}, 107, 4000),
    ],
)
async def test_connect_that_fails_says_why_and_closes(
    product: Product, d: Body, error: int, close: int
) -> None:
    async with town(product) as people:
        device = await people.open_socket()

        is_error(await device.refused("connect", d), error)

        assert await device.closed() == close


async def test_token_that_runs_out_is_announced_refreshed_or_ends_the_socket(product: Product) -> None:
    async with town(product) as people:
        done = await asyncio.to_thread(product.command, "user", "mint", "--count", "2", "--ttl-s", "10")
        first, second = [
            Person(people, user_id=one["user_id"], token=one["access_token"], email=one["email"])
            for one in map(msgspec.json.decode, done.stdout.splitlines())
        ]
        kept, lost = await first.connect(), await second.connect()
        await kept.until(lambda: kept.controls, "the announcement")
        assert kept.controls[0]["ctl"] == "token.expiring"
        fits(kept.controls[0]["d"], {"expires_in_s": integer})

        foreign = (await people.mint())[0]
        is_error(await kept.refused("refresh", {"token": foreign.token}), 101)

        assert await lost.closed() == 4201
        again = await people.open_socket()
        is_error(await again.refused("connect", {"token": second.token}), 109)
        assert await again.closed() == 4001


async def test_refresh_says_how_long_the_new_token_holds(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        device = await person.connect()

        ok = await device.ask("refresh", {"token": person.token})

        fits(ok, {"expires_in_s": integer}, exactly=True)
        assert 3_000 < ok["expires_in_s"] <= 3_600


async def test_page_of_another_origin_is_closed_with_4003(product: Product) -> None:
    async with town(product) as people:
        foreign = await people.open_socket(Origin="https://evil.example")
        ours = await people.open_socket(Origin=product.base)

        assert await foreign.closed() == 4003
        assert await ours.connect((await people.mint())[0].token)


async def test_unknown_subprotocol_closes_with_4004(product: Product) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{product.base}/ws", protocols=("fourtalk.v9.json",)) as socket,
    ):
        assert (await socket.receive(5)).type is aiohttp.WSMsgType.CLOSE

        assert socket.close_code == 4004


async def test_ninth_connection_of_a_user_closes_with_4005(product: Product) -> None:
    async with town(product) as people:
        person = (await people.mint())[0]
        for _ in range(8):
            await person.connect()
        device = await people.open_socket()

        await device.socket.send_str(
            msgspec.json.encode({"id": 1, "op": "connect", "d": {"token": person.token}}).decode()
        )

        assert await device.closed() == 4005
        assert await person.ask("ping")


async def test_silence_before_connect_closes_with_4007(product: Product) -> None:
    async with town(product) as people:
        device = await people.open_socket()

        is_error(await device.refused("ping"), 101)

        assert await device.closed(within_s=7) == 4007


async def test_frames_that_are_too_big_close_with_4009(product: Product) -> None:
    async with town(product) as people:
        early = await people.open_socket()
        await early.socket.send_str('{"id":1,"op":"connect","d":{"token":"' + "x" * 4_096 + '"}}')
        late = await (await people.mint())[0].connect()
        await late.socket.send_str('{"id":1,"op":"ping","d":{"x":"' + "x" * 32_768 + '"}}')

        assert [await early.closed(), await late.closed()] == [4009, 4009]


async def test_twenty_errors_in_ten_seconds_close_with_4102(product: Product) -> None:
    async with town(product) as people:
        device = await (await people.mint())[0].connect()
        for _ in range(19):
            is_error(await device.refused("no.such.op"), 104)
        assert await device.ask("ping")

        await device.socket.send_str('{"id":99,"op":"no.such.op"}')

        assert await device.closed() == 4102


async def test_heartbeat_is_asked_for_and_one_frame_carries_many_messages(product: Product) -> None:
    async with town(product) as people:
        device = await (await people.mint())[0].connect()

        await device.socket.send_str(
            '{}\n{"id":901,"op":"ping"}\n{"op":"ping"}\n{"id":902,"op":"ping","new":1}'
        )

        await device.until(lambda: len(device.unasked) == 2, "both answers")
        assert [answer["id"] for answer in device.unasked] == [901, 902]


# --- Channels ---------------------------------------------------------------------------------


async def test_subscribe_history_unsubscribe(product: Product) -> None:
    async with town(product) as people:
        host, other = await connected(people, 2)
        room = f"room:{await talk(host)}"

        sub = await other.ask("subscribe", {}, ch=room)

        fits(sub, SUB, exactly=True)
        is_error(await other.refused("subscribe", {}, ch=room), 105)
        await host.join(room.removeprefix("room:"))
        for number_ in range(3):
            await host.ask("chat.send", {"text": f"line {number_}"}, ch=room)
        await other.saw("message.created", text="line 2")
        page = await other.ask("history", {"since": {"epoch": sub["epoch"], "off": 0}, "limit": 2}, ch=room)
        fits(
            page,
            {
                "events": [{"ch": room, "off": integer, "ev": text, "ts": integer, "d": anything}],
                "more": True,
            },
        )
        assert [event["off"] for event in page["events"]] == [1, 2]
        await other.ask("unsubscribe", {}, ch=room)
        is_error(await other.refused("unsubscribe", {}, ch=room), 102)
        back = await other.ask("subscribe", {"since": {"epoch": sub["epoch"], "off": sub["off"]}}, ch=room)
        assert back["recovered"] is True
        live = [event for event in other.device.events if event["ch"] == room and "off" in event]
        assert back["events"] == live
        lost = {"since": {"epoch": "another", "off": 1}}
        is_error(await other.refused("history", lost, ch=room), 112)
        await other.ask("unsubscribe", {}, ch=room)
        assert (await other.ask("subscribe", lost, ch=room))["recovered"] is False
        await other.device.until(
            lambda: any(c["ctl"] == "reset" and c["d"]["ch"] == room for c in other.device.controls),
            "a reset",
        )


async def test_channels_of_others_and_of_later_features(product: Product) -> None:
    async with town(product) as people:
        person, other = await connected(people, 2)
        admin = await people.admin()
        lesson = await school.offer(people, admin)
        own = f"user:{person.id}"

        is_error(await person.refused("subscribe", {}, ch=f"user:{other.id}"), 103)
        is_error(await person.refused("subscribe", {}, ch=f"room:{lesson.room_id}"), 103)
        is_error(await person.refused("subscribe", {}, ch=f"room:{uuid.uuid4()}"), 103)
        is_error(await person.refused("subscribe", {}, ch="room:nonsense"), 103)
        is_error(await person.refused("subscribe", {}, ch="lobby:nonsense"), 103)
        for name in (f"chat:{uuid.uuid4()}", "presence:all", f"availability:{uuid.uuid4()}", "nonsense"):
            is_error(await person.refused("subscribe", {}, ch=name), 102)
        is_error(await person.refused("subscribe", {}, ch=own), 105)
        is_error(await person.refused("unsubscribe", {}, ch=own), 103)
        is_error(await person.refused("subscribe", {}), 107)


async def test_open_talks_are_told_to_whoever_follows_their_channel(product: Product) -> None:
    async with town(product) as people:
        host, watcher = await connected(people, 2)
        fits(await watcher.ask("subscribe", {}, ch="lobby:talks"), SUB)

        opened = await host.call("POST", "/api/v1/talks", {"title": "Rain", "language": "en"})
        await watcher.saw("talk.listed", id=opened["id"], title="Rain")
        await host.call("POST", f"/api/v1/talks/{opened['id']}/close")
        await watcher.saw("talk.unlisted", id=opened["id"])

        assert are_events([watcher.device]) >= {"talk.listed", "talk.unlisted"}


async def test_presence_is_shown_to_whoever_may_follow_the_room(product: Product) -> None:
    async with town(product) as people:
        host, guest = await connected(people, 2)
        channel = f"presence:room:{await talk(host)}"

        fits(await host.ask("subscribe", {}, ch=channel), SUB)
        await host.ask("presence.set", {"state": "online"}, ch=channel)
        await host.saw("presence.diff", people=[{"user_id": host.id, "state": "online"}])
        await guest.ask("subscribe", {}, ch=channel)
        await guest.saw("presence.diff", full=True, people=[{"user_id": host.id, "state": "online"}])
        await guest.ask("presence.set", {"state": "away"}, ch=channel)
        await host.saw("presence.diff", people=[{"user_id": guest.id, "state": "away"}])
        await guest.ask("presence.set", {"state": "offline"}, ch=channel)
        await host.saw("presence.diff", gone=[guest.id])

        is_error(await guest.refused("presence.set", {"state": "asleep"}, ch=channel), 107)
        is_error(
            await guest.refused("presence.set", {"state": "online"}, ch=f"presence:room:{uuid.uuid4()}"), 103
        )
        is_error(await guest.refused("subscribe", {}, ch=f"presence:user:{host.id}"), 102)
        names = are_events([person.device for person in (host, guest)])
        assert "presence.diff" in names


async def test_hundred_channels_and_no_more(product: Product) -> None:
    async with town(product) as people:
        host, other = await connected(people, 2)
        rooms = [await talk(host) for _ in range(100)]
        for room_id in rooms[:99]:
            await other.ask("subscribe", {}, ch=f"room:{room_id}")

        is_error(await other.refused("subscribe", {}, ch=f"room:{rooms[99]}"), 106)

        assert await other.ask("ping")


# --- Operations in rooms ----------------------------------------------------------------------


async def test_room_operations_and_every_event_of_a_talk(product: Product) -> None:
    async with town(product) as people:
        host, guest, waiting = await connected(people, 3)
        room_id = await talk(host, max_participants=2)
        room, d = f"room:{room_id}", {"room_id": room_id}

        joined = await host.ask("room.join", d)
        shape: Shape = {
            "room": SNAPSHOT, "seat": {"no": 1, "state": "connected"}, "media": {"provider": "peer", "ice_servers": [anything]},
            "sub": POSITION,
        }  # fmt: skip
        fits(joined, shape)
        by_channel = await host.ask("room.join", {}, ch=room)
        assert by_channel["seat"] == joined["seat"]
        await guest.join(room_id)
        is_error(await waiting.refused("room.join", d), 120)
        queued = await waiting.ask("room.join", {**d, "queue": True})
        fits(queued, {"queue": {"position": 1}, "sub": POSITION}, exactly=True)
        await guest.ask("room.signal", {**d, "to": host.id, "data": {"sdp": "offer"}})
        signal = await host.saw("room.signal")
        assert (signal["ch"], signal["d"]["from"]) == (f"user:{host.id}", guest.id)
        is_error(await guest.refused("room.signal", {**d, "to": waiting.id, "data": 1}), 103)
        is_error(await guest.refused("room.signal", {**d, "to": host.id, "data": "x" * 9_000}), 107)
        await guest.ask("room.send", {"kind": "hand", "data": {"up": True}}, ch=room)
        await host.saw("room.message", kind="hand", data={"up": True})
        is_error(await guest.refused("room.send", {"kind": "hand", "data": "x" * 1_100}, ch=room), 107)
        is_error(await waiting.refused("room.send", {"kind": "hand"}, ch=f"room:{uuid.uuid4()}"), 103)
        await guest.ask("room.media_state", {**d, "state": {"audio": True}})
        await host.saw("participant.media", user_id=guest.id)
        for op in ("typing.start", "typing.stop"):
            await guest.ask(op, {}, ch=room)
        await host.saw("typing", user_id=guest.id, typing=False)
        sent = await guest.ask("chat.send", {"text": "hello"}, ch=room, key="k1")
        fits(sent, {"message": MESSAGE})
        is_error(await guest.refused("chat.send", {"text": "other"}, ch=room, key="k1"), 125)
        ref = {"message_id": sent["message"]["id"]}
        await guest.ask("chat.edit", {**ref, "text": "hello there"}, ch=room)
        await host.ask("chat.read", ref, ch=room)
        await guest.ask("chat.delete", ref, ch=room)
        is_error(await guest.refused("chat.read", ref, ch=room), 108)
        is_error(await waiting.refused("chat.send", {"text": "let me in"}, ch=room), 123)
        is_error(await host.refused("room.kick", {**d, "user_id": host.id}), 124)
        is_error(await guest.refused("room.kick", {**d, "user_id": host.id}), 103)
        await host.ask("room.kick", {**d, "user_id": guest.id, "ban": True})
        is_error(await guest.refused("room.join", d), 122)
        await waiting.saw("seat.offered")
        await waiting.join(room_id)
        is_error(await waiting.refused("room.close", d), 103)
        await waiting.device.socket.close()
        await host.saw("participant.updated", state="grace")
        await host.ask("talk.update", {"talk_id": await talk_of(host, room_id), "title": "Another title"})
        await host.saw("room.updated", title="Another title")
        await (await people.admin()).call("POST", f"/api/v1/rooms/{room_id}/close", {})
        await host.saw("room.closed")
        is_error(await host.refused("room.join", d), 121)
        assert (await host.ask("room.get", d))["state"] == "closed"

        names = are_events([host.device, guest.device, waiting.device])
        assert names >= {
            "participant.joined", "participant.left", "participant.updated", "participant.kicked", "room.updated",
            "room.closed", "room.message", "room.signal", "typing", "message.created", "message.updated",
            "message.deleted", "message.read", "seat.offered", "queue.updated", "participant.media",
        }  # fmt: skip
        first = next(event for event in waiting.device.events if event["ch"] == room and "off" in event)
        assert first["off"] == queued["sub"]["off"] + 1, "who waits follows the room from there"
        whole = {"since": {"epoch": joined["sub"]["epoch"], "off": 0}}
        refusal = await guest.refused("history", whole, ch=room)
        assert refusal["code"] in (103, 122), refusal
        page = await host.ask("history", whole, ch=room)
        assert page["events"][0]["ev"] == "room.opened"
        fits(page["events"][0]["d"], EVENTS["room.opened"], exactly=True)
        live = [event for event in host.device.events if event["ch"] == room and "off" in event]
        # What was deleted since is shown without its text; everything else as it was live.
        deleted = {event["d"]["id"] for event in live if event["ev"] == "message.deleted"}
        for event in live:
            if event["ev"] in ("message.created", "message.updated") and event["d"]["id"] in deleted:
                event["d"]["text"] = ""
        assert [event for event in page["events"] if event["off"] > joined["sub"]["off"]] == live


async def talk_of(host: Person, room_id: str) -> str:
    history = await host.call("GET", "/api/v1/talks/history")
    return str(next(one["id"] for one in history["items"] if one["room_id"] == room_id))


async def test_every_event_of_a_lesson_and_its_money(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        lesson, _ = await lesson_held(people, admin, student)
        await student.saw("hold.released")
        await lesson.tutor.saw("notification.created", type="payment_received")

        names = are_events([student.device, lesson.tutor.device])
        history = await student.ask(
            "history", {"since": {"epoch": await epoch(student), "off": 0}}, ch=f"user:{student.id}"
        )

        assert names >= {
            "session.started", "session.ended", "room.closing", "room.closed", "attendance.updated", "hold.released",
            "wallet.updated", "notification.created", "participant.joined",
        }  # fmt: skip
        assert [event["off"] for event in history["events"]] == list(range(1, len(history["events"]) + 1))
        live = [
            event for event in student.device.events if event["ch"] == f"user:{student.id}" and "off" in event
        ]
        assert history["events"][-len(live) :] == live


async def epoch(person: Person) -> str:
    return str(person.device.connected["subs"][f"user:{person.id}"]["epoch"])


async def test_both_doors_give_the_same_answer(product: Product) -> None:
    async with town(product) as people:
        admin, student = await people.admin(), (await people.mint())[0]
        lesson, bought = await lesson_held(people, admin, student)
        hold_id = bought["holds"][0]["id"]
        rows: list[tuple[str, Body, str]] = [
            ("me.get", {}, "/me"),
            ("wallet.get", {}, "/wallet"),
            ("wallet.entries", {"limit": 2}, "/wallet/entries?limit=2"),
            ("hold.get", {"hold_id": hold_id}, f"/holds/{hold_id}"),
            ("hold.list", {"status": "released"}, "/holds?status=released"),
            ("purchase.list", {}, "/purchases"),
            ("course.get", {"course_id": lesson.course_id}, f"/courses/{lesson.course_id}"),
            ("course.session.list", {"course_id": lesson.course_id}, f"/courses/{lesson.course_id}/sessions"),
            ("talk.list", {"nearby": True, "region": "VN"}, "/talks?nearby=true&region=VN"),
            ("talk.history", {}, "/talks/history"),
            ("room.get", {"room_id": lesson.room_id}, f"/rooms/{lesson.room_id}"),
            ("room.attendance", {"room_id": lesson.room_id}, f"/rooms/{lesson.room_id}/attendance"),
            ("notification.list", {}, "/notifications"),
        ]
        for op, d, path in rows:
            assert await student.ask(op, d) == await student.call("GET", f"/api/v1{path}"), op

        money = {"user_id": student.id, "money": usd(5), "reason": "both doors, one key"}
        await admin.connect()
        key = uuid.uuid4().hex
        over_socket = await admin.ask("wallet.adjust", money, key=key)
        over_http = await admin.send(
            "POST", "/api/v1/admin/wallet-adjustments", money, **{"Idempotency-Key": key}
        )
        assert over_http.headers["Idempotent-Replay"] == "true"
        assert over_http.body == over_socket
        is_error(await admin.refused("wallet.adjust", money), 107)


async def test_conflicts_and_things_that_are_not_there(product: Product) -> None:
    async with town(product) as people:
        admin = await people.admin()
        tutor = await school.tutor_of(people, admin)
        await tutor.connect()
        made = await school.course(tutor)

        conflict = await tutor.refused("course.publish", {"course_id": made["id"]})
        is_error(conflict, 124)
        assert conflict["d"]["code"] == "no_sessions"
        missing = await tutor.refused("hold.get", {"hold_id": str(uuid.uuid4())})
        is_error(missing, 108)
        assert missing["d"]["code"] == "hold_not_found"
        for op in ("auth.login", "presence.get", "booking.create"):
            is_error(await tutor.refused(op, {}), 104)


# --- Rates ------------------------------------------------------------------------------------


async def test_rates_are_kept_and_say_when_to_come_back(limited: Product) -> None:
    async with town(limited) as people:
        device = await (await people.mint())[0].connect()

        answers = await asyncio.gather(*(device.ask("ping") for _ in range(60)), return_exceptions=True)

        refused = [getattr(one, "err", {}) for one in answers if isinstance(one, Exception)]
        assert 10 <= len(refused) <= 20
        is_error(refused[0], 111)
        assert refused[0]["retry_after_ms"] > 0


async def test_chat_and_joins_have_rates_of_their_own(limited: Product) -> None:
    async with town(limited) as people:
        host = (await people.mint())[0]
        await host.connect()
        room_id = (await host.ask("talk.create", {"title": "Fast", "language": "en"}))["room_id"]
        await host.join(room_id)

        lines = [host.ask("chat.send", {"text": str(n)}, ch=f"room:{room_id}") for n in range(14)]
        answers = await asyncio.gather(*lines, return_exceptions=True)

        refused = [getattr(one, "err", {}) for one in answers if isinstance(one, Exception)]
        assert 1 <= len(refused) <= 4
        is_error(refused[0], 111)


async def test_flood_closes_with_4008(limited: Product) -> None:
    async with town(limited) as people:
        device = await (await people.mint())[0].connect()
        frame = "\n".join(["{}"] * 60)
        for _ in range(60):
            if device.close_code is None:
                await device.socket.send_str(frame)

        assert await device.closed() == 4008


# --- Machine-readable forms -------------------------------------------------------------------


async def test_schemas_are_served_and_list_every_call_of_the_protocol(product: Product) -> None:
    async with town(product) as people:
        openapi = (await people.send("GET", "/schema/openapi.json")).body
        asyncapi = (await people.send("GET", "/schema/asyncapi.json")).body

        assert openapi["openapi"].startswith("3.1")
        assert asyncapi["asyncapi"].startswith("3.")
        paths = {(method.upper(), path) for path, found in openapi["paths"].items() for method in found}
        assert {(method, "/api/v1" + path) for method, path in CALLS} <= paths
        assert asyncapi["operations"].keys() >= OPERATIONS
        assert {row["code"] for row in asyncapi["x-errors"]} >= NAMES.keys() | {100, 130, 132}
        assert asyncapi["channels"]["socket"]["address"] == "/ws"


CALLS = {
    ("POST", "/auth/register"), ("POST", "/auth/login"), ("POST", "/auth/refresh"), ("POST", "/auth/logout"),
    ("GET", "/me"), ("PATCH", "/me"), ("POST", "/auth/ws-ticket"), ("GET", "/notifications"),
    ("POST", "/admin/tutors/{user_id}/approve"), ("POST", "/admin/tutors/{user_id}/reject"),
    ("POST", "/admin/wallet-adjustments"), ("GET", "/wallet"), ("GET", "/wallet/entries"), ("POST", "/courses"),
    ("POST", "/courses/{course_id}/sessions"), ("POST", "/courses/{course_id}/publish"),
    ("POST", "/courses/{course_id}/cancel"), ("GET", "/courses"), ("GET", "/courses/{course_id}"),
    ("GET", "/courses/{course_id}/sessions"), ("GET", "/courses/{course_id}/revenue"), ("POST", "/purchases/quote"),
    ("POST", "/purchases"), ("POST", "/purchases/{purchase_id}/cancel"), ("GET", "/holds/{hold_id}"),
    ("POST", "/talks"), ("GET", "/talks"), ("GET", "/talks/{talk_id}"), ("GET", "/holds"), ("GET", "/purchases"),
    ("GET", "/talks/history"), ("GET", "/courses/{course_id}/students"), ("GET", "/rooms/{room_id}"),
    ("GET", "/rooms/{room_id}/attendance"),
}  # fmt: skip
OPERATIONS = {
    "connect", "refresh", "subscribe", "unsubscribe", "history", "ping", "room.join", "room.leave", "room.kick",
    "room.close", "room.signal", "room.send", "room.media_state", "chat.send", "chat.edit", "chat.delete", "chat.read",
    "typing.start", "typing.stop", "presence.set", "course.create", "course.session.add", "talk.create", "talk.list", "purchase.quote",
    "purchase.confirm", "wallet.get", "hold.get",
}  # fmt: skip
