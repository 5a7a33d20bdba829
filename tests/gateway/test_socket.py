"""The handshake, `connect`, and every operation of the gateway's own, over real sockets."""

import asyncio
import uuid
from datetime import UTC, datetime

import pytest
from websockets.exceptions import InvalidStatus

from server.gateway.limits import Limits
from tests.gateway.harness import ORIGIN, Node, Refused, client, eventually, serving


def room() -> tuple[str, str]:
    room_id = str(uuid.uuid4())
    return room_id, f"room:{room_id}"


async def test_connect_says_who_where_and_within_which_limits(node: Node) -> None:
    user = str(uuid.uuid4())
    node.people.roles[user] = "tutor"

    async with client(node, token=user) as one:
        connected = one.connected

    assert connected["user"] == {"id": user, "role": "tutor"}
    assert connected["ping_s"] == 25
    assert connected["pong_s"] == 10
    assert connected["limits"]["frame_bytes"] == 32_768
    assert connected["limits"]["seat_grace_s"] == 30
    assert connected["limits"]["rates"]["ops"] == {"per_s": 20.0, "burst": 40}
    assert connected["subs"] == {
        f"user:{user}": {"epoch": "e1", "off": 0, "recovered": False, "events": [], "more": False}
    }
    assert connected["conn"]
    assert connected["server_time"] > 1_700_000_000_000


async def test_ticket_opens_once(node: Node) -> None:
    node.people.tickets["t1"] = str(uuid.uuid4())

    async with client(node, token=None) as first:
        await first.call("connect", {"ticket": "t1"})
    async with client(node, token=None) as second:
        with pytest.raises(Refused) as refused:
            await second.call("connect", {"ticket": "t1"})
        code = await second.closed()

    assert refused.value.code == 101
    assert code == 4001


@pytest.mark.parametrize(
    ("token", "error", "close"),
    [("nonsense", 101, 4001), (f"{uuid.UUID(int=7)}/-5", 109, 4001)],
)
async def test_wrong_token_closes_with_auth_failed(node: Node, token: str, error: int, close: int) -> None:
    async with client(node, token=None) as one:
        with pytest.raises(Refused) as refused:
            await one.call("connect", {"token": token})
        code = await one.closed()

    assert refused.value.code == error
    assert code == close


async def test_banned_person_is_told_to_stay_away(node: Node) -> None:
    user = str(uuid.uuid4())
    node.people.blocked.add(user)

    async with client(node, token=None) as one:
        with pytest.raises(Refused):
            await one.call("connect", {"token": user})
        assert await one.closed() == 4003


async def test_unreadable_connect_closes_with_bad_request(node: Node) -> None:
    async with client(node, token=None) as one:
        with pytest.raises(Refused) as refused:
            await one.call("connect", {"token": 7})
        assert refused.value.code == 107
        assert await one.closed() == 4000


async def test_silent_socket_is_closed(redis_url: str) -> None:
    async with serving(redis_url, limits=Limits(auth_s=0.2)) as node, client(node, token=None) as one:
        assert await one.closed() == 4007


async def test_slow_authentication_is_not_the_clients_fault(redis_url: str) -> None:
    async with serving(redis_url, limits=Limits(auth_s=0.2, op_s=2)) as node:
        node.people.delay_s = 0.7

        async with client(node) as one:
            assert one.connected["conn"]


async def test_nothing_is_served_before_connect(node: Node) -> None:
    async with client(node, token=None) as one:
        with pytest.raises(Refused) as refused:
            await one.call("ping")

        assert refused.value.code == 101
        await one.call("connect", {"token": str(uuid.uuid4())})


async def test_requests_may_follow_connect_in_the_same_frame(node: Node) -> None:
    async with client(node, token=None) as one:
        connect = f'{{"id":1,"op":"connect","d":{{"token":"{uuid.uuid4()}"}}}}'
        await one.send_raw(connect + '\n{"id":2,"op":"ping"}')
        await one.until(lambda: len(one.errors) == 2)

    assert [message["id"] for message in one.errors] == [1, 2]


async def test_second_connect_is_refused(node: Node) -> None:
    async with client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call("connect", {"token": str(uuid.uuid4())})

    assert refused.value.code == 107


@pytest.mark.parametrize(("origin", "code"), [("http://evil.test", 4003), ("null", 4003)])
async def test_foreign_origin_is_refused(node: Node, origin: str, code: int) -> None:
    async with client(node, token=None, origin=origin) as one:
        assert await one.closed() == code


