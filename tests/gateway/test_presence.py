"""Who is around: on every node, for those who may follow the room, and gone with the socket or the node."""

import asyncio
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from server.gateway import bus, presence
from server.gateway.bus import PREFIX
from tests.gateway.harness import Client, Node, Refused, client, eventually, serving
from tests.gateway.test_bus import relay, two_nodes


class Watch:
    """A client that follows one scope, and what it takes to be true of it."""

    def __init__(self, one: Client, channel: str) -> None:
        self.one = one
        self.channel = channel

    async def begin(self, state: str | None = None) -> None:
        """Follow, and say something."""
        await self.one.call("subscribe", ch=self.channel)
        if state is not None:
            await self.say(state)

    async def say(self, state: str) -> None:
        await self.one.call("presence.set", {"state": state}, ch=self.channel)

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [event["d"] for event in self.one.events if event["ch"] == self.channel]

    @property
    def around(self) -> dict[str, str]:
        """What all that was told adds up to."""
        people: dict[str, str] = {}
        for change in self.changes:
            if change.get("full"):
                people = {}
            people |= {person["user_id"]: person["state"] for person in change["people"]}
            for user_id in change["gone"]:
                del people[user_id]
        return people

    async def sees(self, people: dict[str, str], within_s: float = 5.0) -> None:
        await self.one.until(lambda: self.changes and self.around == people, within_s)


def some_channel() -> str:
    return f"presence:room:{uuid.uuid4()}"


async def test_people_are_seen_on_every_node_and_first_of_all_completely(redis_url: str) -> None:
    ann, ben, channel = str(uuid.uuid4()), str(uuid.uuid4()), some_channel()
    async with (
        two_nodes(redis_url) as (here, there),
        client(here, token=ann) as one,
        client(there, token=ben) as two,
    ):
        first, second = Watch(one, channel), Watch(two, channel)
        await first.begin("online")
        await first.sees({ann: "online"})
        await second.begin()
        await second.sees({ann: "online"})
        await second.say("away")
        for watch in (first, second):
            await watch.sees({ann: "online", ben: "away"})
        await second.say("busy")
        await first.say("offline")
        for watch in (first, second):
            await watch.sees({ben: "busy"})

    for watch in (first, second):
        assert [change.get("full", False) for change in watch.changes].index(True) == 0
        assert sum(change.get("full", False) for change in watch.changes) == 1


async def test_who_only_looks_on_is_not_seen(node: Node) -> None:
    channel = some_channel()
    async with client(node) as one, client(node) as two:
        first, second = Watch(one, channel), Watch(two, channel)
        await first.begin()
        await second.begin()
        await first.sees({})
        await second.sees({})

    assert len(first.changes) == len(second.changes) == 1


async def test_a_person_with_two_devices_is_one(redis_url: str) -> None:
    ann, channel = str(uuid.uuid4()), some_channel()
    async with two_nodes(redis_url) as (here, there), client(here) as other:
        watch = Watch(other, channel)
        await watch.begin()
        async with client(here, token=ann) as one, client(there, token=ann) as two:
            laptop, phone = Watch(one, channel), Watch(two, channel)
            await phone.begin("away")
            await watch.sees({ann: "away"})
            await laptop.begin("online")
            await watch.sees({ann: "online"})
            await one.call("unsubscribe", ch=channel)
            await watch.sees({ann: "away"})


