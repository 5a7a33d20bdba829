"""Subscriptions, recovery and order, over real sockets with a history that the test controls."""

import asyncio
import random
import time
import uuid
from typing import Any

import msgspec
import pytest

from server.gateway.limits import Limits
from server.gateway.outlet import Outlet
from server.gateway.protocol import Publication
from tests.gateway.harness import Client, Memory, Node, Refused, client, serving

SOMEBODY = uuid.UUID(int=7)


def a_room() -> str:
    return f"room:{uuid.uuid4()}"


async def settled(one: Client) -> None:
    """Wait until everything that was published before has arrived."""
    await one.call("ping")
    await asyncio.sleep(0.02)
    await one.call("ping")


async def test_subscriber_gets_what_follows_and_only_that(node: Node) -> None:
    channel = a_room()
    node.history.write(channel, {"n": 1})
    async with client(node) as one:
        view = await one.call("subscribe", ch=channel)
        node.post(channel, {"n": 2})
        await one.until(lambda: one.events)
        await one.call("unsubscribe", ch=channel)
        node.post(channel, {"n": 3})
        await settled(one)

    assert view == {"epoch": "e1", "off": 1, "recovered": False, "events": [], "more": False}
    assert [event["d"] for event in one.events] == [{"n": 2}]
    assert set(one.events[0]) == {"ch", "off", "ev", "ts", "d"}


@pytest.mark.parametrize(
    ("op", "ch", "code"),
    [
        ("subscribe", "chat:1", 102),
        ("typing.start", "chat:1", 102),
        ("subscribe", "nonsense", 102),
        ("subscribe", f"user:{SOMEBODY}", 103),
        ("history", f"user:{SOMEBODY}", 103),
        ("unsubscribe", "room:1", 102),
    ],
)
async def test_channels_that_are_not_there_or_not_yours(node: Node, op: str, ch: str, code: int) -> None:
    async with client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call(op, {"since": {"epoch": "e1", "off": 0}}, ch=ch)

    assert refused.value.code == code


async def test_missing_and_forbidden_rooms(node: Node) -> None:
    gone, closed = a_room(), a_room()
    node.history.gone.add(gone)
    node.people.closed_channels.add(closed)
    async with client(node) as one:
        for channel, code in ((gone, 102), (closed, 103)):
            with pytest.raises(Refused) as refused:
                await one.call("subscribe", ch=channel)
            assert refused.value.code == code
        assert node.gateway.hub._channels.keys() == set(one.connected["subs"])


async def test_second_subscription_is_refused(node: Node) -> None:
    channel = a_room()
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        with pytest.raises(Refused) as refused:
            await one.call("subscribe", ch=channel)

    assert refused.value.code == 105


async def test_channels_are_counted(redis_url: str) -> None:
    async with serving(redis_url, limits=Limits(channels=2)) as node, client(node) as one:
        await one.call("subscribe", ch=a_room())
        with pytest.raises(Refused) as refused:
            await one.call("subscribe", ch=a_room())

    assert refused.value.code == 106


async def test_own_channel_cannot_be_left(node: Node) -> None:
    user = str(uuid.uuid4())
    async with client(node, token=user) as one:
        with pytest.raises(Refused) as refused:
            await one.call("unsubscribe", ch=f"user:{user}")

    assert refused.value.code == 103


async def test_connect_recovers_what_was_missed(node: Node) -> None:
    channel, user = a_room(), str(uuid.uuid4())
    for number in range(5):
        node.history.write(channel, {"n": number})
        node.history.write(f"user:{user}", {"n": number})
    since = [{"ch": channel, "epoch": "e1", "off": 3}, {"ch": f"user:{user}", "epoch": "e1", "off": 5}]

    async with client(node, token=user, since=since) as one:
        subs = one.connected["subs"]
        node.post(channel, {"n": 5})
        await one.until(lambda: one.events)

    assert [event["off"] for event in subs[channel]["events"]] == [4, 5]
    assert subs[channel]["recovered"]
    assert subs[channel]["events"][0] == {
        "ch": channel, "off": 4, "ev": "message.created", "ts": node.history.events[channel][3].ts, "d": {"n": 3},
    }  # fmt: skip
    assert subs[f"user:{user}"] == {"epoch": "e1", "off": 5, "recovered": True, "events": [], "more": False}
    assert one.offs(channel) == [6]