async def test_own_origin_may_connect(node: Node) -> None:
    async with client(node, origin=ORIGIN) as one:
        assert await one.call("ping")


async def test_unknown_subprotocol_is_refused(node: Node) -> None:
    async with client(node, token=None, subprotocol="fourtalk.v9.json") as one:
        assert await one.closed() == 4004


async def test_without_subprotocol_json_is_spoken(node: Node) -> None:
    async with client(node, subprotocol=None) as one:
        assert (await one.call("ping"))["server_time"]


@pytest.mark.parametrize(("size", "code"), [(33 * 1024, 4009), (70_000, 4009), (3_000_000, 4009)])
async def test_too_big_a_frame_closes(node: Node, size: int, code: int) -> None:
    async with client(node) as one:
        await one.send_raw('{"op":"ping","zz":"' + "x" * size + '"}')
        assert await one.closed() == code


async def test_first_frame_is_smaller(node: Node) -> None:
    async with client(node, token=None) as one:
        await one.send_raw('{"op":"connect","zz":"' + "x" * 5000 + '"}')
        assert await one.closed() == 4009


async def test_ninth_connection_of_a_user_is_refused(node: Node) -> None:
    user = str(uuid.uuid4())
    async with asyncio.TaskGroup() as tasks:
        done = asyncio.Event()

        async def stay() -> None:
            async with client(node, token=user) as one:
                opened.append(one)
                await done.wait()

        opened: list[object] = []
        for _ in range(8):
            tasks.create_task(stay())
        await eventually(lambda: len(opened) == 8)

        async with client(node, token=None) as ninth:
            await ninth.send_raw(f'{{"id":1,"op":"connect","d":{{"token":"{user}"}}}}')
            code = await ninth.closed()
        done.set()

    assert code == 4005


async def test_refresh_prolongs_and_takes_no_other_persons_token(redis_url: str) -> None:
    user = str(uuid.uuid4())
    limits = Limits(expiring_s=0.9)
    async with serving(redis_url, limits=limits) as node, client(node, token=f"{user}/1.5") as one:
        await one.until(lambda: one.controls)
        with pytest.raises(Refused) as refused:
            await one.call("refresh", {"token": str(uuid.uuid4())})
        refreshed = await one.call("refresh", {"token": f"{user}/100"})
        await asyncio.sleep(1.0)
        await one.call("ping")

    assert one.controls[0]["ctl"] == "token.expiring"
    assert refused.value.code == 101
    assert refreshed["expires_in_s"] in (99, 100)


async def test_expired_token_closes(redis_url: str) -> None:
    async with serving(redis_url) as node, client(node, token=f"{uuid.uuid4()}/0.5") as one:
        assert await one.closed() == 4201
        assert one.controls[0]["ctl"] == "token.expiring"


async def test_changed_account_reaches_open_sockets(node: Node) -> None:
    user = uuid.uuid4()
    async with client(node, token=str(user)) as one:
        node.people.roles[str(user)] = "admin"
        await node.gateway.recheck(user)
        connection = next(iter(node.gateway._by_user[str(user)]))
        assert connection.login is not None
        role = connection.login.person.role
        await one.call("ping")
        node.people.blocked.add(str(user))
        await node.gateway.recheck(user)
        code = await one.closed(within_s=1)

    assert role == "admin"
    assert code == 4001


async def test_heartbeat_keeps_and_its_absence_closes(redis_url: str) -> None:
    limits = Limits(ping_s=0.3, pong_s=0.5)
    async with serving(redis_url, limits=limits) as node:
        async with client(node) as lively:
            await lively.until(lambda: lively.heartbeats >= 3)
            await lively.call("ping")
        async with client(node, answers_heartbeats=False) as silent:
            assert await silent.closed() == 4202


async def test_any_frame_counts_as_life(redis_url: str) -> None:
    limits = Limits(ping_s=0.3, pong_s=0.5)
    async with serving(redis_url, limits=limits) as node, client(node, answers_heartbeats=False) as one:
        for _ in range(20):
            await one.call("ping")
            await asyncio.sleep(0.1)

        assert one.close_code is None


async def test_draining_node_refuses_handshakes(node: Node) -> None:
    node.gateway.is_draining = True

    with pytest.raises(InvalidStatus) as refused:
        async with client(node):
            pass

    assert refused.value.response.status_code == 503


async def test_drain_advises_and_closes_in_slices(redis_url: str) -> None:
    async with serving(redis_url) as node, client(node) as one, client(node) as other:
        async with asyncio.timeout(5):
            await node.gateway.drain()
        codes = {await one.closed(), await other.closed()}

    assert codes == {4200}
    assert one.controls[-1]["ctl"] == "disconnect"
    assert 0 <= one.controls[-1]["d"]["retry_after_ms"] < 1000


