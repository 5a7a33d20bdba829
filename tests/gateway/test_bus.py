"""Two nodes over one Valkey; Valkey that forgets everything, or goes away."""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from server.gateway.bus import BusError
from server.gateway.limits import Limits, Rate
from server.gateway.protocol import Publication
from server.gateway.shares import Share
from tests.gateway.harness import Client, Memory, Node, People, Refused, client, eventually, serving


@asynccontextmanager
async def two_nodes(redis_url: str, **options: Any) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with one history and one set of people, which know of each other."""
    history, people = Memory(), People()
    async with (
        serving(redis_url, history=history, people=people, **options) as one,
        serving(redis_url, history=history, people=people, **options) as other,
    ):
        here, there = one.gateway.bus, other.gateway.bus
        await eventually(lambda: here.node in there._peers and there.node in here._peers)
        yield one, other


@asynccontextmanager
async def relay(target: str) -> AsyncIterator["Relay"]:
    found = Relay(target)
    server = await asyncio.start_server(found.take, "127.0.0.1", 0)
    found.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        found.cut()
        await found.idle()


class Relay:
    """A way to Valkey that can be cut and mended."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._running = 0

    def cut(self) -> None:
        self.is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    async def idle(self) -> None:
        await eventually(lambda: not self._running)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        self._running += 1
        far = await connect_to(self.target)
        both = {writer, far[1]}
        self._open |= both
        await asyncio.gather(self._pump(reader, far[1]), self._pump(far[0], writer))
        self._open -= both
        self._running -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        writer.close()