@pytest.mark.parametrize(
    ("since", "why"),
    [
        ({"epoch": "other", "off": 3}, "another epoch"),
        ({"epoch": "e1", "off": 9_999}, "the client is ahead"),
        ({"epoch": "e1", "off": 0}, "more than the limit"),
    ],
)
async def test_position_that_cannot_be_recovered_is_reset(
    redis_url: str, since: dict[str, Any], why: str
) -> None:
    channel = a_room()
    async with serving(redis_url, limits=Limits(recover_events=10)) as node:
        for number in range(11):
            node.history.write(channel, {"n": number})
        async with client(node) as one:
            view = await one.call("subscribe", {"since": since}, ch=channel)
            await settled(one)

    assert (view["recovered"], view["off"], view["events"]) == (False, 11, []), why
    assert one.controls == [{"ctl": "reset", "d": {"ch": channel, "epoch": "e1", "off": 11}}]


async def test_reset_follows_the_answer_to_connect(node: Node) -> None:
    channel = a_room()
    async with client(node, since=[{"ch": channel, "epoch": "other", "off": 3}]) as one:
        await one.until_told()

    assert '"ok"' in str(one.frames[0])
    assert not one.connected["subs"][channel]["recovered"]
    assert one.controls[0]["ctl"] == "reset"


async def test_older_than_a_day_is_not_recovered(node: Node) -> None:
    channel = a_room()
    node.history.write(channel, ts=int(time.time() * 1000) - 25 * 3_600_000)
    node.history.write(channel)
    async with client(node) as one:
        old = await one.call("subscribe", {"since": {"epoch": "e1", "off": 0}}, ch=channel)
        await one.call("unsubscribe", ch=channel)
        young = await one.call("subscribe", {"since": {"epoch": "e1", "off": 1}}, ch=channel)

    assert not old["recovered"]
    assert young["recovered"]


async def test_pages_and_live_events_come_in_order_once(redis_url: str) -> None:
    channel = a_room()
    async with serving(redis_url, limits=Limits(history_page=20)) as node:
        for _ in range(70):
            node.history.write(channel)
        async with client(node) as one:
            view = await one.call("subscribe", {"since": {"epoch": "e1", "off": 10}}, ch=channel)
            offs = [event["off"] for event in view["events"]]
            more, off = view["more"], view["off"]
            while more:
                node.post(channel)
                page = await one.call(
                    "history", {"since": {"epoch": "e1", "off": off}, "limit": 20}, ch=channel
                )
                assert one.offs(channel) == []
                offs += [event["off"] for event in page["events"]]
                more, off = page["more"], page["off"]
            node.post(channel)
            await one.until(lambda: one.offs(channel))

    assert view["recovered"]
    assert offs + one.offs(channel) == list(range(11, len(node.history.events[channel]) + 1))


async def test_history_of_a_position_that_is_none(node: Node) -> None:
    channel = a_room()
    node.history.write(channel)
    async with client(node) as one:
        for since in ({"epoch": "other", "off": 0}, {"epoch": "e1", "off": 2}):
            with pytest.raises(Refused) as refused:
                await one.call("history", {"since": since}, ch=channel)
            assert refused.value.code == 112
        page = await one.call("history", {"since": {"epoch": "e1", "off": 0}}, ch=channel)

    assert [event["off"] for event in page["events"]] == [1]
    assert not page["more"]