async def test_a_goodbye_is_told_at_once_and_a_lost_socket_after_its_grace(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben, channel = str(uuid.uuid4()), str(uuid.uuid4()), some_channel()
    async with client(node) as other:
        watch = Watch(other, channel)
        await watch.begin()
        async with client(node, token=ann) as one, client(node, token=ben) as two:
            for each in (one, two):
                await Watch(each, channel).begin("online")
            await watch.sees({ann: "online", ben: "online"})
            await one.call("unsubscribe", ch=channel)
            await watch.sees({ben: "online"})
        (scope,) = node.gateway.presence._scopes.values()
        await eventually(lambda: scope.leaving)
        async with client(node, token=ben) as again:
            await Watch(again, channel).begin("away")
            await watch.sees({ben: "away"})
            monkeypatch.setattr(presence, "GRACE_S", 0.0)
        await watch.sees({})

    assert [change["gone"] for change in watch.changes if change["gone"]] == [[ann], [ben]]


async def test_people_of_a_dead_node_vanish(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "BEAT_S", 0.1)
    monkeypatch.setattr(bus, "PEER_TTL_S", 1.0)
    ann, channel = str(uuid.uuid4()), some_channel()
    async with (
        two_nodes(redis_url) as (here, there),
        client(here) as one,
        client(there, token=ann) as two,
    ):
        watch = Watch(one, channel)
        await watch.begin()
        await Watch(two, channel).begin("online")
        await watch.sees({ann: "online"})

        monkeypatch.setattr(there.gateway.bus, "_send", lambda topic, message: None)

        await watch.sees({})


async def test_what_a_dead_node_left_in_redis_is_not_believed(redis_url: str) -> None:
    ann, channel = str(uuid.uuid4()), some_channel()
    async with Redis.from_url(redis_url, socket_timeout=None) as redis:
        await redis.hset(PREFIX + channel, "a node that is gone", f'{{"{ann}":"online"}}')

        async with serving(redis_url) as node, client(node) as one:
            watch = Watch(one, channel)
            await watch.begin()
            await watch.sees({})
            await eventually(lambda: next(iter(node.gateway.presence._scopes.values())).is_read)
            left = await redis.hgetall(PREFIX + channel)

    assert watch.around == {}
    assert left == {}


async def test_presence_is_for_those_who_may_follow_the_room(node: Node) -> None:
    ann, room_id = str(uuid.uuid4()), str(uuid.uuid4())
    room, channel = f"room:{room_id}", f"presence:room:{room_id}"
    async with client(node, token=ann) as one, client(node) as two:
        with pytest.raises(Refused) as refused:
            await Watch(one, channel).say("online")
        assert refused.value.code == 103
        for name in (f"presence:user:{ann}", f"presence:{room_id}", "presence:all", "presence:"):
            with pytest.raises(Refused) as refused:
                await one.call("subscribe", ch=name)
            assert refused.value.code == 102
        with pytest.raises(Refused) as refused:
            await Watch(one, channel).say("invisible")
        assert refused.value.code == 107
        watch = Watch(two, channel)
        await watch.begin()
        await Watch(one, channel).begin("online")
        await watch.sees({ann: "online"})

        node.people.closed_channels.add(room)
        node.post(room, {"user_id": ann, "banned": True}, ev="participant.kicked")

        await watch.sees({})
        await one.until_told()
        assert one.controls[-1]["d"]["ch"] == channel
        with pytest.raises(Refused) as refused:
            await one.call("subscribe", ch=channel)
        assert refused.value.code == 103


async def test_losing_redis_costs_latency_only(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "BEAT_S", 0.1)
    monkeypatch.setattr(bus, "PEER_TTL_S", 0.5)
    ann, ben, channel = str(uuid.uuid4()), str(uuid.uuid4()), some_channel()
    async with (
        relay(redis_url) as way,
        two_nodes(way.url) as (here, there),
        client(here, token=ann) as one,
        client(there, token=ben) as two,
    ):
        first, second = Watch(one, channel), Watch(two, channel)
        await first.begin("online")
        await second.begin("online")
        for watch in (first, second):
            await watch.sees({ann: "online", ben: "online"})

        way.cut()
        await eventually(lambda: not here.gateway.bus.is_up and not there.gateway.bus.is_up)
        await first.say("busy")
        await first.sees({ann: "busy", ben: "online"})
        await asyncio.sleep(1.0)  # longer than a silent node is believed in
        assert second.around == {ann: "online", ben: "online"}
        async with Redis.from_url(redis_url, socket_timeout=None) as redis:
            await redis.delete(PREFIX + channel)
        way.mend()

        await second.sees({ann: "busy", ben: "online"})

    assert all(not change["gone"] for watch in (first, second) for change in watch.changes)


async def test_a_socket_that_was_full_is_told_all_of_it_again(node: Node) -> None:
    ann, channel = str(uuid.uuid4()), some_channel()
    async with client(node) as other, client(node, token=ann) as one:
        watch = Watch(other, channel)
        await watch.begin()
        await Watch(one, channel).begin("online")
        await watch.sees({ann: "online"})
        (connection,) = node.gateway._by_user[str(other.connected["user"]["id"])]

        connection.paused()
        connection.resumed()

        await other.until(lambda: watch.changes[-1].get("full"))
    assert watch.around == {ann: "online"}