async def test_room_message_reaches_everybody_the_sender_too(node: Node) -> None:
    room_id, channel = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as one, client(node) as other:
        for each in (one, other):
            await each.call("room.join", {"room_id": room_id})

        await one.tell("room.send", {"kind": "wave", "data": {"x": 1}}, ch=channel)
        await one.call("room.send", {"room_id": room_id, "kind": "wave", "data": 2})
        for each in (one, other):
            await each.until(lambda each=each: len(each.events) == 2)  # type: ignore[misc]

    first = other.events[0]
    assert first["d"] == {"from": user, "kind": "wave", "data": {"x": 1}}
    assert first["ev"] == "room.message"
    assert "off" not in first
    assert one.events == other.events


async def test_typing_is_conflated(node: Node) -> None:
    room_id, channel = room()
    async with client(node) as one, client(node) as other:
        for each in (one, other):
            await each.call("room.join", {"room_id": room_id})
        for _ in range(5):
            await one.call("typing.start", ch=channel)
        await one.call("typing.stop", ch=channel)
        await other.until(lambda: len(other.events) == 2)

    assert [event["d"]["typing"] for event in other.events] == [True, False]


@pytest.mark.parametrize("op", ["room.send", "typing.start", "typing.stop"])
async def test_without_a_seat_nothing_is_sent(node: Node, op: str) -> None:
    _, channel = room()
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        with pytest.raises(Refused) as refused:
            await one.call(op, {"kind": "wave"}, ch=channel)

    assert refused.value.code == 103


async def test_seat_that_ended_ends_the_right_to_send(node: Node) -> None:
    room_id, channel = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as one, client(node, token=user) as second_device:
        for each in (one, second_device):
            await each.call("room.join", {"room_id": room_id})
        node.post(channel, {"user_id": user, "reason": "kicked"}, ev="participant.kicked")
        for each in (one, second_device):
            await each.until_told()
            with pytest.raises(Refused) as refused:
                await each.call("room.send", {"kind": "x"}, ch=channel)
            assert refused.value.code == 103

    assert one.events[-1]["ev"] == "participant.kicked"
    assert one.controls[-1]["ctl"] == "unsubscribed"


@pytest.mark.parametrize(
    ("ev", "more", "code"),
    [("participant.kicked", {"banned": True}, 122), ("participant.evicted", {}, 103)],
)
async def test_who_may_look_on_no_more_hears_nothing_more(
    node: Node, ev: str, more: dict[str, bool], code: int
) -> None:
    room_id, channel = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as seated, client(node, token=user) as looking:
        await seated.call("room.join", {"room_id": room_id})
        await looking.call("subscribe", ch=channel)
        node.post(channel, {"user_id": user, **more}, ev=ev)
        for each in (seated, looking):
            await each.until_told()
        node.post(channel)
        for each in (seated, looking):
            await each.call("ping")

    for each in (seated, looking):
        assert each.controls[-1]["ctl"] == "unsubscribed"
        assert each.controls[-1]["d"]["code"] == code
        assert each.offs(channel) == [1]


async def test_who_is_kicked_without_a_ban_may_look_on(node: Node) -> None:
    _, channel = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as looking:
        await looking.call("subscribe", ch=channel)
        node.post(channel, {"user_id": user, "banned": False}, ev="participant.kicked")
        node.post(channel)
        await looking.until_offs(channel, [1, 2])

    assert looking.controls == []


async def test_failed_join_binds_nothing(node: Node) -> None:
    room_id, channel = room()
    node.full.add(channel)
    async with client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call("room.join", {"room_id": room_id})
        with pytest.raises(Refused) as unbound:
            await one.call("room.send", {"kind": "x"}, ch=channel)

    assert refused.value.err == {
        "code": 120, "name": "room_full", "message": "the room is full", "retryable": True, "d": {"seats": 4},
    }  # fmt: skip
    assert unbound.value.code == 103


async def test_room_hears_of_a_join_that_failed(node: Node) -> None:
    room_id, channel = room()
    node.away.add(channel)
    async with client(node) as one:
        with pytest.raises(Refused):
            await one.call("room.join", {"room_id": room_id})

        assert [str(ended[0]) for ended in node.seats.ended] == [room_id]