async def test_join_has_no_gap_between_snapshot_and_events(node: Node) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"

    async def meanwhile(channel: str) -> None:
        node.post(channel)  # after the snapshot, before the connection is bound
        await asyncio.sleep(0)
        node.post(channel)

    node.on_snapshot = meanwhile
    async with client(node) as one, client(node) as watching:
        await watching.call("subscribe", ch=channel)
        view = await one.call("room.join", {"room_id": room_id})
        node.post(channel)
        await one.until(lambda: len(one.offs(channel)) == 3)

    assert view["sub"]["off"] == 0
    assert one.offs(channel) == [1, 2, 3]
    assert watching.offs(channel) == [1, 2, 3]


async def test_repeated_join_repeats_no_event(node: Node) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with client(node) as one:
        for _ in range(5):
            await one.call("room.join", {"room_id": room_id})
            node.post(channel)
        await one.until(lambda: len(one.offs(channel)) == 5)

    assert one.offs(channel) == [1, 2, 3, 4, 5]


async def test_repeated_and_late_publications_show_once_and_in_order(node: Node) -> None:
    channel = a_room()
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        events = [node.history.write(channel, {"n": number}) for number in range(6)]
        for number in (0, 2, 1, 1, 0, 5, 4, 2):  # 3 never arrives: the history has it
            node.gateway.publish(channel, [events[number]])
        await one.until(lambda: len(one.offs(channel)) == 6)

    assert one.offs(channel) == [1, 2, 3, 4, 5, 6]
    assert node.count("fourtalk_gaps_total") == 1


async def test_event_that_never_arrived_is_found_by_the_check_of_heads(node: Node) -> None:
    channel = a_room()
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        node.history.write(channel)
        node.gateway.hub.check_all()
        await one.until(lambda: one.offs(channel) == [1])


async def test_new_epoch_resets_the_members(node: Node) -> None:
    channel = a_room()
    node.history.write(channel)
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        node.history.epochs[channel] = "e2"
        node.gateway.hub.check_all()
        await one.until(lambda: one.controls)

    assert one.controls == [{"ctl": "reset", "d": {"ch": channel, "epoch": "e2", "off": 1}}]


async def test_what_is_published_while_a_subscription_opens_is_not_lost(node: Node) -> None:
    channel = a_room()
    node.history.delay_s = 0.05
    async with client(node) as one, asyncio.TaskGroup() as tasks:
        for _ in range(20):
            node.history.write(channel)
        answer = tasks.create_task(one.call("subscribe", {"since": {"epoch": "e1", "off": 5}}, ch=channel))
        for _ in range(30):
            node.post(channel)
            await asyncio.sleep(0.005)
        view = await answer
        await one.until(lambda: 50 in [*one.offs(channel), view["off"]])

    assert [event["off"] for event in view["events"]] + one.offs(channel) == list(range(6, 51))


async def test_random_cuts_lose_and_repeat_nothing(node: Node) -> None:
    """Clients that come and go under 400 events a second see every event once, in order."""
    channel = a_room()
    chance = random.Random(7)

    async def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 800:
            since = [{"ch": channel, "epoch": "e1", "off": seen[-1] if seen else 0}]
            async with client(node, since=since) as one:
                view = one.connected["subs"][channel]
                assert view["recovered"]
                seen += [event["off"] for event in view["events"]]
                more = view["more"]
                while more:
                    d = {"since": {"epoch": "e1", "off": seen[-1]}}
                    page = await one.call("history", d, ch=channel)
                    seen += [event["off"] for event in page["events"]]
                    more = page["more"]
                if len(seen) < 800:
                    await asyncio.sleep(chance.uniform(0, 0.15))
                offs = one.offs(channel)
                one.socket.transport.abort()
            seen += offs
        return seen

    async def publish() -> None:
        for number in range(800):
            node.post(channel, {"n": number})
            await asyncio.sleep(0.0025)

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow()) for _ in range(4)]
        tasks.create_task(publish())

    for follower in followers:
        assert follower.result()[:800] == list(range(1, 801))