async def connect_to(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    from redis.asyncio.connection import parse_url

    parts = parse_url(url)
    if "path" in parts:
        return await asyncio.open_unix_connection(parts["path"])
    return await asyncio.open_connection(parts["host"], parts["port"], family=socket.AF_INET)


async def test_events_reach_the_members_of_every_node_once(redis_url: str) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with two_nodes(redis_url) as (here, there), client(here) as one, client(there) as two:
        await one.call("room.join", {"room_id": room_id})
        await two.call("room.join", {"room_id": room_id})
        for node in (here, there, here, there):
            node.post(channel)
        for each in (one, two):
            await each.until_offs(channel, range(1, 5))
        await one.call("room.send", {"kind": "wave"}, ch=channel)
        await two.until(lambda: two.events[-1]["ev"] == "room.message")
        await two.call("typing.start", ch=channel)
        await one.until(lambda: one.events[-1]["ev"] == "typing")

    assert one.offs(channel) == two.offs(channel) == [1, 2, 3, 4]


async def test_node_without_members_publishes_to_those_that_have_some(redis_url: str) -> None:
    user = str(uuid.uuid4())
    channel = f"user:{user}"
    async with two_nodes(redis_url) as (here, there), client(there, token=user) as one:
        here.post(channel, {"n": 1})
        here.gateway.publish(channel, [Publication(None, "room.signal", 1, b'{"data":1}')])
        await one.until(lambda: len(one.events) == 2)

    assert one.offs(channel) == [1]


async def test_account_change_reaches_the_other_node(redis_url: str) -> None:
    user = str(uuid.uuid4())
    async with two_nodes(redis_url) as (here, there), client(there, token=user) as one:
        here.people.blocked.add(user)
        await here.gateway.recheck(user)

        assert await one.closed(within_s=1) == 4001


async def test_kick_reaches_the_other_node(redis_url: str) -> None:
    user, room_id = str(uuid.uuid4()), str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with two_nodes(redis_url) as (here, there), client(there, token=user) as one:
        await one.call("room.join", {"room_id": room_id})
        here.post(channel, {"user_id": user}, ev="participant.kicked")
        await one.until(lambda: one.controls)
        with pytest.raises(Refused):
            await one.call("room.send", {"kind": "x"}, ch=channel)

    assert one.events[-1]["ev"] == "participant.kicked"


async def test_connections_of_a_user_are_counted_on_all_nodes(redis_url: str) -> None:
    user = str(uuid.uuid4())
    async with two_nodes(redis_url, limits=Limits(connections=2)) as (here, there):
        async with client(here, token=user), client(there, token=user), client(there, token=None) as third:
            await third.send_raw(f'{{"id":1,"op":"connect","d":{{"token":"{user}"}}}}')
            assert await third.closed() == 4005
        await asyncio.sleep(0.4)
        async with client(there, token=user) as again:
            assert again.connected["conn"]


async def test_budget_of_a_user_is_shared_between_nodes(redis_url: str) -> None:
    user = str(uuid.uuid4())

    async def good(one: Client, times: int) -> int:
        answers = await asyncio.gather(*(one.call("ping") for _ in range(times)), return_exceptions=True)
        return sum(isinstance(answer, dict) for answer in answers)

    async with (
        two_nodes(redis_url) as (here, there),
        client(here, token=user) as one,
        client(there, token=user) as two,
    ):
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        first = await good(one, 38)
        await good(two, 1)
        await asyncio.sleep(0.6)
        second = await good(two, 40)
        elapsed_s = asyncio.get_running_loop().time() - began

    # A burst of 40 and 20 a second in all, and what may be spent before the other node has heard of it.
    assert first == 38
    assert second >= 5
    assert first + 1 + second <= 40 + 20 * (elapsed_s + 0.25)


async def test_limits_of_a_user_hold_on_three_nodes(redis_url: str) -> None:
    user = str(uuid.uuid4())

    async def good(one: Client, times: int) -> int:
        answers = await asyncio.gather(*(one.call("ping") for _ in range(times)), return_exceptions=True)
        return sum(isinstance(answer, dict) for answer in answers)

    # Tokens that grow slowly: however long a busy machine takes between two steps, what was spent stays spent.
    limits = Limits(ops=Rate(0.5, 40))
    async with (
        two_nodes(redis_url, limits=limits) as (one, two),
        serving(redis_url, history=one.history, people=one.people, limits=limits) as three,
        contextlib.AsyncExitStack() as stack,
    ):
        nodes = (one, two, three)
        await eventually(lambda: all(len(node.gateway.bus._peers) >= 2 for node in nodes))
        sockets = [
            await stack.enter_async_context(client(nodes[number % 3], token=user)) for number in range(8)
        ]
        for node in nodes:
            async with client(node, token=None) as ninth:
                await ninth.send_raw(f'{{"id":1,"op":"connect","d":{{"token":"{user}"}}}}')
                assert await ninth.closed() == 4005

        spent = await good(sockets[0], 38)
        passed = [0, 0]
        for place, there in enumerate(sockets[1:3]):
            while await good(there, 1):
                passed[place] += 1
                await asyncio.sleep(0.05)

    assert spent == 38
    assert sum(passed) < 60, "each for itself would let eighty pass"


async def test_sockets_that_come_at_once_share_a_round_trip(redis_url: str) -> None:
    async with two_nodes(redis_url) as (here, _):
        asked: list[int] = []
        ask = here.gateway.shares._ask

        async def counted(shares: Sequence[Share]) -> Sequence[tuple[int, int]]:
            asked.append(len(shares))
            return await ask(shares)

        here.gateway.shares._ask = counted  # type: ignore[method-assign]  # counts, and changes nothing
        admitted = await asyncio.gather(*(here.gateway.shares.admit(str(uuid.uuid4())) for _ in range(50)))

        assert all(admitted)
        assert asked == [50]
        for share in admitted:
            assert share is not None
            here.gateway.shares.release(share)


async def test_a_node_that_is_alone_asks_nobody(redis_url: str) -> None:
    async with serving(redis_url) as node:
        bus, shares = node.gateway.bus, node.gateway.shares
        await eventually(lambda: bus.is_alone, 10)  # nodes of tests before are forgotten
        shares._ask = None  # type: ignore[assignment,method-assign]  # whoever calls it fails

        assert await shares.admit(str(uuid.uuid4()))


class Gate:
    """Holds a node's subscriptions back until it is opened, as a slow Valkey would."""

    def __init__(self, node: Node) -> None:
        self.open = asyncio.Event()
        self.asked: list[Sequence[str]] = []
        self._hear = node.gateway.bus._hear_channels
        node.gateway.bus._hear_channels = self.hear  # type: ignore[method-assign]  # delays, and changes nothing

    async def hear(self, pubsub: Any, names: Sequence[str]) -> None:
        await self.open.wait()
        self.asked.append(names)
        await self._hear(pubsub, names)


async def test_channels_that_are_wanted_at_once_are_subscribed_together(redis_url: str) -> None:
    async with two_nodes(redis_url) as (here, _):
        gate, bus = Gate(here), here.gateway.bus
        names = [f"user:{uuid.uuid4()}" for _ in range(200)]
        gate.open.set()

        await asyncio.gather(*(bus.subscribe(name) for name in names))

        assert gate.asked == [names]


async def test_a_subscription_does_not_wait_for_what_is_being_published(redis_url: str) -> None:
    async with two_nodes(redis_url) as (here, _):
        bus, never = here.gateway.bus, asyncio.Event()
        bus._flush = lambda _: never.wait()  # type: ignore[method-assign,assignment,return-value]  # stuck
        bus.broadcast("recheck", str(uuid.uuid4()))

        async with asyncio.timeout(0.9):  # less than it would wait for an answer that does not come
            await bus.subscribe("user:somebody")

        assert bus._confirmed["user:somebody"].done()


async def test_who_is_alone_subscribes_without_waiting_and_misses_nothing(redis_url: str) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    history = Memory()
    async with serving(redis_url, history=history) as here, client(here) as one:
        await eventually(lambda: here.gateway.bus.is_alone, 10)  # nodes of tests before are forgotten
        gate = Gate(here)
        async with asyncio.timeout(0.9):
            await one.call("room.join", {"room_id": room_id})
        async with serving(redis_url, history=history) as there:
            await eventually(lambda: here.gateway.bus.node in there.gateway.bus._peers)
            there.post(channel)  # nobody hears this
            gate.open.set()

            await one.until_offs(channel, [1])


async def test_what_was_said_before_a_late_subscription_is_found_at_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with two_nodes(redis_url) as (here, there), client(here) as one:
        monkeypatch.setattr("server.gateway.bus.SUBSCRIBE_S", 0.05)
        gate = Gate(here)
        await one.call("room.join", {"room_id": room_id})
        there.post(channel)
        gate.open.set()

        await one.until_offs(channel, [1])


async def test_only_the_answer_to_the_newest_subscription_confirms_it(redis_url: str) -> None:
    async with two_nodes(redis_url) as (here, _):
        bus = here.gateway.bus
        bus._unanswered["user:back"] = 1  # of a subscription that was given up since
        again = asyncio.get_running_loop().create_task(bus.subscribe("user:back"))
        await asyncio.sleep(0)

        bus._confirm("user:back")
        was_confirmed = bus._confirmed["user:back"].done()
        await eventually(lambda: bus._unanswered.get("user:back") == 1 or again.done())
        await again

        assert not was_confirmed


async def test_a_node_that_comes_later_is_told_of_the_sockets_that_are_there(redis_url: str) -> None:
    user, gone = str(uuid.uuid4()), str(uuid.uuid4())
    limits = Limits(connections=2)
    async with serving(redis_url, limits=limits) as here:
        await eventually(lambda: here.gateway.bus.is_alone, 10)
        shares = here.gateway.shares
        places = [await shares.admit(user), await shares.admit(user), await shares.admit(gone)]
        assert all(places)
        shares.release(cast(Share, places[2]))
        assert gone not in shares._changed

        async with serving(redis_url, limits=limits) as there:
            await eventually(lambda: here.gateway.bus.node in there.gateway.bus._peers)
            place: Share | None = None
            # Written down by one node, and then known to the other: a few round trips.
            for _ in range(100):
                place = await there.gateway.shares.admit(user)
                if place is None:
                    break
                there.gateway.shares.release(place)
                await asyncio.sleep(0.05)

            assert place is None
            assert await there.gateway.shares.admit(gone) is not None


async def test_call_and_answer(redis_url: str) -> None:
    async def answer(payload: bytes) -> bytes:
        if payload == b"crash":
            raise RuntimeError
        await asyncio.sleep(0.3 if payload == b"slow" else 0)
        return payload[::-1]

    async with two_nodes(redis_url) as (here, there):
        there.gateway.bus.serve(answer)
        node = there.gateway.bus.node

        assert await here.gateway.bus.call(node, b"abc", 1) == b"cba"
        with pytest.raises(TimeoutError, match="did not answer"):
            await here.gateway.bus.call(node, b"slow", 0.1)
        with pytest.raises(BusError, match="busy"):
            await here.gateway.bus.call(node, b"crash", 10)
        with pytest.raises(BusError, match="not heard of"):
            await here.gateway.bus.call("nobody", b"abc", 0.1)
        answers = await asyncio.gather(
            *(here.gateway.bus.call(node, b"%d" % number, 2) for number in range(10, 99))
        )

    assert answers == [
        b"%d" % int(str(number)[::-1]) if number % 10 else b"0%d" % (number // 10) for number in range(10, 99)
    ]


async def test_forgetful_redis_resets_nobody(redis_url: str) -> None:
    user, room_id = str(uuid.uuid4()), str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with two_nodes(redis_url) as (here, there), client(here, token=user) as one, client(there) as two:
        for each in (one, two):
            await each.call("room.join", {"room_id": room_id})
        here.post(channel)
        async with Redis.from_url(redis_url, socket_timeout=None) as redis:
            await redis.flushall()
        here.post(channel)
        there.post(channel)
        await one.call("ping")
        since = [{"ch": channel, "epoch": "e1", "off": 1}]
        for each in (one, two):
            await each.until_offs(channel, range(1, 4))
        async with client(there, token=user, since=since) as again:
            view = again.connected["subs"][channel]

    assert one.offs(channel) == two.offs(channel) == [1, 2, 3]
    assert one.controls == two.controls == []
    assert view["recovered"]
    assert [event["off"] for event in view["events"]] == [2, 3]


async def test_redis_that_goes_away_costs_latency_not_events(redis_url: str) -> None:
    room_id = str(uuid.uuid4())
    channel = f"room:{room_id}"
    async with (
        relay(redis_url) as way,
        two_nodes(way.url) as (here, there),
        client(here) as one,
        client(there) as two,
    ):
        for each in (one, two):
            await each.call("room.join", {"room_id": room_id})
        here.post(channel)
        await two.until(lambda: two.offs(channel) == [1])
        way.cut()
        await asyncio.sleep(0.05)
        here.post(channel)
        await one.until(lambda: one.offs(channel) == [1, 2])
        async with client(here, since=[{"ch": channel, "epoch": "e1", "off": 1}]) as late:
            assert late.connected["subs"][channel]["recovered"]
        async with asyncio.timeout(1):
            await here.gateway.recheck(uuid.uuid4())
        await two.until(lambda: two.offs(channel) == [1, 2])  # found by the check of heads
        way.mend()
        await eventually(lambda: here.gateway.bus.is_up and there.gateway.bus.is_up)
        here.post(channel)
        for each in (one, two):
            await each.until_offs(channel, [1, 2, 3])

    assert one.controls == two.controls == []


async def test_account_change_during_an_outage_is_found_afterwards(redis_url: str) -> None:
    user = str(uuid.uuid4())
    async with relay(redis_url) as way, serving(way.url) as node, client(node, token=user) as one:
        way.cut()
        node.people.blocked.add(user)
        await asyncio.sleep(0.05)
        way.mend()

        assert await one.closed() == 4001


async def test_node_ends_without_redis(redis_url: str) -> None:
    async with relay(redis_url) as way, serving(way.url) as node, client(node):
        way.cut()
        await eventually(lambda: not node.gateway.bus.is_up)