async def test_a_repeated_join_that_fails_ends_nothing(node: Node) -> None:
    room_id, channel = room()
    async with client(node) as one:
        await one.call("room.join", {"room_id": room_id})
        node.away.add(channel)
        with pytest.raises(Refused):
            await one.call("room.join", {"room_id": room_id})
        await one.call("room.send", {"kind": "wave"}, ch=channel)

        assert node.seats.ended == []


async def test_a_room_that_refused_hears_nothing_more(node: Node) -> None:
    room_id, channel = room()
    node.full.add(channel)
    async with client(node) as one:
        with pytest.raises(Refused):
            await one.call("room.join", {"room_id": room_id})

        assert node.seats.ended == []


async def test_no_room_is_asked_for_a_seat_without_a_channel_left(redis_url: str) -> None:
    room_id, _ = room()
    asked: list[str] = []

    async def ask(channel: str) -> None:
        asked.append(channel)

    async with serving(redis_url, limits=Limits(channels=1)) as node, client(node) as one:
        node.on_snapshot = ask
        with pytest.raises(Refused) as refused:
            await one.call("room.join", {"room_id": room_id})

    assert refused.value.code == 106
    assert asked == []


async def test_room_hears_of_a_socket_that_is_gone(node: Node) -> None:
    room_id, _ = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as one:
        await one.call("room.join", {"room_id": room_id})
        connection_id = one.connected["conn"]

    await eventually(lambda: node.seats.ended)
    ended = node.seats.ended[0]
    assert (str(ended[0]), ended[1], ended[2]) == (room_id, user, connection_id)


async def test_left_room_hears_nothing_when_the_socket_closes(node: Node) -> None:
    room_id, _ = room()
    async with client(node) as one:
        await one.call("room.join", {"room_id": room_id})
        await one.call("room.leave", {"room_id": room_id})
    await asyncio.sleep(0.05)

    assert node.seats.ended == []
    assert node.gateway._by_room == {}


async def test_everything_is_forgotten_at_the_end(node: Node) -> None:
    room_id, _ = room()
    async with client(node) as one:
        await one.call("room.join", {"room_id": room_id})
    await eventually(lambda: not node.gateway._connections)

    assert node.gateway._by_user == {}
    assert node.gateway.hub._channels == {}
    assert node.gateway.shares._shares == {}
    assert node.count("fourtalk_connections") == 0
    assert node.count("fourtalk_channels") == 0


async def test_kick_right_after_a_join_is_seen(node: Node) -> None:
    room_id, channel = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as one:
        node.history.delay_s = 0.1
        await one.call("room.join", {"room_id": room_id})
        node.post(channel, {"user_id": user}, ev="participant.kicked")
        await one.until_told()

    assert one.events[-1]["ev"] == "participant.kicked"
    assert one.controls[-1]["ctl"] == "unsubscribed"
    assert node.seats.ended == []


async def test_closed_room_binds_nobody(node: Node) -> None:
    room_id, channel = room()
    async with client(node) as one:
        await one.call("room.join", {"room_id": room_id})
        node.post(channel, {"reason": "empty"}, ev="room.closed")
        await one.until_events()
        with pytest.raises(Refused) as refused:
            await one.call("room.send", {"kind": "x"}, ch=channel)

    assert refused.value.code == 103
    assert node.seats.ended == []


async def test_socket_that_goes_during_its_join_is_told_to_the_room(node: Node) -> None:
    room_id, _ = room()

    async def hang(_channel: str) -> None:
        await asyncio.sleep(0.2)

    node.on_snapshot = hang
    async with client(node) as one:
        await one.tell("room.join", {"room_id": room_id})
        await one.call("ping")
    await eventually(lambda: node.seats.ended)

    assert [str(ended[0]) for ended in node.seats.ended] == [room_id]
    assert node.gateway._by_room == {}
    assert node.gateway.hub._channels == {}


async def test_rooms_hear_of_their_sockets_again_and_again(node: Node) -> None:
    room_id, _ = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as one:
        await one.call("room.join", {"room_id": room_id})
        await eventually(lambda: node.seats.beats, 6)
        beat = node.seats.beats[0]

    assert (str(beat[0]), beat[1]) == (room_id, {user: [one.connected["conn"]]})


async def test_a_beat_says_when_somebody_was_last_heard(node: Node) -> None:
    room_id, _ = room()
    user = str(uuid.uuid4())
    async with client(node, token=user) as silent, client(node, token=user) as one:
        for each in (silent, one):
            await each.call("room.join", {"room_id": room_id})
        before = datetime.now(UTC)
        await one.call("ping")
        after = datetime.now(UTC)
        await eventually(lambda: node.seats.beats, 6)

    assert before <= node.seats.heard[0][user] <= after