async def test_one_frame_serves_every_member(node: Node) -> None:
    channel = a_room()
    broadcast: list[tuple[int, bytes]] = []
    async with client(node) as one, client(node) as two, client(node) as three:
        for each in (one, two, three):
            await each.call("subscribe", ch=channel)
        tick = node.gateway.hub._tick

        class Spy:
            def broadcast(self, outlets: tuple[Outlet, ...], frame: bytes) -> None:
                broadcast.append((len(outlets), frame))
                tick.broadcast(outlets, frame)

            run = staticmethod(tick.run)

        node.gateway.hub._tick = Spy()  # type: ignore[assignment]
        node.post(channel, {"text": "hello"})
        for each in (one, two, three):
            await each.until_events()

    assert [count for count, _ in broadcast] == [3]


async def test_events_of_a_hot_channel_share_a_frame(node: Node) -> None:
    channel = a_room()
    async with client(node) as one:
        await one.call("subscribe", ch=channel)
        before = len(one.frames)
        for _ in range(50):
            node.post(channel)
        await one.until(lambda: len(one.offs(channel)) == 50)

    assert len(one.frames) == before + 1


async def test_msgpack_says_the_same_as_json(node: Node) -> None:
    room_id, user = str(uuid.uuid4()), str(uuid.uuid4())
    channel = f"room:{room_id}"
    told = []
    for subprotocol in ("fourtalk.v1.json", "fourtalk.v1.msgpack"):
        node.history.events.clear()
        node.history.write(channel, {"text": "né", "list": [1, 2.5, None, True]}, ts=1_760_000_000_123)
        async with client(node, token=user, subprotocol=subprotocol) as one:
            answers = [
                await one.call("subscribe", {"since": {"epoch": "e1", "off": 1}}, ch=channel),
                await one.call("history", {"since": {"epoch": "e1", "off": 0}}, ch=channel),
                await one.call("chat.send", {"text": "Xin chào"}, ch=channel, key="k1"),
            ]
            with pytest.raises(Refused) as refused:
                await one.call("subscribe", {"ch": 7})
            node.gateway.publish(channel, [Publication(None, "typing", 1, b'{"a":[1,2]}')])
            await one.until_events()
            told.append((answers, refused.value.err, one.events))
            if subprotocol.endswith("msgpack"):
                assert all(isinstance(frame, bytes) for frame in one.frames)
                both = msgspec.msgpack.encode({"id": 900, "op": "ping"}) + msgspec.msgpack.encode(
                    {"id": 901, "op": "no"}
                )
                await one.send_raw(both)
                await one.until_errors(2)
                assert [error["id"] for error in one.errors] == [900, 901]

    assert told[0] == told[1]


async def test_history_that_fails_is_answered_and_heals(redis_url: str) -> None:
    class Broken(Memory):
        is_broken = True

        async def heads(self, channels: Any) -> Any:
            if self.is_broken and channels[0].startswith("room:"):
                raise OSError("the database is away")
            return await super().heads(channels)

    history, channel = Broken(), a_room()
    async with serving(redis_url, history=history) as node, client(node) as one:
        with pytest.raises(Refused) as refused:
            await one.call("subscribe", ch=channel)
        history.is_broken = False
        await one.call("subscribe", ch=channel)

    assert refused.value.code == 130


async def test_number_that_messagepack_cannot_say_harms_nobody(node: Node) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with client(node) as sender, client(node, subprotocol="fourtalk.v1.msgpack") as other:
        await sender.call("room.join", {"room_id": room_id})
        await other.call("subscribe", ch=channel)
        for number in ("18446744073709551616", "123456789012345678901234567890", "-9223372036854775809"):
            await sender.send_raw(f'{{"op":"room.send","ch":"{channel}","d":{{"kind":"x","data":{number}}}}}')
        node.post(channel, {"text": "after"})
        await other.until_offs(channel, [1])
        await sender.until(lambda: len(sender.events) == 4)

    assert [event["ev"] for event in other.events] == ["message.created"]
